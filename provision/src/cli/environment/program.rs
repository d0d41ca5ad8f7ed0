//! Programs that give credentials: docker's helpers, and `credential_process` of AWS.
//!
//! A program gets its question on standard input and answers on standard output. No secret is in its arguments or environment, and
//! its standard error is not shown, because it may repeat one.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The longest time that a program may take: some ask a service, or unlock a key chain.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// The longest answer, in bytes.
const LONGEST_ANSWER: u64 = 1 << 20;

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) has_succeeded: bool,
    pub(super) out: Vec<u8>,
}

/// The file of the program `name` in one of the directories of `search_path`.
pub(super) fn located(name: &str, search_path: &str) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    std::env::split_paths(search_path).map(|directory| directory.join(name)).find(is_program)
}

/// Runs a program with `input`. Its answer is cut at a mebibyte.
///
/// # Errors
/// It cannot be started, or takes longer than `limit`: then it is killed.
pub(super) fn run(command: &mut Command, input: &[u8], limit: Duration) -> io::Result<Answer> {
    // The signals that this process blocks would stay blocked in the program.
    let unblock = || {
        // SAFETY: an empty set is a valid one, and both calls may be made between fork and exec.
        unsafe {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing.
    unsafe { command.pre_exec(unblock) };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A question fits into the pipe. A program that does not read it may know the answer all the same.
        let _ = stdin.write_all(input);
    }
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut out = Vec::new();
            let read = stdout.take(LONGEST_ANSWER).read_to_end(&mut out);
            let _ = sender.send(read.map(|_| out));
        });
    }
    let Ok(out) = receiver.recv_timeout(limit) else {
        child.kill()?;
        child.wait()?;
        return Err(io::ErrorKind::TimedOut.into());
    };
    Ok(Answer { has_succeeded: child.wait()?.success(), out: out? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, input: &str, limit: Duration) -> io::Result<Answer> {
        run(Command::new("/bin/sh").args(["-c", script]), input.as_bytes(), limit)
    }

    #[test]
    fn a_program_reads_its_question_and_is_stopped_in_time() {
        let answer = shell("cat; echo secret >&2; exit 3", "who", LONGEST).unwrap();
        assert!(!answer.has_succeeded && answer.out == b"who");
        let slow = shell("exec sleep 20", "", Duration::from_millis(100)).unwrap_err();
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
        assert!(shell(":", "ignored", LONGEST).unwrap().has_succeeded);
        assert!(run(&mut Command::new("/nowhere"), b"", LONGEST).is_err());
    }

    #[test]
    fn a_program_is_searched_for_in_each_directory() {
        assert_eq!(located("sh", "/nowhere:/bin"), Some("/bin/sh".into()));
        assert_eq!(located("no-such-program", "/bin"), None);
    }
}
