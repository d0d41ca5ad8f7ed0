//! TLS: the certificates that a verifying client accepts, and the end of a connection.

use std::sync::Arc;

use provision_testbed::{Certificate, Content, Fault, Origin, OriginConfig, Tls, authority};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// The whole answer of an origin with this TLS setup, requested under this name.
async fn answer(tls: Tls, name: &'static str, fault: Option<Fault>) -> std::io::Result<(String, bool)> {
    let origin = Origin::start(OriginConfig { tls: Some(tls), ..OriginConfig::default() }).await?;
    origin.put("/x", Content::bytes("hello"));
    assert!(origin.url("/x").starts_with("https://127.0.0.1:"));
    if let Some(fault) = fault {
        origin.inject("/x", fault);
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let tcp = tokio::net::TcpStream::connect(origin.addr()).await?;
    let name = ServerName::try_from(name).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    stream.write_all(b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n").await?;
    let mut text = Vec::new();
    let clean = stream.read_to_end(&mut text).await.is_ok();
    Ok((String::from_utf8(text).unwrap(), clean))
}

#[tokio::test]
async fn a_good_certificate_is_accepted_for_its_names_only() {
    let tls = Tls { names: &["models.example"], ..Tls::default() };
    for name in ["models.example", "127.0.0.1", "localhost"] {
        let (text, clean) = answer(tls, name, None).await.unwrap();
        assert!(clean && text.ends_with("\r\n\r\nhello"), "{text}");
    }
    assert!(answer(tls, "other.example", None).await.is_err());
}

#[tokio::test]
async fn fault_37_a_verifying_client_refuses_bad_certificates() {
    use Certificate::{Expired, OtherName, SelfSigned, UnknownAuthority};
    for certificate in [Expired, OtherName, UnknownAuthority, SelfSigned] {
        let refused = answer(Tls { certificate, ..Tls::default() }, "localhost", None).await;
        assert!(refused.is_err(), "{certificate:?}");
    }
}

#[tokio::test]
async fn fault_38_a_connection_can_end_without_close_notify() {
    let silent = Tls { close_notify: false, ..Tls::default() };
    let (text, clean) = answer(silent, "localhost", None).await.unwrap();
    assert!(!clean && text.ends_with("\r\n\r\nhello"), "{text}");
    let (text, clean) = answer(silent, "localhost", Some(Fault::CutBody(2))).await.unwrap();
    assert!(!clean && text.ends_with("\r\n\r\nhe"), "{text}");
}
