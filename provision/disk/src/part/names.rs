//! Names of a part, its journal and its temporary file.
//!
//! On volumes without locks, the name of a part identifies its owner: `.NAME.DIGEST.SPACE-PROCESS-RANDOM.part`. SPACE
//! stands for the PID namespace: this boot of this system, and this container. Within it, a run can tell that an owner
//! is dead. About an owner in another namespace it knows nothing.

use std::sync::LazyLock;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::model_path::NAME_MAX;

/// The naming scheme of part files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartNames {
    /// One name for all processes. The `flock` on the part keeps other processes out.
    Shared,
    /// A name of this process's own, where locks do nothing.
    PerProcess(String),
}

impl PartNames {
    /// A scheme that no other process has, now or later.
    pub fn per_process() -> Self {
        // A system that does not tell its namespace gets a random one.
        let space = pid_namespace().map_or_else(|| format!("{:08x}", fastrand::u32(..)), str::to_owned);
        Self::PerProcess(format!("{space}-{}-{:08x}", std::process::id(), fastrand::u32(..)))
    }
}

/// Identifies the PID namespace of this process, which is read once.
fn pid_namespace() -> Option<&'static str> {
    static NAMESPACE: LazyLock<Option<String>> = LazyLock::new(|| {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
        Some(Sha256::of(format!("{boot}{}", namespace.display()).as_bytes()).short())
    });
    NAMESPACE.as_deref()
}

/// The state of a part's owner, as far as its name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A process of this PID namespace that has ended.
    Dead,
    /// A living process, or one of another namespace.
    Unknown,
}

impl Owner {
    /// The owner of the part with this stem; `None` if [`PartNames::per_process`] does not make such names.
    pub(super) fn of(model: &Model, stem: &str) -> Option<Self> {
        Self::named(stem.strip_prefix(&FileNames::stem(model))?.strip_prefix('.')?)
    }

    /// The owner with this name; `None` if [`PartNames::per_process`] does not make such names.
    pub(super) fn named(own: &str) -> Option<Self> {
        let is_hex = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let (rest, random) = own.rsplit_once('-')?;
        // Earlier versions had no namespace in the name.
        let (space, process) =
            rest.split_once('-').map_or((None, rest), |(space, process)| (Some(space), process));
        let process = process.parse().ok().and_then(Pid::from_raw)?;
        if !is_hex(random) || space.is_some_and(|space| !is_hex(space)) {
            return None;
        }
        let is_here = space.is_some() && space == pid_namespace();
        let is_dead = is_here && test_kill_process(process) == Err(Errno::SRCH);
        Some(if is_dead { Self::Dead } else { Self::Unknown })
    }
}

/// The file names that belong to one part.
#[derive(Debug, Clone)]
pub(crate) struct FileNames {
    pub(crate) part: String,
    pub(crate) journal: String,
    /// A new journal before its rename, and a link before it gets its final name.
    pub(crate) temporary: String,
}

impl FileNames {
    pub(crate) fn new(model: &Model, part_names: &PartNames) -> Self {
        let stem = Self::stem(model);
        let stem = match part_names {
            PartNames::Shared => stem,
            PartNames::PerProcess(own) => format!("{stem}.{own}"),
        };
        Self::of(&stem)
    }

    pub(super) fn of(stem: &str) -> Self {
        let name = |extension| format!("{stem}.{extension}");
        Self { part: name("part"), journal: name("journal"), temporary: name("tmp") }
    }

    /// The common start of all part names of this model. A digest stands for a name that leaves no room for more.
    pub(super) fn stem(model: &Model) -> String {
        let name = model.path.file_name();
        let stem = format!(".{name}.{}", model.sha256.short());
        if stem.len() + 40 <= NAME_MAX {
            stem
        } else {
            format!(".{}", &Sha256::of(name.as_bytes()).to_string()[..32])
        }
    }
}
