use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use rustix::fs::{FlockOperation, OFlags};

use super::flock::{Acquire, DestinationLock, LockAttempt};
use super::lease::{self, HEARTBEAT_INTERVAL, LEASE_TIMEOUT, NAME};
use super::network_fs::{SCOPE, Volume};
use crate::destination::Destination;
use crate::error::DiskError;
use crate::testing::{Fixture, model};

const HOUR: Duration = Duration::from_hours(1);

/// Attempts to lock a destination at given times.
impl Fixture {
    fn lock_file(&self) -> std::path::PathBuf {
        self.file(NAME)
    }

    fn try_acquire(
        &self,
        attempt: &mut LockAttempt,
        volume: &Volume,
        now: Instant,
    ) -> Option<DestinationLock> {
        match attempt.try_acquire_at(&self.destination, volume, now).unwrap() {
            Acquire::Acquired(lock) => Some(lock),
            Acquire::Held(holder) => {
                assert!(holder.contains("held by process"), "{holder}");
                assert!(!holder.contains(SCOPE), "{holder}");
                None
            }
        }
    }

    fn acquire(&self, scope: &str) -> DestinationLock {
        self.try_acquire(&mut LockAttempt::default(), &network_volume(scope), Instant::now()).unwrap()
    }

    /// Tries at every poll interval for `span`, as a waiting run does.
    fn watch(&self, attempt: &mut LockAttempt, from: Instant, span: Duration) -> Option<DestinationLock> {
        let polls = (0..).map(|n| LockAttempt::POLL_INTERVAL * n).take_while(|after| *after <= span);
        polls.into_iter().find_map(|after| self.try_acquire(attempt, &network_volume("here"), from + after))
    }

    fn leave_lock_of_dead_holder(&self) {
        let text = "held by process 1 on elsewhere\nsystem elsewhere\n";
        std::fs::write(self.lock_file(), text).unwrap();
    }
}

fn network_volume(scope: &str) -> Volume {
    Volume { spans_machines: true, scope: scope.to_owned() }
}

#[test]
fn fault_80_a_foreign_lease_is_held_while_its_holder_lives() {
    let fixture = Fixture::new();
    let began = Instant::now();
    let lock = fixture.acquire("there");
    // Another machine does not see this flock.
    rustix::fs::flock(&lock.file, FlockOperation::Unlock).unwrap();
    let mut other = LockAttempt::default();
    assert!(fixture.watch(&mut other, began, LEASE_TIMEOUT / 2).is_none());
    assert!(other.is_watching());
    for hours in 1..4 {
        lease::touch(&lock.file).unwrap();
        assert!(fixture.watch(&mut other, began + HOUR * hours, LEASE_TIMEOUT / 2).is_none(), "{hours}");
        assert!(!other.is_watching(), "a run that does not wait would wait for ever");
    }
    // The holder dies. The hour in which the volume did not answer does not count.
    assert!(fixture.try_acquire(&mut other, &network_volume("here"), began + HOUR * 4).is_none());
    let taken = fixture.watch(&mut other, began + HOUR * 4, LEASE_TIMEOUT).unwrap();
    // It was only suspended: the file is another run's now.
    drop(lock);
    assert!(fixture.lock_file().exists(), "another run's lock file was removed");
    assert!(fixture.try_acquire(&mut LockAttempt::default(), &network_volume("there"), began).is_none());
    drop(taken);
    assert!(!fixture.lock_file().exists());
}

#[test]
fn fault_81_two_watchers_of_a_dead_holder_do_not_deadlock() {
    let fixture = Fixture::new();
    fixture.leave_lock_of_dead_holder();
    let (mut attempt, began) = (LockAttempt::default(), Instant::now());
    assert!(fixture.watch(&mut attempt, began, LEASE_TIMEOUT / 2).is_none());
    let other = lease::open(fixture.destination.root(), OFlags::empty()).unwrap().unwrap();
    rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    let rest = LEASE_TIMEOUT / 2 + LockAttempt::POLL_INTERVAL;
    assert!(fixture.watch(&mut attempt, began + LEASE_TIMEOUT / 2, rest).is_none());
    assert!(attempt.is_watching(), "it gave up on the way");
    rustix::fs::flock(&other, FlockOperation::Unlock).unwrap();
    let now = began + LEASE_TIMEOUT + LockAttempt::POLL_INTERVAL * 2;
    assert!(fixture.try_acquire(&mut attempt, &network_volume("here"), now).is_some());
}

