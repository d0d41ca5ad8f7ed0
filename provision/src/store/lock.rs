//! One run at a time works in a destination: `.provision.lock`, an exclusive `flock` held for life.
//!
//! The kernel drops the lock with its holder, however that dies, so there is nothing to clean up. The file says who
//! holds it, for the message of whoever waits. It is removed at the end while the lock is still held; whoever gets
//! the lock of a removed file notices (the name leads to another inode, or to none) and tries again.
//!
//! Some network volumes answer "locked" to everybody. That is found out by locking the file a second time through
//! another handle; then parts get names of their own for each process ([`Naming::Private`](super::Naming)).
//!
//! # A lock that holds within one machine
//! On a network volume `flock` may do that (NFS with `local_lock`, FUSE without locks of its own), and nothing on one machine
//! tells. Two that think they have the lock would share a part: one hashes what it wrote, the other writes over it, and what
//! is installed is not what was proven. Names of their own for all would be safe, and wrong: then every restart copies
//! what the run before it left, forty gigabytes on a volume that is slow and has not room for twice that, and network
//! volumes are where restarts happen. So on the kinds of volumes that several machines can have ([`SPANNING`]), names stay
//! shared, and the file itself is a second lock:
//!
//! - whoever finds none makes it (`O_EXCL`, which servers decide), and touches it every two seconds while it works;
//! - in it stands for whom the holder's `flock` is good: this mount of this system since its start;
//! - whoever gets the `flock` of a file in which somebody else stands watches it, by the volume's own times. As long as it
//!   is touched it is held. When nothing has happened for twelve seconds its holder is dead, and it is removed.
//!
//! That costs twelve seconds after a run that was killed on another machine, and nothing else. What it does not keep out:
//! a holder that stands still for longer and goes on then, and two machines that remove a dead one's file within the same
//! few milliseconds.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use rustix::io::{Errno, retry_on_intr};

use super::{Destination, Directory, Identity, StoreError};
use crate::digest::Sha256;

/// The lock's file name.
const NAME: &str = ".provision.lock";

/// How often a holder shows that it lives.
const PULSE: Duration = Duration::from_secs(2);

/// A holder of whom nothing was seen for so long is dead. Volumes show a change late: some cache times for seconds.
const SILENCE: Duration = Duration::from_secs(12);

/// What stands before the holder's scope, on the file's second line.
const SCOPE: &str = "system ";

/// File systems that several machines can have at once and whose `flock` may not hold between them, by their numbers in
/// statfs(2): NFS, FUSE, the three of SMB, Ceph, Lustre, 9p, the two of AFS, GPFS, `BeeGFS`. Those that are made for
/// clusters (GFS2, OCFS2) lock for all machines.
const SPANNING: [u32; 12] = [
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
];

/// The right to work in a destination. Dropping it gives it back.
#[derive(Debug)]
pub struct DestinationLock {
    file: Arc<File>,
    directory: Arc<Directory>,
    exclusive: bool,
    pulse: Option<Pulse>,
}

/// What an attempt to get the lock found.
#[derive(Debug)]
pub enum Acquire {
    /// It is ours.
    Acquired(DestinationLock),
    /// Somebody else has it: the lock's path and what it says of its holder.
    Held(String),
}

/// Somebody who asks for the lock until it can be had, and remembers when a holder was last seen to live.
#[derive(Debug, Default)]
pub struct Application {
    seen: Option<(Sign, Instant)>,
}

/// What there is to see of a holder.
#[derive(Debug, PartialEq, Eq)]
struct Sign {
    identity: Identity,
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
        Self { spans_machines: kind.is_ok_and(|kind| SPANNING.contains(&kind)), scope }
    }
}

impl Application {
    /// Asks for the lock, without waiting.
    pub fn ask(&mut self, destination: &Destination) -> Result<Acquire, StoreError> {
        self.ask_at(destination, &Volume::of(destination.root()), Instant::now())
    }

    /// Whether a holder on another machine may be dead: in a few seconds that is known.
    pub fn is_watching(&self) -> bool {
        self.seen.is_some()
    }

