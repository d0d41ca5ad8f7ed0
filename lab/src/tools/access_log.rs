//! nginx's access log: each request that a check caused, as the server saw it.
//!
//! A server with one worker writes the log in the order in which responses end, which may be after the client has
//! disconnected. [`AccessLog`] therefore waits until the log is complete before it reads it.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use serde::Deserialize;

use crate::tools::wait;

/// The log's format: one JSON object per line.
pub(crate) const FORMAT: &str = r#"log_format seen escape=json '{"port":$server_port,"path":"$uri","query":"$args","status":$status,"authorization":"$http_authorization","referer":"$http_referer","bytes":$body_bytes_sent,"connection":$connection}';"#;

/// The path of the requests that [`AccessLog`] sends itself. The server must answer it with 204.
pub(crate) const SYNC: &str = "/sync";

/// A request and its response.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Request {
    pub(crate) port: u16,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) status: u16,
    pub(crate) authorization: String,
    pub(crate) referer: String,
    /// Body bytes sent.
    pub(crate) bytes: u64,
    pub(crate) connection: u64,
}

/// The log of one server with one worker.
#[derive(Debug)]
pub(crate) struct AccessLog {
    path: Utf8PathBuf,
    /// A port on which the server answers [`SYNC`].
    port: u16,
}

/// A position in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(usize);

impl AccessLog {
    pub(crate) fn new(path: Utf8PathBuf, port: u16) -> Self {
        Self { path, port }
    }

    /// The end of the log, after every request so far.
    pub(crate) fn mark(&self) -> Result<Mark> {
        Ok(Mark(self.complete_text()?.len()))
    }

    /// The requests after `mark`.
    pub(crate) fn since(&self, mark: Mark) -> Result<Vec<Request>> {
        let text = self.complete_text()?;
        let parse = |line| serde_json::from_str(line).with_context(|| format!("access log: {line}"));
        let requests = text[mark.0..].lines().map(parse).collect::<Result<Vec<Request>>>()?;
        Ok(requests.into_iter().filter(|request| request.path != SYNC).collect())
    }

    /// The log's text with every response that ended before this call.
    ///
    /// The worker handles events in rounds. When the second of two successive requests is in the log, so is every
    /// response that ended before the first.
    fn complete_text(&self) -> Result<String> {
        let lines = |text: &str| text.matches(SYNC).count();
        let before = lines(&self.text());
        self.request_sync()?;
        self.request_sync()?;
        wait::until("nginx's access log", Duration::from_secs(10), || {
            Ok(Some(self.text()).filter(|text| lines(text) >= before + 2 && text.ends_with('\n')))
        })
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    fn request_sync(&self) -> Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {SYNC} HTTP/1.0\r\n\r\n")?;
        let response = std::io::read_to_string(stream)?;
        ensure!(response.starts_with("HTTP/1.1 204"), "nginx answered {response:?} to {SYNC}");
        Ok(())
    }
}

/// The sum of the body bytes sent.
pub(crate) fn bytes(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.bytes).sum()
}