#[test]
fn fault_80_a_holder_that_lost_its_lease_writes_no_more() {
    let fixture = Fixture::new();
    let lock = fixture.acquire("there");
    let complete = Arc::new(fixture.open(&model("x", b"abcd")));
    complete.write(0, b"abcd").unwrap();
    let partial = fixture.open(&model("y", b"abcd"));
    partial.write(0, b"ab").unwrap();
    let lease = fixture.destination.leases().pop().unwrap();
    // The lease has expired, but no other run has taken over.
    lease.expire_for_test();
    partial.write(2, b"c").unwrap();
    let verified = complete.verify().unwrap();

    std::fs::remove_file(fixture.lock_file()).unwrap();
    fixture.leave_lock_of_dead_holder();
    lease.expire_for_test();
    let refused = [
        partial.write(3, b"d").map(drop),
        partial.journal_written(),
        partial.checkpoint().map(drop),
        partial.reset(),
        partial.remove(),
        verified.install().map(drop),
    ];
    for (at, refused) in refused.into_iter().enumerate() {
        assert!(matches!(refused, Err(DiskError::TakenOver { .. })), "{at}: {refused:?}");
    }
    assert!(matches!(Arc::new(partial).verify(), Err(DiskError::TakenOver { .. })));
    drop(lock);
    assert!(fixture.lock_file().exists(), "another run's lock file was removed");
}

#[test]
fn a_holder_on_a_network_volume_renews_its_lease() {
    let fixture = Fixture::new();
    let lock = fixture.acquire("there");
    let mtime = || rustix::fs::fstat(&lock.file).map(|stat| (stat.st_mtime, stat.st_mtime_nsec)).unwrap();
    let (before, began) = (mtime(), Instant::now());
    while mtime() == before {
        assert!(began.elapsed() < HEARTBEAT_INTERVAL * 8, "no heartbeat");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn fault_88_a_strangers_lock_above_holds_no_run_up() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let fixture = Fixture::new();
    let below = Utf8PathBuf::from_path_buf(fixture.file("below")).unwrap();
    let below = Destination::create(&below).unwrap();
    let Acquire::Acquired(own) = DestinationLock::try_acquire(&below).unwrap() else { panic!("it is held") };
    let other = std::fs::File::create(fixture.lock_file()).unwrap();
    rustix::fs::flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    let (root, stranger) = (Some(0), Some(65534));
    for (lock, destination, counts) in
        [(root, root, true), (stranger, root, false), (stranger, stranger, true)]
    {
        std::os::unix::fs::chown(fixture.lock_file(), lock, None).unwrap();
        std::os::unix::fs::chown(fixture.file("below"), destination, None).unwrap();
        assert_eq!(own.held_above(&below, &[]).is_some(), counts, "{lock:?}, {destination:?}");
    }
}

#[test]
fn fault_81_the_lease_of_a_dead_holder_expires() {
    let fixture = Fixture::new();
    fixture.leave_lock_of_dead_holder();
    let (mut attempt, began) = (LockAttempt::default(), Instant::now());
    assert!(fixture.watch(&mut attempt, began, LEASE_TIMEOUT / 4 * 3).is_none());
    assert!(fixture.watch(&mut attempt, began + LEASE_TIMEOUT / 4 * 3, LEASE_TIMEOUT / 4).is_some());
}

#[test]
fn fault_81_a_lock_with_a_visible_flock_is_taken_at_once() {
    let fixture = Fixture::new();
    fixture.leave_lock_of_dead_holder();
    let local = Volume { spans_machines: false, scope: "here".to_owned() };
    assert!(fixture.try_acquire(&mut LockAttempt::default(), &local, Instant::now()).is_some());
    // The same mount of the same system.
    fixture.leave_lock_of_dead_holder();
    fixture.acquire("elsewhere");
}
