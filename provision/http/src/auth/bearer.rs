//! The tokens of OCI registries (distribution spec, "Token Authentication"): asked for when a registry demands one.
//!
//! A registry answers 401 with `WWW-Authenticate: Bearer realm="…",service="…",scope="…"`; the realm is a service that
//! gives a token for that scope, to anybody or to whoever has a login, and the request is then sent again with it.
//!
//! What a registry says here decides where a login could go, so little of it is believed:
//! - The realm is https, or plain http on the registry's own host, or on this machine where the registry is on it, too.
//! - The scope is not the registry's word but made from the repository that was asked for, and only for pulling.
//! - A login goes to the realm only where it belongs to the realm's host, and only where that host belongs to the
//!   registry's: otherwise any host in a lock could have a token made for another registry's private repository.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use http::header::{self, HeaderMap};
use serde::Deserialize;
use url::Url;

use crate::auth::credentials::Secret;
use crate::client::{Connection, RequestHeaders, Resolved};
use crate::error::{RequestError, ResponseError};
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The longest answer of a token service, in bytes.
const MAX_TOKEN: u64 = 1 << 20;

/// A registry and a repository of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Scope {
    registry: String,
    repository: String,
}

impl Scope {
    /// What `url` is in, where it looks like a registry's.
    fn of(url: &SourceUrl) -> Option<Self> {
        let rest = url.as_url().path().strip_prefix("/v2/")?;
        let (repository, _) = rest.split_once("/blobs/").or_else(|| rest.split_once("/manifests/"))?;
        let registry = url.as_url().origin().ascii_serialization();
        Some(Self { registry, repository: repository.to_owned() })
    }
}

/// The tokens of a run.
#[derive(Debug, Default)]
pub(crate) struct Tokens(Mutex<HashMap<Scope, Secret>>);

impl Tokens {
    /// The token for `url`.
    pub(crate) fn of(&self, url: &SourceUrl) -> Option<Secret> {
        let scope = Scope::of(url)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&scope).cloned()
    }

    /// What registries are told, and must not be quoted with.
    pub(crate) fn tell(&self, told: &mut Redactor) {
        for token in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            told.add_token(token.reveal().rsplit(' ').next().unwrap_or_default());
        }
    }

    pub(crate) fn keep(&self, url: &SourceUrl, token: Secret) {
        if let Some(scope) = Scope::of(url) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(scope, token);
        }
    }
}

/// A demand for a token that can be met.
#[derive(Debug)]
pub(crate) struct Challenge {
    /// The token service, with what it is asked.
    pub(crate) service: SourceUrl,
    /// Whether a login of its host may go there.
    pub(crate) may_have_credentials: bool,
}

impl Challenge {
    /// The demand in an answer to a request for `url`; `None` where there is none, or one that is not met.
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap, url: &SourceUrl) -> Option<Self> {
        let scope = Scope::of(url).filter(|_| status == StatusCode::UNAUTHORIZED)?;
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let demand = values.filter_map(|value| value.to_str().ok()).find_map(bearer)?;
        let value = |name: &str| demand.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let mut realm: Url = value("realm")?.parse().ok()?;
        realm.query_pairs_mut().extend_pairs(value("service").map(|service| ("service", service)));
        let pull = format!("repository:{}:pull", scope.repository);
        realm.query_pairs_mut().append_pair("scope", &pull);
        let service = SourceUrl::from_url(realm).ok()?;
        let is_own = service.host() == url.host() && !url.is_https();
        (service.is_https() || (service.is_loopback() && url.is_loopback()) || is_own)
            .then(|| Self { may_have_credentials: is_of_the_same(&service, url), service })
    }
}

/// Whether a token service may be told the login of a registry's host: it is that host, one that the registry's name lies
/// below, or Docker Hub's. A neighbour is not: the names of two tenants of one provider lie side by side.
fn is_of_the_same(service: &SourceUrl, registry: &SourceUrl) -> bool {
    let (service, registry) = (service.host(), registry.host());
    let is_above = || {
        let below = registry.strip_suffix(service.as_str()).and_then(|rest| rest.strip_suffix('.'));
        service.contains('.') && below.is_some()
    };
    service == registry || is_above() || (service == "auth.docker.io" && registry == "registry-1.docker.io")
}

/// The parameters of `Bearer NAME="VALUE", …` (RFC 9110 section 11.6.1), names in small letters.
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

/// What a token service answers; both names are in use.
#[derive(Deserialize)]
struct Given {
    token: Option<String>,
    access_token: Option<String>,
}

