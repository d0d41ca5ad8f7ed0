//! A bucket of an S3-compatible store.
//!
//! A small file is one PUT, a larger one an upload of parts, each with its SHA-256, so the store verifies what it takes. The store's
//! names of the parts (`ETag`) and their SHA-256 are kept with the upload's own name: an interrupted push lists the parts that are
//! there, and sends the others. A part counts only if its kept digest is that of the bytes here: an earlier push may have sent a file
//! that was wrong, and not every store verifies digests. A store that has lost the upload gets all of it again, and the user reads so.
//!
//! The complete object is one that was not there before (`If-None-Match: *`): of two pushes at once, one writes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

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
        transfer.settle(0, "the store has one already, or another push sends it");
        if session.has(at, model.size).await? {
            return Ok(());
        }
    }
    if matches!(reply.status, 409 | 412 | 501) {
        // One of another size is there, or the store knows no condition.
        transfer.settle(0, "the store knows no condition");
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

/// The parts that the store has, each with its length, and its name if the store gives one. `None` if the upload is lost.
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
    let is_new = state.parts.is_empty() && reader.at() == 0;
    let there = match listed(session, at, &id).await? {
        Some(there) => there,
        None if is_new => BTreeMap::new(),
        None => return Ok(Sent::Lost),
    };
    let part_size = state.part_size.max(PART);
    let mut names = BTreeMap::new();
    let mut number = 0_u32;
    while reader.left() > 0 {
        session.go_on()?;
        number += 1;
        let length = part_size.min(reader.left());
        let block = match reader.take(length) {
            Ok(block) => block,
            Err(wrong) => {
                abort(session, at, &id).await;
                session.states.iter().for_each(|states| states.remove(&model.sha256));
                return Err(wrong);
            }
        };
        let checksum = base64(Sha256::of(&block).as_bytes());
        let kept = state.parts.get(&number).filter(|part| part.checksum == checksum);
        let listed = there.get(&number).filter(|(size, _)| *size == length);
        let held = kept.zip(listed).filter(|(kept, (_, listed))| {
            // Some stores list parts without their names, or without the quotes.
            listed.as_ref().is_none_or(|listed| listed.trim_matches('"') == kept.name.trim_matches('"'))
        });
        if let Some(name) = held.map(|(kept, _)| kept.name.clone()) {
            transfer.found(length);
            names.insert(number, (name, checksum));
            continue;
        }
        let Some(name) = send_part(session, at, (&id, number, &block), &checksum, transfer).await? else {
            transfer.lost(reader.at() - length, "the store lost the upload");
            return Ok(Sent::Lost);
        };
        names.insert(number, (name.clone(), checksum.clone()));
        state.parts.insert(number, ConfirmedPart { checksum, name });
        session.states.iter().for_each(|states| states.save(&model.sha256, &state));
    }
    complete(session, at, model, (&id, &names), transfer).await
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
    transfer.settle(block.len() as u64, "it was sent twice");
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
    (id, parts): (&str, &BTreeMap<u32, (String, String)>),
    transfer: &Transfer,
) -> Result<Sent, PushError> {
    let mut text = "<CompleteMultipartUpload>".to_owned();
    for (number, (name, checksum)) in parts {
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
