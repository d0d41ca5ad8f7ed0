//! TLS for an origin (feature `tls`): valid and invalid certificates from an authority made at run time.
//!
//! The authority and its keys are made on first use and exist in this process only. No other program can trust them by
//! mistake, and no certificate in the repository expires.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::stream::{Handshake, Stream, Transport};

/// The TLS setup of an origin.
#[derive(Clone, Copy, Debug)]
pub struct Tls {
    /// The certificate (fault 37).
    pub certificate: Certificate,
    /// Names in the certificate, besides `localhost` and the address that the origin listens on.
    pub names: &'static [&'static str],
    /// Send `close_notify` before the end; without it a client cannot tell an end from a cut (fault 38).
    pub close_notify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { certificate: Certificate::Good, names: &[], close_notify: true }
    }
}

/// The certificate that an origin shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Signed by [`authority`], valid now, for the right names.
    Good,
    /// Expired in the year 2001.
    Expired,
    /// Made for another host.
    OtherName,
    /// Signed by an authority that no client trusts.
    UnknownAuthority,
    /// Signed by its own key.
    SelfSigned,
}

/// The certificate (DER) of the authority that signs a [`Certificate::Good`]. Each process has its own.
pub fn authority() -> Vec<u8> {
    known_authority().der().to_vec()
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn make_authority(name: &str) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Panics on a machine without randomness, where TLS cannot work at all.
fn known_authority() -> &'static Authority {
    static KNOWN: OnceLock<Authority> = OnceLock::new();
    KNOWN.get_or_init(|| make_authority("Testbed").expect("keys can be made"))
}

/// The handshake of an origin at `address`.
pub(crate) fn handshake(tls: Tls, address: IpAddr) -> io::Result<Handshake> {
    let (certificate, key) = certify(tls, address).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(io::Error::other)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let close_notify = tls.close_notify;
    Ok(Arc::new(move |tcp| {
        let accepting = acceptor.accept(tcp);
        Box::pin(async move { Ok(Stream { transport: Box::new(accepting.await?), close_notify }) })
    }))
}

impl Transport for TlsStream<TcpStream> {
    fn tcp(&mut self) -> &mut TcpStream {
        self.get_mut().0
    }
}

fn certify(tls: Tls, address: IpAddr) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
    let names: Vec<String> = if tls.certificate == Certificate::OtherName {
        vec!["elsewhere.example".to_owned()]
    } else {
        let own = ["localhost".to_owned(), address.to_string()];
        tls.names.iter().map(|name| (*name).to_owned()).chain(own).collect()
    };
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "An origin of the testbed");
    if tls.certificate == Certificate::Expired {
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2000, 1, 1), rcgen::date_time_ymd(2001, 1, 1));
    }
    let key = KeyPair::generate()?;
    let certificate = match tls.certificate {
        Certificate::SelfSigned => params.self_signed(&key)?,
        Certificate::UnknownAuthority => params.signed_by(&key, &*make_authority("Unknown")?)?,
        Certificate::Good | Certificate::Expired | Certificate::OtherName => {
            params.signed_by(&key, known_authority())?
        }
    };
    Ok((certificate.der().clone(), key))
}