    fn ask_at(
        &mut self,
        destination: &Destination,
        volume: &Volume,
        now: Instant,
    ) -> Result<Acquire, StoreError> {
        let directory = destination.root().clone();
        let path = directory.path().join(NAME);
        loop {
            let (file, is_new) = open(&directory, volume.spans_machines)?;
            match retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    self.seen = None;
                    return Ok(Acquire::Held(held(&path, &text(&file))));
                }
                Err(Errno::NOTSUP | Errno::NOLCK | Errno::NOSYS) => {
                    let file = Arc::new(file);
                    let lock = DestinationLock { file, directory, exclusive: false, pulse: None };
                    return Ok(Acquire::Acquired(lock));
                }
                Err(error) => return Err(StoreError::of("locking it", &path, error)),
            }
            if !is_still_named(&file, &directory) {
                continue;
            }
            let (second, _) = open(&directory, false)?;
            let again =
                retry_on_intr(|| rustix::fs::flock(&second, FlockOperation::NonBlockingLockExclusive));
            let exclusive = again == Err(Errno::WOULDBLOCK);
            if exclusive && volume.spans_machines && !is_new && !is_of(&volume.scope, &text(&file)) {
                let is_alive = self.is_alive(&file, now).map_err(StoreError::at("looking at it", &path))?;
                let holder = text(&file);
                let is_ours = is_still_named(&file, &directory);
                // As in `drop`: a process that another thread is just starting must not keep it.
                let _ = rustix::fs::flock(&file, FlockOperation::Unlock);
                if is_alive {
                    return Ok(Acquire::Held(held(&path, &holder)));
                }
                // Not used again: who makes the next one has it.
                if is_ours {
                    directory.remove(NAME)?;
                }
                continue;
            }
            self.seen = None;
            // In containers every process has the same small number: the host's name tells them apart.
            let host = rustix::system::uname();
            let process = rustix::process::getpid().as_raw_nonzero();
            let said = format!(
                "held by process {process} on {}\n{SCOPE}{}\n",
                host.nodename().to_string_lossy(),
                volume.scope
            );
            let written = file.set_len(0).and_then(|()| file.write_all_at(said.as_bytes(), 0));
            written.map_err(StoreError::at("writing it", &path))?;
            let file = Arc::new(file);
            let pulse = if exclusive && volume.spans_machines { Pulse::of(&file) } else { None };
            return Ok(Acquire::Acquired(DestinationLock { file, directory, exclusive, pulse }));
        }
    }

    /// Whether the holder has been seen to live not long ago. At first everybody has.
    fn is_alive(&mut self, file: &File, now: Instant) -> Result<bool, Errno> {
        let stat = rustix::fs::fstat(file)?;
        let touched = (stat.st_mtime, stat.st_mtime_nsec as u32);
        let sign = Sign { identity: Identity::of(&stat), touched, text: text(file) };
        match &self.seen {
            Some((before, since)) if *before == sign => Ok(now.saturating_duration_since(*since) < SILENCE),
            _ => {
                self.seen = Some((sign, now));
                Ok(true)
            }
        }
    }
}

impl DestinationLock {
    /// Tries to get the lock. Waits for nobody, but where it takes some seconds to know whether a holder on another
    /// machine lives, for that.
    pub fn try_acquire(destination: &Destination) -> Result<Acquire, StoreError> {
        const ASK: Duration = Duration::from_millis(200);
        let mut application = Application::default();
        let mut first: Option<Instant> = None;
        loop {
            let answer = application.ask(destination)?;
            let Some((_, since)) = &application.seen else { return Ok(answer) };
            if *first.get_or_insert(*since) != *since {
                // It was touched since.
                return Ok(answer);
            }
            std::thread::park_timeout(ASK);
        }
    }

    /// Whether the lock keeps others out. False on volumes where locking does nothing.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }
}

impl Drop for DestinationLock {
    fn drop(&mut self) {
        let spans_machines = self.pulse.take().is_some();
        // Another machine that took this holder for dead has its own there.
        if !spans_machines || is_still_named(&self.file, &self.directory) {
            // Failing to remove it is harmless: the next holder uses it again.
            let _ = self.directory.remove(NAME);
        }
        // See `PartFile`: a process that another thread is just starting must not keep the lock.
        let _ = rustix::fs::flock(&self.file, FlockOperation::Unlock);
    }
}

