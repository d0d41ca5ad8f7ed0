//! The rules of requests, over both clients: the one of model bodies and the one of documents.
//!
//! Each test asks the same question of both, and expects the same answer: the same bytes, or an error of the same kind
//! with the same text. Every error is searched for secrets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use provision_core::source_url::SourceUrl;
use provision_http::{ExpectedBody, HeaderProblem, RedirectError, RequestError, TransportError};
use provision_testbed::Certificate;

use crate::prelude::*;

const SIZE: u64 = 10_000;

/// A way to ask for the bytes at a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The client of model bodies.
    Bodies,
    /// The client of documents.
    Documents,
}

pub(crate) const BOTH: [Over; 2] = [Over::Bodies, Over::Documents];

impl Over {
    /// The bytes at `url`, with a new client.
    pub(crate) fn get(self, config: &ClientConfig, url: &str) -> Result<Vec<u8>, RequestError> {
        let client = HttpClient::new(config.clone()).unwrap();
        let source: SourceUrl = url.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = runtime.block_on(async {
            if self == Self::Documents {
                return client.document(&source, 1 << 20).await;
            }
            let mut connection = client.connection();
            let whole = ExpectedBody { range: None, size: SIZE, sha256: None };
            let mut answer = connection.get(&source, None, whole).await?;
            let (mut bytes, mut block) = (Vec::new(), vec![0; 1 << 16]);
            while bytes.len() < SIZE as usize {
                match answer.read(&mut block).await? {
                    0 => break,
                    read => bytes.extend_from_slice(&block[..read]),
                }
            }
            Ok(bytes)
        });
        if let Err(error) = &got {
            secrets::assert_none("an error", &secrets::formats(error));
        }
        got
    }
}

fn config() -> ClientConfig {
    ClientConfig {
        connect_timeout: Duration::from_secs(2),
        head_timeout: Duration::from_secs(3),
        ..ClientConfig::default()
    }
}

fn content() -> Content {
    Content::generated(1, SIZE)
}

/// The error of a request that fails over both clients with the same text.
fn refused(config: &ClientConfig, url: &str) -> RequestError {
    let [bodies, documents] = BOTH.map(|over| over.get(config, url).unwrap_err());
    assert_eq!(bodies.to_string(), documents.to_string(), "{url}");
    assert_eq!(bodies.remedy(), documents.remedy(), "{url}");
    documents
}

fn kind(error: &RequestError) -> TransportError {
    match error {
        RequestError::Transport { kind, .. } => *kind,
        error => panic!("{error}"),
    }
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A server that sends `answer` on every connection once it has received something.
fn answering(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(answer);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                // Until the client closes: a reset would take the answer away.
                while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
            });
        }
    });
    at
}

/// A proxy that forwards: it answers CONNECT with `connected`, and takes SOCKS 4 from `alice` and SOCKS 5 without a
/// login only.
fn forwarding(connected: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            std::thread::spawn(move || forward(client.unwrap(), connected));
        }
    });
    at
}

fn forward(mut client: TcpStream, connected: &str) -> std::io::Result<()> {
    let mut received = [0; 4096];
    let length = client.read(&mut received)?;
    let mut request = received[..length].to_vec();
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    let target: SocketAddr = match request[0] {
        4 => {
            let is_alice = request[8..].starts_with(b"alice\0");
            client.write_all(&[0, if is_alice { 90 } else { 93 }, 0, 0, 0, 0, 0, 0])?;
            (std::net::Ipv4Addr::LOCALHOST, port(&request[2..4])).into()
        }
        5 => {
            let offered = &request[2..2 + usize::from(request[1])];
            client.write_all(&[5, if offered.contains(&0) { 0 } else { 255 }])?;
            let length = client.read(&mut received)?;
            request = received[..length].to_vec();
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
            let port = port(&request[request.len() - 2..]);
            let is_v6 = request[3] == 4;
            if is_v6 { (std::net::Ipv6Addr::LOCALHOST, port).into() } else { ([127, 0, 0, 1], port).into() }
        }
        _ => {
            let text = String::from_utf8_lossy(&request).into_owned();
            client.write_all(connected.as_bytes())?;
            text.split(' ').nth(1).and_then(|target| target.parse().ok()).unwrap()
        }
    };
    let mut server = TcpStream::connect(target)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    std::io::copy(&mut server, &mut client)?;
    client.shutdown(std::net::Shutdown::Both)
}

