//! Pictures with a workflow, written by Pillow as `ComfyUI`'s nodes write them, and imported by the program.
//!
//! The unit tests build the same files themselves, so reader and writer could share a mistake. Here the library that
//! `ComfyUI` uses writes them.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::Content;
use provision_testbed::hosts::hub::Hub;
use serde_json::json;
use xshell::{Shell, cmd};

use crate::tools::process::Run;
use crate::tools::program;
use crate::tools::scratch::Scratch;

/// The library in a version that writes AVIF too.
const PILLOW: &str = "pillow==13.0.0";

/// Checks that each picture gives the lock the model of its workflow. Libraries are kept in `folder`.
pub(super) fn check(sh: &Shell, folder: &Utf8Path, scratch: &Scratch) -> Result<()> {
    let library = folder.join(PILLOW);
    if !library.join("PIL").is_dir() {
        let options = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore", "--target"];
        cmd!(sh, "pip install {options...} {library} {PILLOW}")
            .run()
            .with_context(|| format!("pip could not install {PILLOW}"))?;
    }
    let (origin, store) = (super::start_origin()?, super::start_origin()?);
    let hub = Hub::mount(&origin, &store);
    hub.commit("org/repo", "main", &[("x.safetensors", Content::generated(9, 4001))]);
    let url = "https://huggingface.co/org/repo/resolve/main/x.safetensors";
    let model = json!({"name": "x.safetensors", "url": url, "directory": "vae"});
    let node = json!({"id": 1, "type": "VAELoader", "properties": {"models": [model]}, "title": "größer"});
    let workflow = json!({"nodes": [node], "version": 0.4}).to_string();
    let prompt = "{\"1\": {\"class_type\": \"VAELoader\", \"inputs\": {\"vae_name\": \"other.safetensors\"}, \
                  \"is_changed\": [NaN]}}";
    let script = super::script(scratch, "pictures.py", include_str!("pictures.py"))?;
    let pictures = scratch.fresh("pictures");
    let written = cmd!(sh, "python3 {script} {pictures} {workflow} {prompt}")
        .env("PYTHONPATH", &library)
        .quiet()
        .read()?;
    let pictures: Vec<Utf8PathBuf> = written.lines().map(Utf8PathBuf::from).collect();
    ensure!(pictures.len() >= 6, "Pillow wrote only {pictures:?}");
    let (program, path) = (program::xtask(sh)?, sh.var("PATH")?);
    for picture in &pictures {
        let lock = scratch.fresh("lock");
        Run::new(&program, &path, scratch.fresh("run"))?
            .env("HF_ENDPOINT", origin.url(""))
            .args(&["lock", "import", picture.as_str(), "--lock", lock.as_str()])
            .start()?
            .end()?
            .exited(0)?
            .says(&["vae/x.safetensors"])?;
        println!("    {}: its workflow's model is in the lock", picture.file_name().unwrap_or_default());
    }
    Ok(())
}
