//! The files of `provision init`, in a repository that has nothing of this project but the program and its image.

#![expect(clippy::print_stdout, reason = "a log needs the messages that a user would see")]

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use super::engine::PROGRAM;
use super::env::ContainerEnv;
use super::repository::Repository;
use super::validators;
use crate::readme::hub::content;
use crate::tools::steps::indented;

/// The files of the Hub and their places: directories that this project's lock lacks, and a file beside them.
const MODELS: [(&str, &str); 3] = [
    ("a.safetensors", "controlnet/a.safetensors"),
    ("b.safetensors", "my nodes/b.safetensors"),
    ("c.safetensors", "c.safetensors"),
];
/// The place of a file that comes later.
const LATER: (&str, &str) = ("d.safetensors", "new (1)/d.safetensors");

/// The image, and the program's image for another platform.
const OWN: &str = "provision-check:own";
const PROGRAM_ARM: &str = "provision-check:arm64";

/// The build of the image, with the token as a secret.
const BUILD: &str = "docker build --secret id=hf_token,env=HF_TOKEN --tag provision-check:own";

pub(super) fn run(env: &ContainerEnv) -> Result<()> {
    let repository = Repository::create(env)?;
    let succeeds = |commands: &str| repository.succeeds(commands);
    let add = |(file, path): (&str, &str)| {
        succeeds(&format!("provision lock add hf:me/models/{file} --path '{path}'"))
    };
    succeeds("provision init")?.says(&["created    models.lock", "--dockerfile"])?;
    for model in MODELS {
        add(model)?;
    }
    let base = "--base-image debian:bookworm-slim";
    let ended = succeeds(&format!("provision init --dockerfile --github --pre-start --kubernetes {base}"))?;
    println!("{}", indented(&ended.stdout));

    let build = format!("{BUILD} --file Dockerfile.models .");
    succeeds(&build)?;
    // The lock's first digest is in the image.
    let known = succeeds("sed -n '/^sha256 = /{ s/[^\"]*\"//; s/\"//; p; q }' models.lock")?.stdout;
    env.verify_layers(&[OWN], known.trim(), MODELS.iter().map(|(_, path)| *path))?;
    let models = env.last_layers(OWN, MODELS.len())?;
    succeeds(&format!("{build} --no-cache"))?;
    ensure!(env.last_layers(OWN, MODELS.len())? == models, "other layers without cache");
    other_platform(env, &repository)?;
    ensure!(env.last_layers(OWN, MODELS.len())? == models, "other layers for another platform");

    // The lock and the Dockerfile differ: the build ends before any request.
    add(LATER)?;
    let requests = repository.hub.requests();
    let refused = |reason: &str| {
        let ended =
            repository.run(&build)?.exited(1)?.says(&[reason, "run `provision init --dockerfile`"])?;
        let said = ended.stderr.lines().find(|line| line.contains(reason)).unwrap_or_default();
        println!("{}", indented(said));
        Ok::<_, anyhow::Error>(())
    };
    refused("it has no layer for new (1)/")?;
    succeeds("provision lock remove 'my nodes/*'")?;
    refused("the lock has no model in my nodes/")?;
    ensure!(repository.hub.requests() == requests, "a build that was refused sent requests");
    succeeds("provision init --dockerfile")?.says(&["updated    Dockerfile.models"])?;
    succeeds(&build)?;

    start(&repository)?;
    repair(&repository)?;
    let documents = validators::validate(env, &repository.hub.folder)?;
    init_container(&repository, &documents)
}

/// An image for another platform; nothing runs for that platform. An engine without a registry has one platform behind a
/// name, so the program's image for the other one has another name.
fn other_platform(env: &ContainerEnv, repository: &Repository<'_>) -> Result<()> {
    let text = format!(
        "FROM --platform=$BUILDPLATFORM {PROGRAM} AS built\nFROM scratch\nCOPY --from=built /provision /provision\n"
    );
    let options = format!("--platform linux/arm64 --tag {PROGRAM_ARM}");
    env.build(&env.server.scratch.fresh("context"), &options, &text)?;
    let stage = "FROM ${PROVISION_IMAGE} AS program";
    repository.succeeds(&format!(
        "sed 's|^{stage}$|FROM {PROGRAM_ARM} AS program|' Dockerfile.models > \"$HOME/Dockerfile.arm64\"
        if cmp --quiet Dockerfile.models \"$HOME/Dockerfile.arm64\"; then exit 1; fi
        {BUILD} --file \"$HOME/Dockerfile.arm64\" --platform linux/arm64 --build-arg BASE_IMAGE=scratch ."
    ))?;
    env.verify_platform(OWN, "linux/arm64")
}

