//! What nginx was asked, by its own access log.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8PathBuf;
use serde::Deserialize;

use crate::tools::wait;

/// The log's format, one JSON object a line.
pub(crate) const FORMAT: &str = r#"log_format seen escape=json '{"port":$server_port,"path":"$uri","query":"$args","status":$status,"authorization":"$http_authorization","referer":"$http_referer","bytes":$body_bytes_sent,"connection":$connection}';"#;

/// The path of the requests that [`AccessLog`] makes itself.
pub(crate) const SYNC: &str = "/sync";

/// A request and its answer.
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
    /// A port that answers [`SYNC`].
    port: u16,
}

/// A place in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(usize);

impl AccessLog {
    pub(crate) fn new(path: Utf8PathBuf, port: u16) -> Self {
        Self { path, port }
    }

    /// The end of the log, after everything that was asked so far.
    pub(crate) fn mark(&self) -> Result<Mark> {
        Ok(Mark(self.settled()?.len()))
    }

    /// The requests since then.
    pub(crate) fn since(&self, mark: Mark) -> Result<Vec<Request>> {
        let text = self.settled()?;
        let mut requests = Vec::new();
        for line in text[mark.0..].lines() {
            let request: Request =
                serde_json::from_str(line).with_context(|| format!("access log: {line}"))?;
            if request.path != SYNC {
                requests.push(request);
            }
        }
        Ok(requests)
    }

    /// The log's text once it is complete. nginx writes a line when an answer has ended, which a client that is gone
    /// does not wait for. The worker handles events in rounds: when a second request, made after the first was
    /// answered, is in the log, so is all that had happened before the first.
    fn settled(&self) -> Result<String> {
        let lines = |text: &str| text.matches(SYNC).count();
        let before = lines(&self.text());
        self.ask()?;
        self.ask()?;
        wait::until("nginx's access log", Duration::from_secs(10), || {
            Ok(Some(self.text()).filter(|text| lines(text) >= before + 2 && text.ends_with('\n')))
        })
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap_or_default()
    }

    fn ask(&self) -> Result<()> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {SYNC} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.starts_with("HTTP/1.1 204"), "nginx answered {answer:?} to {SYNC}");
        Ok(())
    }
}

/// The sum of the body bytes sent.
pub(crate) fn bytes(requests: &[Request]) -> u64 {
    requests.iter().map(|request| request.bytes).sum()
}
