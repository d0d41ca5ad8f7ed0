//! Known hosts, imitated whole: what they say of their files without handing them out, and how they hand them out.
//!
//! A face is mounted on an origin and answers what no route of that origin serves. It is faithful to what clients of
//! the real hosts rely on: paths, redirect kinds, headers, paging, gates, refusals, limits. Large files lie on a
//! second origin, the store, behind URLs that are signed and expire, as they do in life; so a test can take the store's
//! signatures away midway, or let the store misbehave, without the host noticing.
//!
//! What is not imitated: accounts, writing, search, web pages.

pub mod civitai;
pub mod github;
pub mod hub;
pub mod modelscope;
pub mod oci;
pub(crate) mod signing;

use std::fmt;

use serde_json::Value;

use crate::answer::Answer;
use crate::request::Recorded;

/// A host's behaviour beyond single files.
pub(crate) trait Host: fmt::Debug + Send + Sync {
    /// The answer; `None` where the request is none of this host's.
    fn answer(&self, request: &Recorded) -> Option<Answer>;
}

fn json(status: u16, value: &Value) -> Answer {
    Answer::text(status, "application/json; charset=utf-8", value.to_string())
}

/// Whether the request carries exactly this bearer token.
fn has_token(request: &Recorded, token: &str) -> bool {
    request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) == Some(token)
}

/// The value of one `name=value` of the query, percent-decoded.
fn query(request: &Recorded, name: &str) -> Option<String> {
    request.query_value(name).map(|value| crate::request::percent_decode(&value.replace('+', " ")))
}
