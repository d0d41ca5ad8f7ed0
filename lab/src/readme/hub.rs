//! A block of the README that wants the Hub, run as written against the testbed's Hub.
//!
//! The commands stand in a directory of their own below `target`, where cargo still finds the workspace and its alias. There
//! is a `workflow.json`, as a person has one: a file with its address, one in a subgraph, and one that a widget only names.
//! Afterwards every file with an address has to be somewhere below that directory, byte for byte.

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use provision_testbed::hosts::hub::Hub;
use provision_testbed::{BlockingOrigin, Content, OriginConfig};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::project;

/// The repository's files and the folders of `ComfyUI` that they go into.
const FILES: [(&str, &str); 2] = [("vae", "x.safetensors"), ("loras", "y.safetensors")];

/// A shell for the block, and what it is to bring.
pub(super) struct Bench {
    folder: tempfile::TempDir,
    contents: [Content; 2],
    site: BlockingOrigin,
    _store: BlockingOrigin,
}

impl Bench {
    pub(super) fn new() -> Result<Self> {
        let start = || BlockingOrigin::start(OriginConfig::default()).context("starting an origin");
        let (site, store) = (start()?, start()?);
        let contents = [3, 4].map(|seed| Content::safetensors(seed, 1_500_000));
        let paths = FILES.map(|(folder, name)| format!("split_files/{folder}/{name}"));
        let files: Vec<(&str, Content)> =
            paths.iter().map(String::as_str).zip(contents.iter().cloned()).collect();
        Hub::mount(&site, &store).commit("owner/repo", "main", &files);
        let parent = project::root().join("target/readme");
        std::fs::create_dir_all(&parent)?;
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(&parent)?;
        std::fs::write(folder.path().join("workflow.json"), workflow().to_string())?;
        Ok(Self { folder, contents, site, _store: store })
    }

    /// Runs it; what the process ended with and said.
    pub(super) fn run(&self, sh: &Shell, script: &str) -> Result<std::process::Output> {
        let _there = sh.push_dir(self.folder.path());
        let command = cmd!(sh, "bash -e -u -o pipefail -c {script}")
            .env("HF_ENDPOINT", self.site.url(""))
            .env_remove("PROVISION_LOCK")
            .env_remove("PROVISION_DEST")
            .env_remove("HF_TOKEN");
        Ok(command.quiet().ignore_status().output()?)
    }

    /// Whether all that the workflow gives an address for is there.
    pub(super) fn check(&self) -> Result<()> {
        let folder = Utf8Path::from_path(self.folder.path()).context("a path that is not UTF-8")?;
        for ((directory, name), content) in FILES.iter().zip(&self.contents) {
            let end = format!("{directory}/{name}");
            let found = below(folder)?.into_iter().find(|path| path.ends_with(&end));
            let found = found.with_context(|| format!("{end} is not there afterwards"))?;
            ensure!(std::fs::read(&found)? == content.to_vec(), "{found} has other bytes");
        }
        Ok(())
    }
}

/// As `ComfyUI` saves it, as far as an import looks.
fn workflow() -> Value {
    let node = |id: usize, (folder, name): (&str, &str)| {
        let url = format!(
            "https://huggingface.co/owner/repo/resolve/main/split_files/{folder}/{name}?download=true"
        );
        json!({"id": id, "type": "Loader", "widgets_values": [name], "properties": {
            "models": [{"name": name, "url": url, "directory": folder}]
        }})
    };
    json!({
        "nodes": [
            node(1, FILES[0]),
            {"id": 2, "type": "UpscaleModelLoader", "properties": {}, "widgets_values": ["4x.pth"]},
        ],
        "links": [],
        "definitions": {"subgraphs": [{"nodes": [node(1, FILES[1])]}]},
        "version": 0.4,
    })
}

/// All files below a directory.
fn below(directory: &Utf8Path) -> Result<Vec<camino::Utf8PathBuf>> {
    let mut files = Vec::new();
    for entry in directory.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(below(entry.path())?);
        } else {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}
