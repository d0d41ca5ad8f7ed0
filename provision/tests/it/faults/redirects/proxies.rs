//! Proxies that the environment names, with a password (fault 54), through the program.

use crate::prelude::*;

fn fixture(scheme: &str) -> (Fixture, BlockingOrigin) {
    let mut fixture = Fixture::new();
    let content = Content::generated(1, 300_000);
    fixture.model("x", &content, &[format!("{scheme}://models.example/x")]);
    let proxy = start_proxy("127.0.0.2");
    proxy.put("/x", content);
    (fixture, proxy)
}

/// Fetches through the proxy, with its password in the environment.
fn fetch(fixture: &Fixture, proxy: &BlockingOrigin, more: &[(&str, &str)]) -> Ended {
    let mut command = verb(fixture, "fetch", &["--retries", "1"]);
    let url = format!("http://user:{MARK}-proxy@{}", proxy.addr());
    command.env("http_proxy", &url).env("HTTPS_PROXY", &url).env_remove("https_proxy");
    command.envs(more.iter().copied());
    run(&mut command)
}

#[test]
fn fault_54_a_proxy_that_wants_a_login_ends_the_source() {
    for scheme in ["http", "https"] {
        let (mut fixture, proxy) = fixture(scheme);
        // A mirror behind the same proxy is not asked.
        let sources = ["models", "mirror"].map(|host| format!("{scheme}://{host}.example/x"));
        fixture.model("x", &Content::generated(1, 300_000), &sources);
        proxy.inject("*", Fault::status(407));
        let status = if scheme == "http" { "407" } else { "" };
        let ended = fetch(&fixture, &proxy, &[]).row(scheme).exits(6);
        ended.err_has(&["proxy", "password", status]).err_lacks(&["netrc"]);
        let requests = proxy.requests();
        assert!(!requests.is_empty() && requests.len() <= 4, "{scheme}: {}", requests.len());
        for request in requests {
            assert!(!request.target.contains("mirror"), "{scheme}: {}", request.target);
            assert_eq!(request.method, if scheme == "http" { "GET" } else { "CONNECT" });
            let login = request.header("proxy-authorization").unwrap_or_default();
            assert!(login.starts_with("Basic "), "{scheme}: the password is used");
            assert_eq!(request.header("authorization"), None, "a proxy reads it");
        }
        assert!(!fixture.path("x").exists() && !fixture.path(".models-installed").exists());
    }
}

#[test]
fn fault_54_a_proxy_of_the_environment_is_used() {
    let (fixture, proxy) = fixture("http");
    fetch(&fixture, &proxy, &[]).exits(0);
    assert!(proxy.requests().iter().all(|request| request.target.starts_with("http://models.example/x")));
    assert!(proxy.requests().iter().all(|request| request.header("proxy-authorization").is_some()));
}

#[test]
fn fault_54_no_proxy_of_the_environment_is_honoured() {
    for (name, value) in
        [("no_proxy", "127.0.0.1"), ("NO_PROXY", "10.0.0.0/8,127.0.0.0/8"), ("no_proxy", "*")]
    {
        let (mut fixture, proxy) = fixture("http");
        fixture.file("x", &Content::generated(1, 300_000));
        fetch(&fixture, &proxy, &[(name, value)]).row(format!("{name}={value}")).exits(0);
        assert_eq!(proxy.counters().connections_accepted, 0, "{name}={value}");
    }
}

#[test]
fn fault_54_an_invalid_proxy_url_is_refused_without_echoing_it() {
    let (fixture, proxy) = fixture("http");
    let bad = format!("ftp://user:{MARK}@proxy.example");
    fetch(&fixture, &proxy, &[("http_proxy", &bad)]).exits(2).err_has(&["http_proxy is not a usable URL"]);
    assert_eq!(proxy.counters().connections_accepted, 0);
}
