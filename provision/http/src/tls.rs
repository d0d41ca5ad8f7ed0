//! Certificates: whom to believe that a host is who it says.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

/// The certificate authorities to trust.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// Mozilla's, as bundled in the program: a machine without a CA bundle can still verify.
    #[default]
    Bundled,
    /// These, and no others.
    Only(Vec<CertificateDer<'static>>),
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// None of the certificates is one.
    #[error("there is no usable certificate among the {found} given")]
    NoneUsable {
        /// How many there were.
        found: usize,
    },
    /// The TLS library refuses its own settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The TLS settings of a run. Sessions are resumed across its connections, since clones share the store.
pub(super) fn client_config(roots: &Roots) -> Result<ClientConfig, RootsError> {
    let store = match roots {
        Roots::Bundled => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        Roots::Only(certificates) => {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(certificates.iter().cloned());
            if store.is_empty() {
                return Err(RootsError::NoneUsable { found: certificates.len() });
            }
            store
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Tls)?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
