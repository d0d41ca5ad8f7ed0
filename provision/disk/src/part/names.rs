//! What a part, its journal and its temporary are called.
//!
//! Where locks do nothing, a part's name says whose it is: `.NAME.DIGEST.SPACE-PROCESS-RANDOM.part`. The space is where the
//! process's number means something: this system since its start, and this container. So a run can tell that an owner is
//! dead, in the same container; of any other it cannot.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;
use provision_core::model_path::NAME_MAX;

/// What a part file is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartNames {
    /// One name for all processes; the `flock` keeps others out.
    Shared,
    /// A name of this process's own, where locks do nothing.
    PerProcess(String),
}

impl PartNames {
    /// A name that no other process has, now or later.
    pub fn per_process() -> Self {
        // Where the system does not say which space this is, it is like no other.
        let space = space().unwrap_or_else(|| format!("{:08x}", fastrand::u32(..)));
        Self::PerProcess(format!("{space}-{}-{:08x}", std::process::id(), fastrand::u32(..)))
    }
}

/// Where process numbers mean something.
fn space() -> Option<String> {
    let system = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let numbers = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(Sha256::of(format!("{system}{}", numbers.display()).as_bytes()).short())
}

/// What is known of the owner of a part by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A process of this space that is no more.
    Dead,
    /// One that lives, or that cannot be known of here.
    Unknown,
}

impl Owner {
    /// Of the part whose name begins so; `None` where that is no name of [`PartNames::private`].
    pub(super) fn of(model: &Model, stem: &str) -> Option<Self> {
        let own = stem.strip_prefix(&FileNames::stem(model))?.strip_prefix('.')?;
        let is_hex = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let (rest, random) = own.rsplit_once('-')?;
        // Earlier versions named no space.
        let (of, process) = rest.split_once('-').map_or((None, rest), |(of, process)| (Some(of), process));
        let process = process.parse().ok().and_then(Pid::from_raw)?;
        if !is_hex(random) || of.is_some_and(|of| !is_hex(of)) {
            return None;
        }
        let is_here = of.is_some() && of == space().as_deref();
        let is_dead = is_here && test_kill_process(process) == Err(Errno::SRCH);
        Some(if is_dead { Self::Dead } else { Self::Unknown })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct FileNames {
    pub(crate) part: String,
    pub(crate) journal: String,
    /// What a new journal is called until it is whole, and a link until it has its final name.
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
        let name = |ending| format!("{stem}.{ending}");
        Self { part: name("part"), journal: name("journal"), temporary: name("tmp") }
    }

    /// What all the parts of this model begin with. A name too long for a longer one is replaced by its digest.
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
