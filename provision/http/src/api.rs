//! The client of documents: a lock, a listing, a probe of a file, or a registry's token, over reqwest.
//!
//! A document has the redirects, credentials and checks of a model file, but its size is not known. So it has three
//! limits: its length, the time without data, and the time for all of it. The last one stops a host that sends a byte
//! now and then: no single wait is too long, and the end never comes. After a failure the connection is closed, because
//! the rest of the body may still arrive.

use http::StatusCode;
use http::header::{self, HeaderMap};
use rusty_s3::Method;
use tokio::time::Instant;

use crate::auth::bearer::{self, Challenge, Issued, wants_basic};
use crate::auth::credentials::{Credential, Secret, may_have_secret};
use crate::bucket::Corrected;
use crate::client::HttpClient;
use crate::credential_service::{ServiceAnswer, ServiceFuture, ServiceRequest, Services};
use crate::error::RequestError;
use crate::redirect::{MAX_HOPS, RedirectError};
use crate::request_rules::{Resolved, explains, is_redirect};
use crate::response::{ResponseError, encoding};
use crate::transport::{ConnectError, TransportError};
use crate::wire::LONGEST_REASON;
use crate::wire::http1::RequestHeaders;
use crate::wire::pool::Answer;
use provision_core::source_url::SourceUrl;

/// The longest answer of a token service, in bytes.
const MAX_TOKEN: u64 = 1 << 20;

impl HttpClient {
    /// The document at `source`, at most `most` bytes.
    ///
    /// # Errors
    /// Every failure up to the document's end; [`remedy`](RequestError::remedy) is the next step.
    pub async fn document(&self, source: &SourceUrl, most: u64) -> Result<Vec<u8>, RequestError> {
        let headers = RequestHeaders { range: None, accept: "*/*" };
        let (answer, at) = self.follow(source, headers, |_, _| {}).await?;
        check(answer.status, &answer.headers).map_err(|error| RequestError::response(&at.url, error))?;
        self.read_document(&at.url, answer, most).await
    }

    /// Follows `source` to an answer that is neither a redirect nor a failure. `seen` gets the headers of every answer.
    pub(crate) async fn follow(
        &self,
        source: &SourceUrl,
        headers: RequestHeaders,
        mut seen: impl FnMut(&HeaderMap, &Resolved) + Send,
    ) -> Result<(Answer, Resolved), RequestError> {
        self.follow_from((source, self.first(source)?), headers, &mut seen).await
    }

    /// The same from the place that `source` leads to.
    pub(crate) async fn follow_from(
        &self,
        (source, mut at): (&SourceUrl, Resolved),
        headers: RequestHeaders,
        seen: &mut (dyn FnMut(&HeaderMap, &Resolved) + Send),
    ) -> Result<(Answer, Resolved), RequestError> {
        let mut corrected = Corrected::default();
        for _ in 0..=MAX_HOPS {
            let mut answer = self.get(&at, headers).await?;
            seen(&answer.headers, &at);
            let body = if explains(answer.status, &at.url) {
                answer.prefix(LONGEST_REASON).await
            } else {
                Vec::new()
            };
            if self.corrects(&at.url, (answer.status, &answer.headers), &body, &mut corrected) {
                at = self.at_store(source, at.pushes)?;
                continue;
            }
            if !is_redirect(answer.status) {
                return match self.failure(answer.status, &answer.headers, &at, false, &body) {
                    Some(error) => Err(error),
                    None => Ok((answer, at)),
                };
            }
            at =
                self.next(answer.status, &answer.headers, &at, self.counts_as_public(&at.url, answer.peer))?;
            answer.drain().await;
        }
        Err(RequestError::Redirect { url: at.url, error: RedirectError::TooMany })
    }

    /// The failure that the status of an answer means.
    async fn failure_of(&self, answer: &mut Answer, at: &Resolved) -> Option<RequestError> {
        let body =
            if explains(answer.status, &at.url) { answer.prefix(LONGEST_REASON).await } else { Vec::new() };
        self.failure(answer.status, &answer.headers, at, false, &body)
    }

    /// Sends a request and returns the answer's head. A registry's challenge is answered with a token.
    async fn get(&self, to: &Resolved, headers: RequestHeaders) -> Result<Answer, RequestError> {
        let token = self.token(to);
        let answer = self.get_with(to, headers, token.as_ref()).await?;
        let challenge = self.challenge(answer.status, &answer.headers, to, token.as_ref()).await;
        let Some(challenge) = challenge else { return Ok(answer) };
        let peer_is_public = self.counts_as_public(&to.url, answer.peer);
        answer.drain().await;
        let token = self.answer_challenge(challenge, token, to, peer_is_public).await?;
        self.get_with(to, headers, Some(&token)).await
    }

