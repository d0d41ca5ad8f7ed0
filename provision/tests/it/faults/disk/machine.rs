//! Tools for the disk tests: users, volumes, shims.
//!
//! A volume is a tmpfs in a mount namespace that a child process holds: no other process sees it, and it ends with the
//! child. The test and the program reach it through `/proc/PID/root`, so a test reads its files like any others.
//!
//! A shim is a small C library that is loaded before the program's own. It changes the result of a system call as a
//! faulty disk would.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout};

use camino::Utf8PathBuf;

use crate::prelude::*;

/// A file system of its own; see the module's documentation.
pub(super) struct Volume {
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    at: PathBuf,
    _mount_point: tempfile::TempDir,
}

impl Volume {
    /// A tmpfs with these mount options; `None` if the test is skipped.
    pub(super) fn tmpfs(options: &str) -> Option<Self> {
        if !needs_root() {
            return None;
        }
        let mount_point = tempfile::tempdir().unwrap();
        let mut keeper = Command::new("unshare");
        keeper.args(["--mount", "--propagation", "private", "sh", "-c"]);
        keeper.arg("while read -r order; do if eval \"$order\"; then echo done; else echo failed; fi; done");
        keeper.arg("sh").arg(mount_point.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let keeper = keeper.spawn().ok();
        needs("unshare", keeper.is_some());
        let mut keeper = keeper?;
        let (orders, answers) = (keeper.stdin.take(), BufReader::new(keeper.stdout.take().unwrap()));
        let root = PathBuf::from(format!("/proc/{}/root", keeper.id()));
        let at = root.join(mount_point.path().strip_prefix("/").unwrap());
        let mut volume = Self { keeper, orders, answers, at, _mount_point: mount_point };
        let mounted = volume.order(&format!("mount -t tmpfs -o {options} volume \"$1\""));
        needs("the right to mount", mounted).then_some(volume)
    }

    /// Runs a shell command in the namespace, where `$1` is the mount point; returns true if it succeeds.
    pub(super) fn order(&mut self, order: &str) -> bool {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer == "done\n"
    }

    /// Remounts it with other options.
    pub(super) fn remount(&mut self, options: &str) {
        assert!(self.order(&format!("mount -o remount,{options} \"$1\"")), "remount with {options}");
    }

    /// A fixture whose destination lies on the volume.
    pub(super) fn fixture(&self) -> Fixture {
        Fixture::at(Utf8PathBuf::from_path_buf(self.at.join("models")).unwrap())
    }

    /// Writes a file until the volume is full.
    pub(super) fn fill(&self) -> Filler {
        let path = self.at.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut bytes = 0;
        loop {
            match file.write(&[7; 4096]) {
                Ok(n) => bytes += n as u64,
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
                    return Filler { path, bytes };
                }
            }
        }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The shell ends at the end of its input, and the mount with the last process in the namespace.
        self.orders.take();
        let _ = self.keeper.wait();
    }
}

/// The file that fills a volume.
pub(super) struct Filler {
    path: PathBuf,
    bytes: u64,
}

impl Filler {
    /// Frees this much space.
    pub(super) fn leave(&self, bytes: u64) {
        let file = std::fs::File::options().write(true).open(&self.path).unwrap();
        file.set_len(self.bytes - bytes).unwrap();
    }

    pub(super) fn remove(self) {
        std::fs::remove_file(self.path).unwrap();
    }
}

/// Compiles a shim beside the destination; `None` if the test is skipped.
pub(super) fn shim(fixture: &Fixture, name: &str, source: &str) -> Option<PathBuf> {
    if !needs_tool("cc", "--version") {
        return None;
    }
    let (code, built) = (fixture.beside(&format!("{name}.c")), fixture.beside(&format!("{name}.so")));
    std::fs::write(&code, source).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&built).arg(&code).output();
    let compiled = compiled.unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Some(built)
}

/// Makes `flock` a no-op that reports success, as on some network volumes. The program makes its system calls directly,
/// so the shim installs a kernel filter instead of wrapping the C library's function.
pub(super) fn noop_flock(fixture: &Fixture) -> Option<PathBuf> {
    shim(fixture, "flock", include_str!("noop_flock.c"))
}

/// `command` started by a shell, after `before`.
pub(in crate::faults) fn after(before: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("{before}; exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(environment(command));
    shell
}
