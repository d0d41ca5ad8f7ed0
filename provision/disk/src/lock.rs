//! One run at a time works in a destination: `.provision.lock`, an exclusive `flock` held for life.
//!
//! The kernel drops the lock with its holder, however that dies, so there is nothing to clean up. The file says who
//! holds it, for the message of whoever waits. It is removed at the end while the lock is still held; whoever gets
//! the lock of a removed file notices (the name leads to another inode, or to none) and tries again.
//!
//! Some network volumes answer "locked" to everybody. That is found out by locking the file a second time through
//! another handle; then parts get names of their own for each process ([`PartNames::PerProcess`](crate::PartNames::PerProcess)).
//!
//! # A lock that holds within one machine
//! On a network volume `flock` may do that (NFS with `local_lock`, FUSE without locks of its own), and nothing on one machine
//! tells. Two that think they have the lock would share a part: one hashes what it wrote, the other writes over it, and what
//! is installed is not what was proven. Names of their own for all would be safe, and wrong: then every restart copies
//! what the run before it left, forty gigabytes on a volume that is slow and has not room for twice that, and network
//! volumes are where restarts happen. So on the kinds of volumes that several machines can have ([`NETWORK_FILESYSTEMS`]), names stay
//! shared, and the file itself is a second lock:
//!
//! - whoever finds none makes it (`O_EXCL`, which servers decide), and touches it every two seconds while it works;
//! - in it stands for whom the holder's `flock` is good: this mount of this system since its start;
//! - whoever gets the `flock` of a file in which somebody else stands watches it, by the volume's own times. As long as it
//!   is touched it is held. When nothing has happened for twelve seconds its holder is dead, and it is removed.
//!
//! Only what was seen counts as silence: while the server answers nobody, nobody dies. That costs twelve seconds after a run
//! that was killed on another machine, and nothing else. A holder that stood still for longer and goes on finds that out
//! (`lease`), and writes no more.
//!
//! What it does not keep out: two machines that remove a dead one's file within the same few milliseconds, for the two
//! seconds until the one whose file that was notices; and volumes on which a touch does nothing or is seen later than that
//! (object stores through FUSE): there a living holder is taken for dead.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags};
use rustix::io::{Errno, retry_on_intr};

pub(crate) mod lease;

use crate::{Destination, Directory, FileId, StoreError};
use lease::{HEARTBEAT_INTERVAL, Heartbeat, LEASE_TIMEOUT, LockLease, NAME, is_named};
use provision_core::digest::Sha256;

/// A look counts for no more silence than this, however long ago the one before it was: in between, the volume may have
/// answered nobody.
const LOOK: Duration = Duration::from_secs(1);

/// What stands before the holder's scope, on the file's second line.
const SCOPE: &str = "system ";

/// File systems that several machines can have at once and whose `flock` may not hold between them, by their numbers in
/// statfs(2): NFS, FUSE, the three of SMB, Ceph, Lustre, 9p, the two of AFS, GPFS, `BeeGFS`, `OrangeFS`,
/// `vboxsf`. Those that are made for clusters (GFS2, OCFS2) lock for all machines.
const NETWORK_FILESYSTEMS: [u32; 14] = [
    0x6969,
    0x6573_5546,
    0x517B,
    0xFF53_4D42,
    0xFE53_4D42,
    0x00C3_6400,
    0x0BD0_0BD0,
    0x0102_1997,
    0x5346_414F,
    0x6B41_4653,
    0x4750_4653,
    0x1983_0326,
    0x2003_0528,
    0x786F_4256,
];

/// The right to work in a destination. Dropping it gives it back.
#[derive(Debug)]
pub struct DestinationLock {
    file: Arc<File>,
    directory: Arc<Directory>,
    exclusive: bool,
    heartbeat: Option<Heartbeat>,
}

/// What an attempt to get the lock found.
#[derive(Debug)]
pub enum Acquire {
    /// It is ours.
    Acquired(DestinationLock),
    /// Somebody else has it: the lock's path and what it says of its holder.
    Held(String),
}

