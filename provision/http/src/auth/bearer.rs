//! Bearer tokens of OCI registries (distribution spec, "Token Authentication"): the pure half.
//!
//! A registry answers 401 with `WWW-Authenticate: Bearer realm="…",service="…",scope="…"`. The realm is a service that
//! gives a token for that scope, with or without a login. The request is then sent again with the token. This file
//! reads the challenge, keeps the tokens and reads the service's answer; `api` sends the requests.
//!
//! A registry's challenge decides where a login could go, so the client trusts little of it:
//! - The realm is https. Plain http is allowed on the registry's own host, and on loopback if the registry is there,
//!   too.
//! - The scope is not the challenge's. It is made from the repository of the request, and it is for pulling only,
//!   except for the requests of a push. So a token that may push is never obtained for, or sent with, any other
//!   request.
//! - A login of the realm's host goes there only if that host belongs to the registry's. Otherwise any host in a lock
//!   could obtain a token for a private repository of another registry.
//! - A login that is kept for the registry itself goes to any realm that the registry names over https, as docker sends
//!   it: the registry could take that login anyway.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use serde::Deserialize;
use url::Url;

use crate::auth::credentials::Secret;
use crate::auth::registries::repository;
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The scope of a token: a registry, one of its repositories, and the allowed actions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scope {
    registry: String,
    repository: String,
    pushes: bool,
}

impl Scope {
    /// The scope of a request to `url`, which may push; `None` if its path is not a registry's.
    fn of(url: &SourceUrl, pushes: bool) -> Option<Self> {
        let repository = repository(url)?;
        let registry = url.as_url().origin().ascii_serialization();
        Some(Self { registry, repository: repository.to_owned(), pushes })
    }
}

/// The token cache of a run.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<Scope, Issued>>);

/// A token of a token service.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) token: Secret,
    /// The login that the token was issued for, in words; the token service knows it.
    pub(crate) login: Option<String>,
    /// The host of the token service.
    pub(crate) service: String,
    /// A login of that host may go to the service.
    pub(crate) may_have_credentials: bool,
}

impl Tokens {
    /// The token for a request to `url`.
    pub(crate) fn of(&self, url: &SourceUrl, pushes: bool) -> Option<Secret> {
        self.issued(url, pushes).map(|issued| issued.token)
    }

    /// The same, with its token service and login.
    pub(crate) fn issued(&self, url: &SourceUrl, pushes: bool) -> Option<Issued> {
        let scope = Scope::of(url, pushes)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&scope).cloned()
    }

    /// Adds every token to a redactor.
    pub(crate) fn add_to(&self, redactor: &mut Redactor) {
        for Issued { token, .. } in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            redactor.add_token(token.reveal().rsplit(' ').next().unwrap_or_default());
        }
    }

    /// Keeps the token for the repository of `url`.
    pub(crate) fn keep(&self, url: &SourceUrl, pushes: bool, issued: Issued) {
        if let Some(scope) = Scope::of(url, pushes) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(scope, issued);
        }
    }
}

/// A challenge that the client answers.
#[derive(Debug)]
pub(crate) struct Challenge {
    /// The URL of the token service, with the query for this scope.
    pub(crate) service: SourceUrl,
    /// A login of the service's host may go to it.
    pub(crate) may_have_credentials: bool,
}

impl Challenge {
    /// The challenge in an answer to a request for `url`; `None` if there is none, or its realm is not allowed.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap, url: &SourceUrl, pushes: bool) -> Option<Self> {
        let scope = Scope::of(url, pushes).filter(|_| status == StatusCode::UNAUTHORIZED)?;
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let parameters = values.filter_map(|value| value.to_str().ok()).find_map(bearer)?;
        let value = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let mut realm: Url = value("realm")?.parse().ok()?;
        realm.query_pairs_mut().extend_pairs(value("service").map(|service| ("service", service)));
        let actions = if pushes { "pull,push" } else { "pull" };
        let scope = format!("repository:{}:{actions}", scope.repository);
        realm.query_pairs_mut().append_pair("scope", &scope);
        let service = SourceUrl::from_url(realm).ok()?;
        let is_own = service.host() == url.host() && !url.is_https();
        (service.is_https() || (service.is_loopback() && url.is_loopback()) || is_own)
            .then(|| Self { may_have_credentials: may_see_login(&service, url), service })
    }
}

