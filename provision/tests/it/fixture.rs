//! The test fixture: an origin, a lock, a destination, and the engine between them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use provision_core::backoff::RetryPolicy;
use provision_core::digest::{Hasher, Sha256};
use provision_core::event::{Event, Observer, Outcome};
use provision_core::lockfile::{Lockfile, Model, Selection};
use provision_core::piece_list::{DIRECTORY, Lister, PieceList};
use provision_core::schedule::Limits;
use provision_core::store_address::StoreAddress;
use provision_disk::{Destination, FollowLinks, Found, PartFile};
use provision_engine::fetch::{self, FetchConfig, FetchError, Job, Local, Report, Verify};
use provision_engine::piece_lists::ListPlaces;
use provision_engine::transfer::TransferConfig;
use provision_http::{ClientConfig, Credential, HttpClient};
use provision_testbed::{BlockingOrigin, Content, Control, OriginConfig as TestbedConfig, Tls};
use tokio::sync::watch;

use crate::secrets::{self, Watch};

/// An origin, a directory, and a lock that grows.
pub(crate) struct Fixture {
    /// Declared before `directory`: it searches the directory when both are dropped.
    watch: Watch,
    pub(crate) origin: BlockingOrigin,
    directory: tempfile::TempDir,
    destination: Utf8PathBuf,
    models: BTreeMap<String, Entry>,
    pub(crate) config: FetchConfig,
    pub(crate) local: Local,
    pub(crate) stores: Vec<StoreAddress>,
    /// The places of the lock's piece lists.
    pub(crate) lists: ListPlaces,
    pub(crate) http: ClientConfig,
    /// Runs send the token of the fixture's origin.
    pub(crate) has_token: bool,
    pub(crate) events: Arc<Recorder>,
}

struct Entry {
    size: u64,
    sha256: String,
    sources: Vec<String>,
    /// The digest of its piece list.
    pieces: Option<String>,
}

/// The piece list of `content`.
pub(crate) fn list_of(content: &Content) -> PieceList {
    let (mut lister, mut whole) = (Lister::new(content.size()), Hasher::new());
    lister.update_beside(&mut whole, &content.to_vec());
    lister.finish(whole.finish())
}

/// Records every event.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Mutex<Vec<Event>>,
    /// Notified after each event.
    came: Condvar,
    /// Called in the thread of the run, which waits for it.
    hook: Mutex<Option<Hook>>,
}

type Hook = Box<dyn FnMut(&Event) + Send>;

impl Observer for Recorder {
    fn observe(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
        self.came.notify_all();
        if let Some(hook) = &mut *self.hook.lock().unwrap() {
            hook(event);
        }
    }
}

impl Recorder {
    /// Calls `hook` for each event from now on, while the run waits.
    pub(crate) fn set_hook(&self, hook: impl FnMut(&Event) + Send + 'static) {
        *self.hook.lock().unwrap() = Some(Box::new(hook));
    }