impl Connection {
    /// Asks a token service. Redirects are not followed: the realm is where the token is.
    pub(crate) async fn obtain_token(&mut self, service: &Resolved) -> Result<Secret, RequestError> {
        let wish = RequestHeaders { range: None, accept: "application/json" };
        let (head, _) = self.send_with(service, wish, None).await?;
        if let Some(error) = self.failure(&head, service, false) {
            return Err(error);
        }
        let unusable = |what| RequestError::response(&service.url, what);
        if head.status != StatusCode::OK {
            return Err(unusable(ResponseError::Status { status: head.status.as_u16() }));
        }
        let body = self.body(&service.url, &head.headers, MAX_TOKEN).await?;
        let given: Given = serde_json::from_slice(&body).map_err(|_| unusable(ResponseError::NoToken))?;
        let token = given
            .token
            .or(given.access_token)
            .filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        token
            .map(|token| Secret::new(format!("Bearer {token}")))
            .ok_or_else(|| unusable(ResponseError::NoToken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(url: &str, demand: &str) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        headers.insert(header::WWW_AUTHENTICATE, demand.parse().unwrap());
        Challenge::of(StatusCode::UNAUTHORIZED, &headers, &url.parse().unwrap())
    }

    const BLOB: &str = "https://registry-1.docker.io/v2/library/x/blobs/sha256:00";

    #[test]
    fn a_token_is_asked_for_what_is_pulled_and_for_nothing_else() {
        let demand = "Bearer realm=\"https://auth.docker.io/token?a=b\",service=\"registry, \\\"x\\\"\",\
                      scope=\"repository:somebody/else:pull,push\"";
        let challenge = challenge(BLOB, demand).unwrap();
        assert_eq!(
            challenge.service.as_url().as_str(),
            "https://auth.docker.io/token?a=b&service=registry%2C+%22x%22&scope=repository%3Alibrary%2Fx%3Apull"
        );
        assert!(challenge.may_have_credentials, "the same owner's host");
    }

    #[test]
    fn a_registry_does_not_decide_whose_login_is_used() {
        let of = |url: &str, realm: &str| challenge(url, &format!("Bearer realm=\"{realm}\""));
        let other =
            of("https://evil.example/v2/victim/private/blobs/sha256:00", "https://auth.docker.io/token");
        assert!(!other.unwrap().may_have_credentials);
        assert!(of(BLOB, "http://auth.docker.io/token").is_none(), "in the clear");
        assert!(of(BLOB, "http://registry-1.docker.io/token").is_none(), "less than the registry itself");
        assert!(of(BLOB, "file:///etc/passwd").is_none());
        assert!(of(BLOB, "/token").is_none());
        let own = of("http://10.0.0.1:5000/v2/m/blobs/sha256:00", "http://10.0.0.1:5001/token");
        assert!(own.unwrap().may_have_credentials);
        assert!(of("https://h.example/x", "https://h.example/token").is_none(), "no registry's address");
        assert!(challenge(BLOB, "Basic realm=\"https://h/\"").is_none());
        assert!(!of("https://a.com/v2/m/blobs/x", "https://b.com/").unwrap().may_have_credentials);
        let neighbour = of(
            "https://evil.azurecr.io/v2/victim/private/blobs/sha256:00",
            "https://victim.azurecr.io/token",
        );
        assert!(!neighbour.unwrap().may_have_credentials, "another tenant's");
        assert!(
            of("https://r.h.example/v2/m/blobs/x", "https://h.example/token").unwrap().may_have_credentials
        );
        assert!(!of("https://h.com/v2/m/blobs/x", "https://com/token").unwrap().may_have_credentials);
        assert!(
            of("https://h.com/v2/m/blobs/x", "http://127.0.0.1:1/token").is_none(),
            "not of this machine"
        );
    }

    #[test]
    fn tokens_are_kept_by_repository() {
        let tokens = Tokens::default();
        let url = |text: &str| text.parse::<SourceUrl>().unwrap();
        tokens.keep(&url("https://h/v2/a/b/blobs/x"), Secret::new("Bearer t"));
        assert!(tokens.of(&url("https://h/v2/a/b/blobs/y")).is_some());
        assert!(tokens.of(&url("https://h/v2/a/blobs/x")).is_none());
        assert!(tokens.of(&url("https://h:1/v2/a/b/blobs/x")).is_none());
        assert!(tokens.of(&url("http://h/v2/a/b/blobs/x")).is_none());
        assert!(tokens.of(&url("https://h/a/b")).is_none());
    }
}
