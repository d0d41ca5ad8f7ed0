//! Host metadata: JSON documents, and a host's description of a file without its bytes.
//!
//! A [`MetadataClient`] has the redirects, credentials and checks of every other request. It never sends HEAD: signed
//! URLs are bound to GET, and some hosts answer HEAD with 401 for any token. So a [`Probe`] is a GET of the first byte.
//! The Hub's headers are on the redirect only, so the probe keeps every [`Hop`].
//!
//! A wait that a host asks for is kept, up to the policy's longest, and reported first. A longer one is an error that
//! names the time.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::{self, HeaderMap};

use crate::client::HttpClient;
use crate::content_disposition;
use crate::error::{Remedy, RequestError};
use crate::host_rules::{self, accept};
use crate::redirect::{RedirectError, follow};
use crate::request_rules::{Resolved, one_line, wall_clock};
use crate::response::{ResponseError, encoding};
use crate::wire::http1::RequestHeaders;
use crate::wire::pool::Answer;
use provision_core::backoff::{FailureRow, RetryPolicy};
use provision_core::byte_range::{ByteRange, ContentRange};
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The longest document in bytes. The listing of a repository with ten thousand files has three million, and each page
/// is a document of its own.
pub const MAX_DOCUMENT: usize = 32 << 20;

/// The longest time for a host that does not answer. A list of files has many hosts, and a person waits.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);

/// A failed question to a host.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MetadataError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The host asks for a longer wait than the policy allows.
    #[error("{host} limits requests and answers again at {until} (in {} s){hint}", wait.as_secs())]
    Limited {
        /// The host.
        host: String,
        /// The end of the wait, as an HTTP date.
        until: String,
        /// The wait.
        wait: Duration,
        /// The advice, as the end of the sentence.
        hint: &'static str,
    },
    /// A document that is larger than [`MAX_DOCUMENT`].
    #[error("{url}: the answer is larger than {} MiB, the limit for a listing; write url, size and sha256 of its files into the lock by hand", MAX_DOCUMENT >> 20)]
    TooLarge {
        /// The URL.
        url: SourceUrl,
    },
    /// A document that is not JSON, or has other fields than expected.
    #[error("{url}: the answer does not match the host's documentation: {problem}")]
    Malformed {
        /// The URL.
        url: SourceUrl,
        /// The mismatch.
        problem: String,
    },
}

/// A wait before the next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// The host.
    pub host: String,
    /// The failure.
    pub reason: String,
    /// Its length.
    pub wait: Duration,
    /// The host asked for the wait.
    pub is_requested: bool,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.wait.as_secs_f64();
        if self.is_requested {
            write!(f, "{} asks to wait {seconds:.0} s ({})", self.host, self.reason)
        } else {
            write!(f, "{}; retrying in {seconds:.1} s", self.reason)
        }
    }
}

/// A callback before each wait.
pub type OnWait = Arc<dyn Fn(&Wait) + Send + Sync>;

/// A JSON document.
#[derive(Debug)]
pub struct Document {
    /// The URL that answered.
    pub at: SourceUrl,
    /// The text.
    pub body: Vec<u8>,
    /// The URL of the next page (`Link: <…>; rel="next"`), always on the same host.
    pub next: Option<SourceUrl>,
    /// Removes the secrets of the request from the text.
    redactor: Redactor,
}

impl Document {
    /// Text of the document for a message: one short line without the secrets of the request.
    pub fn redacted(&self, text: &str) -> String {
        one_line(&self.redactor.redact(text))
    }

    /// The document as a value.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, MetadataError> {
        // The parser's message may quote the document, so only the place is reported.
        serde_json::from_slice(&self.body).map_err(|error| MetadataError::Malformed {
            url: self.at.clone(),
            problem: format!("line {}, column {}", error.line(), error.column()),
        })
    }
}

/// The headers of one answer of a redirect chain that describe the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The URL that answered.
    pub url: SourceUrl,
    /// `X-Repo-Commit`.
    pub commit: Option<String>,
    /// `X-Linked-Etag`, without its quotes.
    pub linked_etag: Option<String>,
    /// `X-Linked-Size`.
    pub linked_size: Option<u64>,
}

