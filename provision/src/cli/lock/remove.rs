//! `provision lock remove`.

use crate::cli::exit::Failure;
use crate::cli::locks;
use crate::cli::{print_line, say};
use clap::Args;
use provision_core::lockfile::{Model, Selection};
use provision_core::model_path::ModelPath;
use provision_lock::file::edit;

use super::{EditFailure, LockFile, write};

/// Options of `lock remove`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RemoveArgs {
    /// The models: a path, a file stem, or a glob over paths
    #[arg(value_name = "MODEL", required_unless_present = "groups")]
    models: Vec<String>,
    /// Only models of this group (repeatable)
    // Without the variable of `Choice`, which is set for fetches and must not choose models to remove.
    #[arg(long = "group", alias = "only", value_name = "GROUP", value_delimiter = ',')]
    groups: Vec<String>,
    /// The lock.
    #[command(flatten)]
    file: LockFile,
}

pub(crate) fn run(args: &RemoveArgs, default: &str) -> Result<(), Failure> {
    let path = args.file.writable(default)?;
    // A missing lock has nothing to remove and must not be created.
    locks::read(&path)?;
    let removed = remove(&path, &Selection { patterns: args.models.clone(), groups: args.groups.clone() })?;
    for model in &removed {
        print_line(format_args!("removed {model}"));
    }
    let them = if removed.len() == 1 { "it" } else { "them" };
    say(format_args!("a file that is installed stays; clean --unlisted removes {them} from the destination"));
    Ok(())
}

/// Removes the chosen models, all or none, and returns their paths.
pub(super) fn remove(path: &camino::Utf8Path, selection: &Selection) -> Result<Vec<ModelPath>, Failure> {
    let edited = edit::<_, EditFailure>(path, write::lock_wait(), |document| {
        let chosen: Vec<&Model> = locks::select(document.lock(), selection)?;
        let paths: Vec<ModelPath> = chosen.into_iter().map(|model| model.path.clone()).collect();
        document.remove_all(&paths)?;
        Ok(paths)
    });
    edited.map(|edited| edited.value).map_err(|EditFailure(failure)| failure)
}
