//! `--warm`: reads the complete set into memory, and reports the files that were read and those that were not.

use super::arguments::FetchArgs;
use super::exit::{Code, Failure};
use super::progress::Verbosity;
use super::signals::{self, StoppableRun};
use super::{say, units};
use provision_core::lockfile::Model;
use provision_core::terminal_text::TerminalText;
use provision_engine::warm::{self, Warmed};

/// The files that could not be read and are named.
const NAMED: usize = 3;

/// Warms the models, if the options say so. The set is complete.
///
/// # Errors
/// It was stopped. A file that cannot be read is only a warning.
pub(super) fn run(args: &FetchArgs, models: &[&Model]) -> Result<(), Failure> {
    if !args.machine.warm || args.dry_run {
        return Ok(());
    }
    let Some(destination) = args.place.open()? else { return Ok(()) };
    let Some(free) = warm::free_memory() else {
        say("warning: nothing is read into memory: /proc/meminfo does not say how much is free");
        return Ok(());
    };
    let run = StoppableRun::begin();
    let warmed = if signals::caught().is_some() {
        Warmed { interrupted: true, ..Warmed::default() }
    } else {
        warm::warm(&destination, models, free, &run.0)
    };
    drop(run);
    for error in warmed.failed.iter().take(NAMED) {
        say(format_args!("warning: not read into memory: {}", TerminalText(error.reason())));
    }
    if warmed.interrupted {
        let code = signals::caught().unwrap_or(Code::Interrupted);
        return Err(Failure::new(
            code,
            "interrupted while the models were read into memory; the set is complete",
        ));
    }
    if args.output.verbosity() > Verbosity::Quiet {
        say(line(&warmed));
    }
    Ok(())
}

/// `warm: 3 files, 1.2 GB read into memory in 1.1 s (1.1 GB/s); 1 file, 20 GB left out: 12 GB may be used of the free
/// memory`.
fn line(warmed: &Warmed) -> String {
    let seconds = warmed.elapsed.as_secs_f64().max(0.001);
    let read = format!(
        "warm: {}, {} read into memory in {} ({})",
        units::count(warmed.files, "file"),
        units::bytes(warmed.bytes),
        units::duration(warmed.elapsed),
        units::rate(warmed.bytes as f64 / seconds)
    );
    let more = match warmed.failed.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; {more} more could not be read"),
    };
    match warmed.left_out {
        (0, _) => format!("{read}{more}"),
        (files, bytes) => format!(
            "{read}{more}; {}, {} left out: of the free memory, {} are for files",
            units::count(files, "file"),
            units::bytes(bytes),
            units::bytes(warmed.budget)
        ),
    }
}