/// True if an answer of a registry wants a login itself, by `WWW-Authenticate: Basic`.
pub(crate) fn wants_basic(status: StatusCode, headers: &HeaderMap, url: &SourceUrl) -> bool {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    let is_basic = |value: &HeaderValue| {
        let scheme = value.to_str().unwrap_or_default().trim().split(' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("basic")
    };
    status == StatusCode::UNAUTHORIZED && repository(url).is_some() && values.into_iter().any(is_basic)
}

/// The form with which an identity token is exchanged at a token service, and the address without the query. The form
/// has the query's words (distribution spec, "Oauth2 Token Authentication").
pub(crate) fn exchange(service: &SourceUrl, identity: &Secret) -> (SourceUrl, Secret) {
    let mut url = service.as_url().clone();
    let asked: Vec<_> = service.as_url().query_pairs().collect();
    let mut fields: Vec<(&str, &str)> = asked.iter().map(|(name, value)| (&**name, &**value)).collect();
    fields.extend([("grant_type", "refresh_token"), ("client_id", "provision")]);
    url.set_query(None);
    (SourceUrl::from_url(url).unwrap_or_else(|_| service.clone()), identity.form(&fields, "refresh_token"))
}

/// True if a login may go from a registry to its token service. That is the registry's own host, a parent domain of it,
/// or Docker Hub's service. A sibling domain is refused, because the tenants of one provider are siblings.
fn may_see_login(service: &SourceUrl, registry: &SourceUrl) -> bool {
    let (service, registry) = (service.host(), registry.host());
    let is_parent = || {
        let below = registry.strip_suffix(service.as_str()).and_then(|rest| rest.strip_suffix('.'));
        service.contains('.') && below.is_some()
    };
    service == registry || is_parent() || (service == "auth.docker.io" && registry == "registry-1.docker.io")
}

/// The parameters of `Bearer NAME="VALUE", …` (RFC 9110 section 11.6.1), with the names in lower case.
fn bearer(value: &str) -> Option<Vec<(String, String)>> {
    let (scheme, mut rest) = value.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut parameters = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (text, next) = if let Some(quoted) = after.strip_prefix('"') {
            let mut text = String::new();
            let mut characters = quoted.char_indices();
            let end = loop {
                match characters.next()? {
                    (at, '"') => break at + 1,
                    (_, '\\') => text.push(characters.next()?.1),
                    (_, c) => text.push(c),
                }
            };
            (text, &quoted[end..])
        } else {
            let end = after.find(',').unwrap_or(after.len());
            (after[..end].trim().to_owned(), &after[end..])
        };
        parameters.push((name.trim_matches([',', ' ']).to_ascii_lowercase(), text));
        rest = next.trim_start_matches([',', ' ']);
    }
    Some(parameters)
}

