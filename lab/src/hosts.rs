//! `cargo lab hosts`: whether the testbed's imitations of known hosts are honest.
//!
//! The Hub's face is driven by the Hub's own client, from Python's index; a registry's face and a real registry, Debian's,
//! have to pass the same checks. Tests that talk to a face prove something only as far as this holds. Our own client has to get a
//! blob out of the real one that wants a login, too.

#![expect(clippy::print_stdout, reason = "this is what a person or a CI log sees")]

mod logins;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::hosts::hub::Hub;
use provision_testbed::hosts::oci::Registry;
use provision_testbed::{BlockingOrigin, Content, OriginConfig};
use xshell::{Shell, cmd};

use crate::project;
use crate::tools::programs::{self, DOCKER_REGISTRY, OPENSSL, PIP, PYTHON};
use crate::tools::{nginx, wait};

/// The client, at a version that has been seen to work: another may want more of a Hub.
const CLIENT: &str = "huggingface_hub==2.4.0";

/// Runs all of it.
pub(crate) fn run() -> Result<()> {
    let sh = Shell::new()?;
    programs::extend_path(&sh);
    programs::require(&sh, "cargo lab hosts", &[PYTHON, PIP, OPENSSL, DOCKER_REGISTRY])?;
    let folder = project::root().join("target/faces");
    sh.create_dir(&folder)?;
    let scratch = tempfile::Builder::new().prefix("run-").tempdir_in(&folder)?;
    let scratch = Utf8Path::from_path(scratch.path()).context("a path that is not UTF-8")?;
    println!("--- the Hub's face, by the Hub's own client");
    hub(&sh, &folder, scratch)?;
    println!("--- a registry's face");
    registry_face(&sh, scratch)?;
    println!("--- a real registry, the same checks");
    real_registry(&sh, scratch)
}

