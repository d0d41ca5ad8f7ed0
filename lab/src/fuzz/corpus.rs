//! The saved corpus: what somebody wrote keeps its name, what the engine found is named by its digest, and nothing is
//! kept that adds nothing.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;

use super::Target;
use super::engine::{Engine, logged};
use crate::project;

/// Puts the shortest inputs that together reach what all reached into `lab/fuzz/corpus`, and says what that has now.
pub(super) fn save(engine: &Engine, target: Target) -> Result<String> {
    let name = target.name();
    let at = Engine::directory(&name);
    let merged = at.join("merged");
    let saved = project::root().join("lab/fuzz/corpus").join(&name);
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged).with_context(|| format!("making {merged}"))?;
    let log = at.join("merge.log");
    let mut merge = engine.command(&name)?;
    merge.args(["-merge=1", "-use_value_profile=0"]).arg(format!("-max_len={}", target.longest()));
    // The first directories count first: what somebody wrote stays, whatever else reaches the same.
    let status = logged(merge.args([&merged, &saved, &at.join("corpus")]), &log)?;
    ensure!(status.success(), "{name}: merging failed; all that was said: {log}");
    for path in files(&saved)? {
        if is_digest(&path) {
            fs::remove_file(&path).with_context(|| format!("removing {path}"))?;
        }
    }
    let known: Vec<Vec<u8>> = files(&saved)?.iter().filter_map(|path| fs::read(path).ok()).collect();
    for path in files(&merged)? {
        let bytes = fs::read(&path).with_context(|| format!("reading {path}"))?;
        if !known.contains(&bytes) {
            let to = saved.join(path.file_name().unwrap_or_default());
            fs::write(&to, bytes).with_context(|| format!("writing {to}"))?;
        }
    }
    let sizes: Vec<u64> =
        files(&saved)?.iter().filter_map(|path| fs::metadata(path).ok()).map(|m| m.len()).collect();
    Ok(format!("{} inputs saved, {} bytes", sizes.len(), sizes.iter().sum::<u64>()))
}

fn files(directory: &Utf8Path) -> Result<Vec<camino::Utf8PathBuf>> {
    let entries = directory.read_dir_utf8().with_context(|| format!("listing {directory}"))?;
    entries.map(|entry| Ok(entry?.into_path())).collect()
}

fn is_digest(path: &Utf8Path) -> bool {
    path.file_name().is_some_and(|name| name.len() == 40 && name.bytes().all(|b| b.is_ascii_hexdigit()))
}
