//! The judges of response heads and redirects, for the fuzz targets.

use std::net::IpAddr;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::error::ResponseError;
use crate::redirect::{self, RedirectError};
use crate::response::{self, BodyKind, ExpectedBody};
use provision_core::source_url::SourceUrl;

/// The most hops from a source to its bytes.
pub const MAX_HOPS: usize = redirect::MAX_HOPS;

/// Where `location`, found at `from`, leads to.
pub fn follow(from: &SourceUrl, location: &[u8]) -> Result<SourceUrl, RedirectError> {
    redirect::follow(from, Some(location))
}

/// Whether an address belongs to the public internet.
pub fn is_public(address: IpAddr) -> bool {
    crate::public_ip::is_public(address)
}

/// Judges an answer's head. Headers that HTTP does not allow are left out, as the reader of heads does.
pub fn judge(status: u16, headers: &[(&str, &[u8])], asked: ExpectedBody) -> Result<BodyKind, ResponseError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    response::judge(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), &map, asked)
}