fn script(scratch: &Utf8Path, name: &str, text: &str) -> Result<Utf8PathBuf> {
    let path = scratch.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

fn hub(sh: &Shell, folder: &Utf8Path, scratch: &Utf8Path) -> Result<()> {
    // By its version, so that another one is another directory.
    let python = folder.join(CLIENT);
    if !python.join("huggingface_hub").is_dir() {
        cmd!(
            sh,
            "pip install --quiet --disable-pip-version-check --root-user-action ignore --target {python} {CLIENT}"
        )
        .run()
        .context("the Hub's client comes from Python's index, by pip")?;
    }
    let (site, store) = (start()?, start()?);
    let hub = Hub::mount(&site, &store);
    let (large, small) = ("split_files/vae/x.safetensors", "config.json");
    let (content, text) = (Content::generated(7, 3_000_001), "{\"a\": 1}");
    let files = [(large, content.clone()), (small, Content::bytes(text))];
    hub.commit("org/gated", "main", &files);
    hub.gate("org/gated", "hf_good");
    let commit = hub.commit("org/repo", "main", &files);
    // Two folders and two files, over several pages.
    hub.page(3);
    let script = script(scratch, "hub.py", include_str!("hosts/hub.py"))?;
    let (sha256, size) = (content.sha256_hex(), content.size().to_string());
    cmd!(sh, "python3 {script} org/repo {commit} {large} {sha256} {size} {small} {text} org/gated hf_good 4")
        .env("PYTHONPATH", &python)
        .env("HF_ENDPOINT", site.url(""))
        .env("HF_HOME", scratch.join("home"))
        // A large file then comes from the signed URL, and not from a service that this Hub has not.
        .env("HF_HUB_DISABLE_XET", "1")
        .env("HF_HUB_DISABLE_TELEMETRY", "1")
        .env("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        .quiet()
        .run()?;
    Ok(())
}

fn registry_face(sh: &Shell, scratch: &Utf8Path) -> Result<()> {
    let (site, guarded) = (start()?, start()?);
    let content = Content::generated(8, 300_001);
    Registry::mount(&site, None).push("models/vae", &content);
    let other = Registry::mount(&guarded, None);
    other.push("models/vae", &content);
    other.guard("models/vae");
    check_registry(sh, scratch, &site.url(""), &guarded.url(""), &content)
}

fn real_registry(sh: &Shell, scratch: &Utf8Path) -> Result<()> {
    let content = Content::generated(8, 300_001);
    let [open, guarded, password] = nginx::free_ports()?;
    let (key, certificate) = (scratch.join("key.pem"), scratch.join("certificate.pem"));
    cmd!(
        sh,
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=testbed -days 2 -keyout {key} -out {certificate}"
    )
    .quiet()
    .ignore_stderr()
    .run()?;
    let service = logins::TokenService::start()?;
    let users = script(scratch, "htpasswd", logins::HTPASSWD)?;
    let basic = format!("auth:\n  htpasswd:\n    realm: testbed\n    path: {users}\n");
    let _open = RealRegistry::start(sh, scratch, open, "")?;
    let _guarded = RealRegistry::start(sh, scratch, guarded, &service.auth(&certificate))?;
    let _password = RealRegistry::start(sh, scratch, password, &basic)?;
    let blob = scratch.join("blob");
    std::fs::write(&blob, content.to_vec())?;
    let base = format!("http://127.0.0.1:{open}");
    let digest = content.sha256_hex();
    let upload =
        cmd!(sh, "curl -fsS -X POST -D - -o /dev/null {base}/v2/models/vae/blobs/uploads/").quiet().read()?;
    let location = upload.lines().find_map(|line| line.strip_prefix("Location: ")).map(str::trim);
    let target = format!("{}&digest=sha256:{digest}", location.context("where to upload was not said")?);
    cmd!(sh, "curl -fsS -X PUT -H Content-Type:application/octet-stream --data-binary @{blob} {target}")
        .quiet()
        .run()
        .context("pushing the blob")?;
    check_registry(sh, scratch, &base, &format!("http://127.0.0.1:{guarded}"), &content)?;
    println!("--- real registries that want a login, by our own client");
    service.sign(sh, scratch, "models/vae", &key, &certificate)?;
    logins::check(password, guarded, &service, &content)
}

fn holds(what: &str) {
    println!("    {what}");
}

fn check_registry(
    sh: &Shell,
    scratch: &Utf8Path,
    base: &str,
    guarded: &str,
    content: &Content,
) -> Result<()> {
    let script = script(scratch, "oci.py", include_str!("hosts/oci.py"))?;
    let (sha256, size) = (content.sha256_hex(), content.size().to_string());
    cmd!(sh, "python3 {script} {base} models/vae {sha256} {size} {guarded}").quiet().run()?;
    Ok(())
}

fn start() -> Result<BlockingOrigin> {
    BlockingOrigin::start(OriginConfig::default()).context("starting an origin")
}

/// Debian's registry, on loopback, gone with its guard. All of a run have one store.
struct RealRegistry(Child);

impl RealRegistry {
    fn start(sh: &Shell, scratch: &Utf8Path, port: u16, auth: &str) -> Result<Self> {
        let root = scratch.join(format!("registry-{port}"));
        std::fs::create_dir(&root)?;
        let config = root.join("config.yml");
        std::fs::write(
            &config,
            format!(
                "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {scratch}/data\nhttp:\n  \
                 addr: 127.0.0.1:{port}\n{auth}"
            ),
        )?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "docker-registry", "serve"])
            .arg(&config)
            .env("PATH", sh.var("PATH")?)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(root.join("stderr.log"))?)
            .spawn()
            .context("starting docker-registry by setpriv (of util-linux)")?;
        let mut registry = Self(child);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait::until("docker-registry to answer", Duration::from_secs(20), || {
            let ended = registry.0.try_wait()?;
            let said = std::fs::read_to_string(root.join("stderr.log")).unwrap_or_default();
            ensure!(ended.is_none(), "docker-registry ended at once:\n{said}");
            Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
        })?;
        Ok(registry)
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