/// The answer of a token service; both names are in use.
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in the answer of a token service; `None` if it has no usable one.
pub(crate) fn token(body: &[u8]) -> Option<Secret> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = answer
        .token
        .or(answer.access_token)
        .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()))?;
    Some(Secret::new(format!("Bearer {token}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::headers;

    fn challenge(url: &str, header: &str) -> Option<Challenge> {
        challenge_of(url, header, false)
    }

    fn challenge_of(url: &str, header: &str, pushes: bool) -> Option<Challenge> {
        let headers = headers(&[("www-authenticate", header)]);
        Challenge::of(StatusCode::UNAUTHORIZED, &headers, &url.parse().unwrap(), pushes)
    }

    const BLOB: &str = "https://registry-1.docker.io/v2/library/x/blobs/sha256:00";

    #[test]
    fn a_token_is_requested_for_pulling_the_repository_only() {
        let header = "Bearer realm=\"https://auth.docker.io/token?a=b\",service=\"registry, \\\"x\\\"\",\
                      scope=\"repository:somebody/else:pull,push\"";
        let challenge = challenge(BLOB, header).unwrap();
        assert_eq!(
            challenge.service.as_url().as_str(),
            "https://auth.docker.io/token?a=b&service=registry%2C+%22x%22&scope=repository%3Alibrary%2Fx%3Apull"
        );
        assert!(challenge.may_have_credentials, "Docker Hub's own service");
    }

    #[test]
    fn a_token_that_may_push_is_requested_for_a_push_only() {
        let header = "Bearer realm=\"https://h.example/token\",error=\"insufficient_scope\"";
        let pushed = challenge_of("https://h.example/v2/a/b/blobs/uploads/", header, true).unwrap();
        assert_eq!(pushed.service.as_url().query(), Some("scope=repository%3Aa%2Fb%3Apull%2Cpush"));
    }

    #[test]
    fn a_challenge_cannot_choose_the_login() {
        let victim = |host: &str| format!("https://{host}/v2/victim/private/blobs/sha256:00");
        for (url, realm, may_have_credentials) in [
            (&*victim("evil.example"), "https://auth.docker.io/token", Some(false)),
            (BLOB, "http://auth.docker.io/token", None),
            // http, although the registry is https.
            (BLOB, "http://registry-1.docker.io/token", None),
            (BLOB, "file:///etc/passwd", None),
            (BLOB, "/token", None),
            ("http://10.0.0.1:5000/v2/m/blobs/sha256:00", "http://10.0.0.1:5001/token", Some(true)),
            // Not a registry's path.
            ("https://h.example/x", "https://h.example/token", None),
            ("https://a.com/v2/m/blobs/x", "https://b.com/", Some(false)),
            // A sibling domain, and a parent.
            (&victim("evil.azurecr.io"), "https://victim.azurecr.io/token", Some(false)),
            ("https://r.h.example/v2/m/blobs/x", "https://h.example/token", Some(true)),
            ("https://h.com/v2/m/blobs/x", "https://com/token", Some(false)),
            // Loopback, but the registry is not.
            ("https://h.com/v2/m/blobs/x", "http://127.0.0.1:1/token", None),
        ] {
            let challenge = challenge(url, &format!("Bearer realm=\"{realm}\""));
            let found = challenge.map(|challenge| challenge.may_have_credentials);
            assert_eq!(found, may_have_credentials, "{realm} for {url}");
        }
        assert!(challenge(BLOB, "Basic realm=\"https://h/\"").is_none());
    }

    #[test]
    fn tokens_are_cached_by_repository() {
        let tokens = Tokens::default();
        let url = |text: &str| text.parse::<SourceUrl>().unwrap();
        let login = Some("the login for h".to_owned());
        let issued = Issued {
            token: Secret::new("Bearer t"),
            login: login.clone(),
            service: "h".to_owned(),
            may_have_credentials: true,
        };
        tokens.keep(&url("https://h/v2/a/b/blobs/x"), false, issued);
        assert_eq!(tokens.issued(&url("https://h/v2/a/b/blobs/y"), false).unwrap().login, login);
        assert!(tokens.of(&url("https://h/v2/a/b/blobs/y"), false).is_some());
        assert!(tokens.of(&url("https://h/v2/a/b/blobs/y"), true).is_none(), "it may only pull");
        assert!(tokens.of(&url("https://h/v2/a/blobs/x"), false).is_none());
        assert!(tokens.of(&url("https://h:1/v2/a/b/blobs/x"), false).is_none());
        assert!(tokens.of(&url("http://h/v2/a/b/blobs/x"), false).is_none());
        assert!(tokens.of(&url("https://h/a/b"), false).is_none());
    }
}
