//! What the tests of the disk need of the machine: rights, tools, volumes of their own, and shims.
//!
//! A volume is a tmpfs in a mount namespace that a child process keeps: nobody else sees it, and it goes with the child.
//! The test and the program reach it through `/proc/PID/root`, so that a test looks at its files as at any others.
//!
//! A shim is a few lines of C that are loaded before the program's own: what a disk may do to a system call, without
//! a disk that does it.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use camino::Utf8PathBuf;

use crate::requirement::{needs, needs_root, needs_tool};
use crate::world::World;

/// A file system of its own. See the module's documentation.
pub(super) struct Volume {
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    at: PathBuf,
    _mount_point: tempfile::TempDir,
}

impl Volume {
    /// A tmpfs with these mount options; `None` where the test is to be passed over.
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

    /// Has a shell in the namespace do something; `$1` is where the volume is. Whether that succeeded.
    pub(super) fn order(&mut self, order: &str) -> bool {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        answer == "done\n"
    }

    /// Mounts it again with other options.
    pub(super) fn remount(&mut self, options: &str) {
        assert!(self.order(&format!("mount -o remount,{options} \"$1\"")), "remount with {options}");
    }

    /// A world whose destination lies on it.
    pub(super) fn world(&self) -> World {
        World::at(Utf8PathBuf::from_path_buf(self.at.join("models")).unwrap())
    }

    /// Writes a file until there is no room left.
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
        // Its shell ends with its orders, and the mount with the last process in the namespace.
        self.orders.take();
        let _ = self.keeper.wait();
    }
}

/// What takes all the room on a volume.
pub(super) struct Filler {
    path: PathBuf,
    bytes: u64,
}

impl Filler {
    /// Leaves that much room.
    pub(super) fn leave(&self, bytes: u64) {
        let file = std::fs::File::options().write(true).open(&self.path).unwrap();
        file.set_len(self.bytes - bytes).unwrap();
    }

    pub(super) fn remove(self) {
        std::fs::remove_file(self.path).unwrap();
    }
}

/// Builds a shim from its source, beside the destination; `None` where the test is to be passed over.
pub(super) fn shim(world: &World, name: &str, source: &str) -> Option<PathBuf> {
    if !needs_tool("cc", "--version") {
        return None;
    }
    let (code, built) = (world.beside(&format!("{name}.c")), world.beside(&format!("{name}.so")));
    std::fs::write(&code, source).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&built).arg(&code).output();
    let compiled = compiled.unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Some(built)
}

/// Makes `flock` do nothing and say that it was done, as some network volumes do. The program makes its system calls
/// itself, so wrapping the library's function would not do: a filter in the kernel answers instead.
pub(super) fn flock_that_lies(world: &World) -> Option<PathBuf> {
    shim(world, "flock", include_str!("flock_that_lies.c"))
}

/// `command` under strace, with what it is to do to the system calls.
pub(super) fn strace(command: &Command, log: &Path, arguments: &[&str]) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "--seccomp-bpf", "-y", "-s", "80", "-o"]).arg(log).args(arguments);
    traced.arg(command.get_program()).args(command.get_args());
    traced.env_clear().envs(environment(command));
    traced
}

/// `command` started by a shell, after `before`.
pub(super) fn after(before: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("{before}; exec \"$@\"")).arg("sh");
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(environment(command));
    shell
}

/// What a command is to find in its environment, for another that starts it: its secrets, above all.
pub(super) fn environment(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    command.get_envs().filter_map(|(name, value)| Some((name, value?)))
}