/// A file's description, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The answers, from the source's own URL to the one with the bytes.
    pub hops: Vec<Hop>,
    /// The size, if the host says it.
    pub size: Option<u64>,
    /// The host supports ranges.
    pub has_ranges: bool,
    /// The validator of the last answer.
    pub etag: Option<String>,
    /// The file's name by `Content-Disposition`, without directories. Any text: the caller checks it as a path.
    pub file_name: Option<String>,
}

impl Probe {
    /// The first commit in the chain.
    pub fn commit(&self) -> Option<&str> {
        self.hops.iter().find_map(|hop| hop.commit.as_deref())
    }

    /// The first linked validator in the chain, with its size.
    pub fn linked(&self) -> Option<(&str, Option<u64>)> {
        self.hops.iter().find_map(|hop| Some((hop.linked_etag.as_deref()?, hop.linked_size)))
    }
}

/// A client for documents and probes, with retries.
pub struct MetadataClient {
    client: Arc<HttpClient>,
    retry: RetryPolicy,
    on_wait: OnWait,
    started: Instant,
    /// By host and port, as they are asked.
    hosts: Mutex<HashMap<String, HostState>>,
}

/// The state of a host, from earlier requests, for the next one.
#[derive(Default)]
struct HostState {
    /// It gave no answer until the policy ended: it is not asked again (fault 98).
    silence: Option<MetadataError>,
    /// The end of the wait that it asked for, by [`MetadataClient::now`]. Every request to it waits.
    closed_until: Duration,
}

impl fmt::Debug for MetadataClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataClient").field("retry", &self.retry).finish_non_exhaustive()
    }
}

impl MetadataClient {
    /// A client that calls `on_wait` before each wait.
    pub fn new(client: &Arc<HttpClient>, retry: RetryPolicy, on_wait: OnWait) -> Self {
        Self { client: client.clone(), retry, on_wait, started: Instant::now(), hosts: Mutex::default() }
    }

    /// True if the configuration replaces the host of `url`.
    pub fn is_replaced(&self, url: &SourceUrl) -> bool {
        self.client.effective(url) != *url
    }

    /// True if a request to `url` carries a credential.
    pub fn has_login(&self, url: &SourceUrl) -> bool {
        let client = &self.client;
        client.config.credentials.authorization(&client.effective(url)).is_some()
    }

    /// The JSON document at `url`.
    pub async fn json(&self, url: &SourceUrl) -> Result<Document, MetadataError> {
        let client = self.client.clone();
        self.ask(url, || client.json(url)).await
    }

    /// The description of the file at `url`.
    pub async fn probe(&self, url: &SourceUrl) -> Result<Probe, MetadataError> {
        let client = self.client.clone();
        self.ask(url, || async { Ok(client.probe(url).await?) }).await
    }

    /// Repeats a request until it succeeds or the policy ends it.
    async fn ask<T, F>(&self, url: &SourceUrl, request: impl Fn() -> F) -> Result<T, MetadataError>
    where
        F: Future<Output = Result<T, MetadataError>>,
    {
        let asked = self.client.effective(url).authority();
        let mut row = FailureRow::default();
        loop {
            while let Some(wait) = self.with_host(&asked, |host| host.wait(self.now()))? {
                tokio::time::sleep(wait).await;
            }
            let began = self.now();
            let error = match request().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if let Err(error) = self.wait_after(error, &mut row, began).await {
                if matches!(&error, MetadataError::Request(error) if error.silent_host() == Some(&asked)) {
                    self.with_host(&asked, |host| host.silence = Some(error.clone()));
                }
                return Err(error);
            }
        }
    }

    fn with_host<T>(&self, authority: &str, change: impl FnOnce(&mut HostState) -> T) -> T {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        change(hosts.entry(authority.to_owned()).or_default())
    }