/// Somebody who asks for the lock until it can be had, and remembers what was seen of a holder on another machine.
#[derive(Debug, Default)]
pub struct LockAttempt {
    watch: Option<HolderWatch>,
}

/// What is known of a holder whose `flock` may not be seen here.
#[derive(Debug)]
struct HolderWatch {
    sign: HolderState,
    /// When it was looked at.
    looked: Instant,
    /// For how long the sign has been seen to stay the same.
    silent: Duration,
    /// The sign has changed since it was first seen.
    has_moved: bool,
}

/// What there is to see of a holder.
#[derive(Debug, PartialEq, Eq)]
struct HolderState {
    identity: FileId,
    touched: (i64, u32),
    text: String,
}

/// What the volume makes of locks.
#[derive(Debug)]
struct Volume {
    /// Its lock may not hold between machines.
    spans_machines: bool,
    /// For whom it holds.
    scope: String,
}

impl Volume {
    fn of(directory: &Directory) -> Self {
        let kind = rustix::fs::fstatfs(directory.handle()).map(|stat| stat.f_type as u32);
        let device = rustix::fs::fstat(directory.handle()).map_or(0, |stat| stat.st_dev);
        let system = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .unwrap_or_else(|_| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let scope = Sha256::of(format!("{system} {device}").as_bytes()).short();
        Self { spans_machines: kind.is_ok_and(|kind| NETWORK_FILESYSTEMS.contains(&kind)), scope }
    }

    /// Whether the `flock` of whoever wrote this may not be seen here.
    fn is_elsewhere(&self, text: &str) -> bool {
        let scope = text.lines().nth(1).and_then(|line| line.strip_prefix(SCOPE));
        self.spans_machines && scope != Some(&self.scope)
    }
}

impl LockAttempt {
    /// How long those who watch a holder let go by between two looks.
    pub const POLL_INTERVAL: Duration = Duration::from_millis(200);

    /// Asks for the lock, without waiting.
    pub fn try_acquire(&mut self, destination: &Destination) -> Result<Acquire, StoreError> {
        self.try_acquire_at(destination, &Volume::of(destination.root()), Instant::now())
    }

    /// Whether a holder on another machine may be dead, and that is known in a few seconds. False as soon as it has been seen
    /// to live. What is known of a dead one is some time in coming into effect where several watch it, since each keeps the
    /// others out while it looks.
    pub fn is_watching(&self) -> bool {
        self.watch
            .as_ref()
            .is_some_and(|watch| !watch.has_moved && watch.silent < LEASE_TIMEOUT + HEARTBEAT_INTERVAL)
    }

    fn try_acquire_at(
        &mut self,
        destination: &Destination,
        volume: &Volume,
        now: Instant,
    ) -> Result<Acquire, StoreError> {
        /// How often it may change hands while it is looked at.
        const TRIES: u32 = 20;
        let mut stale = None;
        for _ in 0..TRIES {
            match self.try_once(destination, volume, now) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                // NFS says so of a file that another machine has removed.
                Err(error) if is_stale(&error) => stale = Some(error),
                Err(error) => return Err(error),
            }
        }
        let held = held(&destination.root().path().join(NAME), "", self.is_watching());
        stale.map_or(Ok(Acquire::Held(held)), Err)
    }

