//! TLS for an origin: certificates of a throw-away authority, right ones and wrong ones.
//!
//! The authority and its keys are made when they are first needed and exist in this process only, so there is nothing
//! that could be trusted by mistake elsewhere, and no certificate in the repository runs out.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How an origin speaks TLS.
#[derive(Clone, Copy, Debug)]
pub struct Tls {
    /// How good its certificate is (fault 37).
    pub certificate: Certificate,
    /// The names that the certificate is for, besides `localhost` and the address that is listened on.
    pub names: &'static [&'static str],
    /// Whether a connection that is closed says so first; without, its end may be anybody's doing (fault 38).
    pub close_notify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { certificate: Certificate::Good, names: &[], close_notify: true }
    }
}

/// What a certificate proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// All of it: signed by [`authority`], valid now, for the right names.
    Good,
    /// It was good until the year 2001.
    Expired,
    /// It is good for another host.
    OtherName,
    /// An authority signed it that nobody has heard of.
    UnknownAuthority,
    /// It was signed by its own key.
    SelfSigned,
}

/// The certificate, in DER, of the authority that signs what is [`Certificate::Good`]. One for each process.
pub fn authority() -> Vec<u8> {
    known_authority().certificate.to_vec()
}

struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }
}

/// A machine on which it cannot be made has no randomness: nothing works there.
fn known_authority() -> &'static Authority {
    static KNOWN: OnceLock<Authority> = OnceLock::new();
    KNOWN.get_or_init(|| Authority::new("Testbed").expect("keys can be made"))
}

/// What accepts connections of an origin at `address`.
pub(crate) fn acceptor(tls: Tls, address: IpAddr) -> io::Result<TlsAcceptor> {
    let (certificate, key) = certify(tls, address).map_err(io::Error::other)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key))
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
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
        Certificate::UnknownAuthority => params.signed_by(&key, &Authority::new("Nobody")?.issuer)?,
        Certificate::Good | Certificate::Expired | Certificate::OtherName => {
            params.signed_by(&key, &known_authority().issuer)?
        }
    };
    Ok((certificate.der().clone(), key))
}

/// A connection, in the clear or not.
pub(crate) enum Stream {
    Plain(TcpStream),
    Encrypted {
        tls: Box<TlsStream<TcpStream>>,
        /// See [`Tls::close_notify`].
        says_goodbye: bool,
    },
}

impl Stream {
    /// The TCP connection under it.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Encrypted { tls, .. } => tls.get_ref().0,
        }
    }

    /// Sends what has been written, and nothing after it.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.shutdown().await,
            Self::Encrypted { tls, says_goodbye: true } => tls.shutdown().await,
            Self::Encrypted { tls, says_goodbye: false } => {
                tls.flush().await?;
                tls.get_mut().0.shutdown().await
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, into),
            Self::Encrypted { tls, .. } => Pin::new(&mut **tls).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Encrypted { tls, .. } => Pin::new(&mut **tls).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Encrypted { tls, .. } => Pin::new(&mut **tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Encrypted { tls, .. } => Pin::new(&mut **tls).poll_shutdown(context),
        }
    }
}
