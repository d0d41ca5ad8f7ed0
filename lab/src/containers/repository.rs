//! A repository of one's own: it has the program and its image, and nothing else of this project.
//!
//! The program comes out of the image. The testbed's Hub has the files of the documents and of the checks, in a
//! gated repository, so every build needs the token. `docker` there adapts a Dockerfile to the engine, as
//! [`super::dockerfile`] does, and names the Hub.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use provision_testbed::hosts::hub::Hub;
use provision_testbed::{BlockingOrigin, Content, OriginConfig};
use serde_json::{Value, json};
use xshell::cmd;

use super::dockerfile::CACHE;
use super::engine;
use super::env::ContainerEnv;
use super::names::{CANARY, PROGRAM};
use crate::tools::process::Ended;

/// The repositories of the Hub and their files: those of the documents, and those of the checks.
const FILES: [(&str, &[&str]); 5] = [
    (
        "Comfy-Org/Qwen-Image_ComfyUI",
        &[
            "split_files/vae/qwen_image_vae.safetensors",
            "split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors",
        ],
    ),
    (
        "lightx2v/Qwen-Image-Lightning",
        &["Qwen-Image-Lightning-4steps-V1.0.safetensors", "Qwen-Image-Lightning-8steps-V1.0.safetensors"],
    ),
    ("me/models", &["a.safetensors", "b.safetensors", "c.safetensors", "d.safetensors"]),
    (
        "me/comfyui",
        &[
            "split_files/diffusion_models/model.safetensors",
            "split_files/text_encoders/encoder.safetensors",
            "split_files/vae/ae.safetensors",
            "checkpoint.safetensors",
            "control.safetensors",
            "detail.safetensors",
            "style.safetensors",
        ],
    ),
    ("me/other", &["ae.safetensors"]),
];

/// The size of each file, in bytes.
const SIZE: u64 = 1_500_000;

/// The repository, its Hub and its tools.
#[derive(Debug)]
pub(super) struct Repository<'a> {
    env: &'a ContainerEnv,
    pub(super) folder: Utf8PathBuf,
    /// Has `provision` and `docker`.
    programs: Utf8PathBuf,
    pub(super) hub: BlockingOrigin,
    files: Hub,
    _store: BlockingOrigin,
}

impl<'a> Repository<'a> {
    /// An empty repository. Requires the image [`PROGRAM`].
    pub(super) fn create(env: &'a ContainerEnv) -> Result<Self> {
        let start = || BlockingOrigin::start(OriginConfig::default()).context("starting an origin");
        let (hub, store) = (start()?, start()?);
        let files = Hub::mount(&hub, &store);
        for (name, paths) in FILES {
            let contents = paths.iter().map(|path| (*path, content(path)));
            files.commit(name, "main", &contents.collect::<Vec<_>>());
            files.gate(name, CANARY);
        }
        let scratch = &env.engine.scratch;
        let (folder, programs) = (scratch.fresh("repository"), scratch.fresh("programs"));
        let sh = env.engine.shell();
        sh.create_dir(&folder)?;
        sh.create_dir(&programs)?;
        let id = env.engine.read(cmd!(sh, "docker create {PROGRAM}"))?;
        env.engine.succeeds(cmd!(sh, "docker cp {id}:/provision {programs}/provision"))?;
        env.engine.succeeds(cmd!(sh, "docker rm {id}"))?;
        let wrapper = programs.join("docker");
        sh.write_file(&wrapper, docker(&format!("{}/bin/docker", scratch.path()), &hub.url("")))?;
        std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
        sh.write_file(folder.join("workflow.json"), workflow().to_string())?;
        Ok(Self { env, folder, programs, hub, files, _store: store })
    }

    /// Commits other bytes to a branch that the documents follow.
    pub(super) fn move_branch(&self) {
        let (name, paths) = FILES[0];
        self.files.commit(name, "main", &[(paths[0], Content::safetensors(99, SIZE))]);
    }

    /// Runs commands in the repository.
    pub(super) fn run(&self, commands: &str) -> Result<Ended> {
        let sh = self.env.engine.shell();
        let script = format!("set -eu -o pipefail\ncd '{}'\n{commands}\n", self.folder);
        let run = self.env.engine.program("bash".into())?.args(&["-c", &script]);
        let run = run.env("PATH", format!("{}:{}", self.programs, sh.var("PATH")?));
        let run = run.env("HOME", self.programs.as_str()).env("HF_TOKEN", CANARY);
        let run = run.env("HF_ENDPOINT", self.hub.url("")).env("BUILDKIT_PROGRESS", "plain");
        // A workflow of others may not name hosts of a private network, as the Hub is here.
        run.env("PROVISION_ALLOW_PRIVATE", "1").start()?.end_within(engine::TIMEOUT)
    }

    /// Runs commands, which must succeed.
    pub(super) fn succeeds(&self, commands: &str) -> Result<Ended> {
        self.run(commands)?.exited(0)
    }

    /// The number of requests to the Hub so far.
    pub(super) fn requests(&self) -> u64 {
        self.hub.counters().requests
    }
}

/// A file's bytes, the same in every repository.
pub(super) fn content(path: &str) -> Content {
    let name = path.rsplit('/').next().unwrap_or(path);
    Content::safetensors(name.bytes().map(u64::from).sum(), SIZE)
}

/// A script in place of docker: the engine's wrapper, with a Dockerfile that the engine can read.
fn docker(engine: &str, hub: &str) -> String {
    format!(
        r#"#!/bin/sh
# By `cargo lab containers`: reaches the testbed's Hub from builds and containers, in an engine without a registry.
verb=$1
case $verb in
    run)
        shift
        set -- run --env HF_ENDPOINT "$@"
        ;;
    build)
        last=
        for argument; do
            shift
            if [ "$last" = --file ]; then
                sed -e '/^# syntax=/d' -e 's/^COPY --link /COPY /' -e 's/id=provision-models,/id={CACHE},/' \
                    -e 's|^FROM .* AS models$|&\nENV HF_ENDPOINT={hub}|' "$argument" > "$HOME/Dockerfile"
                argument=$HOME/Dockerfile
            fi
            last=$argument
            set -- "$@" "$argument"
        done
        ;;
esac
exec '{engine}' "$@"
"#
    )
}

/// A workflow with two models, in the form that `ComfyUI` saves.
fn workflow() -> Value {
    let (repository, paths) = FILES[0];
    let node = |path: &&str| {
        let (directory, name) = path.trim_start_matches("split_files/").split_once('/').unwrap_or_default();
        let url = format!("https://huggingface.co/{repository}/resolve/main/{path}");
        let model = json!({ "name": name, "url": url, "directory": directory });
        json!({ "type": "Loader", "widgets_values": [name], "properties": { "models": [model] } })
    };
    json!({ "nodes": paths.iter().map(node).collect::<Vec<_>>(), "links": [] })
}
