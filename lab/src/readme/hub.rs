//! A fixture for documented commands that need the Hub: the testbed's Hub and a workflow.
//!
//! The commands run in a directory below `target`, where cargo finds the workspace and its aliases. The directory has a
//! `workflow.json` with a model at its top, one in a subgraph, and one that a widget only names. Afterwards every model
//! with a URL must be below the directory, byte for byte.

use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::{BlockingOrigin, Content, OriginConfig};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::files::files_below;
use crate::tools::scratch::Scratch;

/// The folders of `ComfyUI` and the models that belong there.
const MODELS: [&str; 2] = ["vae/x.safetensors", "loras/y.safetensors"];

/// The Hub, its file store, and the directory with the workflow.
pub(super) struct HubFixture {
    scratch: Scratch,
    contents: [Content; 2],
    hub: BlockingOrigin,
    _store: BlockingOrigin,
}

impl HubFixture {
    pub(super) fn new() -> Result<Self> {
        let start = || BlockingOrigin::start(OriginConfig::default()).context("starting an origin");
        let (hub, store) = (start()?, start()?);
        let contents = [3, 4].map(|seed| Content::safetensors(seed, 1_500_000));
        let paths = MODELS.map(|path| format!("split_files/{path}"));
        let files: Vec<_> = paths.iter().map(String::as_str).zip(contents.iter().cloned()).collect();
        Hub::mount(&hub, &store).commit("owner/repo", "main", &files);
        let parent = project::root().join("target/readme");
        std::fs::create_dir_all(&parent)?;
        let scratch = Scratch::create(&parent, "run-")?;
        std::fs::write(scratch.path().join("workflow.json"), workflow().to_string())?;
        Ok(Self { scratch, contents, hub, _store: store })
    }

    /// Runs a script in the directory.
    pub(super) fn run(&self, sh: &Shell, script: &str) -> Result<Output> {
        let _pushed = sh.push_dir(self.scratch.path());
        let command = cmd!(sh, "bash -e -u -o pipefail -c {script}")
            .env("HF_ENDPOINT", self.hub.url(""))
            .env_remove("PROVISION_LOCK")
            .env_remove("PROVISION_DEST")
            .env_remove("HF_TOKEN");
        Ok(command.quiet().ignore_status().output()?)
    }

    /// Requires every model for which the workflow has a URL.
    pub(super) fn verify(&self, sh: &Shell) -> Result<()> {
        let folder = self.scratch.path();
        let found = files_below(sh, folder)?;
        for (model, content) in MODELS.iter().zip(&self.contents) {
            let path = found.iter().find(|path| path.ends_with(model));
            let path = path.with_context(|| format!("the commands brought no {model}"))?;
            ensure!(std::fs::read(folder.join(path))? == content.to_vec(), "{path} has other bytes");
        }
        Ok(())
    }
}

/// A workflow with the keys of `ComfyUI` that an import reads.
fn workflow() -> Value {
    let [top, subgraph] = MODELS.map(|path| {
        let (folder, name) = path.split_once('/').unwrap_or_default();
        let url = format!("https://huggingface.co/owner/repo/resolve/main/split_files/{path}?download=true");
        json!({"id": 1, "type": "Loader", "widgets_values": [name], "properties": {
            "models": [{"name": name, "url": url, "directory": folder}]
        }})
    });
    let named =
        json!({"id": 2, "type": "UpscaleModelLoader", "properties": {}, "widgets_values": ["4x.pth"]});
    json!({
        "nodes": [top, named],
        "links": [],
        "definitions": {"subgraphs": [{"nodes": [subgraph]}]},
        "version": 0.4,
    })
}