    /// Sends a request within the head's time limit. Without a registry's `token`, the host's own credential is sent.
    async fn get_with(
        &self,
        to: &Resolved,
        headers: RequestHeaders,
        token: Option<&Secret>,
    ) -> Result<Answer, RequestError> {
        let is_proxied = self.connector.proxies.proxy(&to.url).is_some();
        let secrets = self.secrets(to, token, is_proxied);
        let prepared = self.pool.prepare(&to.url, to.public_only).await;
        prepared.map_err(|error| self.unanswered(to, error))?;
        let url = self.sign(&to.url, Method::Get, &[], &[]).await?;
        let wait = self.config.head_timeout;
        let getting = self.pool.get(&url, headers, &secrets, to.public_only);
        let answer = tokio::time::timeout(wait, getting).await;
        let answer = answer.unwrap_or(Err(TransportError::Stalled(wait).into()));
        answer.map_err(|error| self.unanswered(to, error))
    }

    /// The cached token for a request to a registry, or the login for it that was looked up.
    pub(crate) fn token(&self, to: &Resolved) -> Option<Secret> {
        to.same_origin
            .then(|| self.tokens.of(&to.url, to.pushes).or_else(|| self.looked_up(&to.url)))
            .flatten()
    }

    /// The login that was looked up for a request to `url`, if no other is for its host.
    fn looked_up(&self, url: &SourceUrl) -> Option<Secret> {
        if self.config.credentials.authorization(url).is_some() {
            return None;
        }
        self.config.registries.found(url)?.ok()??.authorization(url).cloned()
    }

    /// The way to answer a refusal of `to`, which was sent with the token or looked-up login `sent`. `None` if there is
    /// none.
    pub(crate) async fn challenge(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        to: &Resolved,
        sent: Option<&Secret>,
    ) -> Option<ChallengeResponse> {
        if !to.same_origin {
            return None;
        }
        if let Some(challenge) = Challenge::of(status, headers, &to.url, to.pushes) {
            return Some(ChallengeResponse::Token(challenge));
        }
        if !wants_basic(status, headers, &to.url) {
            return None;
        }
        self.config.registries.look_up(&to.url).await;
        self.looked_up(&to.url).filter(|login| sent != Some(login)).map(ChallengeResponse::Login)
    }

    /// The secret that answers a refusal of `to`, which refused `refused`: a login, or a token from the cache or from
    /// the token service.
    pub(crate) async fn answer_challenge(
        &self,
        way: ChallengeResponse,
        refused: Option<Secret>,
        to: &Resolved,
        peer_is_public: bool,
    ) -> Result<Secret, RequestError> {
        let challenge = match way {
            ChallengeResponse::Login(login) => return Ok(login),
            ChallengeResponse::Token(challenge) => challenge,
        };
        let _one_at_a_time = self.obtaining.lock().await;
        // Another connection may have obtained a token in the meantime.
        if let Some(current) =
            self.tokens.of(&to.url, to.pushes).filter(|current| refused.as_ref() != Some(current))
        {
            return Ok(current);
        }
        let service = self.permit(to, challenge.service, peer_is_public);
        let mut service = service.map_err(|error| RequestError::Redirect { url: to.url.clone(), error })?;
        // The challenge decides about a login for the service, not the redirect chain that led to the registry.
        service.same_origin = challenge.may_have_credentials;
        let of_service = self.config.credentials.names(&service.url).0.filter(|_| service.same_origin);
        // A registry over plain http could not be told from another one, which would name a realm of its own.
        if of_service.is_none() && may_have_secret(&to.url) {
            self.config.registries.look_up(&to.url).await;
            service.login = self.config.registries.found(&to.url);
            let has_login = matches!(service.login, Some(Ok(Some(_))));
            service.same_origin |= has_login;
        }
        let token = self.obtain_token(&service).await?;
        let looked_up = service.login.and_then(|login| login.ok().flatten());
        let issued = Issued {
            token: token.clone(),
            login: of_service.or_else(|| Some(looked_up?.name())),
            service: service.url.host(),
            may_have_credentials: service.same_origin,
        };
        self.tokens.keep(&to.url, to.pushes, issued);
        Ok(token)
    }

    /// A token from a token service, by a login or in exchange for an identity token. Redirects are not followed: the
    /// challenge was checked for this URL only.
    async fn obtain_token(&self, service: &Resolved) -> Result<Secret, RequestError> {
        let headers = RequestHeaders { range: None, accept: "application/json" };
        let login = service.login.as_ref().and_then(|login| login.as_ref().ok()?.as_ref());
        let mut answer = match login.and_then(Credential::identity_token) {
            Some(identity) => self.exchange(service, identity).await?,
            None => self.get_with(service, headers, None).await?,
        };
        if let Some(error) = self.failure_of(&mut answer, service).await {
            return Err(error);
        }
        let unusable = |error| RequestError::response(&service.url, error);
        if answer.status != StatusCode::OK {
            return Err(unusable(ResponseError::Status { status: answer.status.as_u16() }));
        }
        let body = self.read_document(&service.url, answer, MAX_TOKEN).await?;
        bearer::token(&body).ok_or_else(|| unusable(ResponseError::NoToken))
    }

