//! Programs that give credentials: docker's helpers, and `credential_process` of AWS.
//!
//! A program gets its question on standard input and answers on standard output. No secret is in its arguments or
//! environment, and its standard error is not shown, because it may repeat one.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The longest time that a program may take: some ask a service, or unlock a key chain.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// The time between two looks at a program that has answered and has not ended.
const LOOK: Duration = Duration::from_millis(5);
/// The longest answer, in bytes.
const LONGEST_ANSWER: u64 = 1 << 20;

/// An answer. It may be a secret, so it has no `Debug`.
pub(super) struct Answer {
    pub(super) has_succeeded: bool,
    pub(super) out: Vec<u8>,
}

/// The file of the program `name` in one of the absolute directories of `search_path`. Others, and an empty one, would
/// be in the working directory, which may be a repository of another.
pub(super) fn located(name: &str, search_path: &str) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    let directories = std::env::split_paths(search_path).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(name)).find(is_program)
}

/// Runs a program with `input`. Its answer is cut at a mebibyte.
///
/// # Errors
/// It cannot be started, or has not answered and ended after `limit`: then it is killed.
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
    let end = Instant::now() + limit;
    let (sender, receiver) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut out = Vec::new();
            let read = stdout.take(LONGEST_ANSWER).read_to_end(&mut out);
            let _ = sender.send(read.map(|_| out));
        });
    }
    if let Ok(out) = receiver.recv_timeout(limit)
        && let Some(status) = ended(&mut child, end)?
    {
        return Ok(Answer { has_succeeded: status.success(), out: out? });
    }
    child.kill()?;
    child.wait()?;
    Err(io::ErrorKind::TimedOut.into())
}

/// The status of a program that ends before `end`.
#[expect(clippy::disallowed_methods, reason = "the system has no wait for a child with a time limit")]
fn ended(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= end {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
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
        let slow = shell("exec sleep 20", "", Duration::from_millis(100)).err().unwrap();
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
        assert!(shell(":", "ignored", LONGEST).unwrap().has_succeeded);
        assert!(run(&mut Command::new("/nowhere"), b"", LONGEST).is_err());
    }

    #[test]
    fn a_program_that_answers_and_does_not_end_is_stopped() {
        let silent = shell("exec 1>&-; exec sleep 20", "", Duration::from_millis(100)).err().unwrap();
        assert_eq!(silent.kind(), io::ErrorKind::TimedOut);
        let flood = shell("trap '' PIPE; yes 2>&-; exec sleep 20", "", Duration::from_millis(500));
        assert_eq!(flood.err().unwrap().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_program_is_searched_for_in_each_directory() {
        assert_eq!(located("sh", "/nowhere:/bin"), Some("/bin/sh".into()));
        assert_eq!(located("no-such-program", "/bin"), None);
        // The working directory may be another's, such as a cloned repository.
        let above = "../".repeat(std::env::current_dir().unwrap().components().count()) + "bin";
        assert!(std::path::Path::new(&above).join("sh").exists());
        assert_eq!(located("sh", &format!("{above}::.")), None);
    }
}
