//! The ends that are right for a disturbed run.
//!
//! A kill ends the run. A failure of the disk ends it with exit code 7 and a message that names the file and the way
//! out. If the call is dispensable, the run may succeed. An interrupted (EINTR) or short call has to be made again.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::{Result, bail, ensure};

use super::call::Call;
use super::injection::{Action, Kind};
use super::job::JobDir;
use super::tracer::Trace;

/// The action happened to nothing: the run had ended before the signal came, or had no call of this number.
pub(super) const MISSED: &str = "missed";

/// Kinds of calls that may fail in a run that succeeds.
const DISPENSABLE: [&str; 9] = [
    // Sharing blocks and the kernel's copy are fast paths; reading and writing follows.
    "FICLONE part",
    "copy_file_range part",
    // The bytes are copied instead.
    "linkat temporary",
    // The next holder uses the file again.
    "unlinkat lock",
    // The time of an object's last use matters to pruning only.
    "utimensat object",
    // Without the record the next run reads the files again.
    "openat record of verified files",
    // The next run removes leftovers.
    "unlinkat temporary",
    "unlinkat journal",
    "unlinkat part",
];

/// Phrases of messages that say what to do.
const WAYS_OUT: [&str; 9] = [
    "free some space",
    "mount it writable",
    "check the owner",
    "choose another",
    "run again",
    "is not used",
    "move it away",
    "raise",
    "next run will check",
];

/// Checks how the run ended, and names it for the summary.
pub(super) fn check(action: Action, trace: &Trace, dir: &JobDir) -> Result<&'static str> {
    let ended = &trace.ended;
    let Some(hit) = &trace.hit else {
        ensure!(ended.status.success(), "nothing was disturbed, and the run failed");
        return Ok(MISSED);
    };
    match (action.kind, ended.status.code()) {
        (Kind::Kill | Kind::KillAfter, None) if ended.status.signal() == Some(9) => Ok("killed"),
        (Kind::KillAfter, Some(0)) => Ok(MISSED),
        (Kind::Again, Some(0)) => Ok("exit 0"),
        (Kind::Fail | Kind::FailOn, Some(0)) => {
            let last = if action.kind == Kind::Fail { hit.number } else { u64::MAX };
            let mut failed = trace.calls.iter().filter(|call| (hit.number..=last).contains(&call.number));
            let needed = failed.find(|call| !is_dispensable(call, dir));
            ensure!(needed.is_none(), "the run needs {needed:?}, and may not succeed");
            Ok("exit 0")
        }
        (Kind::Fail | Kind::FailOn, Some(7)) => {
            let said = &ended.stderr;
            ensure!(said.contains(dir.root.as_str()), "the message names no file");
            let has_way_out = WAYS_OUT.iter().any(|way| said.contains(way));
            ensure!(has_way_out, "the message names no way out");
            Ok("exit 7")
        }
        _ => bail!("{} may not end a run with {}", hit.kind(), ended.status),
    }
}

/// The run can do without the call. Anything in the cache is dispensable, since the file is fetched without it; so are
/// kept piece lists, which save bytes of the next version, and anything outside of the job's directory, since a baked
/// copy that cannot be synced is fetched instead.
fn is_dispensable(call: &Call, dir: &JobDir) -> bool {
    DISPENSABLE.contains(&call.kind().as_str())
        || call.path.starts_with(dir.cache().as_str())
        || call.path.starts_with(dir.kept_lists().as_str())
        || !call.path.starts_with(dir.root.as_str())
}
