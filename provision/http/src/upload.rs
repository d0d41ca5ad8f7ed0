//! Uploads: the requests of a push, and the questions about the content of a store.
//!
//! A push asks several URLs of one store, some of which the store names itself (`Location`). Each is subject to the
//! rules of a redirect: another host gets no credential of the store, and a public store leads to no private address. A
//! redirect of a request with a body is followed to the store's own host only, and only if it keeps the method (307,
//! 308).
//!
//! A body is made anew for each attempt, and its bytes are counted as they leave. While they leave, a request has no
//! time limit but that for a pause.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::auth::credentials::Secret;
use crate::bucket::Corrected;
use crate::client::HttpClient;
use crate::error::RequestError;
use crate::redirect::{RedirectError, follow};
use crate::request_rules::{Resolved, explains, is_redirect};
use crate::response::ResponseError;
use crate::transport::TransportError;
use crate::wire::LONGEST_REASON;
use crate::wire::http1::{RequestHeaders, USER_AGENT};
use crate::wire::pool::Answer;
use provision_core::byte_range::{ByteRange, ContentRange};
use provision_core::source_url::SourceUrl;

/// The longest answer that is read, in bytes: a thousand parts of an upload, and a manifest.
const LONGEST_REPLY: u64 = 8 << 20;
/// The time limit for an answer once the whole body has left: a store may read the file again before it answers.
const LONGEST_COMMIT: Duration = Duration::from_mins(10);
/// The bytes that are handed to a connection at a time.
const BLOCK: usize = 256 << 10;

/// Receives the number of bytes that have just left.
pub type Sent = Arc<dyn Fn(u64) + Send + Sync>;

/// The body of a request.
pub struct UploadBody {
    blocks: Blocks,
    left: u64,
    gone: Arc<AtomicU64>,
    sent: Option<Sent>,
}

enum Blocks {
    Whole(Bytes),
    Read(mpsc::Receiver<Bytes>),
}

impl UploadBody {
    /// A body that is in memory.
    pub fn of(bytes: Bytes, sent: Option<Sent>) -> Self {
        Self { left: bytes.len() as u64, blocks: Blocks::Whole(bytes), gone: Arc::default(), sent }
    }

    /// A body of `length` bytes that arrive while it is sent. If they end early, the request fails.
    pub fn read(blocks: mpsc::Receiver<Bytes>, length: u64, sent: Sent) -> Self {
        Self { blocks: Blocks::Read(blocks), left: length, gone: Arc::default(), sent: Some(sent) }
    }
}

impl hyper::body::Body for UploadBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let block = match &mut self.blocks {
            Blocks::Whole(bytes) => Some(bytes.split_to(BLOCK.min(bytes.len()))),
            Blocks::Read(blocks) => std::task::ready!(blocks.poll_recv(context)),
        };
        let Some(block) = block.filter(|block| block.len() as u64 <= self.left) else {
            return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into())));
        };
        let length = block.len() as u64;
        self.left -= length;
        self.gone.fetch_add(length, Ordering::Relaxed);
        if let Some(sent) = &self.sent {
            sent(length);
        }
        Poll::Ready(Some(Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A request of a push.
#[derive(Default)]
pub struct Upload<'a> {
    /// The method.
    pub method: Method,
    /// Its own headers, sorted by name. `Content-Length` comes from the body.
    pub headers: &'a [(&'static str, String)],
    /// More words for the query of a bucket's object, sorted by name.
    pub query: &'a [(&'a str, &'a str)],
    /// Makes the body.
    pub body: Option<&'a (dyn Fn() -> UploadBody + Send + Sync)>,
    /// The statuses, besides 2xx, that the caller handles itself.
    pub known: &'a [u16],
}

/// An answer to a request of a push.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body: all of it for 2xx, else its beginning.
    pub body: Vec<u8>,
    headers: HeaderMap,
    at: Resolved,
    peer_is_public: bool,
}

