//! A repository of an OCI registry (distribution-spec 1.1, "Pushing a blob in chunks").
//!
//! An upload has a place that the registry names, and only the newest `Location` counts. After an interruption the
//! place is asked for the bytes that it has; a registry that has lost the upload gets all of it again, once, with a
//! warning. Docker's registry 2.8 loses one whenever a part is cut. A part takes less than a proxy waits, by the
//! measured speed.
//!
//! At the end a manifest holds the files, since a garbage collection removes blobs that no manifest names.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;

use super::error::PushError;
use super::manifest::{MANIFEST, Manifest, named};
use super::reader::Reader;
use super::session::{Session, Transfer};
use super::state::UploadState;
use super::{LocalFiles, Store};
use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::source_url::SourceUrl;
use provision_core::store_address::Registry;
use provision_http::{Reply, Resolved, Upload, UploadBody};

const MIB: u64 = 1 << 20;
/// The least that object stores behind a registry take as a part.
const SMALLEST: u64 = 5 * MIB;
/// The most that is kept in memory.
const LARGEST: u64 = 32 * MIB;
/// The time for a part. Proxies cut a request at 60 s.
const PART_TIME: Duration = Duration::from_secs(15);
/// The times that an upload begins again after the registry lost it.
const LOSSES: u32 = 1;

/// The protocol.
pub(super) struct RegistryStore(Registry);

/// An upload at the registry.
struct UploadLocation {
    at: Resolved,
    /// The bytes that the registry has.
    has: u64,
}

/// The end of an attempt to fill a place.
enum Filled {
    Done,
    Lost,
}

/// The sizes of parts.
struct Parts {
    smallest: u64,
    next: u64,
}

impl Parts {
    fn new(smallest: Option<u64>) -> Self {
        let smallest = smallest.unwrap_or(0).clamp(SMALLEST, LARGEST);
        Self { smallest, next: smallest.max(8 * MIB) }
    }

    /// Counts a part of `bytes` that took `time`: the next one takes [`PART_TIME`], as far as the limits allow.
    fn took(&mut self, bytes: u64, time: Duration) {
        let fitting = bytes as f64 / time.as_secs_f64().max(0.001) * PART_TIME.as_secs_f64();
        self.next = (fitting as u64 / MIB * MIB).clamp(self.smallest, LARGEST);
    }

    /// A part failed, maybe because it took too long.
    fn failed(&mut self) {
        self.next = (self.next / 2).max(self.smallest);
    }
}

impl RegistryStore {
    pub(super) fn new(registry: Registry) -> Self {
        Self(registry)
    }

    fn url(&self, rest: &str) -> Result<SourceUrl, PushError> {
        self.0.url(rest).ok_or(PushError::NoAddress)
    }

    fn at(&self, session: &Session, rest: &str) -> Result<Resolved, PushError> {
        Ok(session.client.at_store(&self.url(rest)?, true)?)
    }

    pub(super) async fn put(
        &self,
        session: &Session,
        model: &Model,
        reader: Reader,
        transfer: &Transfer,
    ) -> Result<(), PushError> {
        let states = session.states.as_ref();
        let mut parts = Parts::new(None);
        let known = states.and_then(|states| states.load(&model.sha256));
        let mut place = match &known {
            Some(state) => self.known_upload(session, state).await,
            None => None,
        };
        if known.is_some() && place.is_none() {
            transfer.warn("the registry lost the upload of an earlier push, so it is sent again");
        }
        for losses in 0..=LOSSES {
            let at = match place.take() {
                Some(place) => place,
                None => self.begin(session, &mut parts).await?,
            };
            let (held, before) = (at.has, transfer.sent());
            if held > 0 {
                transfer.found(held);
            }
            match self.fill(session, model, (at, &mut parts), reader.clone(), transfer).await {
                Ok(Filled::Done) => {
                    states.inspect(|states| states.remove(&model.sha256));
                    return Ok(());
                }
                Ok(Filled::Lost) => {
                    states.inspect(|states| states.remove(&model.sha256));
                    let again = "the registry lost the upload";
                    transfer.lost(held + transfer.sent() - before, again);
                    if losses < LOSSES {
                        transfer.warn("the registry lost the upload, so it is sent again from its beginning");
                    }
                }
                // An earlier push sent other bytes, from a file that was wrong.
                Err(PushError::Rejected { status: 400, .. }) if held > 0 && losses < LOSSES => {
                    states.inspect(|states| states.remove(&model.sha256));
                    let other =
                        "the registry has other bytes of it from an earlier push, so it is sent again";
                    transfer.lost(held + transfer.sent() - before, other);
                    transfer.warn(other);
                }
                Err(error) => {
                    if error.is_integrity() || matches!(error, PushError::Rejected { .. }) {
                        states.inspect(|states| states.remove(&model.sha256));
                    }
                    return Err(error);
                }
            }
        }
        Err(PushError::Lost { store: session.store.clone() })
    }

