//! What a part, its journal and its temporary are called.

use crate::digest::Sha256;
use crate::lockfile::Model;
use crate::model_path::NAME_MAX;

/// What a part file is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// One name for all processes; the `flock` keeps others out.
    Shared,
    /// A name of this process's own, where locks do nothing.
    Private(String),
}

#[derive(Debug, Clone)]
pub(in crate::store) struct Names {
    pub(in crate::store) part: String,
    pub(in crate::store) journal: String,
    /// What a new journal is called until it is whole, and a link until it has its final name.
    pub(in crate::store) temporary: String,
}

impl Names {
    pub(in crate::store) fn new(model: &Model, naming: &Naming) -> Self {
        let stem = Self::stem(model);
        let stem = match naming {
            Naming::Shared => stem,
            Naming::Private(own) => format!("{stem}.{own}"),
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
