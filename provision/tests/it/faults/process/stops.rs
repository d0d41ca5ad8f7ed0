//! Stops at moments when no transfer is running (fault 108).

use std::os::unix::process::CommandExt as _;

use provision_disk::LockAttempt;
use rustix::process::{kill_process, kill_process_group};

use super::name_server::{bind, with_resolv_conf};
use crate::prelude::*;

/// The longest time from a stop to the end.
const SECONDS: Duration = Duration::from_secs(2);

const SIGNALS: [(Signal, i32); 3] = [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)];

/// Sends the signal, and asserts the exit code within two seconds.
fn assert_stops(child: Run, (wish, code): (Signal, i32)) {
    let told = Instant::now();
    signal(&child, wish);
    let ended = child.end().exits(code);
    assert!(told.elapsed() < SECONDS, "{:?}: {}", told.elapsed(), ended.err);
}

/// A fixture, and a command whose lock is at an address that never answers.
fn silent_lock(command: &str) -> (Fixture, Command) {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
    let text = fixture.lock_text();
    fixture.origin.put("/models.lock", Content::bytes(text.clone().into_bytes()));
    fixture.origin.inject("/models.lock", Fault::NoAnswer);
    let mut program = program(&fixture);
    program.arg(command).env("PROVISION_LOCK", fixture.origin.url("/models.lock"));
    program.env("PROVISION_LOCK_SHA256", Sha256::of(text.as_bytes()).to_string());
    program.env("PROVISION_DEST", fixture.destination()).env("PROVISION_BAKED", fixture.beside("baked"));
    (fixture, program)
}

#[test]
fn fault_108_a_stop_ends_the_fetch_of_a_lock() {
    for command in ["fetch", "ensure", "verify"] {
        for wish in SIGNALS {
            let (fixture, mut program) = silent_lock(command);
            let child = start(&mut program);
            fixture.origin.wait_for(PATIENCE, |counters| counters.requests > 0).unwrap();
            assert_stops(child, wish);
        }
    }
}

#[test]
fn fault_108_a_stop_reaches_the_program_below_pre_start() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("container/pre_start.sh");
    for (wish, code) in SIGNALS {
        let (fixture, program) = silent_lock("ensure");
        let mut shell = Command::new("sh");
        let path = format!("{}:/usr/bin:/bin", Path::new(BINARY).parent().unwrap().display());
        shell.arg(&script).env_clear().envs(environment(&program)).env("PATH", path).process_group(0);
        let child = start(&mut shell);
        fixture.origin.wait_for(PATIENCE, |counters| counters.requests > 0).unwrap();
        let told = Instant::now();
        // As a terminal does it.
        kill_process_group(Pid::from_child(&child), wish).unwrap();
        let ended = child.end().exits(code);
        assert!(told.elapsed() < SECONDS, "{:?}: {}", told.elapsed(), ended.err);
    }
}

/// The kernel drops a signal to the first process of a container unless the process handles it.
#[test]
fn fault_108_the_first_process_of_a_container_obeys_at_any_time() {
    if !needs_root() {
        return;
    }
    let (fixture, program) = silent_lock("fetch");
    let mut container = Command::new("unshare");
    container.args(["--pid", "--fork", "--kill-child"]);
    container.arg(program.get_program()).args(program.get_args());
    container.env_clear().envs(environment(&program));
    let child = start(&mut container);
    fixture.origin.wait_for(PATIENCE, |counters| counters.requests > 0).unwrap();
    let told = Instant::now();
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let first = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(first, Signal::TERM).unwrap();
    let ended = child.end().exits(143);
    assert!(told.elapsed() < SECONDS, "{:?}: {}", told.elapsed(), ended.err);
}

#[test]
fn fault_108_a_stop_ends_a_name_lookup() {
    let Some(silent) = bind("127.0.0.108") else { return };
    let mut fixture = Fixture::new();
    let url = "http://files.example/x";
    fixture.model("x", &Content::generated(1, 1000), &[url.to_owned()]);
    let resolv = "nameserver 127.0.0.108\noptions timeout:30 attempts:1\n";
    let mut add = program(&fixture);
    add.args(["lock", "add", url, "--path", "vae/x", "--lock"]).arg(fixture.beside("other.lock"));
    for command in [fetch(&fixture, &[]), add] {
        for wish in SIGNALS {
            let child = start(&mut with_resolv_conf(&fixture, &command, resolv));
            silent.recv(&mut [0; 1500]).unwrap();
            assert_stops(child, wish);
            silent.set_nonblocking(true).unwrap();
            while silent.recv(&mut [0; 1500]).is_ok() {}
            silent.set_nonblocking(false).unwrap();
        }
    }
}

#[test]
fn fault_108_a_stop_ends_the_wait_for_a_lock() {
    let fixture = Fixture::with(&[("x", 1, 1000)]);
    let destination = Destination::create(&fixture.destination()).unwrap();
    let held = LockAttempt::default().try_acquire(&destination).unwrap();
    assert!(matches!(held, Acquire::Acquired(_)));
    for wish in SIGNALS {
        let mut child = start(&mut fetch(&fixture, &["--wait", "10m"]));
        child.wait_for_message("waiting for another run");
        assert_stops(child, wish);
    }
    let lock = fixture.write_lock();
    let writer = std::fs::File::create(fixture.beside(".models.lock.tmp")).unwrap();
    writer.lock().unwrap();
    for wish in SIGNALS {
        let mut remove = program(&fixture);
        let mut child = start(remove.args(["lock", "remove", "x", "--lock"]).arg(&lock));
        child.wait_for_message("waiting for");
        assert_stops(child, wish);
    }
}

#[test]
fn fault_108_a_stop_ends_the_hashing_of_a_large_file() {
    let fixture = Fixture::new();
    // Sparse, and too long to be hashed in the test's time.
    let size: u64 = 400_000_000_000;
    let (lock, sha256) = (fixture.beside("models.lock"), "0".repeat(64));
    let text = format!(
        "version = 1\n[[model]]\npath = \"x\"\nurl = \"http://127.0.0.1:1/x\"\nsize = {size}\nsha256 = \"{sha256}\"\n"
    );
    std::fs::write(&lock, text).unwrap();
    // Not in the fixture, which reads all its files at the end.
    let models = tempfile::tempdir().unwrap();
    let large = models.path().join("x");
    std::fs::File::create(&large).unwrap().set_len(size).unwrap();
    let command = |name: &str| {
        let mut command = program(&fixture);
        command.arg(name).arg("--lock").arg(&lock).arg("--dest").arg(models.path());
        command
    };
    for wish in SIGNALS {
        for name in ["fetch", "verify"] {
            let child = start(&mut command(name));
            wait_until(PATIENCE, "the open file", || has_open(&child, &large));
            assert_stops(child, wish);
        }
    }
}

fn has_open(child: &Child, path: &Path) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{}/fd", child.id())) else { return false };
    open.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to == path))
}