    /// The place of an interrupted upload, if the registry still has it.
    async fn known_upload(&self, session: &Session, state: &UploadState) -> Option<UploadLocation> {
        let base = self.at(session, "blobs/uploads/").ok()?;
        let at = session.client.known_location(&base, &state.place).ok()?;
        self.status(session, &at).await.ok().flatten()
    }

    /// The newest place of an upload and the bytes that it has; `None` if the registry does not have it.
    async fn status(&self, session: &Session, at: &Resolved) -> Result<Option<UploadLocation>, PushError> {
        let get = Upload { method: Method::GET, known: &[400, 404, 416], ..Upload::default() };
        let reply = session.send(at, &get, None).await?;
        if reply.status != 204 && reply.status != 202 {
            return Ok(None);
        }
        let has = reply.header("range").and_then(bytes_held).unwrap_or(0);
        let newest =
            if reply.header("location").is_some() { session.client.location(&reply)? } else { at.clone() };
        Ok(Some(UploadLocation { at: newest, has }))
    }

    async fn begin(&self, session: &Session, parts: &mut Parts) -> Result<UploadLocation, PushError> {
        let post = Upload { method: Method::POST, ..Upload::default() };
        let reply = session.send(&self.at(session, "blobs/uploads/")?, &post, None).await?;
        *parts = Parts::new(reply.header("oci-chunk-min-length").and_then(|text| text.parse().ok()));
        Ok(UploadLocation { at: session.client.location(&reply)?, has: 0 })
    }

    /// Sends the bytes that the place does not have, and completes the blob.
    async fn fill(
        &self,
        session: &Session,
        model: &Model,
        (mut place, parts): (UploadLocation, &mut Parts),
        mut reader: Reader,
        transfer: &Transfer,
    ) -> Result<Filled, PushError> {
        if place.has > model.size {
            return Ok(Filled::Lost);
        }
        keep(session, model, &place);
        reader.skip(place.has).await?;
        while reader.left() > 0 {
            session.go_on()?;
            // A short rest would be a part of its own.
            let length = if reader.left() <= parts.next + MIB { reader.left() } else { parts.next };
            let block = match reader.take(length) {
                Ok(block) => block,
                Err(wrong) => {
                    cancel(session, &place.at).await;
                    return Err(wrong);
                }
            };
            let Some(next) = self.send_part(session, (&place, block, parts), transfer).await? else {
                return Ok(Filled::Lost);
            };
            place = next;
            keep(session, model, &place);
        }
        self.complete(session, &place.at, &model.sha256, model.size, None).await
    }

