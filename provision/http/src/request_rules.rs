//! The rules that hold for every request and answer, over both transports.
//!
//! A credential goes to its own host only, and past no redirect to another host, port or scheme. Once a public address
//! has answered, no redirect leads to a private one. A status means the same failure for a model file and for a
//! document.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::SystemTime;

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};

use crate::auth::credentials::{Secret, may_have_secret};
use crate::auth::registries::LoginLookup;
use crate::client::{HttpClient, Sources};
use crate::cookies::Cookies;
use crate::error::{RequestError, UntrustedSource};
use crate::host_rules;
use crate::public_ip::{is_local_name, is_public};
use crate::redirect::{RedirectError, follow};
use crate::refusal::{Refusal, is_challenge};
use crate::sniff;
use crate::transport::ConnectError;
use crate::wire::http1::Secrets;
use provision_core::redact::{Redactor, decoded};
use provision_core::source_url::SourceUrl;
use provision_core::terminal_text;

/// The end of a redirect chain. A file's connections share it until it expires.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub(crate) url: SourceUrl,
    /// No hop left the scheme, host and port of the source, so its credential may be sent. False for a list's private
    /// address.
    pub(crate) same_origin: bool,
    /// A public address has answered, so the connection must go to a public one.
    pub(crate) public_only: bool,
    /// It belongs to a push, so a registry's token may be one that pushes.
    pub(crate) pushes: bool,
    /// The URLs before this one, from the source's own. The host may have received their queries in a redirect.
    past: Vec<SourceUrl>,
    /// The cookies that the chain's redirects have set.
    pub(crate) cookies: Cookies,
    /// For a token service: the registry's login that was looked up, in place of one of the service's host.
    pub(crate) login: Option<LoginLookup>,
}

impl Resolved {
    /// A chain that begins and, so far, ends at `url`.
    pub(crate) fn first(url: SourceUrl) -> Self {
        let (past, cookies) = (Vec::new(), Cookies::default());
        Self { url, same_origin: true, public_only: false, pushes: false, past, cookies, login: None }
    }

    /// Every URL of the chain, the last included.
    pub fn urls(&self) -> impl Iterator<Item = &SourceUrl> {
        self.past.iter().chain([&self.url])
    }

    /// Adds the secrets of the chain to a redactor, other than those in queries: cookies, and the parts of redirected
    /// paths.
    pub fn add_to(&self, redactor: &mut Redactor) {
        self.cookies.add_to(redactor);
        redactor.add_paths(self.urls());
    }

    /// The last URL, for messages and for counting connections by host.
    pub fn url(&self) -> &SourceUrl {
        &self.url
    }
}

impl HttpClient {
    /// The chain that begins at `source`, if requests may begin there.
    pub(crate) fn first(&self, source: &SourceUrl) -> Result<Resolved, RequestError> {
        let chain = Resolved::first(self.effective(source));
        if !matches!(chain.url.as_url().scheme(), "http" | "https") {
            return Err(RequestError::Untrusted { url: chain.url, error: UntrustedSource::File });
        }
        let is_endpoint = match source.object() {
            Some(object) => object.endpoint.is_none() && self.config.s3.endpoint.is_some(),
            None => chain.url != *source,
        };
        let Sources::Listed { private, http } = self.config.sources else { return Ok(chain) };
        if is_endpoint {
            return Ok(chain);
        }
        let source = &chain.url;
        let is_private = source.ip().map_or_else(|| is_local_name(&source.host()), |ip| !is_public(ip));
        let error = if is_private && !private {
            UntrustedSource::Private
        } else if !source.is_https() && !http && !is_private {
            UntrustedSource::PlainHttp
        } else {
            // A name is checked when the client connects, by the address that it resolves to.
            return Ok(Resolved { same_origin: !is_private, public_only: !private, ..chain });
        };
        Err(RequestError::Untrusted { url: chain.url, error })
    }

    /// The headers of a request to `to` that only its host may see.
    pub(crate) fn secrets(&self, to: &Resolved, token: Option<&Secret>, is_proxied: bool) -> Secrets {
        let authorization = self.authorization(to, token, is_proxied);
        let cookie = to.cookies.header(&to.url).filter(|_| !is_read(to, is_proxied));
        Secrets { authorization, cookie }
    }

