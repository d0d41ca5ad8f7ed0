//! The costs and gains of piece lists: this program with lists beside itself without, by turns.

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use provision_core::digest::Sha256;
use provision_core::piece_list::{DIRECTORY, Lister};

use super::file_set::{BenchFile, FileSet, counted};
use super::origin::{Origin, OriginKind};
use super::report::{Outcome, Row};
use super::rounds::{Bench, Lane, alternate};
use super::space;
use super::tool::{Check, LISTLESS, OURS, lock_entry, write_lock};
use crate::tools::lock_text;

/// Nothing listens there.
const NO_ORIGIN: &str = "http://127.0.0.1:9";

/// The bytes that are generated at once.
const BLOCK: u64 = 1 << 20;

/// One file in memory, verified in place.
pub(super) fn verify(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
    let set = FileSet::equal(1, bench.scale.of(2_000_000_000));
    space::require(bench.memory, true, set.total())?;
    let place = bench.memory.join("verify");
    outcome.setting = format!("{} in memory; {} cores", set.description(), bench.cores);
    set.write(&place)?;
    let program = bench.programs.first().context("no program of ours")?;
    let lanes = locks(bench, &set, NO_ORIGIN)?.map(|(name, lock)| {
        let command = program.own_command("verify", &lock, &place);
        Lane::new(Row::new(name, Check::Itself, set.total()), move |_| bench.meter.run(&command))
    });
    alternate(bench.rounds.clone(), lanes.into(), outcome)?;
    Ok(bench.sh.remove_path(&place)?)
}

/// One file and the four files from nginx, memory to memory.
pub(super) fn fetch(bench: &Bench<'_>, outcome: &mut Outcome) -> Result<()> {
    let kind = OriginKind::Nginx;
    outcome.setting = format!("{}, memory to memory", kind.description());
    let program = bench.programs.first().context("no program of ours")?;
    let destination = &bench.memory.join("destination");
    for set in [FileSet::equal(1, bench.scale.of(2_000_000_000)), bench.qwen()] {
        space::require(bench.memory, true, 2 * set.total())?;
        let origin = Origin::start(bench.sh, kind, &set, bench.memory)?;
        let lanes = locks(bench, &set, &origin.base)?.map(|(name, lock)| {
            let mut row = Row::new(name, Check::Itself, set.total());
            row.case = Some(counted(set.0.len(), "file"));
            let (set, command) = (&set, program.fetch(&lock, destination));
            Lane::new(row, move |_| {
                let cost = bench.meter.run(&command)?;
                set.check_sizes(destination)?;
                bench.sh.remove_path(destination)?;
                Ok(cost)
            })
        });
        alternate(bench.rounds.clone(), lanes.into(), outcome)?;
    }
    Ok(())
}

/// A lock of the set with a list for each file, and one without: the name of its row, and its path.
fn locks(bench: &Bench<'_>, set: &FileSet, base: &str) -> Result<[(&'static str, Utf8PathBuf); 2]> {
    let folder = bench.meter.folder.join("with-lists");
    let lists = folder.join(DIRECTORY);
    bench.sh.remove_path(&lists)?;
    bench.sh.create_dir(&lists)?;
    let mut text = lock_text::VERSION.to_owned();
    for file in &set.0 {
        text += &lock_entry(file, base);
        let (bytes, digest) = list_of(file)?;
        bench.sh.write_file(lists.join(&digest), bytes)?;
        text.extend(["pieces = \"", &digest, "\"\n"]);
    }
    let (with, without) = (folder.join("models.lock"), bench.meter.folder.join("models.lock"));
    bench.sh.write_file(&with, text)?;
    write_lock(&without, set, base)?;
    Ok([(OURS, with), (LISTLESS, without)])
}

/// The bytes of a file's list, and their digest.
fn list_of(file: &BenchFile) -> Result<(Vec<u8>, String)> {
    let size = file.content.size();
    let mut lister = Lister::new(size);
    for start in (0..size).step_by(BLOCK as usize) {
        lister.update(&file.content.slice(start..size.min(start + BLOCK)));
    }
    let list = lister.finish(file.content.sha256_hex().parse()?);
    let bytes = list.write().with_context(|| format!("{} is too short for a list", file.path))?;
    let digest = Sha256::of(&bytes).to_string();
    Ok((bytes, digest))
}
