//! The emulated Hub, driven by the Hub's own client; and that client's cache, as `--reuse` reads it.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use anyhow::Result;
use camino::Utf8Path;
use provision_testbed::Content;
use xshell::cmd;

use super::{EmulatedHub, Fixture};
use crate::tools::{files, lock_text};

/// The Hub's client in a version that works: another one may require more of a Hub.
const CLIENT: &str = "huggingface_hub==2.4.0";

pub(super) fn check(fixture: &Fixture) -> Result<()> {
    let client = fixture.library(CLIENT, &[])?;
    let EmulatedHub { site, hub, store: _store } = EmulatedHub::start()?;
    let (large, small) = ("split_files/vae/x.safetensors", "config.json");
    let (content, text) = (Content::generated(7, 3_000_001), "{\"a\": 1}");
    let files = [(large, content.clone()), (small, Content::bytes(text))];
    hub.commit("org/gated", "main", &files);
    hub.gate("org/gated", "hf_good");
    let commit = hub.commit("org/repo", "main", &files);
    // Two folders and two files need two pages.
    hub.page(3);
    let (sh, home) = (&fixture.sh, fixture.scratch.fresh("home"));
    let script = fixture.scratch.file("hub.py", include_str!("hub.py"))?;
    let (sha256, size) = (content.sha256_hex(), content.size().to_string());
    cmd!(sh, "python3 {script} org/repo {commit} {large} {sha256} {size} {small} {text} org/gated hf_good 4")
        .env("PYTHONPATH", &client)
        .env("HF_ENDPOINT", site.url(""))
        .env("HF_HOME", &home)
        // With Xet a large file would come from a service that the testbed does not emulate.
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .quiet()
        .run()?;
    reuse(fixture, &home, &files)
}

/// Installs `files` from the client's cache in `home`, without network. The cache's layout is the client's.
fn reuse(fixture: &Fixture, home: &Utf8Path, files: &[(&str, Content)]) -> Result<()> {
    let text = lock_text::of_contents(files, |_| "https://unused.example/".to_owned());
    let lock = fixture.scratch.file("lock", text)?;
    for mode in ["copy", "link"] {
        let models = fixture.scratch.fresh("models");
        let arguments = ["fetch-models", "--offline", "--lock", lock.as_str(), "--dest", models.as_str()];
        fixture.run(&arguments)?.args(&["--reuse", home.as_str(), "--reuse-mode", mode]).exits(0)?;
        files::verify_contents(&models, files)?;
        println!("    --reuse {mode}: a large and a small file come from the client's cache");
    }
    Ok(())
}
