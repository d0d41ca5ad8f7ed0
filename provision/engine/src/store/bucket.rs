//! A bucket of an S3-compatible store.
//!
//! A small file is one PUT, a larger one an upload of parts, each with its SHA-256, so the store verifies what it
//! takes. The store's names of the parts (`ETag`) and their SHA-256 are kept with the upload's own name: an interrupted
//! push lists the parts that are there, and sends the others. A part counts only if its kept digest is that of the
//! bytes here: an earlier push may have sent a file that was wrong, and not every store verifies digests. A store that
//! has lost the upload gets all of it again, with a warning.
//!
//! Up to four parts are in flight: a distant store gives one connection less than the network has. An interruption
//! costs these at most.
//!
//! The complete object is one that was not there before (`If-None-Match: *`): of two pushes at once, one writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;

use super::error::PushError;
use super::reader::Reader;
use super::session::{Session, Transfer};
use super::state::{ConfirmedPart, UploadState};
use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::source_url::SourceUrl;
use provision_core::xml::{element, elements, unescaped};
use provision_http::{Reply, Resolved, Upload, UploadBody, base64};

const MIB: u64 = 1 << 20;
/// The usual part, and the largest file that is one PUT.
const PART: u64 = 16 * MIB;
/// The most parts of an upload.
const MOST_PARTS: u64 = 10_000;
/// The times that an upload begins again after the store lost it.
const LOSSES: u32 = 1;

/// The most memory for parts that are sent at the same time, and the most of them.
const IN_FLIGHT: u64 = 64 * MIB;
const MOST_AT_ONCE: u64 = 4;

/// The protocol.
pub(super) struct BucketStore;

/// The end of an attempt.
enum Sent {
    Done,
    Lost,
}

/// The bytes of each part but the last: few enough parts, and little memory.
fn part_size(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).next_multiple_of(MIB).max(PART)
}

/// The parts that are sent at the same time: one connection to a distant store is slower than most networks.
fn at_once(part_size: u64) -> usize {
    (IN_FLIGHT / part_size).clamp(1, MOST_AT_ONCE) as usize
}

