use super::*;
use crate::auth::bearer::Issued;
use crate::auth::credentials::Credential;
use crate::client::ClientConfig;
use crate::connection::Connection;
use crate::error::Remedy;
use crate::response::ExpectedBody;
use crate::test_support::headers;
use crate::wire::proxy::{Proxies, ProxyVariable};

const PUBLIC: &str = "93.184.215.14:443";

fn connection(private_redirects: bool) -> Connection {
    HttpClient::new(ClientConfig { private_redirects, ..ClientConfig::default() }).unwrap().connection()
}

fn at(url: &str, public_only: bool) -> Resolved {
    Resolved { public_only, ..Resolved::first(url.parse().unwrap()) }
}

/// The `public_only` of the hop to `to` after an answer from `peer`, or the refusal.
fn permitted(connection: &Connection, from: &Resolved, to: &str, peer: &str) -> Result<bool, RedirectError> {
    let next = connection.client.permit(
        from,
        to.parse().unwrap(),
        is_public(peer.parse::<std::net::SocketAddr>().unwrap().ip()),
    );
    next.map(|next| next.public_only)
}

#[test]
fn fault_47_no_redirect_leads_from_public_to_private() {
    let (strict, lenient) = (connection(false), connection(true));
    let public = at("https://public.example/x", false);
    for to in [
        "https://127.0.0.1/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
    ] {
        let refused = permitted(&strict, &public, to, PUBLIC);
        assert!(matches!(refused, Err(RedirectError::Private { .. })), "{to}: {refused:?}");
    }
    // The restriction stays for the next hop, and for a redirect that was remembered.
    for (from, to, peer) in [
        ("https://name.example/", "https://10.0.0.1/", PUBLIC),
        ("http://127.0.0.1:9/x", "http://10.0.0.1/", "127.0.0.1:9"),
    ] {
        let refused = permitted(&strict, &at(from, true), to, peer);
        assert!(matches!(refused, Err(RedirectError::Private { .. })), "{from}: {refused:?}");
    }
    let private = at("http://10.0.0.5/x", false);
    for (connection, from, to, peer, public_only) in [
        (&strict, &public, "https://1.1.1.1/", PUBLIC, true),
        // A name is checked when the client connects, by the address that it resolves to.
        (&strict, &public, "https://name.example/", PUBLIC, true),
        // A private source or the setting allows private ones.
        (&strict, &private, "http://10.0.0.6/", "10.0.0.5:80", false),
        (&lenient, &public, "https://10.0.0.1/", PUBLIC, false),
    ] {
        assert_eq!(permitted(connection, from, to, peer), Ok(public_only), "{to}");
    }
}

#[tokio::test]
async fn fault_47_no_connection_to_a_name_with_a_private_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://localhost:{}/x", listener.local_addr().unwrap().port());
    let source = "http://public.example/x".parse().unwrap();
    let expected = ExpectedBody { range: None, size: 1, sha256: None };
    let error = connection(false).get(&source, Some(&at(&url, true)), expected).await.unwrap_err();
    assert!(
        matches!(error, RequestError::Redirect { error: RedirectError::Private { .. }, .. }),
        "{error:?}"
    );
    assert_eq!(error.remedy(), Remedy::Stop);
    assert!(listener.accept().is_err(), "the client connected");
}

#[tokio::test]
async fn fault_115_a_lists_name_is_judged_by_its_address() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://inside.example:{}/x", listener.local_addr().unwrap().port());
    let config = ClientConfig {
        sources: Sources::Listed { private: false, http: true },
        hosts: [("inside.example", vec!["127.0.0.1".parse().unwrap()])].into_iter().collect(),
        ..ClientConfig::default()
    };
    let client = HttpClient::new(config).unwrap();
    let source = url.parse().unwrap();
    let expected = ExpectedBody { range: None, size: 1, sha256: None };
    let is_untrusted = |error: &RequestError| {
        matches!(error, RequestError::Untrusted { error: UntrustedSource::Private, .. })
            && error.remedy() == Remedy::Stop
    };
    let error = client.document(&source, 10).await.unwrap_err();
    assert!(is_untrusted(&error), "{error:?}");
    let error = client.connection().get(&source, None, expected).await.unwrap_err();
    assert!(is_untrusted(&error), "{error:?}");
    assert!(listener.accept().is_err(), "the client connected");
}