impl Reply {
    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

impl Resolved {
    /// The same place, with other words for its query.
    ///
    /// # Errors
    /// [`RequestError::Redirect`] if the result is no URL.
    pub fn with_query(&self, name: &str, value: &str) -> Result<Self, RequestError> {
        let mut url = self.url.as_url().clone();
        url.query_pairs_mut().append_pair(name, value);
        let url = SourceUrl::from_url(url).map_err(|error| RequestError::Redirect {
            url: self.url.clone(),
            error: RedirectError::Location(error.to_string()),
        })?;
        let mut place = self.clone();
        place.url = url;
        Ok(place)
    }

    /// The place with its query, to be asked again by a later run. For the store's own host only: elsewhere the query
    /// may be a signature.
    pub fn secret_text(&self) -> String {
        self.url.as_url().to_string()
    }

    /// True if the store's own host is asked, with its credential.
    pub fn is_own(&self) -> bool {
        self.same_origin
    }
}

impl HttpClient {
    /// The store's `url` for the requests of a push, or for questions only.
    ///
    /// # Errors
    /// [`RequestError::Untrusted`].
    pub fn at_store(&self, url: &SourceUrl, pushes: bool) -> Result<Resolved, RequestError> {
        let mut place = self.first(url)?;
        place.pushes = pushes;
        Ok(place)
    }

    /// The place that the answer's `Location` leads to.
    ///
    /// # Errors
    /// [`RequestError::Redirect`].
    pub fn location(&self, reply: &Reply) -> Result<Resolved, RequestError> {
        self.located(
            &reply.at,
            reply.headers.get(header::LOCATION).map(HeaderValue::as_bytes),
            reply.peer_is_public,
        )
    }

    /// The place that `location`, which an earlier run was given at `at`, leads to.
    ///
    /// # Errors
    /// As [`Self::location`].
    pub fn known_location(&self, at: &Resolved, location: &str) -> Result<Resolved, RequestError> {
        let place = self.located(at, Some(location.as_bytes()), false)?;
        if place.same_origin {
            return Ok(place);
        }
        let why = "the kept place is at another host".to_owned();
        Err(RequestError::Redirect { url: at.url.clone(), error: RedirectError::Location(why) })
    }

    fn located(
        &self,
        at: &Resolved,
        location: Option<&[u8]>,
        peer_is_public: bool,
    ) -> Result<Resolved, RequestError> {
        let next = follow(&at.url, location).and_then(|next| self.permit(at, next, peer_is_public));
        next.map_err(|error| {
            let error = match error {
                RedirectError::Location(why) => {
                    RedirectError::Location(self.redactor_of(at).redact(&why).into_owned())
                }
                error => error,
            };
            RequestError::Redirect { url: at.url.clone(), error }
        })
    }

    /// The code in the answer's body, as registries (`"code":"…"`) and buckets (`<Code>…</Code>`) give it.
    pub fn code(&self, reply: &Reply) -> Option<String> {
        let text = String::from_utf8_lossy(&reply.body);
        let (_, rest) = text.split_once("<Code>").or_else(|| text.split_once("\"code\":\""))?;
        let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let code: String = rest.chars().take_while(is_part).take(64).collect();
        Some(self.redactor_of(&reply.at).redact(&code).into_owned()).filter(|code| !code.is_empty())
    }