    /// `None` where the file has lost its name meanwhile.
    fn try_once(
        &mut self,
        destination: &Destination,
        volume: &Volume,
        now: Instant,
    ) -> Result<Option<Acquire>, StoreError> {
        let directory = destination.root().clone();
        let path = directory.path().join(NAME);
        let open =
            |more| lease::open(&directory, more).map_err(|error| StoreError::of("opening it", &path, error));
        let looking = |error| StoreError::of("reading its metadata", &path, error);
        // In containers every process has the same small number: the host's name tells them apart.
        let host = rustix::system::uname();
        let process = rustix::process::getpid().as_raw_nonzero();
        let said = format!(
            "held by process {process} on {}\n{SCOPE}{}\n",
            host.nodename().to_string_lossy(),
            volume.scope
        );
        let say =
            |file: &File| file.write_all_at(said.as_bytes(), 0).map_err(StoreError::at("writing it", &path));
        // Servers decide who makes it.
        let (file, is_new) = match open(OFlags::CREATE | OFlags::EXCL)? {
            Some(file) => (file, true),
            None => match open(OFlags::empty())? {
                Some(file) => (file, false),
                None => return Ok(None),
            },
        };
        if is_new {
            // Before it is locked: those who look at it meanwhile must not keep its maker out for long.
            say(&file)?;
        }
        match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                // It may be held by another that only looks, for that moment.
                let text = lease::text(&file).map_err(looking)?;
                if volume.is_elsewhere(&text) {
                    self.look(&file, text.clone(), now).map_err(looking)?;
                } else {
                    self.watch = None;
                }
                return Ok(Some(Acquire::Held(held(&path, &text, self.is_watching()))));
            }
            Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {
                self.watch = None;
                destination.set_lease(None);
                let file = Arc::new(file);
                let lock = DestinationLock { file, directory, exclusive: false, heartbeat: None };
                return Ok(Some(Acquire::Acquired(lock)));
            }
            Err(error) => return Err(StoreError::of("locking it", &path, error)),
        }
        if !is_named(&file, &directory).map_err(looking)? {
            return Ok(None);
        }
        let Some(second) = open(OFlags::empty())? else { return Ok(None) };
        let again = retry_on_intr(|| rustix::fs::flock(&second, FlockOperation::NonBlockingLockExclusive));
        let exclusive = again == Err(Errno::WOULDBLOCK);
        let text = lease::text(&file).map_err(looking)?;
        if exclusive && volume.is_elsewhere(&text) {
            let is_alive = self.look(&file, text.clone(), now).map_err(looking)?;
            // Not used again: who makes the next one has it.
            if !is_alive && is_named(&file, &directory).map_err(looking)? {
                directory.remove(NAME)?;
            }
            // As in `drop`: a process that another thread is just starting must not keep it.
            let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
            if is_alive {
                return Ok(Some(Acquire::Held(held(&path, &text, self.is_watching()))));
            }
            return Ok(None);
        }
        self.watch = None;
        if !is_new {
            file.set_len(0).map_err(StoreError::at("writing it", &path))?;
            say(&file)?;
        }
        let file = Arc::new(file);
        let lease = (exclusive && volume.spans_machines)
            .then(|| Arc::new(LockLease::new(file.clone(), directory.clone())));
        destination.set_lease(lease.clone());
        let heartbeat = lease.and_then(Heartbeat::of);
        Ok(Some(Acquire::Acquired(DestinationLock { file, directory, exclusive, heartbeat })))
    }

    /// Whether the holder has been seen to live not long ago. At first everybody has.
    fn look(&mut self, file: &File, text: String, now: Instant) -> Result<bool, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let touched = (stat.st_mtime, stat.st_mtime_nsec as u32);
        let sign = HolderState { identity: FileId::of(&stat), touched, text };
        let watch = match self.watch.take() {
            Some(HolderWatch { sign: before, looked, silent, has_moved }) if before == sign => {
                let silent = silent + now.saturating_duration_since(looked).min(LOOK);
                HolderWatch { sign, looked: now, silent, has_moved }
            }
            before => HolderWatch { sign, looked: now, silent: Duration::ZERO, has_moved: before.is_some() },
        };
        Ok(self.watch.insert(watch).silent < LEASE_TIMEOUT)
    }
}

impl DestinationLock {
    /// Tries to get the lock. Waits for nobody, but where it takes some seconds to know whether a holder on another
    /// machine lives, for that.
    pub fn try_acquire(destination: &Destination) -> Result<Acquire, StoreError> {
        let mut attempt = LockAttempt::default();
        loop {
            let answer = attempt.try_acquire(destination)?;
            if matches!(answer, Acquire::Acquired(_)) || !attempt.is_watching() {
                return Ok(answer);
            }
            std::thread::park_timeout(LockAttempt::POLL_INTERVAL);
        }
    }

