//! The HTTP client: the configuration of a run, and the state that all its requests share.
//!
//! An [`HttpClient`] holds the credentials, proxies, certificates and registry tokens of a run. `request_rules` has the
//! rules of its requests, `connection` and `api` send them.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::auth::bearer::Tokens;
use crate::auth::credentials::Credentials;
use crate::auth::registries::Registries;
use crate::bucket::Buckets;
use crate::dns::{Hosts, lookups};
use crate::s3_config::S3Config;
use crate::tls::{Roots, RootsError, client_config};
use crate::wire::connect::Connector;
use crate::wire::pool::Pool;
use crate::wire::proxy::{Proxies, ProxyError, ProxyTable};
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// The URLs at which requests may begin. The endpoint of a replaced host is the user's own, and always allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sources {
    /// The user's own URLs: any.
    #[default]
    Own,
    /// The URLs of a list from someone else: https to public addresses, and the further ones that the user allows
    /// (fault 115).
    Listed {
        /// Private and loopback addresses too, over plain http as well. No login is sent to a URL with such an address.
        private: bool,
        /// Plain http too.
        http: bool,
    },
}

/// The configuration that all requests of a run share.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The credentials, each for its host.
    pub credentials: Credentials,
    /// The logins that are looked up when a registry asks for one, and no other credential is for its host.
    pub registries: Registries,
    /// The endpoint, region and keys of buckets.
    pub s3: S3Config,
    /// The proxies, as the environment variables name them.
    pub proxies: Proxies,
    /// The trusted certificate authorities.
    pub roots: Roots,
    /// Replaced hosts: requests to `https://HOST/…` go below this URL instead (`HF_ENDPOINT`).
    pub endpoints: Vec<(String, SourceUrl)>,
    /// Names that the caller resolves itself, before the system's resolver.
    pub hosts: Hosts,
    /// The time limit for a connection.
    pub connect_timeout: Duration,
    /// The time limit for an answer's head.
    pub head_timeout: Duration,
    /// The time limit for a whole document: a lock, a listing, a token.
    pub document_timeout: Duration,
    /// The URLs at which requests may begin.
    pub sources: Sources,
    /// Lets a public host redirect to a private address. For embedders and tests.
    pub private_redirects: bool,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            credentials: Credentials::none(),
            registries: Registries::default(),
            s3: S3Config::default(),
            proxies: Proxies::default(),
            roots: Roots::Bundled,
            endpoints: Vec::new(),
            hosts: Hosts::default(),
            connect_timeout: Duration::from_secs(15),
            head_timeout: Duration::from_secs(30),
            document_timeout: Duration::from_mins(2),
            sources: Sources::Own,
            private_redirects: false,
        }
    }
}

/// A configuration from which no client can be built.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The certificates.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A proxy variable.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// The HTTP library.
    #[error("the HTTP library cannot be set up")]
    Library(#[from] reqwest::Error),
}

/// The shared half of a run's requests: configuration, connections and registry tokens. It belongs to one tokio
/// runtime, which drives its kept connections.
pub struct HttpClient {
    pub(crate) config: ClientConfig,
    pub(crate) connector: Arc<Connector>,
    pub(crate) pool: Pool,
    pub(crate) tokens: Tokens,
    pub(crate) buckets: Buckets,
    /// Held while a token is obtained, so that one request does it for all.
    pub(crate) obtaining: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("config", &self.config).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// Builds a client. It does not touch the network.
    pub fn new(config: ClientConfig) -> Result<Arc<Self>, ClientError> {
        let connector = Arc::new(Connector {
            tls: Arc::new(client_config(&config.roots)?),
            proxies: ProxyTable::new(&config.proxies)?,
            hosts: config.hosts.clone(),
            // A dead first name server and a search list take `getaddrinfo` twenty seconds (fault 109).
            names: lookups(config.connect_timeout * 2),
            timeout: config.connect_timeout,
        });
        let pool = Pool::new(connector.clone())?;
        Ok(Arc::new(Self {
            config,
            connector,
            pool,
            tokens: Tokens::default(),
            buckets: Buckets::default(),
            obtaining: tokio::sync::Mutex::default(),
        }))
    }

    /// The redactor for text from the hosts of `urls`: every secret that the client may have sent them.
    pub fn redactor<'u>(&self, urls: impl Iterator<Item = &'u SourceUrl>) -> Redactor {
        let mut redactor = Redactor::default();
        self.config.credentials.add_to(&mut redactor);
        for login in self.config.registries.logins() {
            login.add_to(&mut redactor);
        }
        self.config.s3.credentials.add_to(&mut redactor);
        self.config.proxies.add_to(&mut redactor);
        self.tokens.add_to(&mut redactor);
        redactor.add_queries(urls);
        redactor
    }

    /// The URL to request for `source`, and to show: below its host's endpoint, if the host is replaced, or at the
    /// endpoint of its bucket.
    pub fn effective(&self, source: &SourceUrl) -> SourceUrl {
        if source.object().is_some() {
            return self.buckets.address(&self.config.s3, source).unwrap_or_else(|| source.clone());
        }
        let replaced =
            self.config.endpoints.iter().find(|(host, _)| source.is_https() && *host == source.host());
        let Some((_, endpoint)) = replaced else { return source.clone() };
        let mut url: Url = endpoint.as_url().clone();
        url.set_path(&format!(
            "{}{}",
            endpoint.as_url().path().trim_end_matches('/'),
            source.as_url().path()
        ));
        url.set_query(source.as_url().query());
        SourceUrl::from_url(url).unwrap_or_else(|_| source.clone())
    }
}
