//! `verify`: hashes every file and lists the wrong ones. No marker vouches for them afterwards.

use std::time::Instant;

use super::arguments::{VerifyArgs, threads};
use super::environment::Network;
use super::exit::{Code, Failure};
use super::locks::Access;
use super::progress::Verbosity;
use super::{locks, say, tell, units};
use provision_core::byte_size::ByteSize;
use provision_core::event::Silent;
use provision_core::lockfile::Model;
use provision_engine::inspect::{self, FileState};

/// Hashes the chosen files on all cores.
///
/// # Errors
/// [`Code::Integrity`] if a file is missing or wrong.
pub fn run(args: &VerifyArgs, default_lock: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let place = args.place.with_installation()?;
    let texts = locks::read_all(&place, default_lock, &mut Access::with(&mut Network::default()))?;
    let lock = texts.join()?;
    let models = locks::select(&lock, &args.choice.clone().into())?;
    locks::check_destination(&place)?;
    let mut distrusted = Ok(());
    let states = match place.open()? {
        Some(destination) => {
            let states = inspect::hash(&destination, &models, threads(), &Silent);
            distrusted = inspect::distrust(&destination, &models, &states);
            states
        }
        None => models.iter().map(|_| FileState::Missing).collect(),
    };
    let mut wrong = 0;
    for (model, state) in models.iter().zip(&states) {
        if let FileState::Right(_) = state {
            if args.output.verbosity() == Verbosity::Verbose {
                tell(format_args!("ok       {}", model.path));
            }
            continue;
        }
        wrong += 1;
        tell(format_args!("wrong    {}: {}", model.path, describe(model, state)));
    }
    let bytes: u64 =
        models.iter().zip(&states).filter(|(_, c)| c.is_right()).map(|(model, _)| model.size).sum();
    let place = place.dest();
    if wrong == 0 {
        if args.output.verbosity() > Verbosity::Quiet {
            let took = started.elapsed();
            let rate = units::rate(bytes as f64 / took.as_secs_f64().max(0.001));
            say(format_args!(
                "verified: {}, {} in {place}, hashed in {} ({rate})",
                units::count(models.len(), "file"),
                units::bytes(bytes),
                units::duration(took)
            ));
        }
        return Ok(());
    }
    // Without the right to change anything here, a marker goes on vouching for what is wrong.
    let stay = states.iter().filter(|state| !state.is_right() && !state.is_mended_by_fetch()).count();
    let advice = match distrusted {
        Ok(()) if stay == wrong => "a fetch cannot replace what is in the way or cannot be read".to_owned(),
        Ok(()) if stay > 0 => {
            "the next fetch replaces what is wrong, but not what is in the way or cannot be read".to_owned()
        }
        Ok(()) => "the next fetch replaces what is wrong".to_owned(),
        Err(error) => format!("fetch with --verify full to replace what is wrong ({})", error.reason()),
    };
    let unreadable = |state: &FileState| matches!(state, FileState::Unreadable(_) | FileState::Right(_));
    Err(Failure::new(
        // An unreadable file may be right.
        if states.iter().all(unreadable) { Code::Disk } else { Code::Integrity },
        format!(
            "{wrong} of {} in {place} not as the lock says; {advice}",
            units::count(models.len(), "file")
        ),
    ))
}

/// What is wrong with a model's file.
pub(super) fn describe(model: &Model, state: &FileState) -> String {
    match state {
        FileState::Right(_) => "right".to_owned(),
        FileState::Missing => "missing".to_owned(),
        FileState::WrongSize { found } => {
            let (found, size) = (ByteSize(*found).exact(), ByteSize(model.size).exact());
            format!("has {found}, the lock says {size}")
        }
        FileState::WrongDigest { found, .. } => {
            format!("has SHA-256 {found}, the lock says {}", model.sha256)
        }
        FileState::NotAFile(what) if state.is_mended_by_fetch() => format!("is {what} to no file"),
        FileState::NotAFile(what) => format!("is {what}, not a file: move it away"),
        FileState::Unreadable(error) => error.to_string(),
    }
}
