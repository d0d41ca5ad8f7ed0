//! The fixture of these tests: a host, its storage and a destination.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use provision_core::backoff::RetryPolicy;
use provision_core::digest::Sha256;
use provision_core::event::Silent;
use provision_core::lockfile::Lockfile;
use provision_core::lockfile::TakenPaths;
use provision_http::metadata::{OnWait, Wait};
use provision_http::{ClientConfig, Credential, HttpClient};
use provision_lock::check::{Verdict, check};
use provision_lock::digest_reader::DigestReader;
use provision_lock::edit::Document;
use provision_lock::entry::Entry;
use provision_lock::entry_builder::{AddRequest, EntryBuilder, EntryError};
use provision_lock::resolve::{Found, Kind, ResolveError, Resolver};
use provision_testbed::hosts::civitai::{File, Version};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::{BlockingOrigin, Content, OriginConfig as TestbedConfig};

/// A host, its storage and a destination.
pub(crate) struct Fixture {
    pub(crate) site: BlockingOrigin,
    pub(crate) store: BlockingOrigin,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) token: Option<&'static str>,
    /// Only GitHub's API is emulated: `github.com` is the real host and must not be asked.
    pub(crate) public_github: bool,
    pub(crate) waits: Arc<Mutex<Vec<Wait>>>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let start = || BlockingOrigin::start(TestbedConfig::default()).unwrap();
        Self {
            site: start(),
            store: start(),
            directory: tempfile::tempdir().unwrap(),
            token: None,
            public_github: false,
            waits: Arc::default(),
        }
    }

    pub(crate) fn destination(&self) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path()).unwrap().join("models")
    }

    pub(crate) fn origin(&self) -> Arc<HttpClient> {
        let at = |path: &str| self.site.url(path).parse().unwrap();
        let mut config = ClientConfig {
            endpoints: vec![
                ("huggingface.co".to_owned(), at("")),
                ("civitai.com".to_owned(), at("")),
                ("github.com".to_owned(), at("")),
                ("api.github.com".to_owned(), at("/api/v3")),
                ("modelscope.cn".to_owned(), at("")),
            ],
            ..ClientConfig::default()
        };
        if self.public_github {
            config.endpoints.retain(|(host, _)| host != "github.com");
        }
        if let Some(token) = self.token {
            config.credentials.add(Credential::bearer("127.0.0.1", Some(self.site.addr().port()), token));
        }
        HttpClient::new(config).unwrap()
    }

    pub(crate) fn retry() -> RetryPolicy {
        RetryPolicy { retries: 3, base: Duration::from_millis(2), ..RetryPolicy::default() }
    }

    pub(crate) fn on_wait(&self) -> OnWait {
        let waits = self.waits.clone();
        Arc::new(move |wait| waits.lock().unwrap().push(wait.clone()))
    }

    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::new(&self.origin(), Self::retry(), self.on_wait())
    }

    pub(crate) fn builder(&self) -> EntryBuilder {
        let reader = DigestReader::new(
            self.origin(),
            Self::retry(),
            self.on_wait(),
            self.destination(),
            Arc::new(Silent),
        );
        let taken = TakenPaths::default();
        EntryBuilder { resolver: self.resolver(), reader, allow_expiring: false, taken }
    }

    pub(crate) fn resolve(&self, source: &str) -> Result<Vec<Found>, ResolveError> {
        block_on(self.resolver().resolve(&source.parse().unwrap()))
    }

    pub(crate) fn one(&self, source: &str) -> Found {
        let found = self.resolve(source).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    }

    pub(crate) fn refused(&self, source: &str) -> (Kind, String) {
        let error = self.resolve(source).unwrap_err();
        (error.kind(), error.to_string())
    }

    /// The message of a refused source.
    pub(crate) fn assert_refused(&self, source: &str, expected: Kind, says: &[&str]) -> String {
        let (kind, said) = self.refused(source);
        assert_eq!(kind, expected, "{said}");
        for text in says {
            assert!(said.contains(text), "{text}: {said}");
        }
        said
    }

    /// The Hub with `o/r`, which has one small file, `vae/a.safetensors`.
    pub(crate) fn small_hub(&self) -> Hub {
        self.hub_with(&Content::generated(1, 10)).0
    }

    /// The Hub with `o/r`, which has the file `vae/a.safetensors`, and the commit.
    pub(crate) fn hub_with(&self, content: &Content) -> (Hub, String) {
        let hub = Hub::mount(&self.site, &self.store);
        let commit = hub.commit("o/r", "main", &[("vae/a.safetensors", content.clone())]);
        (hub, commit)
    }

    /// The entry of a source with one file.
    pub(crate) fn entry(&self, source: &str) -> Entry {
        self.build(&add_request(source)).unwrap_or_else(|error| panic!("{source}: {error}")).remove(0)
    }

    /// The verdict for each URL of an entry.
    pub(crate) fn check(&self, entry: &Entry) -> Vec<Verdict> {
        let lock = lock_of(std::slice::from_ref(entry));
        block_on(check(&self.resolver(), &lock.models()[0]))
    }

    /// A resolver whose first wait ends what makes it wait.
    pub(crate) fn resolver_that_waits(&self, end: impl Fn() + Send + Sync + 'static) -> Resolver {
        let waits = self.waits.clone();
        let on_wait: OnWait = Arc::new(move |wait| {
            waits.lock().unwrap().push(wait.clone());
            end();
        });
        Resolver::new(&self.origin(), Self::retry(), on_wait)
    }

    /// One wait was requested by the host, for at least a second.
    pub(crate) fn assert_waited(&self) {
        let waits = self.waits.lock().unwrap();
        let [wait] = &waits[..] else { panic!("{waits:?}") };
        assert!(wait.is_requested && wait.wait >= Duration::from_secs(1), "{wait:?}");
    }

    pub(crate) fn build(&self, request: &AddRequest) -> Result<Vec<Entry>, EntryError> {
        block_on(self.builder().build(request))
    }

    pub(crate) fn requests_to(&self, part: &str) -> usize {
        self.site.requests().iter().filter(|request| request.path.contains(part)).count()
    }
}