/// The start script fills a volume from the image, and becomes its command.
fn start(repository: &Repository<'_>) -> Result<()> {
    let requests = repository.hub.requests();
    let run =
        format!("docker run --rm --volume \"$PWD/volume:/workspace/ComfyUI/models\" {OWN} /pre_start.sh");
    let ended =
        repository.succeeds(&format!("shellcheck pre_start.sh\nmkdir volume\n{run} provision status"))?;
    ended.says(&["copied from the baked directory", "3 of 3 files installed"])?;
    repository.succeeds(&format!("{run} true"))?.says(&["nothing to do"])?;
    ensure!(repository.hub.requests() == requests, "the start of a baked image sent requests");
    files(&repository.hub.folder.join("volume"))
}

/// The command of docs/questions.md finds a damaged file and mends it.
fn repair(repository: &Repository<'_>) -> Result<()> {
    const COMMAND: &str = "provision verify --dest ComfyUI/models || provision fetch --dest ComfyUI/models";
    let damage = "printf x | dd of=ComfyUI/models/c.safetensors bs=1 seek=999 conv=notrunc status=none";
    repository.succeeds(&format!("provision fetch --dest ComfyUI/models\n{damage}"))?;
    repository.succeeds(COMMAND)?.says(&["c.safetensors", "1 fetched"])?;
    files(&repository.hub.folder.join("ComfyUI/models"))
}

/// Runs the pod's init container as the file says: its arguments, variables, user and limits.
fn init_container(repository: &Repository<'_>, documents: &[Value]) -> Result<()> {
    let pod = documents.iter().find(|document| document["kind"] == "Pod").context("there is no pod")?;
    let (spec, container) = (&pod["spec"], &pod["spec"]["initContainers"][0]);
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no text: {value}"));
    let list = |key: &str| container[key].as_array().with_context(|| format!("no {key} in {container}"));
    ensure!(container["image"] == PROGRAM, "{container}");
    let security = &container["securityContext"];
    ensure!(security["readOnlyRootFilesystem"] == true && security["runAsNonRoot"] == true, "{security}");
    let (group, user) = (&spec["securityContext"]["fsGroup"], &security["runAsUser"]);
    ensure!(group.is_u64() && user.is_u64(), "no fsGroup or runAsUser in {spec}");
    let volume = repository.hub.folder.join("pod-volume");
    let capability = text(&security["capabilities"]["drop"][0])?;
    let limits = "--rm --read-only --security-opt no-new-privileges";
    let mut options = vec![format!("{limits} --cap-drop {capability}")];
    for mount in list("volumeMounts")? {
        let place = text(&mount["mountPath"])?;
        options.push(match mount["name"].as_str() {
            Some("lock") => format!("--volume \"$PWD/models.lock:{place}/models.lock:ro\""),
            _ => format!("--volume {volume}:{place}"),
        });
    }
    for variable in list("env")? {
        // A secret's value comes from outside, where the variable has the same name.
        let value = variable["value"].as_str().map(|value| format!("={value}")).unwrap_or_default();
        options.push(format!("--env {}{value}", text(&variable["name"])?));
    }
    options.push(PROGRAM.to_owned());
    for argument in list("args")? {
        options.push(text(argument)?);
    }
    let command = options.join(" ");
    // As the kubelet prepares a volume for fsGroup.
    repository.succeeds(&format!("mkdir {volume}\nchgrp {group} {volume}\nchmod 2775 {volume}"))?;
    // The user of the file, and one as an administrator may give it.
    for (user, says) in [(user, "done: 3 files"), (&Value::from(54_321), "nothing to do")] {
        repository.succeeds(&format!("docker run --user {user}:{group} {command}"))?.says(&[says])?;
    }
    files(&volume)
}

/// Requires every file of the lock in its directory, byte for byte.
fn files(volume: &Utf8Path) -> Result<()> {
    for (file, path) in [MODELS[0], MODELS[2], LATER] {
        ensure!(
            std::fs::read(volume.join(path))? == content(file).to_vec(),
            "{volume}/{path} has other bytes"
        );
    }
    Ok(())
}