impl BucketStore {
    pub(super) async fn put(
        &self,
        session: &Session,
        url: SourceUrl,
        model: &Model,
        mut reader: Reader,
        transfer: &Transfer,
    ) -> Result<(), PushError> {
        let at = session.client.at_store(&url, true)?;
        if model.size <= PART {
            let bytes = reader.take(model.size)?;
            return put_whole(session, &at, model, &bytes, transfer).await;
        }
        let states = session.states.as_ref();
        let mut known = states.and_then(|states| states.load(&model.sha256));
        for losses in 0..=LOSSES {
            let state = match known.take() {
                Some(state) => state,
                None => begin(session, &at, model).await?,
            };
            match send_parts(session, &at, model, (state, reader.clone()), transfer).await {
                Ok(Sent::Done) => {
                    states.inspect(|states| states.remove(&model.sha256));
                    return Ok(());
                }
                Ok(Sent::Lost) => {
                    states.inspect(|states| states.remove(&model.sha256));
                    if losses < LOSSES {
                        transfer.warn("the store lost the upload, so it is sent again from its beginning");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(PushError::Lost { store: session.store.clone() })
    }
}

/// Sends a request for the object, and maps a refusal to write.
async fn send(
    session: &Session,
    at: &Resolved,
    upload: &Upload<'_>,
    transfer: Option<&Transfer>,
) -> Result<Reply, PushError> {
    session.send(at, upload, transfer).await.map_err(PushError::for_writing)
}

async fn put_whole(
    session: &Session,
    at: &Resolved,
    model: &Model,
    bytes: &Bytes,
    transfer: &Transfer,
) -> Result<(), PushError> {
    let headers = [
        ("content-type", "application/octet-stream".to_owned()),
        ("if-none-match", "*".to_owned()),
        ("x-amz-checksum-sha256", base64(model.sha256.as_bytes())),
    ];
    let body = || UploadBody::of(bytes.clone(), Some(transfer.counter()));
    let put = Upload {
        method: Method::PUT,
        headers: &headers,
        body: Some(&body),
        known: &[400, 409, 412, 501],
        ..Upload::default()
    };
    let mut reply = send(session, at, &put, Some(transfer)).await?;
    if matches!(reply.status, 409 | 412) {
        transfer.end_attempt(0, "the store has one already, or another push sends it");
        if session.has(at, model.size).await? {
            return Ok(());
        }
    }
    if matches!(reply.status, 409 | 412 | 501) {
        // One of another size is there, or the store knows no condition.
        transfer.end_attempt(0, "the store knows no condition");
        let plain = [headers[0].clone(), headers[2].clone()];
        reply = send(session, at, &Upload { headers: &plain, ..put }, Some(transfer)).await?;
    }
    if (200..300).contains(&reply.status) {
        return Ok(());
    }
    if session.client.code(&reply).is_some_and(|code| code == "BadDigest") {
        // One store keeps the wrong object all the same.
        let delete = Upload { method: Method::DELETE, known: &[404], ..Upload::default() };
        let _ = session.client.upload(at, &delete).await;
    }
    Err(rejected(session, &reply, "the object"))
}

/// Begins an upload of parts.
async fn begin(session: &Session, at: &Resolved, model: &Model) -> Result<UploadState, PushError> {
    let headers = [("x-amz-checksum-algorithm", "SHA256".to_owned())];
    let post =
        Upload { method: Method::POST, headers: &headers, query: &[("uploads", "")], ..Upload::default() };
    let reply = send(session, at, &post, None).await?;
    let text = String::from_utf8_lossy(&reply.body);
    let Some(id) = element(&text, "UploadId").filter(|id| !id.is_empty() && !id.contains('\n')) else {
        return Err(rejected(session, &reply, "the beginning of an upload"));
    };
    let state =
        UploadState { place: unescaped(id), part_size: part_size(model.size), parts: BTreeMap::new() };
    session.states.iter().for_each(|states| states.save(&model.sha256, &state));
    Ok(state)
}

/// The parts that the store has, each with its length, and its name if the store gives one. `None` if the upload is
/// lost.
async fn listed(
    session: &Session,
    at: &Resolved,
    id: &str,
) -> Result<Option<BTreeMap<u32, (u64, Option<String>)>>, PushError> {
    let (mut found, mut after) = (BTreeMap::new(), 0_u32);
    loop {
        let marker = after.to_string();
        let query = [("part-number-marker", marker.as_str()), ("uploadId", id)];
        let get = Upload { method: Method::GET, query: &query, known: &[400, 404, 501], ..Upload::default() };
        let reply = send(session, at, &get, None).await?;
        if reply.status != 200 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&reply.body);
        for part in elements(&text, "Part") {
            let number = element(part, "PartNumber").and_then(|text| text.parse().ok());
            let size = element(part, "Size").and_then(|text| text.parse().ok());
            let name = element(part, "ETag").filter(|name| !name.is_empty()).map(unescaped);
            if let (Some(number), Some(size)) = (number, size) {
                found.insert(number, (size, name));
            }
        }
        let next: Option<u32> = element(&text, "NextPartNumberMarker").and_then(|text| text.parse().ok());
        // A list that does not go on has no end.
        let next = next.filter(|next| *next > after && element(&text, "IsTruncated") == Some("true"));
        let Some(next) = next else { return Ok(Some(found)) };
        after = next;
    }
}

/// Sends the parts that the store does not have, and completes the object.
async fn send_parts(
    session: &Session,
    at: &Resolved,
    model: &Model,
    (mut state, mut reader): (UploadState, Reader),
    transfer: &Transfer,
) -> Result<Sent, PushError> {
    let id = state.place.clone();
    let mut there = BTreeMap::new();
    // Without a kept digest, no part that is there would count.
    if !state.parts.is_empty() {
        let listing = listed(session, at, &id).await;
        if matches!(&listing, Ok(None)) || listing.as_ref().is_err_and(PushError::is_refusal) {
            // The parts that are there cannot be used, and would cost money.
            abort(session, at, &id).await;
            session.states.iter().for_each(|states| states.remove(&model.sha256));
        }
        let Some(found) = listing? else { return Ok(Sent::Lost) };
        there = found;
    }
    let part_size = state.part_size.max(PART);
    let (mut names, mut number, mut kept) = (BTreeMap::new(), 0_u32, 0);
    let mut sending: Vec<Sending<'_>> = Vec::new();
    loop {
        while reader.left() > 0 && sending.len() < at_once(part_size) && !session.is_stopped() {
            number += 1;
            let length = part_size.min(reader.left());
            let block = match reader.take(length) {
                Ok(block) => block,
                Err(wrong) => {
                    // A part that arrives after the end would cost money.
                    while first(&mut sending).await.is_some() {}
                    abort(session, at, &id).await;
                    session.states.iter().for_each(|states| states.remove(&model.sha256));
                    return Err(wrong);
                }
            };
            let checksum = base64(Sha256::of(&block).as_bytes());
            let known = state.parts.get(&number).filter(|part| part.checksum == checksum);
            let listed = there.get(&number).filter(|(size, _)| *size == length);
            let held = known.zip(listed).filter(|(known, (_, listed))| {
                // Some stores list parts without their names, or without the quotes.
                listed.as_ref().is_none_or(|listed| listed.trim_matches('"') == known.name.trim_matches('"'))
            });
            if let Some(part) = held.map(|(known, _)| known.clone()) {
                transfer.found(length);
                kept += length;
                names.insert(number, part);
                continue;
            }
            let (id, part) = (&id, transfer.part());
            sending.push(Box::pin(async move {
                let name = send_part(session, at, (id, number, &block), &checksum, &part).await?;
                let part = name.map(|name| ConfirmedPart { checksum, name });
                Ok(SentPart { number, length, part })
            }));
        }
        let Some(end) = first(&mut sending).await else { break };
        let SentPart { number, length, part } = end?;
        let Some(part) = part else {
            // The others learn the same, and count their own bytes.
            while let Some(end) = first(&mut sending).await {
                kept += end.ok().filter(|end| end.part.is_some()).map_or(0, |end| end.length);
            }
            transfer.lost(kept, "the store lost the upload");
            return Ok(Sent::Lost);
        };
        kept += length;
        names.insert(number, part.clone());
        state.parts.insert(number, part);
        session.states.iter().for_each(|states| states.save(&model.sha256, &state));
    }
    if reader.left() > 0 {
        return Err(PushError::Interrupted);
    }
    complete(session, at, model, (&id, &names), transfer).await
}

/// A part that is on its way.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<SentPart, PushError>> + 'a>>;

/// The end of a part.
struct SentPart {
    number: u32,
    length: u64,
    /// `None` if the upload is lost.
    part: Option<ConfirmedPart>,
}

/// The result of the first of `futures` that ends, which leaves; `None` if there is none.
async fn first<F: Future + Unpin>(futures: &mut Vec<F>) -> Option<F::Output> {
    let poll = |context: &mut Context<'_>| {
        for at in 0..futures.len() {
            if let Poll::Ready(done) = Pin::new(&mut futures[at]).poll(context) {
                drop(futures.swap_remove(at));
                return Poll::Ready(Some(done));
            }
        }
        if futures.is_empty() { Poll::Ready(None) } else { Poll::Pending }
    };
    std::future::poll_fn(poll).await
}

/// Sends a part, and returns the store's name of it; `None` if the upload is lost.
async fn send_part(
    session: &Session,
    at: &Resolved,
    (id, number, block): (&str, u32, &Bytes),
    checksum: &str,
    transfer: &Transfer,
) -> Result<Option<String>, PushError> {
    let headers = [("x-amz-checksum-sha256", checksum.to_owned())];
    let number = number.to_string();
    let query = [("partNumber", number.as_str()), ("uploadId", id)];
    let body = || UploadBody::of(block.clone(), Some(transfer.counter()));
    let put = Upload {
        method: Method::PUT,
        headers: &headers,
        query: &query,
        body: Some(&body),
        known: &[400, 404],
    };
    let reply = send(session, at, &put, Some(transfer)).await?;
    let is_kept = (200..300).contains(&reply.status);
    transfer.end_attempt(if is_kept { block.len() as u64 } else { 0 }, "the store did not keep it");
    match (reply.status, reply.header("etag")) {
        (200..300, Some(name)) => Ok(Some(name.to_owned())),
        (404, _) => Ok(None),
        _ => Err(rejected(session, &reply, "a part")),
    }
}

/// Makes the object of its parts.
async fn complete(
    session: &Session,
    at: &Resolved,
    model: &Model,
    (id, parts): (&str, &BTreeMap<u32, ConfirmedPart>),
    transfer: &Transfer,
) -> Result<Sent, PushError> {
    let mut text = "<CompleteMultipartUpload>".to_owned();
    for (number, ConfirmedPart { checksum, name }) in parts {
        let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        let _ = write!(
            text,
            "<Part><ChecksumSHA256>{checksum}</ChecksumSHA256><ETag>{name}</ETag><PartNumber>{number}</PartNumber></Part>"
        );
    }
    let bytes = Bytes::from(text + "</CompleteMultipartUpload>");
    let headers = [("content-type", "application/xml".to_owned()), ("if-none-match", "*".to_owned())];
    let body = || UploadBody::of(bytes.clone(), None);
    let query = [("uploadId", id)];
    let post = Upload {
        method: Method::POST,
        headers: &headers,
        query: &query,
        body: Some(&body),
        known: &[400, 404, 409, 412, 501],
    };
    let mut reply = send(session, at, &post, None).await?;
    // The store knows no condition, or an object of another size is there.
    if reply.status == 501 || (reply.status == 412 && !session.has(at, model.size).await?) {
        let plain = Upload { headers: &headers[..1], ..post };
        reply = send(session, at, &plain, None).await?;
    }
    // 200 may come before the end of the work, and a failure after it.
    let has_failed = element(&String::from_utf8_lossy(&reply.body), "Code").is_some();
    if (200..300).contains(&reply.status) && !has_failed {
        return Ok(Sent::Done);
    }
    // Another push was faster, or the answer to an earlier attempt is lost.
    if matches!(reply.status, 404 | 409 | 412) && session.has(at, model.size).await? {
        abort(session, at, id).await;
        return Ok(Sent::Done);
    }
    if session.client.code(&reply).is_some_and(|code| code == "NoSuchUpload") {
        transfer.lost(model.size, "the store lost the upload");
        return Ok(Sent::Lost);
    }
    abort(session, at, id).await;
    session.states.iter().for_each(|states| states.remove(&model.sha256));
    Err(rejected(session, &reply, "the end of an upload"))
}

/// Gives an upload up, as far as the store helps: its parts cost money.
async fn abort(session: &Session, at: &Resolved, id: &str) {
    let query = [("uploadId", id)];
    let delete = Upload { method: Method::DELETE, query: &query, known: &[404], ..Upload::default() };
    let _ = session.client.upload(at, &delete).await;
}

fn rejected(session: &Session, reply: &Reply, what: &'static str) -> PushError {
    let (store, status) = (session.store.clone(), reply.status);
    PushError::Rejected { store, status, what, why: session.client.code(reply).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_in_flight_take_little_memory() {
        assert_eq!([PART, 2 * PART, 3 * PART, 100 * PART].map(at_once), [4, 2, 1, 1]);
    }

    #[test]
    fn parts_are_few_enough_and_small_enough() {
        assert_eq!(part_size(1), PART);
        assert_eq!(part_size(160_000 * MIB), PART);
        for size in [160_001 * MIB, 5 << 40] {
            assert!(
                size.div_ceil(part_size(size)) <= MOST_PARTS && part_size(size).is_multiple_of(MIB),
                "{size}"
            );
        }
    }
}
