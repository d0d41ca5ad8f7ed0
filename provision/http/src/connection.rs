//! The connection of model bodies: at most one TCP stream, kept from request to request.
//!
//! The connection sends one GET and reads its body into the caller's buffer. `body` builds on it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use provision_core::source_url::SourceUrl;
use rusty_s3::Method;
use tokio::time::Instant;

use crate::auth::credentials::Secret;
use crate::client::HttpClient;
use crate::error::RequestError;
use crate::request_rules::Resolved;
use crate::transport::TransportError;
use crate::wire::connect::OpenConnection;
use crate::wire::http1::{Head, RequestHeaders};
use crate::wire::{DRAIN_TIMEOUT, LONGEST_DRAIN};

/// At most one open connection, kept from request to request.
pub struct Connection {
    pub(crate) client: Arc<HttpClient>,
    open: Option<OpenConnection>,
    first_head: Arc<FirstHead>,
}

/// The wait for the first head since a [`Connection::watch`], for a caller that has less patience with some hosts. The
/// time for keys and tokens does not count: a registry that asks for a login has answered.
#[derive(Debug, Default)]
pub struct FirstHead(Mutex<Wait>);

#[derive(Debug, Default, Clone, Copy)]
enum Wait {
    #[default]
    NotAsked,
    Since(Instant),
    Answered,
}

impl FirstHead {
    /// The time for which a request has waited; `None` before the request, and once any head has come.
    pub fn waits(&self) -> Option<Duration> {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Wait::Since(since) => Some(since.elapsed()),
            Wait::NotAsked | Wait::Answered => None,
        }
    }

    fn asked(&self) {
        let mut wait = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*wait, Wait::Answered) {
            *wait = Wait::Since(Instant::now());
        }
    }

    fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Wait::Answered;
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("client", &self.client).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A new connection; it connects with its first request.
    pub fn connection(self: &Arc<Self>) -> Connection {
        Connection { client: self.clone(), open: None, first_head: Arc::default() }
    }
}

impl Connection {
    /// A new connection of the same client.
    #[must_use]
    pub fn another(&self) -> Self {
        self.client.connection()
    }

    /// Watches the wait for the next head.
    pub fn watch(&mut self) -> Arc<FirstHead> {
        self.first_head = Arc::default();
        self.first_head.clone()
    }

    /// Sends a request and returns the answer's head and the peer's address. A registry's challenge is answered with a
    /// token or a login.
    pub(crate) async fn send(
        &mut self,
        to: &Resolved,
        headers: RequestHeaders,
    ) -> Result<(Head, IpAddr), RequestError> {
        let client = self.client.clone();
        let token = client.token(to);
        let (head, peer) = self.send_with(to, headers, token.as_ref()).await?;
        let challenge = client.challenge(head.status, &head.headers, to, token.as_ref()).await;
        let Some(challenge) = challenge else { return Ok((head, peer)) };
        self.drain().await;
        let token = client
            .answer_challenge(challenge, token, to, client.counts_as_public(&to.url, Some(peer)))
            .await?;
        self.send_with(to, headers, Some(&token)).await
    }

    /// Sends a request to `to` within the head's time limit, and returns the answer's head and the peer's address.
    /// `token` is a registry's; without one, the host's own credential is sent.
    async fn send_with(
        &mut self,
        to: &Resolved,
        headers: RequestHeaders,
        token: Option<&Secret>,
    ) -> Result<(Head, IpAddr), RequestError> {
        let client = self.client.clone();
        let url = client.sign(&to.url, Method::Get, &[], &[]).await?;
        self.first_head.asked();
        if !self.open.as_mut().is_some_and(|open| open.can_serve(&to.url, to.public_only)) {
            let prepared = self.client.connector.prepare(&to.url).await;
            prepared.map_err(|error| self.client.unanswered(to, error))?;
        }
        let wait = client.config.head_timeout;
        match tokio::time::timeout(wait, self.send_without_limit(to, &url, headers, token)).await {
            Ok(sent) => sent,
            Err(_) => Err(self.client.unanswered(to, TransportError::Stalled(wait).into())),
        }
    }

    async fn send_without_limit(
        &mut self,
        to: &Resolved,
        url: &SourceUrl,
        headers: RequestHeaders,
        token: Option<&Secret>,
    ) -> Result<(Head, IpAddr), RequestError> {
        let client = self.client.clone();
        let open = self.open(to).await?;
        let secrets = client.secrets(to, token, open.is_proxied);
        let head = open.get(url, headers, &secrets).await;
        let head = head.map_err(|kind| client.unanswered(to, kind.into()))?;
        let peer = open.peer.ip();
        self.first_head.answered();
        Ok((head, peer))
    }

    /// The open connection, if it can take a request for `to`; otherwise a new one.
    async fn open(&mut self, to: &Resolved) -> Result<&mut OpenConnection, RequestError> {
        let kept = self.open.take();
        let kept = kept.and_then(|mut open| open.can_serve(&to.url, to.public_only).then_some(open));
        let open = if let Some(open) = kept {
            open
        } else {
            let connected = self.client.connector.connect(&to.url, to.public_only).await;
            connected.map_err(|error| self.client.unanswered(to, error))?
        };
        let open = self.open.insert(open);
        open.last_used = Instant::now();
        Ok(open)
    }

    /// Reads the next bytes of the current body; 0 at its end.
    pub(crate) async fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        match &mut self.open {
            Some(open) => open.exchange.read(into).await,
            None => Err(TransportError::Broken),
        }
    }

    /// True if the current body has ended and the connection stays open.
    pub(crate) fn is_over(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.exchange.is_over())
    }

    /// The next bytes of the current body, at most `limit`, as far as they come within [`DRAIN_TIMEOUT`].
    pub(crate) async fn read_prefix(&mut self, limit: usize) -> Vec<u8> {
        let mut bytes = vec![0; limit];
        let mut read = 0;
        let reading = tokio::time::timeout(DRAIN_TIMEOUT, async {
            while read < bytes.len() {
                match self.read(&mut bytes[read..]).await {
                    Ok(more) if more > 0 => read += more,
                    _ => break,
                }
            }
        });
        let _ = reading.await;
        bytes.truncate(read);
        bytes
    }

    /// Reads the short body of a redirect, so that a redirect to the same host uses the same connection.
    pub(crate) async fn drain(&mut self) {
        self.read_prefix(LONGEST_DRAIN).await;
    }
}
