//! Logins of registries that are looked up when a registry asks for one: docker's configuration and its helpers.
//!
//! A helper is a program that may take seconds or ask a key chain, so it runs for a registry that answered 401, and
//! once a repository. The answers are kept here for later requests. The registry's own name chooses the login, never
//! the challenge.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::credentials::Credential;
use provision_core::source_url::SourceUrl;

/// A place of logins for registries.
pub trait RegistryLogins: fmt::Debug + Send + Sync {
    /// The login for a repository of the registry at `HOST`, or `HOST:PORT` if the port is not the scheme's own. It may
    /// block.
    ///
    /// # Errors
    /// There may be a login, but it cannot be had: the cause, for the message of a refusal. It carries no secret.
    fn login(&self, registry: &str, repository: &str) -> Result<Option<Credential>, String>;
}

/// The answer of the place for a repository.
pub(crate) type LoginLookup = Result<Option<Credential>, String>;

/// The lookup, and its answers. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Registries {
    place: Option<Arc<dyn RegistryLogins>>,
    found: Arc<Mutex<HashMap<(String, String), LoginLookup>>>,
}

impl Registries {
    /// The lookup at this place.
    pub fn of(place: Arc<dyn RegistryLogins>) -> Self {
        Self { place: Some(place), ..Self::default() }
    }

    /// The answer for the repository of `url`; `None` if it has not been looked up.
    pub(crate) fn found(&self, url: &SourceUrl) -> Option<LoginLookup> {
        let key = key(url)?;
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    /// Every login that was found.
    pub(crate) fn logins(&self) -> Vec<Credential> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.values().filter_map(|found| found.clone().ok().flatten()).collect()
    }

    /// Looks up the login for the repository of `url`, unless that was done. The place may block, so a thread of its
    /// own asks it.
    pub(crate) async fn look_up(&self, url: &SourceUrl) {
        let (Some(place), Some(key)) = (self.place.clone(), key(url)) else { return };
        if self.found(url).is_some() {
            return;
        }
        let (registry, repository) = key.clone();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        // Not a blocking task of the runtime, which would wait for a silent helper at its end.
        std::thread::spawn(move || sender.send(place.login(&registry, &repository)));
        let found = receiver.await.unwrap_or(Ok(None));
        self.found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, found);
    }
}

/// The registry and the repository of `url`; `None` if its path is not a registry's.
fn key(url: &SourceUrl) -> Option<(String, String)> {
    let address = url.as_url();
    let host = address.host_str()?;
    let registry = address.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    Some((registry, repository(url)?.to_owned()))
}

/// The repository that `url`, of a blob or a manifest, belongs to.
pub(crate) fn repository(url: &SourceUrl) -> Option<&str> {
    let rest = url.as_url().path().strip_prefix("/v2/")?;
    let (repository, _) = rest.split_once("/blobs/").or_else(|| rest.split_once("/manifests/"))?;
    Some(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Place(Mutex<Vec<String>>);

    impl RegistryLogins for Place {
        fn login(&self, registry: &str, repository: &str) -> LoginLookup {
            self.0.lock().unwrap().push(format!("{registry} {repository}"));
            Ok(Some(Credential::basic(registry, "u", "p")))
        }
    }

    #[test]
    fn a_login_is_looked_up_once_for_a_repository() {
        let place = Arc::new(Place(Mutex::default()));
        let registries = Registries::of(place.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let urls = [
            "https://h.example/v2/team/a/blobs/sha256:0",
            "https://h.example/v2/team/a/manifests/latest",
            "https://h.example/v2/team/a/blobs/uploads/",
            "https://h.example:5000/v2/team/a/blobs/sha256:0",
            "https://h.example/x",
        ];
        for url in urls {
            let url: SourceUrl = url.parse().unwrap();
            assert!(registries.found(&url).is_none() || url.port() == 443);
            runtime.block_on(registries.look_up(&url));
        }
        assert_eq!(*place.0.lock().unwrap(), ["h.example team/a", "h.example:5000 team/a"]);
        assert_eq!(registries.logins().len(), 2);
    }
}