    /// The `Authorization` for a request to `to`: `token`, which is a registry's, or a login of the host.
    fn authorization(&self, to: &Resolved, token: Option<&Secret>, is_proxied: bool) -> Option<HeaderValue> {
        // A bucket takes no second login beside a signature.
        if !to.same_origin || is_read(to, is_proxied) || to.url.object().is_some() {
            return None;
        }
        let own = match &to.login {
            Some(login) => login.as_ref().ok().and_then(|login| login.as_ref()?.authorization(&to.url)),
            None => self.config.credentials.authorization(&to.url),
        };
        let secret = token.or(own)?;
        let mut value = HeaderValue::from_str(secret.reveal()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The failure of a request to `to` without an answer; it names the proxy of the request.
    pub(crate) fn unanswered(&self, to: &Resolved, error: ConnectError) -> RequestError {
        let url = &to.url;
        let is_listed = self.config.sources != Sources::Own && to.past.is_empty();
        if is_listed && error == ConnectError::NotPublic {
            return RequestError::Untrusted { url: url.clone(), error: UntrustedSource::Private };
        }
        let proxy = self.connector.proxies.proxy(url);
        RequestError::unanswered(url, proxy.map(|proxy| proxy.name()), error)
    }

    /// The redactor for text from the hosts of a chain.
    pub(crate) fn redactor_of(&self, chain: &Resolved) -> Redactor {
        let mut redactor = self.redactor(chain.urls());
        chain.add_to(&mut redactor);
        redactor
    }

    /// The next hop of the redirect chain `at`, from the redirect with this `status` and these `headers`.
    pub(crate) fn next(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        at: &Resolved,
        peer_is_public: bool,
    ) -> Result<Resolved, RequestError> {
        let location = headers.get(header::LOCATION).map(HeaderValue::as_bytes);
        let next = follow(&at.url, location).and_then(|next| self.permit(at, next, peer_is_public));
        let error = match next {
            Ok(next) if host_rules::is_civitai_login(&at.url, &next.url) => {
                return Err(self.refused(status.as_u16(), headers, at, false, &[]));
            }
            Ok(mut next) => {
                next.cookies.keep(headers, &at.url, wall_clock());
                let source = at.urls().next().unwrap_or(&at.url).as_url().path();
                let redactor = self.redactor_of(at);
                next.url = next.url.with_path_shown(|path| match known_path(source, path) {
                    Cow::Borrowed(path) => redactor.redact(path),
                    Cow::Owned(shown) => Cow::Owned(redactor.redact(&shown).into_owned()),
                });
                return Ok(next);
            }
            Err(RedirectError::Location(why)) => {
                RedirectError::Location(self.redactor_of(at).redact(&why).into_owned())
            }
            Err(error) => error,
        };
        Err(RequestError::Redirect { url: at.url.clone(), error })
    }

    /// True if a redirect of `url`, which `peer` answered, must not lead to a private address. An unknown peer counts
    /// as public. Behind a proxy the peer is the proxy, so only a private address or a local name in the URL counts as
    /// private (fault 103).
    pub(crate) fn counts_as_public(&self, url: &SourceUrl, peer: Option<IpAddr>) -> bool {
        if self.connector.proxies.proxy(url).is_none() {
            return peer.is_none_or(is_public);
        }
        url.ip().map_or_else(|| !is_local_name(&url.host()), is_public)
    }

    /// The hop to `next`, if the rules allow it. `peer_is_public` is about the address that answered.
    pub(crate) fn permit(
        &self,
        from: &Resolved,
        next: SourceUrl,
        peer_is_public: bool,
    ) -> Result<Resolved, RedirectError> {
        let redactor = self.redactor_of(from);
        // Without the chain's cookies: the host chose them, and a value may be the name of a mirror.
        if self.redactor(from.urls()).contains_secret(&next.host()) {
            // A lookup of that name would send the secret to the name servers.
            return Err(RedirectError::Location(
                "the host name contains a secret of this request".to_owned(),
            ));
        }
        let public_only = !self.config.private_redirects && (from.public_only || peer_is_public);
        // A proxy resolves names itself. Without one, a name is checked when the client connects.
        let is_private = || match next.ip() {
            Some(address) => !is_public(address),
            None => self.connector.proxies.proxy(&next).is_some() && is_local_name(&next.host()),
        };
        if public_only && is_private() {
            return Err(RedirectError::Private { host: next.host() });
        }
        let same_origin = from.same_origin && next.is_same_origin(&from.url);
        let next = next.with_path_shown(|path| redactor.redact(path));
        let (past, cookies) = (from.urls().cloned().collect(), from.cookies.clone());
        Ok(Resolved { url: next, same_origin, public_only, pushes: from.pushes, past, cookies, login: None })
    }

    /// The failure that a status means for any request; `None` for a status whose head has to be validated. `body` is
    /// the beginning of the body, if the status [`explains`].
    pub(crate) fn failure(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        at: &Resolved,
        resolved_earlier: bool,
        body: &[u8],
    ) -> Option<RequestError> {
        let url = || at.url.clone();
        let redactor = || self.redactor_of(at);
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(one_line(&redactor().redact(value)))
        };
        let message = || text(host_rules::ERROR_MESSAGE);
        let (code, status) = (status, status.as_u16());
        match status {
            200 | 206 | 416 => None,
            400..=499
                if let Some(object) = at.url.object()
                    && !matches!(status, 407 | 408 | 425 | 429) =>
            {
                Some(self.refused_object(code, headers, at, object, body, resolved_earlier))
            }
            _ if is_challenge(headers) => Some(self.refused(status, headers, at, resolved_earlier, body)),
            403 if host_rules::is_rate_limit(status, headers) => {
                let wait = host_rules::rate_limit_wait(headers, wall_clock());
                Some(RequestError::Busy { url: url(), status, message: message(), wait })
            }
            408 | 425 | 429 | 500..=599 => {
                let wait = host_rules::busy_wait(headers, wall_clock());
                Some(RequestError::Busy { url: url(), status, message: message(), wait })
            }
            400..=499 => Some(self.refused(status, headers, at, resolved_earlier, body)),
            _ => None,
        }
    }

    /// A 4xx: the host refuses the request, or says that there is no such file.
    fn refused(
        &self,
        status: u16,
        headers: &HeaderMap,
        at: &Resolved,
        resolved_earlier: bool,
        body: &[u8],
    ) -> RequestError {
        let (redactor, credentials) = (self.redactor_of(at), &self.config.credentials);
        let text = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(one_line(&redactor.redact(value)))
        };
        let code = text(host_rules::ERROR_CODE);
        let is_login_page = is_redirect_status(status);
        let message = if is_login_page {
            Some("it redirects to its login page".to_owned())
        } else {
            text(host_rules::ERROR_MESSAGE).or_else(|| sniff::reason(body, headers, &redactor))
        };
        let looked_up = at.login.clone().or_else(|| self.config.registries.found(&at.url));
        let (mut login, mut withheld) = credentials.names(&at.url);
        if let (None, None, Some(Ok(Some(found)))) = (&login, &withheld, &looked_up) {
            let name = Some(found.name());
            (login, withheld) = if may_have_secret(&at.url) { (name, None) } else { (None, name) };
        }
        let unread = match (&looked_up, credentials.unread()) {
            (Some(Err(why)), _) => Some(format!("if it needs a login: {why}")),
            (_, why) => why.map(|why| format!("if it needs a login that is in your netrc file: {why}")),
        };
        let issued = self.tokens.issued(&at.url, at.pushes).filter(|_| at.same_origin);
        // A token goes in place of the host's own login, also one that was issued without a login.
        let login = issued.as_ref().map_or(login, |issued| issued.login.clone()).filter(|_| at.same_origin);
        let refusal = Refusal {
            url: &at.url,
            status,
            headers,
            code: code.as_deref(),
            reason: message.as_deref().filter(|_| !is_login_page),
            login: login.as_deref(),
            issued: issued.as_ref(),
            withheld: withheld.as_deref(),
            unread: unread.as_deref(),
        };
        let is_refusal = matches!(status, 401 | 403 | 407) || is_login_page || is_challenge(headers);
        let advice = match status {
            407 => {
                let proxy = self.connector.proxies.proxy(&at.url).map(|proxy| proxy.name());
                let variable = proxy.map_or("the proxy variable", |proxy| proxy.variable);
                format!("the proxy wants a login: check the user and password in {variable}")
            }
            _ if is_refusal => refusal.advice(),
            _ => refusal.advice_if_missing(),
        };
        // The advice quotes the URL, which may have come from the host.
        let (url, advice) = (at.url.clone(), redactor.redact(&advice).into_owned());
        if !is_refusal {
            return RequestError::Missing { url, status, code, message, advice };
        }
        let with_login = login.is_some();
        RequestError::Refused { url, status, code, message, advice, with_login, resolved_earlier }
    }
}