    /// The time since the client was made.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits after a failure that a retry may cure, and returns any other. The request `began` at that time by
    /// [`Self::now`]; `row` counts the failures in a row.
    pub async fn wait_after(
        &self,
        error: MetadataError,
        row: &mut FailureRow,
        began: Duration,
    ) -> Result<(), MetadataError> {
        let MetadataError::Request(request) = &error else { return Err(error) };
        let Remedy::Retry { wait: requested, .. } = request.remedy() else { return Err(error) };
        let url = request.url();
        let host = url.map_or_else(|| "the host".to_owned(), SourceUrl::host);
        if let Some(wait) = requested.filter(|requested| *requested > self.retry.longest_asked) {
            let credentials = &self.client.config.credentials;
            let hint =
                url.map_or("", |url| host_rules::limit_advice(url, credentials.authorization(url).is_some()));
            let until = wall_clock().checked_add(wait);
            let until = until.map_or_else(|| "a distant time".to_owned(), httpdate::fmt_http_date);
            return Err(MetadataError::Limited { host, until, wait, hint });
        }
        let now = self.now();
        let wait = self.retry.after(row, (began, now), fastrand::f64(), requested);
        // The next request to a silent host would take as long as this one.
        let longest = LONGEST_SILENCE.max(self.retry.give_up_after);
        let is_silent = request.is_transport() && row.lasted(now) + now.saturating_sub(began) > longest;
        let Some(wait) = wait.filter(|_| !is_silent) else { return Err(error) };
        // Requests at the same time are answered alike: one of them says so.
        let is_known = match url.filter(|_| requested.is_some()) {
            Some(url) => self.with_host(&url.authority(), |host| host.close(now, wait)),
            None => false,
        };
        if !is_known {
            (self.on_wait)(&Wait {
                host,
                reason: error.to_string(),
                wait,
                is_requested: requested.is_some(),
            });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl HostState {
    /// The wait before the next request; an error for a silent host.
    fn wait(&self, now: Duration) -> Result<Option<Duration>, MetadataError> {
        match &self.silence {
            Some(error) => Err(error.clone()),
            None => Ok(self.closed_until.checked_sub(now).filter(|wait| !wait.is_zero())),
        }
    }

    /// Closes the host for `wait`. Returns true if it was closed already.
    fn close(&mut self, now: Duration, wait: Duration) -> bool {
        let was_closed = self.closed_until > now;
        self.closed_until = self.closed_until.max(now + wait);
        was_closed
    }
}

impl HttpClient {
    /// The JSON document at `url`, without retries.
    async fn json(&self, url: &SourceUrl) -> Result<Document, MetadataError> {
        let headers = RequestHeaders { range: None, accept: "application/json" };
        let (answer, at) = self.follow(url, headers, |_, _| {}).await?;
        check(&answer, &at.url, StatusCode::OK)?;
        let link = next_page(&answer.headers);
        let body = match self.read_document(&at.url, answer, MAX_DOCUMENT as u64).await {
            Err(RequestError::Response { url, error: ResponseError::Oversized { .. }, .. }) => {
                return Err(MetadataError::TooLarge { url });
            }
            body => body?,
        };
        let redactor = self.redactor_of(&at);
        // Without the chain's cookies: the host chose them, and a value may be a word of the listing.
        if self.redactor(at.urls()).contains_token(&body) {
            // The document's content is shown and written into a lock.
            let problem = "it repeats a secret of the request".to_owned();
            return Err(MetadataError::Malformed { url: at.url, problem });
        }
        let next = match link {
            Some(link) => {
                let refused = |error| RequestError::Redirect { url: at.url.clone(), error };
                let next = follow(&at.url, Some(link.as_bytes())).map_err(refused)?;
                if !at.same_origin || !next.is_same_origin(&at.url) {
                    let why = "the next page is on another host".to_owned();
                    return Err(refused(RedirectError::Location(why)).into());
                }
                // An error about the next page shows its URL.
                Some(next.with_path_shown(|path| redactor.redact(path)))
            }
            None => None,
        };
        Ok(Document { at: at.url, body, next, redactor })
    }

    /// The description of the file at `url`, without retries.
    async fn probe(&self, url: &SourceUrl) -> Result<Probe, RequestError> {
        let headers = RequestHeaders { range: Some(ByteRange::new(0, 1)), accept: accept(url) };
        let mut hops = Vec::new();
        let seen = |headers: &HeaderMap, at: &Resolved| {
            hops.push(Hop::of(headers, &at.url, &self.redactor_of(at)));
        };
        let (answer, at) = self.follow(url, headers, seen).await?;
        let headers = &answer.headers;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let etag = text(header::ETAG).map(str::to_owned);
        let file_name = content_disposition::file_name(headers);
        // A host may repeat a login of the request.
        let file_name = file_name.filter(|name| self.redactor(std::iter::empty()).redact(name) == *name);
        let range = text(header::CONTENT_RANGE).and_then(ContentRange::parse);
        let (size, has_ranges) = match (answer.status, range) {
            (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range, total })) if range.start == 0 => {
                check(&answer, &at.url, StatusCode::PARTIAL_CONTENT)?;
                (total, true)
            }
            // An empty file has no first byte.
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { total: 0 })) => {
                (Some(0), true)
            }
            _ => {
                check(&answer, &at.url, StatusCode::OK)?;
                let length = text(header::CONTENT_LENGTH).and_then(|value| value.parse().ok());
                let is_framed = !headers.contains_key(header::TRANSFER_ENCODING);
                (length.filter(|_| is_framed), false)
            }
        };
        if has_ranges {
            answer.drain().await;
        }
        Ok(Probe { hops, size, has_ranges, etag, file_name })
    }
}