/// An address on which nothing listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn authorized(origin: &Control) -> bool {
    origin.requests().iter().any(|request| request.header("authorization").is_some())
}

#[test]
fn a_credential_reaches_its_own_host_and_survives_no_redirect() {
    let content = content();
    let own = start_origin("127.0.0.1");
    let (other_host, other_port) = (start_origin("127.0.0.2"), start_origin("127.0.0.1"));
    let other_scheme = start_encrypted_origin("127.0.0.1", Tls::default());
    let mut config = config();
    config.roots = Roots::Only(vec![authority().into()]);
    // For every port: only the origin of the redirect counts.
    config.credentials.add(Credential::bearer("127.0.0.1", None, &secrets::token(&own)));
    own.put("/here", content.clone());
    own.inject("/again", Fault::redirect(own.url("/here")));
    for elsewhere in [&other_host, &other_port, &other_scheme] {
        elsewhere.put("/y", content.clone());
    }
    for over in BOTH {
        let before = own.requests().len();
        assert_eq!(over.get(&config, &own.url("/again")).unwrap().len() as u64, SIZE, "{over:?}");
        let sent = &own.requests()[before..];
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|request| request.header("authorization").is_some()), "{over:?}");
        for elsewhere in [&other_host, &other_port, &other_scheme] {
            own.replace_faults("/x", Fault::redirect(elsewhere.url("/y")));
            assert_eq!(over.get(&config, &own.url("/x")).unwrap().len() as u64, SIZE, "{over:?}");
            assert!(!elsewhere.requests().is_empty() && !authorized(elsewhere), "{over:?}");
        }
    }
}

#[test]
fn redirects_to_http_other_schemes_and_without_end_are_refused() {
    let origin = start_origin("127.0.0.1");
    let encrypted = start_encrypted_origin("127.0.0.1", Tls::default());
    let config = ClientConfig { roots: Roots::Only(vec![authority().into()]), ..config() };
    encrypted.inject("/x", Fault::redirect(origin.url("/y")));
    let error = refused(&config, &encrypted.url("/x"));
    assert!(matches!(error, RequestError::Redirect { error: RedirectError::Downgrade, .. }), "{error}");
    for location in ["file:///etc/passwd", "http://user:word@127.0.0.1/", "http://127.0.0.1 /"] {
        origin.replace_faults("/x", Fault::redirect(location));
        let error = refused(&config, &origin.url("/x"));
        assert!(matches!(error, RequestError::Redirect { error: RedirectError::Location(_), .. }), "{error}");
    }
    origin.replace_faults("/x", Fault::redirect(origin.url("/x")));
    let error = refused(&config, &origin.url("/x"));
    assert!(matches!(error, RequestError::Redirect { error: RedirectError::TooMany, .. }), "{error}");
}

/// A configuration with a proxy for both schemes, with a password.
fn through(scheme: &str, proxy: SocketAddr) -> ClientConfig {
    let variable = |name| ProxyVariable { name, value: format!("{scheme}://user:{MARK}-word@{proxy}") };
    let mut config = config();
    config.proxies.http = Some(variable("http_proxy"));
    config.proxies.https = Some(variable("HTTPS_PROXY"));
    config
}

