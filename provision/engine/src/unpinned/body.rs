//! The body of an answer with an unpinned file, before its bytes reach the part.

use provision_core::lockfile::Model;
use provision_http::sniff::{self, SniffedContent};
use provision_http::{Answer, RequestError};

use crate::transfer::STALL_TIMEOUT;

/// Reads `least` bytes of the body or more. Fewer at its end.
pub(super) async fn read<'b>(
    answer: &mut Answer<'_>,
    block: &'b mut [u8],
    least: usize,
) -> Result<&'b [u8], RequestError> {
    let mut len = 0;
    while len < least {
        let read = tokio::time::timeout(STALL_TIMEOUT, answer.read(&mut block[len..])).await;
        match read.map_err(|_| answer.stalled(STALL_TIMEOUT))?? {
            0 => break,
            more => len += more,
        }
    }
    Ok(&block[..len])
}

/// True if the body has more bytes than declared. A body that does not end is dropped after the stall timeout.
pub(super) async fn has_more(answer: &mut Answer<'_>) -> bool {
    matches!(tokio::time::timeout(STALL_TIMEOUT, answer.read(&mut [0])).await, Ok(Ok(1..)))
}

/// True if these first bytes are a web page, such as a login page with any content type.
pub(super) fn is_page(bytes: &[u8], model: &Model, answer: &Answer<'_>) -> bool {
    matches!(sniff::sniff(bytes, model, &answer.redactor()), Some(SniffedContent::Page { .. }))
}
