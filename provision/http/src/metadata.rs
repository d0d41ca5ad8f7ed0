//! Questions about files: small documents, and what a host says of a file before a byte of it is fetched.
//!
//! A [`Metadata`] asks over one connection, with the redirects, credentials and checks of every other request. HEAD is
//! never used: signed addresses are bound to GET, and some hosts answer HEAD with 401 whatever the token. So a [`Probe`] is a
//! GET of the first byte. What a redirect says of the file is on the redirect only, so each hop is remembered.
//!
//! A host that wants a wait gets it, up to the policy's longest, and whoever waits is told. A longer one is an error that
//! says until when.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{self, HeaderMap};

use crate::client::{Connection, HttpClient, RequestHeaders, Resolved, accept, is_redirect, wall_clock};
use crate::error::{Remedy, RequestError, ResponseError};
use crate::redirect::{MAX_HOPS, RedirectError, follow};
use crate::response::encoding;
use crate::wire::http1::Head;
use provision_core::backoff::RetryPolicy;
use provision_core::byte_range::{ByteRange, ContentRange};
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The longest document, in bytes. A listing of a repository with ten thousand files has three million; the next page is
/// another document.
pub const MAX_DOCUMENT: usize = 32 << 20;

/// A question that was not answered.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The host wants a longer wait than is waited.
    #[error("{host} was asked too often and answers again at {until} (in {} s){hint}", wait.as_secs())]
    Limited {
        /// The host.
        host: String,
        /// The time, in words.
        until: String,
        /// The same as a wait.
        wait: Duration,
        /// What would raise the limit.
        hint: &'static str,
    },
    /// A document that is larger than any that is wanted.
    #[error("{url}: the answer is larger than {} MiB, which no listing is", MAX_DOCUMENT >> 20)]
    TooLarge {
        /// The address.
        url: SourceUrl,
    },
    /// Not JSON, or JSON of another shape.
    #[error("{url}: the answer is not what this host's documentation says: {problem}")]
    Shape {
        /// The address.
        url: SourceUrl,
        /// What is wrong with it.
        problem: String,
    },
}

/// A wait that is about to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Whose answer is waited for.
    pub host: String,
    /// What happened.
    pub reason: String,
    /// How long.
    pub wait: Duration,
    /// The host asked for it.
    pub is_asked: bool,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.wait.as_secs_f64();
        if self.is_asked {
            write!(f, "{} asks to wait {seconds:.0} s ({})", self.host, self.reason)
        } else {
            write!(f, "{}; trying again in {seconds:.1} s", self.reason)
        }
    }
}

/// Told of waits.
pub type OnWait = Arc<dyn Fn(&Wait) + Send + Sync>;

/// A JSON document.
#[derive(Debug)]
pub struct Document {
    /// Where it came from.
    pub at: SourceUrl,
    /// Its text.
    pub body: Vec<u8>,
    /// Where the next page is (`Link: <…>; rel="next"`), always on the same host.
    pub next: Option<SourceUrl>,
    /// What must not be shown of it.
    told: Redactor,
}

impl Document {
    /// Words of it for a message: one short line, without what the host was told.
    pub fn redacted(&self, text: &str) -> String {
        self.told.conceal(text).chars().filter(|c| !c.is_control()).take(200).collect()
    }

    /// As a value of some type.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, MetadataError> {
        // The parser's message may quote the text, which is a stranger's: its place is enough.
        serde_json::from_slice(&self.body).map_err(|error| MetadataError::Shape {
            url: self.at.clone(),
            problem: format!("line {}, column {}", error.line(), error.column()),
        })
    }
}

/// What an answer said of the file on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// Who said it.
    pub url: SourceUrl,
    /// `X-Repo-Commit`.
    pub commit: Option<String>,
    /// `X-Linked-Etag`, without its quotes.
    pub linked_etag: Option<String>,
    /// `X-Linked-Size`.
    pub linked_size: Option<u64>,
}

/// What is known of a file without having fetched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The answers, from the source's own to the one with the bytes.
    pub hops: Vec<Hop>,
    /// The file's length, where it is said.
    pub size: Option<u64>,
    /// Whether a part of it can be had.
    pub has_ranges: bool,
    /// The validator of what answers in the end.
    pub etag: Option<String>,
}

impl Probe {
    /// The first commit that was named.
    pub fn commit(&self) -> Option<&str> {
        self.hops.iter().find_map(|hop| hop.commit.as_deref())
    }

    /// The first linked validator and length.
    pub fn linked(&self) -> Option<(&str, Option<u64>)> {
        self.hops.iter().find_map(|hop| Some((hop.linked_etag.as_deref()?, hop.linked_size)))
    }
}