    /// Sends a part until the place has all of it; `None` if the upload is lost.
    async fn send_part(
        &self,
        session: &Session,
        (from, block, parts): (&UploadLocation, Bytes, &mut Parts),
        transfer: &Transfer,
    ) -> Result<Option<UploadLocation>, PushError> {
        let end = from.has + block.len() as u64;
        let (mut at, mut has) = (from.at.clone(), from.has);
        let mut failures = session.attempts();
        while has < end {
            let rest = block.slice(block.len() - (end - has) as usize..);
            let (length, began) = (rest.len() as u64, Instant::now());
            let headers = [
                ("content-type", "application/octet-stream".to_owned()),
                ("content-range", format!("{has}-{}", end - 1)),
            ];
            let body = || UploadBody::of(rest.clone(), Some(transfer.counter()));
            let patch = Upload {
                method: Method::PATCH,
                headers: &headers,
                body: Some(&body),
                known: &[400, 404, 416],
                ..Upload::default()
            };
            let is_refused = match session.client.upload(&at, &patch).await {
                Ok(reply) if (200..300).contains(&reply.status) => {
                    transfer.end_attempt(length, "it was sent twice");
                    parts.took(length, began.elapsed());
                    let held = reply.header("range").and_then(bytes_held).unwrap_or(end);
                    at = session.client.location(&reply)?;
                    // `0-0` is one byte here.
                    if held != end && end > 1 {
                        return Ok(None);
                    }
                    has = end;
                    continue;
                }
                Ok(reply) => {
                    transfer.end_attempt(0, "the registry did not take it");
                    if reply.status != 416 {
                        return Ok(None);
                    }
                    true
                }
                Err(error) => {
                    transfer.end_attempt(0, &error.to_string());
                    parts.failed();
                    session.wait_after(error, &mut failures).await?;
                    false
                }
            };
            // The registry may have some bytes of the part, so it is asked.
            match self.status(session, &at).await? {
                // Refused where it ends: it would be refused again, without a wait in between.
                Some(place) if is_refused && place.has <= has => return Ok(None),
                Some(place) if (from.has..=end).contains(&place.has) => {
                    transfer.found(place.has.saturating_sub(has));
                    (at, has) = (place.at, place.has);
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(UploadLocation { at, has }))
    }

    /// Names the digest of an upload whose bytes are there, or come along.
    async fn complete(
        &self,
        session: &Session,
        place: &Resolved,
        sha256: &Sha256,
        size: u64,
        bytes: Option<&Bytes>,
    ) -> Result<Filled, PushError> {
        let at = place.with_query("digest", &named(sha256))?;
        let headers = [("content-type", "application/octet-stream".to_owned())];
        let body = || UploadBody::of(bytes.cloned().unwrap_or_default(), None);
        let put = Upload {
            method: Method::PUT,
            headers: &headers,
            body: Some(&body),
            known: &[400, 404],
            ..Upload::default()
        };
        let mut failures = session.attempts();
        let blob = self.at(session, &format!("blobs/{}", named(sha256)))?;
        loop {
            match session.client.upload(&at, &put).await {
                Ok(reply) if (200..300).contains(&reply.status) => return Ok(Filled::Done),
                // The answer to an earlier attempt may be lost.
                Ok(_) if failures.any() && session.has(&blob, size).await? => return Ok(Filled::Done),
                Ok(reply) if reply.status == 404 => return Ok(Filled::Lost),
                Ok(reply) => return Err(rejected(session, &reply, "a complete blob")),
                Err(error) => session.wait_after(error, &mut failures).await?,
            }
        }
    }

    /// Puts a manifest that holds `models` and their piece lists, which the registry has. Returns its tag.
    pub(super) async fn hold(
        &self,
        store: &Store,
        having: &LocalFiles,
        models: &[&Model],
        lists: &[Model],
    ) -> Result<String, PushError> {
        let (session, manifest) = (&store.session, Manifest::of(models, lists));
        let at = self.at(session, &format!("manifests/{}", manifest.tag))?;
        let accept = [("accept", MANIFEST.to_owned())];
        let get = Upload { method: Method::GET, headers: &accept, known: &[404], ..Upload::default() };
        if session.send(&at, &get, None).await?.body == manifest.bytes {
            return Ok(manifest.tag);
        }
        self.put_config(session, &manifest).await?;
        let headers = [("content-type", MANIFEST.to_owned())];
        let bytes = Bytes::from(manifest.bytes.clone());
        let body = || UploadBody::of(bytes.clone(), None);
        let put = Upload {
            method: Method::PUT,
            headers: &headers,
            body: Some(&body),
            known: &[400, 404],
            ..Upload::default()
        };
        let reply = session.send(&at, &put, None).await?;
        if (200..300).contains(&reply.status) {
            return Ok(manifest.tag);
        }
        // A blob was removed since it was asked for: it is named in the answer, and sent once more.
        let why = String::from_utf8_lossy(&reply.body).into_owned();
        let files = models.iter().copied().chain(lists).enumerate();
        let missing: Vec<_> = files.filter(|(_, file)| why.contains(&file.sha256.to_string())).collect();
        if missing.is_empty() {
            return Err(rejected(session, &reply, "the manifest that holds the files"));
        }
        for (index, model) in missing {
            let transfer = match models.get(index) {
                Some(_) => Transfer::new(index, model, session),
                None => Transfer::without_progress(model, session),
            };
            transfer.warn("the registry removed it meanwhile, so it is sent again");
            store.push_from(having, model, &transfer).await?;
        }
        let reply = session.send(&at, &put, None).await?;
        let is_held = (200..300).contains(&reply.status);
        if is_held { Ok(manifest.tag) } else { Err(rejected(session, &reply, "the manifest")) }
    }

    /// Sends the config of a manifest, unless it is there.
    async fn put_config(&self, session: &Session, manifest: &Manifest) -> Result<(), PushError> {
        let config = Bytes::from(manifest.config.clone());
        let (sha256, size) = (Sha256::of(&config), config.len() as u64);
        if session.has(&self.at(session, &format!("blobs/{}", named(&sha256)))?, size).await? {
            return Ok(());
        }
        let place = self.begin(session, &mut Parts::new(None)).await?;
        match self.complete(session, &place.at, &sha256, size, Some(&config)).await? {
            Filled::Done => Ok(()),
            Filled::Lost => Err(PushError::Lost { store: session.store.clone() }),
        }
    }
}

/// The number of bytes that `Range: 0-N` says, with or without a unit. A registry without a byte says `0-0`.
fn bytes_held(range: &str) -> Option<u64> {
    let range = range.trim().strip_prefix("bytes=").unwrap_or(range.trim());
    let (start, end) = range.split_once('-')?;
    let end: u64 = end.parse().ok()?;
    (start == "0").then_some(if end == 0 { 0 } else { end + 1 })
}

/// Gives an upload up, as far as the registry helps.
async fn cancel(session: &Session, at: &Resolved) {
    let delete = Upload { method: Method::DELETE, known: &[404], ..Upload::default() };
    let _ = session.client.upload(at, &delete).await;
}

/// Keeps the place of an upload at the registry's own host.
fn keep(session: &Session, model: &Model, place: &UploadLocation) {
    if let Some(states) = session.states.as_ref().filter(|_| place.at.is_own()) {
        let state = UploadState { place: place.at.secret_text(), ..UploadState::default() };
        states.save(&model.sha256, &state);
    }
}

fn rejected(session: &Session, reply: &Reply, what: &'static str) -> PushError {
    let store = session.store.clone();
    PushError::Rejected {
        store,
        status: reply.status,
        what,
        why: session.client.code(reply).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_takes_a_quarter_of_the_time_that_a_proxy_waits() {
        let mut parts = Parts::new(None);
        assert_eq!((parts.smallest, parts.next), (SMALLEST, 8 * MIB));
        parts.took(8 * MIB, Duration::from_secs(15));
        assert_eq!(parts.next, 8 * MIB);
        parts.took(8 * MIB, Duration::from_millis(1));
        assert_eq!(parts.next, LARGEST, "fast");
        parts.took(8 * MIB, Duration::from_secs(59));
        assert_eq!(parts.next, SMALLEST, "slow");
        parts.failed();
        assert_eq!(parts.next, SMALLEST);
        assert_eq!(Parts::new(Some(10 * MIB)).next, 10 * MIB);
        assert_eq!(Parts::new(Some(1 << 40)).next, LARGEST, "a registry does not fill the memory");
    }

    #[test]
    fn the_bytes_of_an_upload_are_those_of_its_range() {
        for (range, held) in
            [("0-0", Some(0)), ("0-9", Some(10)), ("bytes=0-9", Some(10)), ("1-9", None), ("x", None)]
        {
            assert_eq!(bytes_held(range), held, "{range}");
        }
    }
}