    /// Sends a request of a push. A registry's challenge is answered with a token.
    ///
    /// # Errors
    /// Every failure, and every status that is neither 2xx nor known.
    pub async fn upload(&self, to: &Resolved, upload: &Upload<'_>) -> Result<Reply, RequestError> {
        let token = self.token(to);
        let mut answer = self.upload_with(to, upload, token.as_ref()).await?;
        if let Some(way) = self.challenge(answer.status, &answer.headers, to, token.as_ref()).await {
            let peer_is_public = self.counts_as_public(&to.url, answer.peer);
            answer.drain().await;
            let token = self.answer_challenge(way, token, to, peer_is_public).await?;
            answer = self.upload_with(to, upload, Some(&token)).await?;
        }
        let mut at = to.clone();
        let mut corrected = Corrected::default();
        let mut body = Vec::new();
        while !answer.status.is_success() {
            body = answer.prefix(LONGEST_REASON).await;
            if !self.corrects(&at.url, (answer.status, &answer.headers), &body, &mut corrected) {
                break;
            }
            at = self.at_store(&to.url, to.pushes)?;
            answer = self.upload_with(&at, upload, None).await?;
        }
        let is_known = upload.known.contains(&answer.status.as_u16());
        if is_redirect(answer.status) && !is_known {
            at = self.redirected(&answer, to)?;
            answer = self.upload_with(&at, upload, self.token(&at).as_ref()).await?;
            body = if answer.status.is_success() { Vec::new() } else { answer.prefix(LONGEST_REASON).await };
        }
        let (status, peer_is_public) = (answer.status, self.counts_as_public(&at.url, answer.peer));
        let headers = answer.headers.clone();
        if status.is_success() {
            body = self.read_document(&at.url, answer, LONGEST_REPLY).await?;
        } else if !upload.known.contains(&status.as_u16()) {
            let reason = if explains(status, &at.url) { &body[..] } else { &[] };
            let failure = self.failure(status, &headers, &at, false, reason);
            let unknown = || {
                let error = ResponseError::Status { status: status.as_u16() };
                RequestError::response(&at.url, error)
            };
            return Err(failure.unwrap_or_else(unknown));
        }
        Ok(Reply { status: status.as_u16(), body, headers, at, peer_is_public })
    }

    /// The place that a redirect leads to, if a request with a body may follow it.
    fn redirected(&self, answer: &Answer, at: &Resolved) -> Result<Resolved, RequestError> {
        let location = answer.headers.get(header::LOCATION).map(HeaderValue::as_bytes);
        let next = self.located(at, location, self.counts_as_public(&at.url, answer.peer))?;
        if matches!(answer.status.as_u16(), 307 | 308) && next.same_origin {
            return Ok(next);
        }
        let why = "an upload goes to the store's own host only, and keeps its method".to_owned();
        Err(RequestError::Redirect { url: at.url.clone(), error: RedirectError::Location(why) })
    }

    async fn upload_with(
        &self,
        to: &Resolved,
        upload: &Upload<'_>,
        token: Option<&Secret>,
    ) -> Result<Answer, RequestError> {
        let failed = |error| self.unanswered(to, error);
        let is_proxied = self.connector.proxies.proxy(&to.url).is_some();
        let secrets = self.secrets(to, token, is_proxied);
        let mut fields = HeaderMap::new();
        fields.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        fields.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in upload.headers {
            if let Ok(value) = HeaderValue::from_str(value) {
                fields.insert(HeaderName::from_static(name), value);
            }
        }
        fields.extend(secrets.authorization.map(|value| (header::AUTHORIZATION, value)));
        fields.extend(secrets.cookie.map(|value| (header::COOKIE, value)));
        self.pool.prepare(&to.url, to.public_only).await.map_err(failed)?;
        let body = upload.body.map_or_else(|| UploadBody::of(Bytes::new(), None), |make| make());
        let (gone, length) = (body.gone.clone(), body.left);
        let body = Some(reqwest::Body::wrap(body)).filter(|_| upload.method != Method::GET);
        let headers = upload.headers.iter().filter(|(name, _)| name.starts_with("x-amz-"));
        let signed: Vec<(&str, &str)> = headers.map(|(name, value)| (*name, value.as_str())).collect();
        let method = match upload.method {
            Method::POST => rusty_s3::Method::Post,
            Method::PUT => rusty_s3::Method::Put,
            Method::DELETE => rusty_s3::Method::Delete,
            _ => rusty_s3::Method::Get,
        };
        let url = self.sign(&to.url, method, upload.query, &signed).await?;
        let mut sending =
            std::pin::pin!(self.pool.send(upload.method.clone(), &url, fields, body, to.public_only));
        let mut before = 0;
        loop {
            let now = gone.load(Ordering::Relaxed);
            let limit = if now == length && length > 0 { LONGEST_COMMIT } else { self.config.head_timeout };
            match tokio::time::timeout(limit, &mut sending).await {
                Ok(answer) => return answer.map_err(failed),
                Err(_) if gone.load(Ordering::Relaxed) > before.max(now) => before = now,
                Err(_) => return Err(failed(TransportError::Stalled(limit).into())),
            }
        }
    }