/// A version on Civitai with these files, each with name, content and precision.
pub(crate) fn civitai_version(files: &[(&str, &Content, &str)], token: Option<&str>) -> Version {
    let file = |(name, content, precision): &(&str, &Content, &str)| File {
        name: (*name).to_owned(),
        content: (*content).clone(),
        precision: Some((*precision).to_owned()),
        is_hashed: true,
    };
    let files = files.iter().map(file).collect();
    Version { kind: "LORA".to_owned(), name: "A style".to_owned(), files, token: token.map(str::to_owned) }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn sha(content: &Content) -> Sha256 {
    content.sha256_hex().parse().unwrap()
}

pub(crate) fn add_request(source: &str) -> AddRequest {
    AddRequest::of(source.parse().unwrap())
}

pub(crate) fn lock_of(entries: &[Entry]) -> Lockfile {
    let mut document = Document::empty("models.lock");
    document.put_all(entries).unwrap();
    document.lock().clone()
}

/// Fetches a lock of these entries; everything must be installed.
pub(crate) fn fetch(fixture: &Fixture, entries: &[Entry]) {
    let lock = lock_of(entries);
    let (stop, interrupted) = tokio::sync::watch::channel(false);
    let job = provision_engine::fetch::Job {
        models: lock.models().iter().collect(),
        lock: &lock,
        destination: fixture.destination(),
        local: provision_engine::fetch::Local::default(),
        stores: Vec::new(),
        lists: provision_engine::piece_lists::ListPlaces::default(),
        config: provision_engine::fetch::FetchConfig {
            transfer: provision_engine::transfer::TransferConfig::default(),
            verify: provision_engine::fetch::Verify::Marker,
            force: false,
            dry_run: false,
            offline: false,
            wait: Duration::from_secs(5),
            threads: 2,
            links: provision_engine::fetch::FollowLinks::Own,
            folders: Arc::default(),
        },
        origin: fixture.origin(),
        observer: Arc::new(Silent),
        interrupted,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(provision_engine::fetch::run(job)).unwrap();
    drop(stop);
    assert!(report.is_complete(), "{:?}", report.files);
}
