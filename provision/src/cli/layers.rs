//! `--layers`: moves a complete set into trees for image layers, under the destination's lock.

use std::collections::BTreeSet;
use std::sync::Arc;

use camino::Utf8Path;
use tokio::sync::watch;

use super::arguments::FetchArgs;
use super::exit::{Code, Failure};
use super::progress::{Progress, Verbosity};
use super::signals::{self, StoppableRun};
use super::{locks, say, units};
use provision_core::lockfile::{Lockfile, Model};
pub use provision_disk::layer_sizes;
use provision_disk::{self, Destination};
use provision_engine::fetch::FetchError;
use provision_engine::lock_wait::{self, LockWait, Locks};
use provision_engine::marker::Marker;

/// Checks before the fetch that the layers are the `expected` ones, if any are given, and that their trees do
/// not exist yet.
///
/// # Errors
/// A tree exists: two sets would mix. The image would lack a layer, or its build would fail for one that is
/// not there.
pub fn check(args: &FetchArgs, lock: &Lockfile, into: &Utf8Path, expected: &[String]) -> Result<(), Failure> {
    let models = locks::select(lock, &args.choice.clone().into())?;
    if !expected.is_empty() {
        let layers = models.iter().map(|model| provision_disk::layer_of(model));
        let way_out = "run `provision init --dockerfile`, which writes its layers again";
        compare(&layers.collect(), &expected.iter().map(String::as_str).collect(), way_out)?;
    }
    for model in models {
        let tree = into.join(provision_disk::layer_of(model));
        if tree.symlink_metadata().is_ok() {
            let why = format!("--layers: {tree} exists already; remove it, or give an empty directory");
            return Err(Failure::new(Code::Usage, why));
        }
    }
    Ok(())
}

/// Compares the layers of a lock with those that a Dockerfile makes. `way_out` ends the message.
///
/// # Errors
/// They differ: a usage error with the names.
pub fn compare(layers: &BTreeSet<&str>, expected: &BTreeSet<&str>, way_out: &str) -> Result<(), Failure> {
    let difference = |of: &BTreeSet<&str>, from: &BTreeSet<&str>, what: &str| {
        let names: Vec<_> = of.difference(from).map(|name| format!("{name}/")).collect();
        (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")))
    };
    let missing = difference(layers, expected, "it has no layer for");
    let superfluous = difference(expected, layers, "the lock has no model in");
    let differences: Vec<_> = missing.into_iter().chain(superfluous).collect();
    if differences.is_empty() {
        return Ok(());
    }
    let differences = differences.join(", and ");
    let why = format!("the Dockerfile does not fit the lock: {differences}; {way_out}");
    Err(Failure::new(Code::Usage, why))
}

/// The number of times that other runs may change the set between its fetch and its move.
const TRIES: u32 = 5;

/// Fetches the chosen models of `lock` with `provide`, then moves them into trees below `into`: all of one set, under
/// the destination's lock. If another run has changed the set before this one has the lock, it is fetched again. `draw`
/// shows a wait for the lock.
///
/// # Errors
/// The fetch failed. The two directories are on different file systems, or a tree exists already.
pub fn lay_out(
    args: &FetchArgs,
    lock: &Lockfile,
    into: &Utf8Path,
    mut provide: impl FnMut() -> Result<(), Failure>,
    draw: impl Fn() -> Arc<dyn Progress>,
) -> Result<(), Failure> {
    let path = |path: &Utf8Path| {
        camino::absolute_utf8(path).map_err(|error| Failure::new(Code::Usage, format!("{path}: {error}")))
    };
    let (destination, into) = (path(&args.place.dest())?, path(into)?);
    let models = locks::select(lock, &args.choice.clone().into())?;
    for _ in 0..TRIES {
        provide()?;
        if let Some(code) = signals::caught() {
            return Err(Failure::new(code, "interrupted before --layers; rerun to resume"));
        }
        let opened = Destination::create(&destination)?;
        // It lasts until all files are moved: a signal must not end the process between two of them.
        let mut run = StoppableRun::begin();
        let _guard = wait_for_lock(args, &opened, &models, &*draw(), &mut run.0)?;
        if let Some(code) = signals::caught() {
            return Err(Failure::new(code, "interrupted before --layers; rerun to resume"));
        }
        if !Marker::load(&opened, lock.marker()).covers(&opened, models.iter().copied()) {
            continue;
        }
        // It would list files that have moved away.
        Marker::remove(&opened, lock.marker())?;
        for layer in provision_disk::lay_out(&destination, &models, &into)? {
            if args.output.verbosity() > Verbosity::Quiet {
                let (files, bytes) = (units::count(layer.files, "file"), units::bytes(layer.bytes));
                say(format_args!("layer {}: {files}, {bytes} in {}", layer.name, layer.tree));
            }
        }
        return Ok(());
    }
    let why = format!(
        "--layers: other runs keep changing the files in {destination}; give each run its own --dest"
    );
    Err(Failure::new(Code::Busy, why))
}

fn wait_for_lock(
    args: &FetchArgs,
    destination: &Destination,
    models: &[&Model],
    progress: &dyn Progress,
    interrupted: &mut watch::Receiver<bool>,
) -> Result<Locks, Failure> {
    let paths: Vec<_> = models.iter().map(|model| &model.path).collect();
    let wait = args.config().wait;
    let waiting = async {
        match lock_wait::lock(destination, Some(&paths), wait, progress, interrupted).await? {
            LockWait::Acquired(lock) => Ok(lock),
            LockWait::TimedOut { holder, waited } => Err(FetchError::Busy { holder, waited }.into()),
            LockWait::Stopped => {
                let code = signals::caught().unwrap_or(Code::Interrupted);
                Err(Failure::new(code, FetchError::Interrupted))
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let held = runtime.map_err(|error| Failure::new(Code::Unexpected, error))?.block_on(waiting);
    progress.finish();
    held
}