/// Checks status, type and encoding of an answer. A login page is refused also as a part: if no host publishes the
/// digest, the page would be taken for the file.
fn check(answer: &Answer, url: &SourceUrl, status: StatusCode) -> Result<(), RequestError> {
    let text = |name| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let is_html =
        text(header::CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    let error = if answer.status != status {
        ResponseError::Status { status: answer.status.as_u16() }
    } else if is_html {
        ResponseError::Html
    } else if let Some(encoding) = encoding(&answer.headers) {
        ResponseError::Encoded { encoding }
    } else {
        return Ok(());
    };
    Err(RequestError::response(url, error))
}

impl Hop {
    /// The headers of the answer of `url`. A value that repeats a secret is left out.
    fn of(headers: &HeaderMap, url: &SourceUrl, redactor: &Redactor) -> Self {
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?.trim();
            let value = value.strip_prefix("W/").unwrap_or(value).trim_matches('"');
            let is_word =
                !value.is_empty() && value.len() <= 128 && value.bytes().all(|b| b.is_ascii_graphic());
            is_word.then(|| value.to_owned()).and_then(|value| redactor.clean_digest(value))
        };
        Self {
            url: url.clone(),
            commit: text("x-repo-commit"),
            linked_etag: text("x-linked-etag"),
            linked_size: text("x-linked-size").and_then(|size| size.parse().ok()),
        }
    }
}

/// The target of `Link: <…>; rel="next"` (RFC 8288).
fn next_page(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    lines
        .flat_map(links)
        .find(|(_, parameters)| parameters.iter().any(|parameter| is_next(parameter)))
        .map(|(link, _)| link)
}

/// True for a parameter that is `rel` with the word `next`.
fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let mut words = value.trim().trim_matches('"').split_ascii_whitespace();
    name.trim().eq_ignore_ascii_case("rel") && words.any(|word| word.eq_ignore_ascii_case("next"))
}

/// The links of a field's line, each with its parameters. A URL may contain commas and semicolons.
fn links(line: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some((link, after)) = rest.split_once('<').and_then(|(_, inner)| inner.split_once('>')) {
        let end = after.find(",<").or_else(|| after.find(", <")).unwrap_or(after.len());
        let parameters = after[..end].split([';', ',']).map(str::to_owned).collect();
        found.push((link.to_owned(), parameters));
        rest = &after[end..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::headers;

    #[test]
    fn the_link_to_the_next_page_is_found() {
        let next = |line: &str| next_page(&headers(&[("link", line)]));
        let page = "https://h/api/x?limit=2&cursor=a,b;c";
        for line in [
            format!("<{page}>; rel=\"next\""),
            format!("<{page}>;rel=next"),
            format!("<https://h/1>; rel=\"prev\", <{page}>; title=\"x\"; rel=\"last next\""),
            format!("<https://h/1>; rel=\"prev\",<{page}>; REL=\"Next\""),
        ] {
            assert_eq!(next(&line).as_deref(), Some(page), "{line}");
        }
        for line in
            ["", "<https://h/1>", "<https://h/1>; rel=\"prev\"", "https://h; rel=next", "<x; rel=next"]
        {
            assert_eq!(next(line), None, "{line}");
        }
    }

    #[test]
    fn linked_headers_are_taken_without_quotes() {
        let linked = [("x-linked-etag", "W/\"abc\""), ("x-linked-size", "12"), ("x-repo-commit", "a b")];
        let hop = Hop::of(&headers(&linked), &"https://h/x".parse().unwrap(), &Redactor::default());
        assert_eq!((hop.linked_etag.as_deref(), hop.linked_size, hop.commit), (Some("abc"), Some(12), None));
    }
}
