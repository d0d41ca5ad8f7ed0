//! The files of `provision init`, in a repository that has nothing of this project but the program and its image.

#![expect(clippy::print_stdout, reason = "a log needs the messages that a user would see")]

use anyhow::{Context as _, Result, ensure};
use camino::Utf8Path;
use serde_json::Value;
use xshell::cmd;

use crate::containers::env::ContainerEnv;
use crate::containers::names::{CANARY, OWN, OWN_PROGRAM, PROGRAM};
use crate::containers::repository::{Repository, content};
use crate::containers::{image_archive, validators};
use crate::tools::steps::indented;

/// The files of the Hub and their places: directories that this project's lock lacks, and a file beside them.
const MODELS: [(&str, &str); 3] = [
    ("a.safetensors", "controlnet/a.safetensors"),
    ("b.safetensors", "my nodes/b.safetensors"),
    ("c.safetensors", "c.safetensors"),
];
/// The place of a file that comes later.
const LATER: (&str, &str) = ("d.safetensors", "new (1)/d.safetensors");

/// The build of the image, with the token as a secret.
const BUILD: &str = "docker build --file Dockerfile.models --secret id=hf_token,env=HF_TOKEN";

pub(super) fn program(env: &mut ContainerEnv) -> Result<()> {
    env.build_image(&env.prebuilt, &["--target", "provision"])?;
    let sh = env.engine.shell();
    let run = ["--rm", "--read-only", "--user", "54321:54321"];
    let ended = env.engine.succeeds(cmd!(sh, "docker run {run...} {PROGRAM} --version"))?;
    ended.says(&[&PROGRAM.replace(':', " ")]).map(drop)
}

pub(super) fn run(env: &mut ContainerEnv) -> Result<()> {
    let (env, sh) = (&*env, env.engine.shell());
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

    let build = format!("{BUILD} --tag {OWN} .");
    succeeds(&build)?;
    layers(env, &repository)?;
    let first = digests(env)?;
    succeeds(&format!("{BUILD} --tag {OWN} --no-cache ."))?;
    let models = &first[first.len() - MODELS.len()..];
    ensure!(digests(env)?.ends_with(models), "other layers without cache");
    other_platform(env, &repository, models)?;

    // The lock and the Dockerfile differ: the build ends before any request.
    add(LATER)?;
    let requests = repository.requests();
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
    ensure!(repository.requests() == requests, "a build that was refused sent requests");
    succeeds("provision init --dockerfile")?.says(&["updated    Dockerfile.models"])?;
    succeeds(&build)?;

    start(env, &repository)?;
    repair(&repository)?;
    let packages = validators::install(sh)?;
    let dockerfile = repository.folder.join("Dockerfile.models");
    validators::accepts(sh, &packages, &["hadolint"], &dockerfile, ("FROM ", "FORM "))?;
    let workflow = repository.folder.join(".github/workflows/models.yml");
    let schema = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"];
    validators::accepts(sh, &packages, &schema, &workflow, ("runs-on:", "run-on:"))?;
    let pod = repository.folder.join("models-pod.yaml");
    let api = ["kubernetes-validate", "--strict"];
    validators::accepts(sh, &packages, &api, &pod, ("mountPath:", "mountPlace:"))?;
    init_container(env, &repository, &validators::documents(sh, &packages, &pod)?)
}

/// An image for another platform has the same model layers, and nothing runs for that platform. An engine without a
/// registry has one platform behind a name, so the program's image for the other one has another name.
fn other_platform(env: &ContainerEnv, repository: &Repository<'_>, models: &[String]) -> Result<()> {
    const PLATFORM: &str = "linux/arm64";
    let sh = env.engine.shell();
    let context = env.engine.scratch.fresh("platform");
    let text = format!(
        "FROM --platform=$BUILDPLATFORM {PROGRAM} AS built\nFROM scratch\nCOPY --from=built /provision /provision\n"
    );
    sh.write_file(context.join("Dockerfile"), text)?;
    env.engine.succeeds(cmd!(sh, "docker build --platform {PLATFORM} --tag {OWN_PROGRAM} {context}"))?;
    let shipped = sh.read_file(repository.folder.join("Dockerfile.models"))?;
    let adapted =
        shipped.replace("FROM ${PROVISION_IMAGE} AS program", &format!("FROM {OWN_PROGRAM} AS program"));
    ensure!(adapted != shipped, "Dockerfile.models has no stage for the result's program");
    let file = context.join("Dockerfile.models");
    sh.write_file(&file, adapted)?;
    let build = BUILD.replace("Dockerfile.models", file.as_str());
    let base = "--build-arg BASE_IMAGE=scratch";
    repository.succeeds(&format!("{build} --platform {PLATFORM} {base} --tag {OWN} ."))?;
    ensure!(digests(env)?.ends_with(models), "other layers for {PLATFORM}");
    let format = "{{.Os}}/{{.Architecture}}";
    let platform = env.engine.read(cmd!(sh, "docker image inspect --format {format} {OWN}"))?;
    ensure!(platform == PLATFORM, "the image is for {platform}");
    Ok(())
}

/// The digests of the image's layers.
fn digests(env: &ContainerEnv) -> Result<Vec<String>> {
    let (sh, format) = (env.engine.shell(), "{{json .RootFS.Layers}}");
    let text = env.engine.read(cmd!(sh, "docker image inspect --format {format} {OWN}"))?;
    serde_json::from_str(&text).context(text)
}