#[test]
fn fault_99_a_failed_proxy_is_named_with_its_variable() {
    const NOT_ALLOWED: &[u8] = &[5, 2, 1, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0];
    let status = |status: u16| -> SocketAddr {
        let text = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
        answering(Box::leak(text.into_bytes().into_boxed_slice()))
    };
    for (scheme, proxy, url, expected) in [
        ("http", closed(), "http://models.example/x", TransportError::ConnectRefused),
        ("http", closed(), "https://models.example/x", TransportError::ConnectRefused),
        ("socks5h", closed(), "https://models.example/x", TransportError::ConnectRefused),
        ("http", status(407), "https://models.example/x", TransportError::Proxy),
        ("http", status(403), "https://models.example/x", TransportError::Proxy),
        ("http", status(502), "https://models.example/x", TransportError::Connect),
        ("http", answering(b"220 hello\r\n\r\n"), "https://models.example/x", TransportError::NotHttp),
        ("socks5h", answering(NOT_ALLOWED), "https://models.example/x", TransportError::Proxy),
        ("socks5h", answering(&[5, 2, 1, 1]), "http://models.example/x", TransportError::Proxy),
    ] {
        let error = refused(&through(scheme, proxy), url);
        let text = error.to_string();
        assert_eq!(kind(&error), expected, "{scheme} {url}: {text}");
        let variable = if url.starts_with("https") { "HTTPS_PROXY" } else { "http_proxy" };
        assert!(text.contains("models.example") && text.contains(&proxy.to_string()), "{text}");
        assert!(text.contains(variable), "{text}");
    }
}

#[test]
fn fault_54_a_plain_request_through_a_proxy_has_its_login_only() {
    let content = content();
    let proxy = start_proxy("127.0.0.3");
    proxy.put("/x", content);
    let mut config = through("http", proxy.addr());
    config.credentials.add(Credential::bearer("127.0.0.1", None, &secrets::token(&proxy)));
    for over in BOTH {
        assert_eq!(over.get(&config, "http://127.0.0.1:9/x").unwrap().len() as u64, SIZE, "{over:?}");
    }
    for request in proxy.requests() {
        assert_eq!(request.target, "http://127.0.0.1:9/x");
        let login = request.header("proxy-authorization").unwrap_or_default();
        assert!(
            login.starts_with(&format!("Basic {}", secrets::encode(&format!("user:{MARK}-word")))),
            "{login}"
        );
        assert_eq!(request.header("authorization"), None, "the proxy would read it");
    }
    proxy.inject("*", Fault::status(407));
    let error = refused(&config, "http://127.0.0.1:9/x");
    assert!(matches!(error, RequestError::Refused { status: 407, .. }), "{error}");
    assert!(error.to_string().contains("http_proxy"), "{error}");
    config.proxies.except = Some("127.0.0.1".to_owned());
    assert_eq!(kind(&refused(&config, "http://127.0.0.1:9/x")), TransportError::ConnectRefused);
}

#[test]
fn fault_37_only_the_given_authority_is_trusted() {
    let start = |certificate| start_encrypted_origin("127.0.0.1", Tls { certificate, ..Tls::default() });
    let own = ClientConfig { roots: Roots::Only(vec![authority().into()]), ..config() };
    let good = start_encrypted_origin("127.0.0.1", Tls::default());
    good.put("/x", content());
    for over in BOTH {
        assert_eq!(over.get(&own, &good.url("/x")).unwrap().len() as u64, SIZE, "{over:?}");
    }
    let bad = [
        Certificate::Expired,
        Certificate::OtherName,
        Certificate::UnknownAuthority,
        Certificate::SelfSigned,
    ];
    for (config, origin) in
        bad.into_iter().map(|certificate| (&own, start(certificate))).chain([(&config(), good)])
    {
        let before = origin.counters().requests;
        let error = refused(config, &origin.url("/x"));
        assert_eq!(kind(&error), TransportError::Certificate, "{error}");
        assert_eq!(origin.counters().requests, before, "nothing is sent to an unverified host");
    }
}

