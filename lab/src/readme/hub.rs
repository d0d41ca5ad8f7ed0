//! The testbed's Hub with the files of the documents and of checks, and a folder with a workflow.
//!
//! With a token, every repository is gated, so each use needs it. The folder has a `workflow.json` with a model at its top, one
//! in a subgraph, and one that a widget only names.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::{BlockingOrigin, Content, OriginConfig};
use serde_json::{Value, json};

/// The repositories of the Hub and their files: those of the documents, then those of the checks.
const FILES: [(&str, &str); 16] = [
    ("Comfy-Org/Qwen-Image_ComfyUI", "split_files/vae/qwen_image_vae.safetensors"),
    ("Comfy-Org/Qwen-Image_ComfyUI", "split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors"),
    ("lightx2v/Qwen-Image-Lightning", "Qwen-Image-Lightning-4steps-V1.0.safetensors"),
    ("lightx2v/Qwen-Image-Lightning", "Qwen-Image-Lightning-8steps-V1.0.safetensors"),
    ("me/models", "a.safetensors"),
    ("me/models", "b.safetensors"),
    ("me/models", "c.safetensors"),
    ("me/models", "d.safetensors"),
    ("me/comfyui", "split_files/diffusion_models/model.safetensors"),
    ("me/comfyui", "split_files/text_encoders/encoder.safetensors"),
    ("me/comfyui", "split_files/vae/ae.safetensors"),
    ("me/comfyui", "checkpoint.safetensors"),
    ("me/comfyui", "control.safetensors"),
    ("me/comfyui", "detail.safetensors"),
    ("me/comfyui", "style.safetensors"),
    ("me/other", "ae.safetensors"),
];

/// The models for which the workflow has a URL, in the folders of `ComfyUI`.
pub(crate) const WORKFLOW_MODELS: [&str; 2] =
    ["vae/qwen_image_vae.safetensors", "text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors"];

/// The size of each file, in bytes.
const SIZE: u64 = 1_500_000;

/// The Hub, its file store, and the folder.
#[derive(Debug)]
pub(crate) struct HubFixture {
    pub(crate) folder: Utf8PathBuf,
    token: Option<&'static str>,
    hub: BlockingOrigin,
    files: Hub,
    _store: BlockingOrigin,
}

impl HubFixture {
    /// Starts the Hub and creates the folder. With a `token`, the Hub requires it, and scripts have it.
    pub(crate) fn start(folder: &Utf8Path, token: Option<&'static str>) -> Result<Self> {
        let start = || BlockingOrigin::start(OriginConfig::default()).context("starting an origin");
        let (hub, store) = (start()?, start()?);
        let files = Hub::mount(&hub, &store);
        for (repository, path) in FILES {
            files.commit(repository, "main", &[(path, content(path))]);
            if let Some(token) = token {
                files.gate(repository, token);
            }
        }
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("workflow.json"), workflow().to_string())?;
        Ok(Self { folder: folder.to_owned(), token, hub, files, _store: store })
    }

    /// A script with these commands, which run in the folder and use the Hub.
    pub(crate) fn script(&self, commands: &str) -> String {
        let token = self.token.map(|token| format!("export HF_TOKEN={token}\n")).unwrap_or_default();
        format!(
            "cd '{}'\nunset PROVISION_LOCK PROVISION_DEST HF_TOKEN\nexport HF_ENDPOINT={}\n{token}{commands}",
            self.folder,
            self.hub.url(""),
        )
    }

    /// Commits other bytes to a branch that the documents follow.
    pub(crate) fn move_branch(&self) {
        let (repository, path) = FILES[0];
        self.files.commit(repository, "main", &[(path, Content::safetensors(99, SIZE))]);
    }

    /// The number of requests to the Hub so far.
    pub(crate) fn requests(&self) -> u64 {
        self.hub.counters().requests
    }
}

/// The bytes of a file of the Hub, by its name.
pub(crate) fn content(path: &str) -> Content {
    let name = path.rsplit('/').next().unwrap_or(path);
    Content::safetensors(name.bytes().map(u64::from).sum(), SIZE)
}

/// A workflow with the keys of `ComfyUI` that an import reads.
fn workflow() -> Value {
    let [top, subgraph] = WORKFLOW_MODELS.map(|path| {
        let (folder, name) = path.split_once('/').unwrap_or_default();
        let repository = FILES[0].0;
        let url =
            format!("https://huggingface.co/{repository}/resolve/main/split_files/{path}?download=true");
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