    /// The number of events that match `wanted`.
    pub(crate) fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| wanted(event)).count()
    }

    /// The values that `pick` returns for the events.
    pub(crate) fn filter_map<T>(&self, pick: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        self.events.lock().unwrap().iter().filter_map(pick).collect()
    }

    /// Waits for an event that matches `wanted`.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Event) -> bool) {
        let events = self.events.lock().unwrap();
        let nothing = |events: &mut Vec<Event>| !events.iter().any(&wanted);
        let waited = self.came.wait_timeout_while(events, PATIENCE, nothing).unwrap();
        assert!(!waited.1.timed_out(), "it never happened");
    }

    /// All events, as text.
    pub(crate) fn text(&self) -> String {
        format!("{:?}", self.events.lock().unwrap())
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// A fixture with these files in its lock: path, seed and size.
    pub(crate) fn with(files: &[(&str, u64, u64)]) -> Self {
        let mut fixture = Self::new();
        for (path, seed, size) in files {
            fixture.file(path, &Content::generated(*seed, *size));
        }
        fixture
    }

    /// A fixture with one file in its lock, and that file's content.
    pub(crate) fn of(path: &str, content: Content) -> (Self, Content) {
        let mut fixture = Self::new();
        fixture.file(path, &content);
        (fixture, content)
    }

    /// A fixture on a memory file system where there is one, for tests that do not depend on the disk's speed.
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        Self::within(if memory.is_dir() {
            tempfile::tempdir_in(memory).unwrap()
        } else {
            tempfile::tempdir().unwrap()
        })
    }

    /// A fixture whose destination is elsewhere, such as on its own volume.
    pub(crate) fn at(destination: Utf8PathBuf) -> Self {
        let mut fixture = Self::new();
        fixture.watch_also(&destination);
        Self { destination, ..fixture }
    }

    /// Adds a path to the search for secrets at the end of the test: a run writes to it.
    pub(crate) fn watch_also(&mut self, path: impl Into<PathBuf>) {
        self.watch.also(path.into());
    }

    fn within(directory: tempfile::TempDir) -> Self {
        let destination = Utf8Path::from_path(directory.path()).unwrap().join("models");
        let origin = BlockingOrigin::start(TestbedConfig::default()).unwrap();
        secrets::watch(origin.control(), false);
        let events = Arc::<Recorder>::default();
        Self {
            watch: Watch::new(directory.path(), events.clone()),
            origin,
            directory,
            destination,
            models: BTreeMap::new(),
            config: FetchConfig {
                transfer: TransferConfig {
                    limits: Limits { connections: 16, per_host: 16 },
                    retry: RetryPolicy {
                        retries: 5,
                        give_up_after: Duration::ZERO,
                        base: Duration::from_millis(2),
                        longest: Duration::from_millis(20),
                        longest_asked: Duration::from_millis(300),
                    },
                    stall: Duration::from_millis(700),
                    ..TransferConfig::default()
                },
                verify: Verify::Marker,
                force: false,
                dry_run: false,
                offline: false,
                wait: Duration::from_secs(20),
                threads: 2,
                links: FollowLinks::Own,
                folders: Arc::default(),
            },
            local: Local::default(),
            stores: Vec::new(),
            lists: ListPlaces::default(),
            http: ClientConfig {
                connect_timeout: Duration::from_secs(5),
                head_timeout: Duration::from_millis(1500),
                ..ClientConfig::default()
            },
            has_token: true,
            events,
        }
    }

    /// Serves `content` at `/path` and adds it to the lock.
    pub(crate) fn file(&mut self, path: &str, content: &Content) -> &mut Self {
        let at = format!("/{path}");
        self.origin.put(&at, content.clone());
        let url = self.origin.url(&at);
        self.model(path, content, &[url])
    }

    /// The same with a piece list beside the lock.
    pub(crate) fn file_with_list(&mut self, path: &str, content: &Content) -> &mut Self {
        self.file(path, content);
        let list = list_of(content).write().expect("a file that has pieces");
        self.list(path, &list)
    }

    /// Takes a model out of the lock. Its file stays.
    pub(crate) fn forget(&mut self, path: &str) {
        self.models.remove(path);
    }

    /// Pins a piece list for a model, and writes it beside the lock.
    pub(crate) fn list(&mut self, path: &str, list: &[u8]) -> &mut Self {
        let (digest, directory) = (Sha256::of(list).to_string(), self.beside(DIRECTORY));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(&digest), list).unwrap();
        self.lists.directories = vec![directory.try_into().unwrap()];
        self.models.get_mut(path).unwrap().pieces = Some(digest);
        self
    }

    /// Adds a model with these sources to the lock.
    pub(crate) fn model(&mut self, path: &str, content: &Content, sources: &[String]) -> &mut Self {
        let sources = sources.iter().map(|url| secrets::signed(url, &self.origin)).collect();
        self.watch.knows_model_of(content.size());
        let entry = Entry { size: content.size(), sha256: content.sha256_hex(), sources, pieces: None };
        self.models.insert(path.to_owned(), entry);
        self
    }

    /// Gives a model of the origin a second source, `/mirror`.
    pub(crate) fn mirror(&mut self, path: &str, content: &Content) -> &mut Self {
        self.origin.put("/mirror", content.clone());
        let sources = [self.origin.url(&format!("/{path}")), self.origin.url("/mirror")];
        self.model(path, content, &sources)
    }

    /// The lock's text.
    pub(crate) fn lock_text(&self) -> String {
        let mut text = "version = 1\n".to_owned();
        for (path, entry) in &self.models {
            let mirrors: Vec<String> = entry.sources[1..].iter().map(|url| format!("{url:?}")).collect();
            let _ = writeln!(
                text,
                "\n[[model]]\npath = {path:?}\nurl = {:?}\nmirrors = [{}]\nsize = {}\nsha256 = {:?}",
                entry.sources[0],
                mirrors.join(", "),
                entry.size,
                entry.sha256
            );
            if let Some(pieces) = &entry.pieces {
                let _ = writeln!(text, "pieces = {pieces:?}");
            }
        }
        text
    }

    pub(crate) fn lock(&self) -> Lockfile {
        Lockfile::parse("models.lock", &self.lock_text()).unwrap()
    }

    pub(crate) fn destination(&self) -> Utf8PathBuf {
        self.destination.clone()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.destination().join(path).into()
    }

    /// A path outside the destination.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the lock to a file and returns its path.
    pub(crate) fn write_lock(&self) -> PathBuf {
        let (new, path) = (self.beside("models.lock.new"), self.beside("models.lock"));
        std::fs::write(&new, self.lock_text()).unwrap();
        // A rename, since a run that is starting may be reading the file.
        std::fs::rename(new, &path).unwrap();
        path
    }

    /// Bytes that the next run would not fetch: installed, or verified against a journal.
    pub(crate) fn held(&self) -> u64 {
        let Some(destination) = Destination::open(&self.destination()).unwrap() else { return 0 };
        let held = |model: &Model| match destination.find(&model.path).unwrap() {
            Found::File(stamp) => stamp.size,
            _ => PartFile::resumable_bytes(&destination, model, None, || true).unwrap(),
        };
        self.lock().models().iter().map(held).sum()
    }

    /// Bytes of models on disk, under any name: whole pages, without the holes.
    pub(crate) fn on_disk(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        let models =
            self.listing().into_iter().filter(|name| !name.ends_with(".journal") && name.contains('/'));
        let bytes = |name: String| {
            let found = std::fs::metadata(self.path(&name)).unwrap();
            found.len().min(found.blocks() * 512)
        };
        models.map(bytes).sum()
    }

    /// The bytes of bodies that the origin has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.origin.counters().body_bytes_sent
    }

    /// Waits until the origin has sent more than that many bytes of bodies.
    pub(crate) fn wait_for_bytes(&self, bytes: u64) {
        self.origin.wait_for(PATIENCE, |counters| counters.body_bytes_sent > bytes).unwrap();
    }

    /// The requests that the origin has received.
    pub(crate) fn requests(&self) -> u64 {
        self.origin.counters().requests
    }

    /// The warnings of all runs.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.events.filter_map(|event| match event {
            Event::Warning { message } => Some(message.clone()),
            _ => None,
        })
    }

    /// Fetches everything in the lock.
    pub(crate) fn fetch(&self) -> Result<Report, FetchError> {
        self.fetch_until(watch::channel(false).1)
    }

    /// Fetches until the stop signal.
    pub(crate) fn fetch_until(&self, interrupted: watch::Receiver<bool>) -> Result<Report, FetchError> {
        let lock = self.lock();
        let origin = HttpClient::new(self.http_with_token()).unwrap();
        secrets::assert_none("debug output", &format!("{origin:?} {:?} {lock:?}", origin.connection()));
        let job = Job {
            lock: &lock,
            models: lock.select(&Selection::default()).unwrap(),
            destination: self.destination(),
            local: self.local.clone(),
            stores: self.stores.clone(),
            lists: self.lists.clone(),
            config: self.config.clone(),
            origin,
            observer: self.events.clone(),
            interrupted,
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let result = runtime.block_on(fetch::run(job));
        secrets::assert_none("what a run returns", &format!("{result:?}"));
        match &result {
            Ok(report) => {
                for error in report.files.iter().filter_map(|file| file.result.as_ref().err()) {
                    secrets::assert_none("a file's error", &(secrets::formats(error) + &error.reason()));
                }
            }
            Err(error) => secrets::assert_none("a run's error", &secrets::formats(error)),
        }
        result
    }

    /// The client configuration of a run, with the origin's token.
    pub(crate) fn http_with_token(&self) -> ClientConfig {
        let mut http = self.http.clone();
        if self.has_token {
            let (addr, token) = (self.origin.addr(), secrets::token(&self.origin));
            http.credentials.add(Credential::bearer(addr.ip().to_string(), Some(addr.port()), &token));
        }
        http
    }

    /// Fetches, then asserts that every byte is right and that nothing but the marker is left over.
    pub(crate) fn fetch_all(&self) -> Report {
        let report = self.fetch().unwrap();
        for file in &report.files {
            assert!(
                matches!(file.result, Ok(Some(_))),
                "{}: {:?}\n{}",
                file.path,
                file.result,
                self.events.text()
            );
        }
        self.assert_installed();
        assert_polite(&self.origin);
        report
    }

    /// Fetches, and stops the run when `reached` returns.
    pub(crate) fn fetch_and_interrupt_after(&self, reached: impl FnOnce()) -> Report {
        let (stop, stopped) = watch::channel(false);
        std::thread::scope(|scope| {
            let run = scope.spawn(|| self.fetch_until(stopped));
            reached();
            stop.send(true).unwrap();
            run.join().unwrap().unwrap()
        })
    }

    /// Fetches, and stops the run once the origin has sent that many bytes in total.
    pub(crate) fn fetch_and_interrupt_at(&self, bytes: u64) -> Report {
        self.fetch_and_interrupt_after(|| self.wait_for_bytes(bytes - 1))
    }

    /// Fetches, and stops the run at the first event that matches.
    pub(crate) fn fetch_and_interrupt_when(&self, wanted: impl Fn(&Event) -> bool) -> Report {
        self.fetch_and_interrupt_after(|| self.events.wait_for(wanted))
    }

    /// Asserts that every file of the lock has the right digest and that no other file exists.
    pub(crate) fn assert_installed(&self) {
        for (path, entry) in &self.models {
            let bytes = std::fs::read(self.path(path)).unwrap();
            assert_eq!(Sha256::of(&bytes).to_string(), entry.sha256, "{path}");
        }
        let mut found = self.listing();
        // The lock file may outlive a killed run; the next run uses it again.
        let is_kept = |name: &str| name == ".provision.lock" || name.starts_with(".provision.pieces/");
        found.retain(|name| !self.models.contains_key(name) && !is_kept(name));
        assert_eq!(found, [".models-installed"], "what else is there");
    }

    /// Asserts that each final name of the lock is either absent or right.
    pub(crate) fn assert_nothing_wrong(&self) {
        for (path, entry) in &self.models {
            if let Ok(bytes) = std::fs::read(self.path(path)) {
                assert_eq!(Sha256::of(&bytes).to_string(), entry.sha256, "{path} is wrong");
            }
        }
    }

    /// Every file below the destination, sorted.
    pub(crate) fn listing(&self) -> Vec<String> {
        fn walk(root: &Utf8Path, at: &Utf8Path, found: &mut Vec<String>) {
            for entry in at.read_dir_utf8().unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    walk(root, entry.path(), found);
                } else {
                    found.push(entry.path().strip_prefix(root).unwrap().to_string());
                }
            }
        }
        let mut found = Vec::new();
        if self.destination().is_dir() {
            walk(&self.destination(), &self.destination(), &mut found);
        }
        found.sort();
        found
    }

    /// Fetches and expects the lock's only file to fail; returns its error.
    pub(crate) fn fetch_refused(&self) -> provision_engine::transfer::FileError {
        let report = self.fetch().unwrap();
        self.assert_nothing_wrong();
        assert_polite(&self.origin);
        assert!(!self.listing().contains(&".models-installed".to_owned()), "a marker was written");
        let mut failed = report.files.into_iter().filter_map(|file| file.result.err());
        let error = failed.next().expect("the file was installed");
        assert!(failed.next().is_none());
        error
    }

    /// As `fetch_refused`, for a reason with each of these texts.
    #[track_caller]
    pub(crate) fn fetch_refused_with(&self, texts: &[&str]) -> provision_engine::transfer::FileError {
        let error = self.fetch_refused();
        for text in texts {
            assert!(error.to_string().contains(text), "{text:?} is not in: {error}");
        }
        error
    }
}