/// Asks, over a connection of its own.
pub struct Metadata {
    connection: Connection,
    retry: RetryPolicy,
    on_wait: OnWait,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").field("retry", &self.retry).finish_non_exhaustive()
    }
}

impl Metadata {
    /// Asks through `origin`; `on_wait` is told before each wait.
    pub fn new(origin: &Arc<HttpClient>, retry: RetryPolicy, on_wait: OnWait) -> Self {
        Self { connection: origin.connection(), retry, on_wait }
    }

    /// Whether `url` is had from somewhere else, which was given in place of its host.
    pub fn is_replaced(&self, url: &SourceUrl) -> bool {
        self.connection.origin.effective(url) != *url
    }

    /// Whether a request to `url` carries a login.
    pub fn has_login(&self, url: &SourceUrl) -> bool {
        let origin = &self.connection.origin;
        origin.config.credentials.authorization(&origin.effective(url)).is_some()
    }

    /// The JSON document at `url`.
    pub async fn ask(&mut self, url: &SourceUrl) -> Result<Document, MetadataError> {
        let mut failures = 0;
        loop {
            match self.connection.json(url).await {
                Ok(document) => return Ok(document),
                Err(error) => self.wait_after(error, &mut failures).await?,
            }
        }
    }

    /// What is known of the file at `url`.
    pub async fn probe(&mut self, url: &SourceUrl) -> Result<Probe, MetadataError> {
        let mut failures = 0;
        loop {
            match self.connection.probe(url).await {
                Ok(probe) => return Ok(probe),
                Err(error) => self.wait_after(error.into(), &mut failures).await?,
            }
        }
    }

    /// Waits as a failure wants, or returns it where that is no use. `failures` counts those in a row.
    pub async fn wait_after(
        &mut self,
        error: MetadataError,
        failures: &mut u32,
    ) -> Result<(), MetadataError> {
        let MetadataError::Request(request) = &error else { return Err(error) };
        let Remedy::Retry { wait: asked, .. } = request.remedy() else { return Err(error) };
        let url = request.url();
        let host = url.map_or_else(|| "the host".to_owned(), SourceUrl::host);
        if let Some(wait) = asked.filter(|asked| *asked > self.retry.longest_asked) {
            let credentials = &self.connection.origin.config.credentials;
            let hint = url.map_or("", |url| credentials.limit_advice(url));
            let until = wall_clock().checked_add(wait);
            let until = until.map_or_else(|| "a time far off".to_owned(), httpdate::fmt_http_date);
            return Err(MetadataError::Limited { host, until, wait, hint });
        }
        *failures += 1;
        if self.retry.is_spent(*failures) {
            return Err(error);
        }
        let wait = self.retry.delay(*failures, fastrand::f64(), asked);
        (self.on_wait)(&Wait { host, reason: error.to_string(), wait, is_asked: asked.is_some() });
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

impl Connection {
    /// Follows `url` to an answer that is no redirect and no failure; what was said on the way is put into `hops`.
    async fn follow(
        &mut self,
        url: &SourceUrl,
        wish: RequestHeaders,
        hops: &mut Vec<Hop>,
    ) -> Result<(Head, Resolved), RequestError> {
        let mut at = Resolved::first(self.origin.effective(url));
        for _ in 0..=MAX_HOPS {
            let (head, peer) = self.send(&at, wish).await?;
            hops.push(Hop::of(&head.headers, &at.url, &self.origin.redactor(at.urls())));
            if !is_redirect(head.status) {
                if let Some(error) = self.failure(&head, &at, false) {
                    self.drain().await;
                    return Err(error);
                }
                return Ok((head, at));
            }
            at = self.next(&head, &at, peer)?;
            self.drain().await;
        }
        Err(RequestError::Redirect { url: at.url, error: RedirectError::TooMany })
    }

    async fn json(&mut self, url: &SourceUrl) -> Result<Document, MetadataError> {
        let wish = RequestHeaders { range: None, accept: "application/json" };
        let (head, at) = self.follow(url, wish, &mut Vec::new()).await?;
        check(&head, &at.url, StatusCode::OK)?;
        let body = match self.body(&at.url, &head.headers, MAX_DOCUMENT as u64).await {
            Err(RequestError::Response { url, error: ResponseError::Oversized { .. }, .. }) => {
                return Err(MetadataError::TooLarge { url });
            }
            body => body?,
        };
        let told = self.origin.redactor(at.urls());
        if told.has_token(&body) {
            // What it lists is shown, and written into a lock.
            let problem = "it repeats a secret of the request".to_owned();
            return Err(MetadataError::Shape { url: at.url, problem });
        }
        let next = match next_page(&head.headers) {
            Some(link) => {
                let refused = |error| RequestError::Redirect { url: at.url.clone(), error };
                let next = follow(&at.url, Some(link.as_bytes())).map_err(refused)?;
                if !at.is_same_origin() || !next.is_same_origin(&at.url) {
                    let elsewhere = "the next page is on another host".to_owned();
                    return Err(refused(RedirectError::Location(elsewhere)).into());
                }
                // A failure of the next page shows its address.
                Some(next.with_path_shown(|path| told.conceal(path)))
            }
            None => None,
        };
        Ok(Document { at: at.url, body, next, told })
    }

    async fn probe(&mut self, url: &SourceUrl) -> Result<Probe, RequestError> {
        let wish = RequestHeaders { range: Some(ByteRange::new(0, 1)), accept: accept(url) };
        let mut hops = Vec::new();
        let (head, at) = self.follow(url, wish, &mut hops).await?;
        let headers = &head.headers;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let etag = text(header::ETAG).map(str::to_owned);
        let range = text(header::CONTENT_RANGE).and_then(ContentRange::parse);
        let (size, has_ranges) = match (head.status, range) {
            (StatusCode::PARTIAL_CONTENT, Some(ContentRange::Part { range, total })) if range.start == 0 => {
                check(&head, &at.url, StatusCode::PARTIAL_CONTENT)?;
                (total, true)
            }
            // Nothing is what an empty file has.
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange::Unsatisfied { total: 0 })) => {
                (Some(0), true)
            }
            _ => {
                check(&head, &at.url, StatusCode::OK)?;
                let length = text(header::CONTENT_LENGTH).and_then(|value| value.parse().ok());
                let is_framed = !headers.contains_key(header::TRANSFER_ENCODING);
                (length.filter(|_| is_framed), false)
            }
        };
        if has_ranges {
            self.drain().await;
        } else {
            self.hang_up();
        }
        Ok(Probe { hops, size, has_ranges, etag })
    }
}

