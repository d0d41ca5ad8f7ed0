//! `--layers`: moves a complete set into trees for image layers.

use camino::Utf8Path;

use super::arguments::FetchArgs;
use super::exit::{Code, Failure};
use super::progress::Verbosity;
use super::{locks, say, units};
use provision_core::lockfile::Lockfile;
use provision_disk::{self, Destination};
use provision_engine::marker::Marker;

/// Checks before the fetch that the trees do not exist yet.
///
/// # Errors
/// A tree exists: two sets would mix.
pub fn check(args: &FetchArgs, lock: &Lockfile, into: &Utf8Path) -> Result<(), Failure> {
    for model in locks::select(lock, &args.choice.clone().into())? {
        let tree = into.join(provision_disk::layer_of(model));
        if tree.symlink_metadata().is_ok() {
            let why = format!("--layers: {tree} exists already; remove it, or give an empty directory");
            return Err(Failure::new(Code::Usage, why));
        }
    }
    Ok(())
}

/// Moves the chosen models of `lock`, all valid, into trees below `into`.
///
/// # Errors
/// The two directories are on different file systems, or a tree exists already.
pub fn lay_out(args: &FetchArgs, lock: &Lockfile, into: &Utf8Path) -> Result<(), Failure> {
    let models = locks::select(lock, &args.choice.clone().into())?;
    let path = |path: &Utf8Path| {
        camino::absolute_utf8(path).map_err(|error| Failure::new(Code::Usage, format!("{path}: {error}")))
    };
    let (destination, into) = (path(&args.place.dest)?, path(into)?);
    // The marker would list files that have moved away.
    if let Some(opened) = Destination::open(&destination)? {
        Marker::remove(&opened, lock.marker())?;
    }
    for layer in provision_disk::lay_out(&destination, &models, &into)? {
        if args.output.verbosity() > Verbosity::Quiet {
            let (files, bytes) = (units::count(layer.files, "file"), units::bytes(layer.bytes));
            say(format_args!("layer {}: {files}, {bytes} in {}", layer.name, layer.tree));
        }
    }
    Ok(())
}
