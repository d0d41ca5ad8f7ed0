//! Entry points for the fuzz targets: response validation and redirects.

use std::net::IpAddr;

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::redirect::{self, RedirectError};
use crate::response::{self, BodyKind, ExpectedBody, ResponseError};
use provision_core::source_url::SourceUrl;

/// The longest redirect chain.
pub const MAX_HOPS: usize = redirect::MAX_HOPS;

/// The URL that `location` in an answer of `from` leads to.
pub fn follow(from: &SourceUrl, location: &[u8]) -> Result<SourceUrl, RedirectError> {
    redirect::follow(from, Some(location))
}

/// True for an address of the public internet.
pub fn is_public(address: IpAddr) -> bool {
    crate::public_ip::is_public(address)
}

/// Validates an answer's head. Headers that HTTP does not allow are left out.
pub fn validate(
    status: u16,
    headers: &[(&str, &[u8])],
    expected: ExpectedBody,
) -> Result<BodyKind, ResponseError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    response::validate(StatusCode::from_u16(status).unwrap_or(StatusCode::OK), &map, expected)
}
