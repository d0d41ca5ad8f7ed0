//! A web server that takes PUT: nginx with `dav_methods`, or an HTTP cache. One request a file, which cannot be
//! resumed: such servers answer 501 to a PUT with a range.

use std::sync::{Arc, Mutex, PoisonError};

use http::Method;

use super::error::PushError;
use super::reader::Reader;
use super::session::{Session, Transfer};
use provision_core::lockfile::Model;
use provision_core::source_url::SourceUrl;
use provision_http::Upload;

/// The statuses of a server that does not take the file there.
const REFUSED: [u16; 6] = [403, 405, 409, 411, 413, 501];

/// The protocol.
pub(super) struct TemplateStore;

impl TemplateStore {
    pub(super) async fn put(
        &self,
        session: &Session,
        url: SourceUrl,
        model: &Model,
        reader: Reader,
        transfer: &Transfer,
    ) -> Result<(), PushError> {
        let at = session.client.at_store(&url, true)?;
        let failure = Arc::new(Mutex::new(None));
        let body = || reader.body(transfer.counter(), &failure);
        let headers = [("content-type", "application/octet-stream".to_owned())];
        let put =
            Upload { method: Method::PUT, headers: &headers, query: &[], body: Some(&body), known: &REFUSED };
        let mut failures = session.attempts();
        loop {
            // Cut at once: nothing of it stays.
            let sending = session.unless_stopped(session.client.upload(&at, &put));
            match sending.await.ok_or(PushError::Interrupted)? {
                Ok(reply) if REFUSED.contains(&reply.status) => {
                    return Err(PushError::NoPut { url, status: reply.status });
                }
                Ok(_) => break,
                Err(error) => {
                    // A file that is wrong here breaks the request off.
                    if let Some(wrong) = failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
                        return Err(wrong);
                    }
                    transfer.end_attempt(0, &error.to_string());
                    session.wait_after(error, &mut failures).await?;
                    if session.has(&at, model.size).await? {
                        return Ok(());
                    }
                }
            }
        }
        if session.has(&at, model.size).await? { Ok(()) } else { Err(PushError::NotKept { url }) }
    }
}
