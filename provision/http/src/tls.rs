//! TLS setup: the certificate authorities that the client trusts.
//!
//! The machine's own certificate store is not read: a container may have none, and then nothing could be verified.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

/// The trusted certificate authorities.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// Mozilla's, which are part of the program.
    #[default]
    Bundled,
    /// These only.
    Only(Vec<CertificateDer<'static>>),
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// None of the certificates is usable.
    #[error("none of the {found} given certificates is usable")]
    NoneUsable {
        /// The number of given certificates.
        found: usize,
    },
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// The TLS settings of a run. All connections share one session store, so sessions are resumed across them.
pub(crate) fn client_config(roots: &Roots) -> Result<ClientConfig, RootsError> {
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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Tls)?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
