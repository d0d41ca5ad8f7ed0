//! `cargo lab hosts`: compares the testbed's emulated hosts with the real thing.
//!
//! The Hub's own client, from Python's index, drives the emulated Hub. The emulated registry and Debian's registry must
//! pass the same checks. Tests against an emulated host mean something only as far as this holds. The project's own
//! commands also download a blob from real registries that require a login, and import real lists of models from the
//! emulated Hub.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

mod lists;
mod logins;
mod pictures;
mod reuse;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::hosts::oci::Registry;
use provision_testbed::{BlockingOrigin, Content, OriginConfig};
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::nginx;
use crate::tools::programs::{self, DOCKER_REGISTRY, OPENSSL, PIP, PYTHON};
use crate::tools::registry::{self, Registry as DockerRegistry};
use crate::tools::scratch::Scratch;
use crate::tools::token_service::TokenService;

/// The Hub's client in a version that works: another one may require more of a Hub.
const CLIENT: &str = "huggingface_hub==2.4.0";

/// The repository of the blob in each registry.
const REPOSITORY: &str = "models/vae";

pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    programs::extend_path(&sh);
    programs::require(&sh, "cargo lab hosts", &[PYTHON, PIP, OPENSSL, DOCKER_REGISTRY])?;
    let folder = project::root().join("target/hosts");
    sh.create_dir(&folder)?;
    let scratch = Scratch::create(&folder, "run-")?;
    println!("--- the emulated Hub, by the Hub's own client");
    emulated_hub(&sh, &folder, &scratch)?;
    println!("--- real lists of models, by the project's own commands");
    lists::check(&sh, &folder, &scratch)?;
    println!("--- pictures with a workflow, as Pillow writes them");
    pictures::check(&sh, &folder, &scratch)?;
    println!("--- the emulated registry");
    let blob = Content::generated(8, 300_001);
    emulated_registry(&sh, &scratch, &blob)?;
    println!("--- a real registry, by the same checks");
    real_registries(&sh, &scratch, &blob)
}

fn emulated_hub(sh: &Shell, folder: &Utf8Path, scratch: &Scratch) -> Result<()> {
    // The version is a part of the path, so another version is installed beside this one.
    let client = folder.join(CLIENT);
    if !client.join("huggingface_hub").is_dir() {
        let options = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore", "--target"];
        cmd!(sh, "pip install {options...} {client} {CLIENT}")
            .run()
            .with_context(|| format!("pip could not install {CLIENT}"))?;
    }
    let (origin, store) = (start_origin()?, start_origin()?);
    let hub = Hub::mount(&origin, &store);
    let (large, small) = ("split_files/vae/x.safetensors", "config.json");
    let (content, text) = (Content::generated(7, 3_000_001), "{\"a\": 1}");
    let files = [(large, content.clone()), (small, Content::bytes(text))];
    hub.commit("org/gated", "main", &files);
    hub.gate("org/gated", "hf_good");
    let commit = hub.commit("org/repo", "main", &files);
    // Two folders and two files need two pages.
    hub.page(3);
    let home = scratch.fresh("home");
    let script = script(scratch, "hub.py", include_str!("hosts/hub.py"))?;
    let (sha256, size) = (content.sha256_hex(), content.size().to_string());
    cmd!(sh, "python3 {script} org/repo {commit} {large} {sha256} {size} {small} {text} org/gated hf_good 4")
        .env("PYTHONPATH", &client)
        .env("HF_ENDPOINT", origin.url(""))
        .env("HF_HOME", &home)
        // With Xet a large file would come from a service that the testbed does not emulate.
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .quiet()
        .run()?;
    reuse::check(sh, scratch, &home, &files)
}

fn emulated_registry(sh: &Shell, scratch: &Scratch, blob: &Content) -> Result<()> {
    let (open, guarded) = (start_origin()?, start_origin()?);
    Registry::mount(&open, None).push(REPOSITORY, blob);
    let registry = Registry::mount(&guarded, None);
    registry.push(REPOSITORY, blob);
    registry.guard(REPOSITORY);
    check_registry(sh, scratch, &open.url(""), &guarded.url(""), blob)
}

fn real_registries(sh: &Shell, scratch: &Scratch, blob: &Content) -> Result<()> {
    let [open, token, password] = nginx::free_ports()?;
    let service = TokenService::start(sh, scratch)?;
    // All of them share one store.
    let data = scratch.path().join("data");
    let start = |port, auth: &str| DockerRegistry::start(sh, scratch, &data, port, auth);
    let _open = start(open, "")?;
    let _token = start(token, &service.configuration())?;
    let _password = start(password, &registry::htpasswd(scratch)?)?;
    let path = scratch.fresh("blob");
    std::fs::write(&path, blob.to_vec())?;
    registry::push_blob(sh, open, REPOSITORY, &path, &blob.sha256_hex())?;
    let [open, guarded] = [open, token].map(|port| format!("http://127.0.0.1:{port}"));
    check_registry(sh, scratch, &open, &guarded, blob)?;
    println!("--- real registries that require a login, by the project's own commands");
    logins::check(sh, scratch, password, token, &service, blob)
}

/// Runs the checks that hold for every registry: `guarded` requires a token.
fn check_registry(sh: &Shell, scratch: &Scratch, open: &str, guarded: &str, blob: &Content) -> Result<()> {
    let script = script(scratch, "oci.py", include_str!("hosts/oci.py"))?;
    let (sha256, size) = (blob.sha256_hex(), blob.size().to_string());
    Ok(cmd!(sh, "python3 {script} {open} {REPOSITORY} {sha256} {size} {guarded}").quiet().run()?)
}

fn script(scratch: &Scratch, name: &str, text: &str) -> Result<Utf8PathBuf> {
    let path = scratch.path().join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

fn start_origin() -> Result<BlockingOrigin> {
    BlockingOrigin::start(OriginConfig::default()).context("starting an origin")
}