#[test]
fn fault_36_names_and_dead_addresses_have_the_same_outcome() {
    let origin = start_origin("127.0.0.1");
    origin.put("/x", content());
    let port = origin.addr().port();
    let mut config = config();
    config.hosts = [
        ("gone.example", Vec::new()),
        ("refused.example", vec![addr("127.0.0.9"), addr("127.0.0.8")]),
        ("silent.example", vec![addr("240.0.0.1"), addr("240.0.0.2"), addr("100::1"), addr("127.0.0.1")]),
    ]
    .into_iter()
    .collect();
    assert_eq!(kind(&refused(&config, "http://gone.example/x")), TransportError::Dns);
    assert_eq!(
        kind(&refused(&config, &format!("http://refused.example:{port}/x"))),
        TransportError::ConnectRefused
    );
    assert_eq!(kind(&refused(&config, &format!("http://{}/x", closed()))), TransportError::ConnectRefused);
    for over in BOTH {
        let began = Instant::now();
        let url = format!("http://silent.example:{port}/x");
        assert_eq!(over.get(&config, &url).unwrap().len() as u64, SIZE, "{over:?}");
        assert!(began.elapsed() < config.connect_timeout, "{over:?}: {:?}", began.elapsed());
    }
}

#[test]
fn fault_93_folded_odd_and_many_fields_are_read_by_both() {
    const BODY: &str = "Content-Length: 10000\r\n\r\n";
    const TWO_LENGTHS: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    let many =
        |count: usize| (0..count).fold(String::new(), |text, n| text + "x-" + &n.to_string() + ": y\r\n");
    for head in [
        "ETag: \"a\"\r\nX-Folded: one\r\n two\r\n\tthree\r\n".to_owned(),
        "X-Spaced : y\r\n".to_owned(),
        "a b: c\r\n(x): y\r\nX@Y: z\r\n: empty\r\nX: a\u{1}b\r\n".to_owned(),
        many(250),
    ] {
        let mut answer = format!("HTTP/1.1 200 OK\r\n{head}{BODY}").into_bytes();
        answer.resize(answer.len() + SIZE as usize, b'm');
        let at = answering(Box::leak(answer.into_boxed_slice()));
        for over in BOTH {
            let got = over.get(&config(), &format!("http://{at}/x"));
            assert_eq!(got.unwrap().len() as u64, SIZE, "{over:?}: {head}");
        }
    }
    let length = HeaderProblem::Malformed("Content-Length");
    for (head, problem) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Some(length)),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Some(length)),
        ("HTTP/1.1 200 OK\r\nContent Length: 5\r\n\r\n", Some(length)),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Some(HeaderProblem::NoColon)),
        ("HTTP/1.1 2000 OK\r\n\r\n", None),
        ("220 ready\r\n\r\n", None),
        ("<html></html>\r\n\r\n", None),
    ] {
        let error = refused(&config(), &format!("http://{}/x", answering(head.as_bytes())));
        let expected = problem.map_or(TransportError::NotHttp, TransportError::Header);
        assert_eq!(kind(&error), expected, "{head}: {error}");
    }
    let error = refused(&config(), &format!("http://{}/x", answering(TWO_LENGTHS)));
    assert!(error.to_string().contains("its header Content-Length"), "{error}");
    let flood = format!("HTTP/1.1 200 OK\r\n{}{BODY}", many(300));
    let at = answering(Box::leak(flood.into_bytes().into_boxed_slice()));
    let many = TransportError::Header(HeaderProblem::TooMany);
    assert_eq!(kind(&refused(&config(), &format!("http://{at}/x"))), many);
    for cut in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let error = refused(&config(), &format!("http://{}/x", answering(cut.as_bytes())));
        assert_eq!(kind(&error), TransportError::Broken, "{cut:?}: {error}");
    }
}

#[test]
fn a_silent_host_ends_with_the_time_limit_of_the_head() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let config = ClientConfig { head_timeout: Duration::from_millis(300), ..config() };
    let error = refused(&config, &url);
    assert_eq!(kind(&error), TransportError::Stalled(config.head_timeout));
}