/// Requires a layer for each directory, with its files and nothing else, and no token.
fn layers(env: &ContainerEnv, repository: &Repository<'_>) -> Result<()> {
    let sh = env.engine.shell();
    let lock = sh.read_file(repository.folder.join("models.lock"))?;
    let known = lock.split("sha256 = \"").nth(1).and_then(|rest| rest.split('"').next());
    let archive = env.verify_no_token(&[OWN], known.context("the lock has no digest")?)?;
    let layers = image_archive::layers(sh, &archive)?;
    for (_, path) in MODELS {
        let parents = path.match_indices('/').map(|(at, _)| &path[..=at]);
        let below = ["opt/".to_owned(), "opt/models/".to_owned()].into_iter();
        let paths = parents.chain([path]).map(|path| format!("opt/models/{path}"));
        let expected: Vec<_> = below.chain(paths).collect();
        ensure!(layers.contains(&expected), "no layer has {expected:#?} and nothing else:\n{layers:#?}");
    }
    Ok(())
}

/// The start script fills a volume from the image, and becomes its command.
fn start(env: &ContainerEnv, repository: &Repository<'_>) -> Result<()> {
    let sh = env.engine.shell();
    cmd!(sh, "shellcheck").arg(repository.folder.join("pre_start.sh")).quiet().run()?;
    let volume = env.engine.scratch.fresh("volume");
    sh.create_dir(&volume)?;
    let requests = repository.requests();
    let run = format!("docker run --rm --volume {volume}:/workspace/ComfyUI/models {OWN} /pre_start.sh");
    let ended = repository.succeeds(&format!("{run} provision status"))?;
    ended.says(&["copied from the baked directory", "3 of 3 files installed"])?;
    repository.succeeds(&format!("{run} true"))?.says(&["nothing to do"])?;
    ensure!(repository.requests() == requests, "the start of a baked image sent requests");
    files(&volume)
}

/// The command of docs/questions.md finds a damaged file and mends it.
fn repair(repository: &Repository<'_>) -> Result<()> {
    const COMMAND: &str = "provision verify --dest ComfyUI/models || provision fetch --dest ComfyUI/models";
    let damage = "printf x | dd of=ComfyUI/models/c.safetensors bs=1 seek=999 conv=notrunc status=none";
    repository.succeeds(&format!("provision fetch --dest ComfyUI/models\n{damage}"))?;
    repository.succeeds(COMMAND)?.says(&["c.safetensors", "1 fetched"])?;
    files(&repository.folder.join("ComfyUI/models"))
}

/// Runs the pod's init container as the file says: its arguments, variables, user and limits.
fn init_container(env: &ContainerEnv, repository: &Repository<'_>, documents: &[Value]) -> Result<()> {
    let sh = env.engine.shell();
    let pod = documents.iter().find(|document| document["kind"] == "Pod").context("there is no pod")?;
    let (spec, container) = (&pod["spec"], &pod["spec"]["initContainers"][0]);
    let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("no text: {value}"));
    ensure!(text(&container["image"])? == PROGRAM, "{container}");
    let security = &container["securityContext"];
    ensure!(security["readOnlyRootFilesystem"] == true && security["runAsNonRoot"] == true);
    let group = spec["securityContext"]["fsGroup"].as_u64().context("no fsGroup")?;
    let volume = env.engine.scratch.fresh("volume");
    sh.create_dir(&volume)?;
    // As the kubelet prepares a volume for fsGroup.
    let prepare = format!("chgrp {group} /v && chmod 2775 /v");
    env.engine
        .succeeds(cmd!(sh, "docker run --rm --volume {volume}:/v debian:bookworm-slim sh -c {prepare}"))?;
    let mut options = vec!["--rm".to_owned(), "--read-only".to_owned()];
    let mut option = |name: &str, value: String| options.extend([name.to_owned(), value]);
    option("--cap-drop", text(&security["capabilities"]["drop"][0])?);
    option("--security-opt", "no-new-privileges".to_owned());
    for mount in container["volumeMounts"].as_array().context("no volumeMounts")? {
        let (name, place) = (text(&mount["name"])?, text(&mount["mountPath"])?);
        option(
            "--volume",
            match name.as_str() {
                "lock" => format!("{}/models.lock:{place}/models.lock:ro", repository.folder),
                _ => format!("{volume}:{place}"),
            },
        );
    }
    for variable in container["env"].as_array().context("no env")? {
        let name = text(&variable["name"])?;
        // A secret's value comes from outside.
        let value = text(&variable["value"]).unwrap_or_else(|_| CANARY.to_owned());
        option("--env", format!("{name}={value}"));
    }
    let arguments = container["args"].as_array().context("no args")?.iter().map(text);
    let arguments = arguments.collect::<Result<Vec<_>>>()?.join(" ");
    // The user of the file, and one as an administrator may give it.
    let user = security["runAsUser"].as_u64().context("no runAsUser")?;
    for (user, says) in [(user, "done: 3 files"), (54_321, "nothing to do")] {
        let options = options.join(" ");
        let run = format!("docker run --user {user}:{group} {options} {PROGRAM} {arguments}");
        repository.succeeds(&run)?.says(&[says])?;
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