/// True if a proxy in between would read the secrets of a request: it is plain http, also to a loopback URL.
fn is_read(to: &Resolved, is_proxied: bool) -> bool {
    is_proxied && !to.url.is_https()
}

/// True for a status whose body may say why: a refusal, a missing file, or the other region of a bucket.
pub(crate) fn explains(status: StatusCode, url: &SourceUrl) -> bool {
    let is_refusal = status.is_client_error() && !matches!(status.as_u16(), 407 | 408 | 416 | 425 | 429);
    is_refusal || url.object().is_some() && is_redirect(status)
}

/// The path of a redirect's URL as it is shown: the components that are also in the `source`'s own path. Any other may
/// be a signature or a token (fault 104).
fn known_path<'p>(source: &str, path: &'p str) -> Cow<'p, str> {
    let known: HashSet<String> = source.split('/').map(decoded).collect();
    let mut shown: Vec<&str> = Vec::new();
    for part in path.split('/') {
        let part = if part.is_empty() || known.contains(&decoded(part)) { part } else { "…" };
        if part != "…" || shown.last() != Some(&"…") {
            shown.push(part);
        }
    }
    if shown.contains(&"…") { Cow::Owned(shown.join("/")) } else { Cow::Borrowed(path) }
}

/// True for a status that redirects.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    is_redirect_status(status.as_u16())
}

fn is_redirect_status(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// A server's text without unsafe characters, cut to a line or two.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().filter(|c| !terminal_text::is_unsafe(*c)).take(200).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "Retry-After may be a date of the wall clock; nothing else is timed by it"
)]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
