//! `status`: lists installed, missing and partial files. Reads names and sizes only; no network, no hashing. Only files
//! that a marker vouches for count as installed.

use super::arguments::{Locks, StatusArgs};
use super::exit::{Code, Failure};
use super::locks::{Access, Texts};
use super::{environment, locks, print_line, units};
use provision_core::byte_size::ByteSize;
use provision_core::lockfile::Model;
use provision_disk::{Destination, Found, PartFile};
use provision_engine::leftovers::{self, Kind, Scope};
use provision_engine::marker::Marker;

/// Prints the state of each model.
///
/// # Errors
/// [`Code::Incomplete`] if a model is not installed. The lock or the destination cannot be read.
pub fn run(args: &StatusArgs, default_lock: &str) -> Result<(), Failure> {
    let place = args.place.with_installation()?;
    let texts = locks::read_all(&place, default_lock, &mut Access::Never)?;
    let lock = texts.join()?;
    let models = locks::select(&lock, &args.choice.clone().into())?;
    locks::check_destination(&place)?;
    let destination = place.open()?;
    let marker = destination.as_ref().map(|place| Marker::load(place, lock.marker())).unwrap_or_default();
    let mut installed = 0;
    let mut unverified = 0;
    let (mut there, mut total) = (0, 0);
    for model in &models {
        let (word, detail) = match &destination {
            Some(destination) => look(destination, &marker, model)?,
            None => ("missing", units::bytes(model.size)),
        };
        let elsewhere = destination.as_ref().and_then(|destination| place_of(destination, model));
        print_line(format_args!("{word:<10} {}  {detail}{}", model.path, elsewhere.unwrap_or_default()));
        total += model.size;
        if word == "installed" {
            (installed, there) = (installed + 1, there + model.size);
        }
        unverified += usize::from(word == "unverified");
    }
    let marked = match &destination {
        Some(destination) if marker.covers(destination, models.iter().copied()) => "vouches for all of them",
        _ if marker.is_empty() => "is not there",
        _ => "does not vouch for all of them",
    };
    print_line(format_args!(
        "{installed} of {} installed, {} of {}; the marker {} {marked}",
        units::count(models.len(), "file"),
        units::bytes(there),
        units::bytes(total),
        lock.marker(),
    ));
    if let Some(destination) = &destination {
        tell_leftovers(destination, &texts, &args.place.locks)?;
    }
    if installed == models.len() || args.exit_zero {
        return Ok(());
    }
    let (left, total) = (models.len() - installed, units::count(models.len(), "file"));
    // A complete set that this user may only read never gets a marker: a fetch would not change the answer.
    let why = if unverified == left {
        format!(
            "{left} of {total} unverified, none missing or wrong in size; run verify to check their bytes"
        )
    } else {
        format!("{left} of {total} not installed; fetch to complete the set")
    };
    Err(Failure::new(Code::Incomplete, why))
}

/// One line, if something is left over that no run will use. Unreadable directories are left to `clean`.
fn tell_leftovers(destination: &Destination, texts: &Texts, locks: &Locks) -> Result<(), Failure> {
    let (kept, locks) = (locks::kept_names(locks)?, texts.separate()?);
    let scope = Scope { kept: &kept, ..Scope::new(&locks, environment::now()) };
    let leftovers = leftovers::find(destination, &scope)?;
    let useless = leftovers.found.iter().filter(|one| one.kind != Kind::Part { is_resumable: true });
    let (files, bytes) =
        useless.fold(leftovers.unlisted, |(files, bytes), one| (files + 1, bytes + one.bytes));
    if files > 0 {
        let files = units::count(files, "file");
        print_line(format_args!(
            "left over from earlier runs or other locks: {files}, {}; clean --unlisted --dry-run lists them",
            units::bytes(bytes)
        ));
    }
    Ok(())
}

/// The directory of a file that does not lie where its path says, for the end of its line.
fn place_of(destination: &Destination, model: &Model) -> Option<String> {
    let directory = destination.directory_of(&model.path).ok()?;
    (directory != model.path.parent())
        .then(|| format!(", in {}", destination.root().path().join(&*directory)))
}

fn look(
    destination: &Destination,
    marker: &Marker,
    model: &Model,
) -> Result<(&'static str, String), Failure> {
    let size = units::bytes(model.size);
    if let Some(installed) = marker.vouched(destination, model) {
        let detail = match installed.link {
            Some(target) => format!("{size}, a symlink to {target}"),
            None => size,
        };
        return Ok(("installed", detail));
    }
    Ok(match destination.find(&model.path)? {
        Found::File(stamp) if stamp.size == model.size => {
            ("unverified", format!("{size}, right size, but no marker vouches for its bytes"))
        }
        Found::File(stamp) => {
            let (found, size) = (ByteSize(stamp.size).exact(), ByteSize(model.size).exact());
            ("wrong", format!("{found}, the lock says {size}"))
        }
        Found::Symlink => {
            let target = destination.link_at(&model.path)?.unwrap_or_default();
            match destination.find_linked(&model.path, &target)? {
                Some((stamp, _)) if stamp.size == model.size => {
                    let why = "right size, but no marker vouches for its bytes";
                    ("unverified", format!("{size}, a symlink to {target}, {why}"))
                }
                _ => ("wrong", format!("a symlink to {target}, which is no file of {size}")),
            }
        }
        Found::Other(what) => ("wrong", format!("{what}, not a file")),
        Found::Nothing => match PartFile::claimed_bytes(destination, model, None)? {
            0 => ("missing", size),
            held => ("partial", format!("{} of {size}", units::bytes(held))),
        },
    })
}