#[test]
fn fault_115_an_endpoint_is_the_users_own() {
    let listed = |private, http| {
        let endpoint = "http://127.0.0.1:9".parse().unwrap();
        let config = ClientConfig {
            sources: Sources::Listed { private, http },
            endpoints: vec![("huggingface.co".to_owned(), endpoint)],
            ..ClientConfig::default()
        };
        let client = HttpClient::new(config).unwrap();
        move |url: &str| {
            let chain = client.first(&url.parse().unwrap()).ok()?;
            Some((chain.same_origin, chain.public_only))
        }
    };
    let strict = listed(false, false);
    assert_eq!(strict("https://huggingface.co/o/r"), Some((true, false)));
    assert_eq!(strict("https://public.example/x"), Some((true, true)));
    for url in ["http://127.0.0.1:9/o/r", "https://10.0.0.1/x", "https://nas/x", "http://public.example/x"] {
        assert_eq!(strict(url), None, "{url}");
    }
    let private = listed(true, false);
    assert_eq!(private("http://127.0.0.1:9/o/r"), Some((false, false)));
    assert_eq!(private("http://public.example/x"), None);
    assert_eq!(listed(false, true)("http://public.example/x"), Some((true, true)));
}

#[test]
fn fault_123_a_login_that_a_token_replaced_is_not_blamed() {
    let url = "https://registry-1.docker.io/v2/o/r/blobs/sha256:00";
    for (may_have_credentials, expected) in
        [(true, "machine auth.docker.io"), (false, "docker login registry-1.docker.io")]
    {
        let mut config = ClientConfig::default();
        config.credentials.add(Credential::basic("registry-1.docker.io", "user", "password"));
        let client = HttpClient::new(config).unwrap();
        let (token, service) = (Secret::new("Bearer anonymous"), "auth.docker.io".to_owned());
        let issued = Issued { token, login: None, service, may_have_credentials };
        client.tokens.keep(&url.parse().unwrap(), false, issued);
        for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND] {
            let error = client.failure(status, &HeaderMap::new(), &at(url, false), false, b"").unwrap();
            let text = error.to_string();
            assert!(text.contains(expected) && !text.contains("the login for"), "{text}");
        }
    }
}

#[test]
fn fault_101_a_cookie_may_be_the_name_of_the_next_host() {
    let connection = connection(false);
    let mut from = at("https://public.example/x", false);
    from.cookies.keep(&headers(&[("set-cookie", "mirror=dl3.example.org")]), &from.url, wall_clock());
    assert_eq!(permitted(&connection, &from, "https://dl3.example.org/x", PUBLIC), Ok(true));
    assert!(!connection.client.redactor_of(&from).redact("dl3.example.org").contains("dl3"));
}

#[test]
fn fault_100_a_challenge_because_of_load_is_tried_again() {
    let client = connection(false).client;
    let headers = headers(&[("cf-mitigated", "challenge")]);
    for (status, is_retried) in [(403, false), (429, true), (503, true)] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = client.failure(status, &headers, &at("https://h.example/x", false), false, b"").unwrap();
        assert_eq!(matches!(error.remedy(), Remedy::Retry { throttled: true, .. }), is_retried, "{error}");
        assert!(error.is_refusal() && error.to_string().contains("challenge"), "{error}");
    }
}

#[test]
fn fault_47_a_proxy_is_not_asked_for_a_local_name() {
    let proxy = ProxyVariable { name: "HTTPS_PROXY", value: "http://127.0.0.1:9".to_owned() };
    let proxies = Proxies { https: Some(proxy), ..Proxies::default() };
    let client = HttpClient::new(ClientConfig { proxies, ..ClientConfig::default() }).unwrap();
    let to = |from: &str, to: &str| {
        let from = at(from, false);
        let peer_is_public = client.counts_as_public(&from.url, None);
        client.permit(&from, to.parse().unwrap(), peer_is_public).is_ok()
    };
    for name in ["https://localhost/", "https://x.internal/", "https://nas/"] {
        assert!(!to("https://public.example/x", name), "{name}");
        assert!(to("https://inside.internal/x", name), "{name}");
    }
    assert!(to("https://public.example/x", "https://name.example/"));
}

#[test]
fn fault_101_no_proxy_reads_a_cookie() {
    let client = connection(false).client;
    for (url, is_sent) in [("http://h.example/x", false), ("https://h.example/x", true)] {
        let mut to = at(url, false);
        to.cookies.keep(&headers(&[("set-cookie", "session=1")]), &to.url, wall_clock());
        assert_eq!(client.secrets(&to, None, true).cookie.is_some(), is_sent, "{url}");
        assert!(client.secrets(&to, None, false).cookie.is_some(), "{url}");
    }
}
