//! Emulated model hosts: their APIs, and their ways to a file.
//!
//! A host is mounted on an origin and answers the requests that no route of that origin serves. It is faithful to
//! everything that clients of the real host rely on: paths, redirects, headers, paging, gates, refusals, limits
//! (`cargo lab hosts` checks it with the hosts' own clients). Large files lie on a second origin, the store, behind
//! signed URLs that expire. So a test can expire them or inject faults there, and the host does not notice.
//!
//! Accounts, uploads, search and web pages are not emulated.

pub mod civitai;
pub mod github;
pub mod hub;
pub mod modelscope;
pub mod oci;
mod signing;

use crate::answer::{Answer, RequestedRange, Resource, honest};
use crate::content::Content;
use crate::request::{Recorded, percent_decode};

/// The request carries this bearer token, or no token is required.
fn is_admitted(request: &Recorded, token: Option<&String>) -> bool {
    let sent = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    token.is_none_or(|token| sent == Some(token))
}

/// The value of one `name=value` of the query, percent-decoded.
fn query(request: &Recorded, name: &str) -> Option<String> {
    request.query_value(name).map(|value| percent_decode(&value.replace('+', " ")))
}

/// The value of a boolean of the query, false if it is missing.
fn flag(request: &Recorded, name: &str) -> bool {
    query(request, name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

/// A file's bytes, as requested, from the host itself.
fn serve(request: &Recorded, content: &Content, etag: String) -> Answer {
    honest(&RequestedRange::of(request), &Resource { content: content.clone(), etag })
}