#[test]
fn a_connection_is_used_again_for_the_next_document() {
    let origin = start_origin("127.0.0.1");
    origin.put("/y", content());
    origin.inject("/x", Fault::redirect(origin.url("/y")));
    for over in BOTH {
        let before = origin.counters().connections_accepted;
        over.get(&config(), &origin.url("/x")).unwrap();
        assert_eq!(origin.counters().connections_accepted, before + 1, "{over:?}");
    }
}

#[test]
fn fault_54_every_proxy_that_carries_bodies_carries_documents() {
    let plain = start_origin("127.0.0.1");
    let encrypted = start_encrypted_origin("127.0.0.1", Tls::default());
    let encrypted_v6 = start_encrypted_origin("::1", Tls::default());
    let plain_v6 = start_origin("::1");
    for origin in [&plain, &encrypted, &encrypted_v6, &plain_v6] {
        origin.put("/x", content());
    }
    let ok = "HTTP/1.1 200 OK\r\n\r\n";
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(9000));
    let long: &str = Box::leak(long.into_boxed_str());
    for (proxy, connected, origin) in [
        ("http://P", ok, &encrypted),
        ("http://P", ok, &encrypted_v6),
        ("http://P", "HTTP/1.1 201 Created\r\n\r\n", &encrypted),
        ("http://P", long, &encrypted),
        ("socks4a://alice:x@P", ok, &plain),
        ("socks5h://user:word@P", ok, &plain),
        ("socks5h://P", ok, &encrypted_v6),
        ("socks5://P", ok, &plain_v6),
        ("socks5://P", ok, &encrypted),
        ("socks://P", ok, &plain),
    ] {
        let value = proxy.replace('P', &forwarding(connected).to_string());
        let mut config = ClientConfig { roots: Roots::Only(vec![authority().into()]), ..config() };
        config.proxies.http = Some(ProxyVariable { name: "http_proxy", value: value.clone() });
        config.proxies.https = Some(ProxyVariable { name: "https_proxy", value });
        for over in BOTH {
            let got = over.get(&config, &origin.url("/x"));
            assert_eq!(got.unwrap().len() as u64, SIZE, "{over:?}, {proxy}, {}", origin.url("/x"));
        }
    }
}

#[test]
fn fault_99_a_silent_proxy_ends_with_the_connect_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for scheme in ["http", "socks5h", "socks4a"] {
        let mut config = through(scheme, silent.local_addr().unwrap());
        config.connect_timeout = Duration::from_millis(300);
        let began = Instant::now();
        let error = refused(&config, "https://models.example/x");
        assert_eq!(kind(&error), TransportError::Connect, "{scheme}: {error}");
        assert!(began.elapsed() < config.head_timeout, "{scheme}: {:?}", began.elapsed());
    }
}

#[test]
fn fault_102_a_location_is_encoded_and_followed_as_browsers_do() {
    let origin = start_origin("127.0.0.1");
    for (location, target) in [
        ("/a b/\u{e9}?q=a b&sig=%2B+/=", "/a%20b/%C3%A9?q=a%20b&sig=%2B+/="),
        (" /[x]{y}'(z)?r[]={1}|2 ", "/[x]%7By%7D'(z)?r[]={1}|2"),
        ("/quote\"s<>`?a=\"<>", "/quote%22s%3C%3E%60?a=%22%3C%3E"),
    ] {
        origin.replace_faults("/x", Fault::redirect(location));
        for over in BOTH {
            let error = over.get(&config(), &origin.url("/x"));
            let told = origin.requests().into_iter().last().unwrap();
            assert_eq!(told.target, target, "{over:?}: {error:?}");
        }
    }
    for location in ["/a\tb", "/a\u{0}b", "/a\u{7f}b", "", "  "] {
        origin.replace_faults("/x", Fault::redirect(location));
        let [bodies, documents] = BOTH.map(|over| over.get(&config(), &origin.url("/x")).unwrap_err());
        assert_eq!(bodies.to_string(), documents.to_string(), "{location:?}");
    }
}
