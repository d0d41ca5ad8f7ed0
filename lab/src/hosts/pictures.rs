//! Pictures with a workflow, written by Pillow as `ComfyUI`'s nodes write them, and imported by the program.
//!
//! The unit tests build the same files themselves, so reader and writer could share a mistake. Here the library that
//! `ComfyUI` uses writes them.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use anyhow::{Result, ensure};
use camino::Utf8Path;
use provision_testbed::Content;
use serde_json::json;
use xshell::cmd;

use super::{EmulatedHub, Fixture};

/// The library in a version that writes AVIF too.
const PILLOW: &str = "pillow==13.0.0";

/// Checks that each picture gives the lock the model of its workflow.
pub(super) fn check(fixture: &Fixture) -> Result<()> {
    let library = fixture.library(PILLOW, &[])?;
    let EmulatedHub { site, hub, store: _store } = EmulatedHub::start()?;
    hub.commit("org/repo", "main", &[("x.safetensors", Content::generated(9, 4001))]);
    let url = "https://huggingface.co/org/repo/resolve/main/x.safetensors";
    let model = json!({"name": "x.safetensors", "url": url, "directory": "vae"});
    let node = json!({"id": 1, "type": "VAELoader", "properties": {"models": [model]}, "title": "größer"});
    let workflow = json!({"nodes": [node], "version": 0.4}).to_string();
    let prompt = "{\"1\": {\"class_type\": \"VAELoader\", \"inputs\": {\"vae_name\": \"other.safetensors\"}, \
                  \"is_changed\": [NaN]}}";
    let (sh, folder) = (&fixture.sh, fixture.scratch.fresh("pictures"));
    let script = fixture.scratch.file("pictures.py", include_str!("pictures.py"))?;
    let written = cmd!(sh, "python3 {script} {folder} {workflow} {prompt}").env("PYTHONPATH", &library);
    let written = written.quiet().read()?;
    ensure!(written.lines().count() >= 6, "Pillow wrote only {written}");
    for picture in written.lines() {
        let lock = fixture.scratch.fresh("lock");
        let run = fixture.run(&["lock", "import", picture, "--lock", lock.as_str()])?;
        run.env("HF_ENDPOINT", site.url("")).exits(0)?.says(&["vae/x.safetensors"])?;
        let name = Utf8Path::new(picture).file_name().unwrap_or_default();
        println!("    {name}: its workflow's model is in the lock");
    }
    Ok(())
}