/// The longest wait of a test for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What `work` returns, within that many seconds.
#[track_caller]
pub(crate) fn within<T>(seconds: u64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    assert!(started.elapsed() < Duration::from_secs(seconds), "it took {:?}", started.elapsed());
    result
}

/// Writes a file, and makes the directories that it needs.
pub(crate) fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// Sets the permissions of a path.
pub(crate) fn chmod(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// What became of each file, all of which are installed.
pub(crate) fn outcomes(report: &Report) -> Vec<Outcome> {
    report.files.iter().map(|file| file.result.as_ref().unwrap().unwrap()).collect()
}

/// Another origin, on an address of the loopback network.
pub(crate) fn start_origin(address: &str) -> BlockingOrigin {
    let addr = (address.parse::<std::net::IpAddr>().unwrap(), 0).into();
    let origin = BlockingOrigin::start(TestbedConfig { addr, ..TestbedConfig::default() }).unwrap();
    secrets::watch(origin.control(), false);
    origin
}

/// The mtime of the installed file with this content.
pub(crate) fn installed_mtime(content: &Content) -> i64 {
    provision_disk::installed_mtime(&content.sha256_hex().parse().unwrap())
}

/// An origin that acts as a proxy: it may receive the secrets of other hosts.
pub(crate) fn start_proxy(address: &str) -> BlockingOrigin {
    let addr = (address.parse::<std::net::IpAddr>().unwrap(), 0).into();
    let proxy = BlockingOrigin::start(TestbedConfig { addr, ..TestbedConfig::default() }).unwrap();
    secrets::watch(proxy.control(), true);
    proxy
}

/// As `start_origin`, with TLS.
pub(crate) fn start_encrypted_origin(address: &str, tls: Tls) -> BlockingOrigin {
    let addr = (address.parse::<std::net::IpAddr>().unwrap(), 0).into();
    BlockingOrigin::start(TestbedConfig { addr, tls: Some(tls), ..TestbedConfig::default() }).unwrap()
}

/// A certificate as text (RFC 7468).
pub(crate) fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut digits = String::new();
    for group in der.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at) & 63) as usize];
            digits.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in digits.as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", std::str::from_utf8(line).unwrap());
    }
    text + "-----END CERTIFICATE-----\n"
}

/// Asserts the rules for all requests: required headers are there, forbidden ones are not (faults 17, 18 and 51).
pub(crate) fn assert_polite(origin: &Control) {
    for request in origin.requests() {
        assert_eq!(request.method, "GET", "{request:?}");
        for header in ["if-range", "referer", "cookie"] {
            assert_eq!(request.header(header), None, "{request:?}");
        }
        assert_eq!(request.header("accept-encoding"), Some("identity"), "{request:?}");
    }
}