    /// Whether the lock keeps others out. False on volumes where locking does nothing.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

impl Drop for DestinationLock {
    fn drop(&mut self) {
        self.heartbeat.take();
        // Another machine that took this holder for dead has its own there. Where locks do nothing, nobody goes by the file.
        if !self.exclusive || is_named(&self.file, &self.directory) == Ok(true) {
            // Failing to remove it is harmless: the next holder uses it again.
            let _ = self.directory.remove(NAME);
        }
        // See `PartFile`: a process that another thread is just starting must not keep the lock.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// For a message: the lock's path, and its holder as far as that is known.
fn held(path: &camino::Utf8Path, text: &str, may_be_dead: bool) -> String {
    let said: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let said = if said.is_empty() { "held" } else { &said };
    let doubt = if may_be_dead { "; it may be dead, which is known in about twelve seconds" } else { "" };
    format!("{path} ({said}{doubt})")
}

fn is_stale(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if Errno::from_io_error(source) == Some(Errno::STALE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PartFile, PartNames};

    const HOUR: Duration = Duration::from_hours(1);

    struct Place {
        directory: tempfile::TempDir,
        destination: Destination,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = camino::Utf8Path::from_path(directory.path()).unwrap();
            let destination = Destination::create(path).unwrap();
            Self { directory, destination }
        }

        fn ask(&self, attempt: &mut LockAttempt, volume: &Volume, now: Instant) -> Option<DestinationLock> {
            match attempt.try_acquire_at(&self.destination, volume, now).unwrap() {
                Acquire::Acquired(lock) => Some(lock),
                Acquire::Held(holder) => {
                    assert!(holder.contains("held by process"), "{holder}");
                    assert!(!holder.contains(SCOPE), "{holder}");
                    None
                }
            }
        }

        /// Asks again and again, as who waits does.
        fn watch(&self, attempt: &mut LockAttempt, from: Instant, span: Duration) -> Option<DestinationLock> {
            let asks = (0..).map(|n| LockAttempt::POLL_INTERVAL * n).take_while(|after| *after <= span);
            asks.into_iter().find_map(|after| self.ask(attempt, &on("here"), from + after))
        }

        fn left_by_a_dead_holder(&self) {
            let text = "held by process 1 on elsewhere\nsystem elsewhere\n";
            std::fs::write(self.directory.path().join(NAME), text).unwrap();
        }
    }

    fn on(scope: &str) -> Volume {
        Volume { spans_machines: true, scope: scope.to_owned() }
    }

    #[test]
    fn fault_80_a_lock_that_holds_on_another_machine_only_is_held_while_its_holder_lives() {
        let place = Place::new();
        let began = Instant::now();
        let lock = place.ask(&mut LockAttempt::default(), &on("there"), began).unwrap();
        // From here on as it looks on another machine.
        rustix::fs::flock(&lock.file, FlockOperation::Unlock).unwrap();
        let mut other = LockAttempt::default();
        assert!(place.watch(&mut other, began, LEASE_TIMEOUT / 2).is_none());
        assert!(other.is_watching());
        for hours in 1..4 {
            lease::touch(&lock.file).unwrap();
            assert!(place.watch(&mut other, began + HOUR * hours, LEASE_TIMEOUT / 2).is_none(), "{hours}");
            assert!(!other.is_watching(), "whoever does not want to wait would wait for it for ever");
        }
        // It dies without a word. While the volume answers nobody, nothing is seen of anybody.
        assert!(place.ask(&mut other, &on("here"), began + HOUR * 4).is_none());
        let taken = place.watch(&mut other, began + HOUR * 4, LEASE_TIMEOUT).unwrap();
        // It only slept: what is there is not its own any more.
        drop(lock);
        assert!(place.directory.path().join(NAME).exists(), "the lock of another was removed");
        assert!(place.ask(&mut LockAttempt::default(), &on("there"), began).is_none());
        drop(taken);
        assert!(!place.directory.path().join(NAME).exists());
    }

    #[test]
    fn fault_81_those_who_look_at_a_dead_holder_at_once_do_not_hold_each_other_up() {
        let place = Place::new();
        place.left_by_a_dead_holder();
        let (mut attempt, began) = (LockAttempt::default(), Instant::now());
        assert!(place.watch(&mut attempt, began, LEASE_TIMEOUT / 2).is_none());
        let another = lease::open(place.destination.root(), OFlags::empty()).unwrap().unwrap();
        rustix::fs::flock(&another, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert!(
            place
                .watch(
                    &mut attempt,
                    began + LEASE_TIMEOUT / 2,
                    LEASE_TIMEOUT / 2 + LockAttempt::POLL_INTERVAL
                )
                .is_none()
        );
        assert!(attempt.is_watching(), "it gave up on the way");
        rustix::fs::flock(&another, FlockOperation::Unlock).unwrap();
        assert!(
            place
                .ask(&mut attempt, &on("here"), began + LEASE_TIMEOUT + LockAttempt::POLL_INTERVAL * 2)
                .is_some()
        );
    }

    #[test]
    fn fault_80_a_holder_that_stood_still_until_it_was_taken_for_dead_writes_no_more() {
        let place = Place::new();
        let mut model = provision_core::lockfile::Model {
            path: "x".parse().unwrap(),
            sources: vec!["http://h/x".parse().unwrap()],
            size: 4,
            sha256: Sha256::of(b"abcd"),
            groups: vec![],
            source: None,
        };
        let open =
            |model: &_| PartFile::open(&place.destination, model, &PartNames::Shared, || true).unwrap();
        let lock = place.ask(&mut LockAttempt::default(), &on("there"), Instant::now()).unwrap();
        let whole = Arc::new(open(&model));
        whole.write(0, b"abcd").unwrap();
        model.path = "y".parse().unwrap();
        let half = open(&model);
        half.write(0, b"ab").unwrap();
        let lease = place.destination.lease().unwrap();
        // However long nothing of it ran: nobody has taken over.
        lease.expire_for_test();
        half.write(2, b"c").unwrap();
        let verified = whole.verify().unwrap();

        std::fs::remove_file(place.directory.path().join(NAME)).unwrap();
        place.left_by_a_dead_holder();
        lease.expire_for_test();
        let refused = [
            half.write(3, b"d").map(drop),
            half.journal_written(),
            half.checkpoint().map(drop),
            half.reset(),
            half.remove(),
            verified.install().map(drop),
        ];
        for (at, refused) in refused.into_iter().enumerate() {
            assert!(matches!(refused, Err(StoreError::TakenOver { .. })), "{at}: {refused:?}");
        }
        assert!(matches!(Arc::new(half).verify(), Err(StoreError::TakenOver { .. })));
        drop(lock);
        assert!(place.directory.path().join(NAME).exists(), "the lock of another was removed");
    }

    #[test]
    fn a_holder_on_such_a_volume_shows_that_it_lives() {
        let place = Place::new();
        let lock = place.ask(&mut LockAttempt::default(), &on("there"), Instant::now()).unwrap();
        let touched =
            || rustix::fs::fstat(&lock.file).map(|stat| (stat.st_mtime, stat.st_mtime_nsec)).unwrap();
        let (before, began) = (touched(), Instant::now());
        while touched() == before {
            assert!(began.elapsed() < HEARTBEAT_INTERVAL * 8, "nothing was seen of it");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    #[test]
    fn fault_81_a_holder_that_died_on_another_machine_holds_nobody_up_for_long() {
        let place = Place::new();
        place.left_by_a_dead_holder();
        let (mut attempt, began) = (LockAttempt::default(), Instant::now());
        assert!(place.watch(&mut attempt, began, LEASE_TIMEOUT / 4 * 3).is_none());
        assert!(place.watch(&mut attempt, began + LEASE_TIMEOUT / 4 * 3, LEASE_TIMEOUT / 4).is_some());
    }

    #[test]
    fn fault_81_nobody_is_waited_for_whose_lock_would_be_seen() {
        let place = Place::new();
        place.left_by_a_dead_holder();
        let local = Volume { spans_machines: false, scope: "here".to_owned() };
        assert!(place.ask(&mut LockAttempt::default(), &local, Instant::now()).is_some());
        // On this very mount: the kernel would say so.
        place.left_by_a_dead_holder();
        assert!(place.ask(&mut LockAttempt::default(), &on("elsewhere"), Instant::now()).is_some());
    }
}