    /// True if the store has a file of `size` bytes at `at`: its last byte came. A head alone says nothing, because a
    /// registry that has removed a blob goes on answering with its length.
    ///
    /// # Errors
    /// Every failure other than the file's absence.
    pub async fn has(&self, at: Resolved, size: u64) -> Result<bool, RequestError> {
        let range = (size > 0).then(|| ByteRange::new(size - 1, size));
        let headers = RequestHeaders { range, accept: "*/*" };
        let (answer, at) = match self.follow_from((&at.url.clone(), at), headers, &mut |_, _| {}).await {
            Ok(followed) => followed,
            // Of any status: a bucket whose objects may not be listed says 403.
            Err(RequestError::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok());
        let length = text(header::CONTENT_LENGTH).and_then(|value| value.trim().parse().ok());
        match answer.status {
            StatusCode::PARTIAL_CONTENT => {
                let found = text(header::CONTENT_RANGE).and_then(ContentRange::parse);
                let expected = range.map(|range| ContentRange::Part { range, total: Some(size) });
                if found.is_none() || found != expected {
                    return Ok(false);
                }
                match self.read_document(&at.url, answer, 1).await {
                    Ok(byte) => Ok(byte.len() == 1),
                    Err(RequestError::Transport {
                        kind: TransportError::CutShort { received: 0, .. },
                        ..
                    }) => Ok(false),
                    Err(error) => Err(error),
                }
            }
            // The store knows no ranges.
            StatusCode::OK if length == Some(size) => {
                let mut answer = answer;
                let first = tokio::time::timeout(self.config.head_timeout, answer.chunk()).await;
                match first {
                    Ok(Ok(block)) => Ok(block.is_some() == (size > 0)),
                    Ok(Err(_)) => Ok(false),
                    Err(_) => Err(RequestError::stalled(&at.url, self.config.head_timeout)),
                }
            }
            _ => Ok(false),
        }
    }

    /// Reads the whole file at `at`, block by block. Returns its length, and the failure of a connection that broke off
    /// before the answer's end. It stops after the block in which the file grows longer than `size`.
    ///
    /// # Errors
    /// Every failure before the first byte, and a pause.
    pub async fn read_file(
        &self,
        at: Resolved,
        size: u64,
        on_block: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<(u64, Option<RequestError>), RequestError> {
        let headers = RequestHeaders { range: None, accept: "*/*" };
        let (mut answer, at) = self.follow_from((&at.url.clone(), at), headers, &mut |_, _| {}).await?;
        if answer.status != StatusCode::OK {
            let error = ResponseError::Status { status: answer.status.as_u16() };
            return Err(RequestError::response(&at.url, error));
        }
        let limit = self.config.head_timeout;
        let mut length = 0;
        loop {
            match tokio::time::timeout(limit, answer.chunk()).await {
                Ok(Ok(Some(block))) => {
                    length += block.len() as u64;
                    on_block(&block);
                    if length > size {
                        return Ok((length, None));
                    }
                }
                Ok(Ok(None)) => return Ok((length, None)),
                Ok(Err(kind)) => return Ok((length, Some(RequestError::transport(&at.url, kind)))),
                Err(_) => return Err(RequestError::stalled(&at.url, limit)),
            }
        }
    }
}