/// What a holder does to be seen.
#[derive(Debug)]
struct Pulse {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// `None` where no thread can be had: then nobody sees that this holder lives, as if the volume had no such lock.
    fn of(file: &Arc<File>) -> Option<Self> {
        let file = file.clone();
        let (stop, stopped) = mpsc::channel::<()>();
        let beat = move || {
            while stopped.recv_timeout(PULSE) == Err(RecvTimeoutError::Timeout) {
                // Where it fails, others think that this holder is dead; it works all the same.
                let _ = touch(&file);
            }
        };
        let thread = std::thread::Builder::new().name("lock-pulse".to_owned()).spawn(beat).ok()?;
        Some(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.stop.take();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// By the volume's clock.
fn touch(file: &File) -> Result<(), Errno> {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    retry_on_intr(|| rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now }))
}

/// What stands in the lock's file.
fn text(file: &File) -> String {
    let mut said = [0; 200];
    let n = file.read_at(&mut said, 0).unwrap_or(0);
    String::from_utf8_lossy(&said[..n]).into_owned()
}

/// For a message: the lock's path, and its holder as far as that is known.
fn held(path: &camino::Utf8Path, text: &str) -> String {
    let said: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    format!("{path} ({})", if said.is_empty() { "held" } else { &said })
}

/// Whether the `flock` of whoever wrote this is good for a scope.
fn is_of(scope: &str, text: &str) -> bool {
    text.lines().nth(1).and_then(|line| line.strip_prefix(SCOPE)) == Some(scope)
}

/// Opens the lock's file, or makes it; with `tells_new` also whether this made it.
fn open(directory: &Directory, tells_new: bool) -> Result<(File, bool), StoreError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = |more| {
        let mode = Mode::from_raw_mode(0o644);
        retry_on_intr(|| rustix::fs::openat(directory.handle(), NAME, flags | more, mode)).map(File::from)
    };
    let new = if tells_new { opened(OFlags::EXCL) } else { Err(Errno::EXIST) };
    let file = match new {
        Ok(file) => Ok((file, true)),
        Err(Errno::EXIST) => opened(OFlags::empty()).map(|file| (file, false)),
        Err(error) => Err(error),
    };
    file.map_err(StoreError::at("opening it", &directory.path().join(NAME)))
}

fn is_still_named(file: &File, directory: &Directory) -> bool {
    let named = rustix::fs::statat(directory.handle(), NAME, AtFlags::SYMLINK_NOFOLLOW);
    let held = rustix::fs::fstat(file);
    matches!((named, held), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

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

        fn ask(
            &self,
            application: &mut Application,
            volume: &Volume,
            now: Instant,
        ) -> Option<DestinationLock> {
            match application.ask_at(&self.destination, volume, now).unwrap() {
                Acquire::Acquired(lock) => Some(lock),
                Acquire::Held(holder) => {
                    assert!(holder.contains("held by process"), "{holder}");
                    assert!(!holder.contains(SCOPE), "{holder}");
                    None
                }
            }
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
        let lock = place.ask(&mut Application::default(), &on("there"), began).unwrap();
        // From here on as it looks on another machine.
        rustix::fs::flock(&lock.file, FlockOperation::Unlock).unwrap();
        let mut other = Application::default();
        assert!(place.ask(&mut other, &on("here"), began).is_none());
        for hours in 1..4 {
            touch(&lock.file).unwrap();
            assert!(other.is_watching());
            assert!(place.ask(&mut other, &on("here"), began + HOUR * hours).is_none(), "{hours}");
        }
        // It dies without a word.
        assert!(place.ask(&mut other, &on("here"), began + HOUR * 3 + SILENCE / 2).is_none());
        let taken = place.ask(&mut other, &on("here"), began + HOUR * 3 + SILENCE).unwrap();
        // It only slept: what is there is not its own any more.
        drop(lock);
        assert!(place.directory.path().join(NAME).exists(), "the lock of another was removed");
        assert!(place.ask(&mut Application::default(), &on("there"), began).is_none());
        drop(taken);
        assert!(!place.directory.path().join(NAME).exists());
    }

    #[test]
    fn a_holder_on_such_a_volume_shows_that_it_lives() {
        let place = Place::new();
        let lock = place.ask(&mut Application::default(), &on("there"), Instant::now()).unwrap();
        let touched =
            || rustix::fs::fstat(&lock.file).map(|stat| (stat.st_mtime, stat.st_mtime_nsec)).unwrap();
        let (before, began) = (touched(), Instant::now());
        while touched() == before {
            assert!(began.elapsed() < PULSE * 8, "nothing was seen of it");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    #[test]
    fn fault_81_a_holder_that_died_on_another_machine_holds_nobody_up_for_long() {
        let place = Place::new();
        place.left_by_a_dead_holder();
        let (mut application, began) = (Application::default(), Instant::now());
        assert!(place.ask(&mut application, &on("here"), began).is_none());
        assert!(place.ask(&mut application, &on("here"), began + SILENCE / 2).is_none());
        assert!(place.ask(&mut application, &on("here"), began + SILENCE).is_some());
    }

    #[test]
    fn fault_81_nobody_is_waited_for_whose_lock_would_be_seen() {
        let place = Place::new();
        place.left_by_a_dead_holder();
        let local = Volume { spans_machines: false, scope: "here".to_owned() };
        assert!(place.ask(&mut Application::default(), &local, Instant::now()).is_some());
        // On this very mount: the kernel would say so.
        place.left_by_a_dead_holder();
        assert!(place.ask(&mut Application::default(), &on("elsewhere"), Instant::now()).is_some());
    }
}