/// What makes an answer unusable whatever it is about. A page to log in on is one in parts, too: where nobody else says the
/// digest, it would become the file.
fn check(head: &Head, url: &SourceUrl, status: StatusCode) -> Result<(), RequestError> {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let is_html =
        text(header::CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    let what = if head.status != status {
        ResponseError::Status { status: head.status.as_u16() }
    } else if is_html {
        ResponseError::Html
    } else if let Some(encoding) = encoding(&head.headers) {
        ResponseError::Encoded { encoding }
    } else {
        return Ok(());
    };
    Err(RequestError::response(url, what))
}

impl Hop {
    fn of(headers: &HeaderMap, url: &SourceUrl, told: &Redactor) -> Self {
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?.trim();
            let value = value.strip_prefix("W/").unwrap_or(value).trim_matches('"');
            let is_word =
                !value.is_empty() && value.len() <= 128 && value.bytes().all(|b| b.is_ascii_graphic());
            is_word.then(|| value.to_owned()).and_then(|value| told.harmless_digest(value))
        };
        Self {
            url: url.clone(),
            commit: text("x-repo-commit"),
            linked_etag: text("x-linked-etag"),
            linked_size: text("x-linked-size").and_then(|size| size.parse().ok()),
        }
    }
}

/// The address of `Link: <…>; rel="next"` (RFC 8288).
fn next_page(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    lines
        .flat_map(links)
        .find(|(_, parameters)| parameters.iter().any(|parameter| is_next(parameter)))
        .map(|(link, _)| link)
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let mut words = value.trim().trim_matches('"').split_ascii_whitespace();
    name.trim().eq_ignore_ascii_case("rel") && words.any(|word| word.eq_ignore_ascii_case("next"))
}

/// The links of a field's line, each with its parameters. An address may have commas and semicolons in it.
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

    #[test]
    fn the_next_page_is_found_among_links() {
        let next = |line: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, line.parse().unwrap());
            next_page(&headers)
        };
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
    fn what_a_redirect_says_is_taken_without_its_quotes() {
        let mut headers = HeaderMap::new();
        headers.insert("x-linked-etag", "W/\"abc\"".parse().unwrap());
        headers.insert("x-linked-size", "12".parse().unwrap());
        headers.insert("x-repo-commit", "a b".parse().unwrap());
        let hop = Hop::of(&headers, &"https://h/x".parse().unwrap(), &Redactor::default());
        assert_eq!((hop.linked_etag.as_deref(), hop.linked_size, hop.commit), (Some("abc"), Some(12), None));
    }
}