    /// Sends an identity token to its token service, and returns the answer's head.
    async fn exchange(&self, service: &Resolved, identity: &Secret) -> Result<Answer, RequestError> {
        let limit = self.config.head_timeout;
        let (url, form) = bearer::exchange(&service.url, identity);
        // A proxy would read a plain request, which goes to this machine only.
        let direct = !url.is_https();
        let request =
            ServiceRequest { method: "POST", url, headers: Vec::new(), form: Some(form), direct, limit };
        let asking = self.pool.ask(&request, service.public_only);
        let answer = tokio::time::timeout(limit, asking).await;
        let answer = answer.unwrap_or(Err(TransportError::Stalled(limit).into()));
        answer.map_err(|error| self.unanswered(service, error))
    }

    /// Reads the whole body of an answer from `url`, at most `most` bytes.
    ///
    /// # Errors
    /// [`ResponseError::Oversized`] as soon as the head or the body shows that it is longer, and every other failure.
    pub(crate) async fn read_document(
        &self,
        url: &SourceUrl,
        mut answer: Answer,
        most: u64,
    ) -> Result<Vec<u8>, RequestError> {
        let oversized = || RequestError::response(url, ResponseError::Oversized { most });
        let length = length(&answer.headers);
        if length.is_some_and(|length| length > most) {
            return Err(oversized());
        }
        let (stall, longest) = (self.config.head_timeout, self.config.document_timeout);
        let end = Instant::now() + longest;
        let mut bytes = Vec::new();
        loop {
            let until = (Instant::now() + stall).min(end);
            match tokio::time::timeout_at(until, answer.chunk()).await {
                Err(_) if until == end => {
                    return Err(RequestError::transport(url, TransportError::Slow(longest)));
                }
                Err(_) => return Err(RequestError::stalled(url, stall)),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
                // Reported below as a body that was cut short, with both lengths.
                Ok(Err(TransportError::Broken)) if length.is_some() => break,
                Ok(Err(kind)) => return Err(RequestError::transport(url, kind)),
            }
            if bytes.len() as u64 > most {
                return Err(oversized());
            }
        }
        let received = bytes.len() as u64;
        match length.filter(|length| *length != received) {
            Some(expected) => Err(RequestError::cut_short(url, received, expected)),
            None => Ok(bytes),
        }
    }
}

impl Services for HttpClient {
    fn ask(&self, request: ServiceRequest) -> ServiceFuture<'_> {
        Box::pin(async move {
            let exchange = async {
                let mut answer = self.pool.ask(&request, false).await.map_err(|error| match error {
                    ConnectError::Failed(kind) => kind,
                    ConnectError::NotPublic => TransportError::Connect,
                })?;
                let mut body = Vec::new();
                while let Some(chunk) = answer.chunk().await? {
                    body.extend_from_slice(&chunk);
                    if body.len() as u64 > MAX_TOKEN {
                        return Err(TransportError::TooLong);
                    }
                }
                Ok(ServiceAnswer { status: answer.status.as_u16(), body })
            };
            let ended = tokio::time::timeout(request.limit, exchange).await;
            ended.unwrap_or(Err(TransportError::Stalled(request.limit)))
        })
    }
}

/// The way to answer a refusal of a registry.
#[derive(Debug)]
pub(crate) enum ChallengeResponse {
    /// With a login that was looked up.
    Login(Secret),
    /// With a token of a token service.
    Token(Challenge),
}

/// Checks the head of a document: a 200 without an encoding.
fn check(status: StatusCode, headers: &HeaderMap) -> Result<(), ResponseError> {
    if status != StatusCode::OK {
        return Err(ResponseError::Status { status: status.as_u16() });
    }
    match encoding(headers) {
        Some(encoding) => Err(ResponseError::Encoded { encoding }),
        None => Ok(()),
    }
}

/// The body's length; `None` without a `Content-Length`, or with a transfer coding (RFC 9112 section 6.3).
fn length(headers: &HeaderMap) -> Option<u64> {
    let is_coded = headers.contains_key(header::TRANSFER_ENCODING);
    let length = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok();
    length.filter(|_| !is_coded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::headers;

    fn answer(status: u16, head: &[(&str, &str)]) -> Result<(), ResponseError> {
        check(StatusCode::from_u16(status).unwrap(), &headers(head))
    }

    #[test]
    fn a_document_is_a_200_without_an_encoding() {
        assert_eq!(answer(200, &[("content-length", "100"), ("content-encoding", "identity")]), Ok(()));
        assert_eq!(answer(206, &[]), Err(ResponseError::Status { status: 206 }));
        assert!(matches!(answer(200, &[("content-encoding", "gzip")]), Err(ResponseError::Encoded { .. })));
    }

    #[test]
    fn fault_53_an_unknown_encoding_is_not_repeated() {
        let message = |value| match answer(200, &[("content-encoding", value)]) {
            Err(error) => error.to_string(),
            Ok(()) => String::new(),
        };
        assert!(message("GZIP, br").contains("gzip, br"));
        let unknown = message("canary");
        assert!(!unknown.contains("canary") && unknown.contains("unknown"), "{unknown}");
    }

    /// A server that gives these answers, one a connection; the requests that it got.
    fn serve(answers: &'static [&'static str]) -> (SourceUrl, std::thread::JoinHandle<Vec<String>>) {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys?a=b", listener.local_addr().unwrap()).parse().unwrap();
        let serving = std::thread::spawn(move || {
            let got = answers.iter().map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let (mut got, mut block) = (Vec::new(), [0; 1000]);
                loop {
                    let read = stream.read(&mut block).unwrap();
                    got.extend_from_slice(&block[..read]);
                    let text = String::from_utf8_lossy(&got).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if read == 0 || length.is_none_or(|length| length == body.len().to_string()) {
                        break;
                    }
                }
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(got).unwrap()
            });
            got.collect()
        });
        (url, serving)
    }

    const DONE: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    const TOKEN: &str =
        "HTTP/1.1 200 OK\r\ncontent-length: 21\r\nconnection: close\r\n\r\n{\"access_token\": \"t\"}";

    #[tokio::test]
    async fn a_service_gets_the_request_past_the_proxies() {
        use crate::client::ClientConfig;
        use crate::wire::proxy::{Proxies, ProxyVariable};
        let (url, serving) = serve(&[DONE, DONE]);
        let proxy = ProxyVariable { name: "http_proxy", value: "http://127.0.0.1:1".to_owned() };
        let proxies = Proxies { http: Some(proxy), ..Proxies::default() };
        let client = HttpClient::new(ClientConfig { proxies, ..ClientConfig::default() }).unwrap();
        let request = ServiceRequest {
            method: "PUT",
            url,
            headers: vec![("x-aws-ec2-metadata-token-ttl-seconds", Secret::new("21600"))],
            form: None,
            direct: true,
            limit: std::time::Duration::from_secs(10),
        };
        let answer = client.ask(request.clone()).await.unwrap();
        assert_eq!((answer.status, &*answer.body), (403, &b"{}"[..]));
        let form = Secret::new("canary").form(&[("Action", "a b")], "Token");
        client.ask(ServiceRequest { method: "POST", form: Some(form), ..request.clone() }).await.unwrap();
        let got = serving.join().unwrap();
        assert!(got[0].starts_with("PUT /keys?a=b HTTP/1.1\r\n"), "{got:?}");
        assert!(got[0].contains("\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\n"), "{got:?}");
        assert!(
            got[1].starts_with("POST ") && got[1].ends_with("\r\n\r\nAction=a+b&Token=canary"),
            "{got:?}"
        );
        let error = client.ask(ServiceRequest { direct: false, ..request }).await;
        assert!(error.is_err(), "the proxy does not answer");
    }

    #[tokio::test]
    async fn an_identity_token_is_exchanged_by_a_form() {
        let (url, serving) = serve(&[TOKEN]);
        let client = HttpClient::new(crate::client::ClientConfig::default()).unwrap();
        let login = Credential::identity("h.example", "canary").from("the file f");
        let mut service = Resolved::first(url);
        service.login = Some(Ok(Some(login)));
        let token = client.obtain_token(&service).await.unwrap();
        assert_eq!(token, Secret::new("Bearer t"));
        let got = serving.join().unwrap().remove(0);
        assert!(got.starts_with("POST /keys HTTP/1.1\r\n") && !got.contains("authorization"), "{got}");
        let form = "a=b&grant_type=refresh_token&client_id=provision&refresh_token=canary";
        assert!(got.ends_with(&format!("\r\n\r\n{form}")), "{got}");
    }

    #[test]
    fn content_length_is_ignored_with_a_transfer_coding() {
        for (head, expected) in [
            (&[("content-length", "100")][..], Some(100)),
            (&[], None),
            (&[("content-length", "many")], None),
            (&[("content-length", "1000"), ("transfer-encoding", "chunked")], None),
        ] {
            assert_eq!(length(&headers(head)), expected, "{head:?}");
        }
    }
}
