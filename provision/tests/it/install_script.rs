//! install.sh, in every installed shell, with curl, wget or neither, against an origin on loopback.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use crate::container_scripts::{shells, text};
use crate::fixture::pem;
use crate::prelude::*;

/// What the script runs besides a downloader.
const TOOLS: [&str; 8] = ["chmod", "cut", "mkdir", "mktemp", "mv", "rm", "sha256sum", "uname"];

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The path of a file of the workspace.
fn workspace(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// A release on an origin, and a machine with chosen programs.
struct Release {
    origin: BlockingOrigin,
    machine: TempDir,
}

impl Release {
    /// A release for every machine, whose binary is a script that prints its version.
    fn new(downloader: &str) -> Self {
        let machine = tempfile::tempdir().unwrap();
        for tool in TOOLS.into_iter().chain(Some(downloader).filter(|tool| !tool.is_empty())) {
            let found = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
            let found =
                found.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{tool} is missing"));
            symlink(found, machine.path().join(tool)).unwrap();
        }
        let release = Self { origin: start_origin("127.0.0.1"), machine };
        for architecture in ["x86_64", "aarch64"] {
            release.publish(architecture, &format!("#!/bin/sh\necho provision {VERSION} {architecture}\n"));
        }
        release
    }

    fn publish(&self, architecture: &str, program: &str) {
        let content = Content::bytes(program.to_owned());
        let name = format!("/r/provision-{VERSION}-{architecture}-linux");
        let digest = format!("{}  provision-{VERSION}-{architecture}-linux\n", content.sha256_hex());
        self.origin.put(&name, content);
        self.origin.put(&format!("{name}.sha256"), Content::bytes(digest));
    }

    /// Makes `uname` print these.
    fn is(&self, system: &str, architecture: &str) {
        let path = self.machine.path().join("uname");
        let script = format!("#!/bin/sh\ncase $1 in -s) echo {system} ;; *) echo {architecture} ;; esac\n");
        fs::remove_file(&path).unwrap();
        write_program(&path, script);
    }

    fn directory(&self) -> PathBuf {
        self.machine.path().join("home/.local/bin")
    }

    fn run(&self, shell: &[&str], arguments: &[&str]) -> Output {
        let mut command = self.command(shell, &workspace("install.sh"));
        command.env("PROVISION_RELEASE_URL", self.origin.url("/r")).args(arguments).output().unwrap()
    }

    /// The script of this path, without the release's address.
    fn command(&self, shell: &[&str], script: &Path) -> Command {
        let mut command = Command::new(format!("/usr/bin/{}", shell[0]));
        command.args(&shell[1..]).arg(script).stdin(Stdio::null()).env_clear();
        command.env("PATH", self.machine.path()).env("HOME", self.machine.path().join("home"));
        command
    }

    /// Runs the script, which must fail with this text and leave nothing in its directory.
    fn refuses(&self, shell: &[&str], arguments: &[&str], why: &str) {
        let output = self.run(shell, arguments);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{shell:?}: {error}");
        assert!(error.contains(why), "{shell:?}: {error}");
        let left: Vec<_> = fs::read_dir(self.directory()).into_iter().flatten().collect();
        assert!(left.is_empty(), "{shell:?}: {left:?}");
    }
}

#[test]
fn the_script_installs_a_verified_binary_and_names_its_place() {
    for downloader in ["curl", "wget"].into_iter().filter(|tool| needs_tool(tool, "--version")) {
        for shell in shells() {
            let release = Release::new(downloader);
            let output = release.run(shell, &[]);
            assert!(output.status.success(), "{shell:?}, {downloader}: {}", text(&output.stderr));
            let path = release.directory().join("provision");
            let said = text(&output.stdout);
            assert!(said.contains(path.to_str().unwrap()) && said.contains("is not in PATH"), "{said}");
            let version = text(&Command::new(&path).output().unwrap().stdout);
            assert_eq!(version, format!("provision {VERSION} {}\n", std::env::consts::ARCH));
            let listed: Vec<_> =
                fs::read_dir(release.directory()).unwrap().map(|e| e.unwrap().path()).collect();
            assert_eq!(listed, [path]);
        }
    }
}

#[test]
fn a_second_run_of_the_script_downloads_the_digest_only() {
    if !needs_tool("curl", "--version") {
        return;
    }
    let release = Release::new("curl");
    release.is("Linux", "arm64");
    assert!(release.run(&["sh"], &[]).status.success());
    assert!(fs::read_to_string(release.directory().join("provision")).unwrap().contains("aarch64"));
    let before = release.origin.counters().requests;
    let again = release.run(&["sh"], &[]);
    assert!(text(&again.stdout).contains("is there already"), "{again:?}");
    assert_eq!(release.origin.counters().requests, before + 1);
    let path = release.directory().join("provision");
    chmod(&path, 0o644);
    assert!(text(&release.run(&["sh"], &[]).stdout).contains("is there already"));
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o755);
}

/// The lines of release.yml that make a released script of install.sh.
fn release_step() -> String {
    let workflow = fs::read_to_string(workspace(".github/workflows/release.yml")).unwrap();
    let (_, step) = workflow.split_once("- name: install.sh knows the releases\n        run: |\n").unwrap();
    step.lines().take_while(|line| line.starts_with("          ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_released_script_finds_the_release_of_each_version() {
    if !needs_tool("curl", "--version") {
        return;
    }
    let release = Release::new("curl");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(workspace("install.sh"), folder.path().join("install.sh")).unwrap();
    fs::create_dir(folder.path().join("dist")).unwrap();
    let mut step = Command::new("bash");
    step.args(["-e", "-o", "pipefail", "-c", &release_step()]).current_dir(folder.path());
    step.env("GITHUB_SERVER_URL", release.origin.url("")).env("GITHUB_REPOSITORY", "Me/provision");
    assert!(step.status().unwrap().success());
    let script = folder.path().join("dist/install.sh");
    for (arguments, version) in [(&[][..], VERSION), (&["--version", "9.9.9-rc.1"], "9.9.9-rc.1")] {
        let output = release.command(&["sh"], &script).args(arguments).output().unwrap();
        let url = format!("/Me/provision/releases/download/v{version}/provision-{version}-");
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains(&url), "{error}");
    }
    let output = release.command(&["sh"], &workspace("install.sh")).output().unwrap();
    assert!(text(&output.stderr).contains("give the release's address: --from URL"), "{output:?}");
}

#[test]
fn an_https_address_of_the_script_leads_to_no_other_scheme() {
    for downloader in ["curl", "wget"].into_iter().filter(|tool| needs_tool(tool, "--version")) {
        let release = Release::new(downloader);
        let encrypted = start_encrypted_origin("127.0.0.1", Tls::default());
        let certificates = release.machine.path().join("authority.pem");
        fs::write(&certificates, pem(&authority())).unwrap();
        fs::write(
            release.machine.path().join("wgetrc"),
            format!("ca_certificate = {}\n", certificates.display()),
        )
        .unwrap();
        for architecture in ["x86_64", "aarch64"] {
            for suffix in ["", ".sha256"] {
                let name = format!("/r/provision-{VERSION}-{architecture}-linux{suffix}");
                encrypted.inject(&name, Fault::redirect(release.origin.url(&name)));
            }
        }
        let run = |url: String| {
            let mut command = release.command(&["sh"], &workspace("install.sh"));
            command.env("CURL_CA_BUNDLE", &certificates).env("WGETRC", release.machine.path().join("wgetrc"));
            command.args(["--from", &url]).output().unwrap()
        };
        let before = release.origin.counters().requests;
        let output = run(encrypted.url("/r"));
        let error = text(&output.stderr);
        assert!(error.contains("cannot be downloaded; nothing was installed"), "{downloader}: {error}");
        assert!(encrypted.counters().requests > 0, "{downloader}: {error}");
        assert_eq!(release.origin.counters().requests, before, "{downloader}");
        assert!(run(release.origin.url("/r")).status.success(), "{downloader}");
    }
}

#[test]
fn a_failure_of_the_script_names_the_cause_and_leaves_nothing() {
    if !needs_tool("curl", "--version") {
        return;
    }
    // busybox runs its own uname and wget, whatever is in PATH.
    for shell in shells().filter(|shell| shell[0] != "busybox") {
        let release = Release::new("curl");
        release.is("Linux", "riscv64");
        release.refuses(shell, &[], "no binary for riscv64");
        release.is("Darwin", "arm64");
        release.refuses(shell, &[], "use the container image");
        release.is("Linux", "x86_64");
        release.refuses(shell, &["--version", "9.9.9"], "9.9.9-x86_64-linux.sha256 cannot be downloaded");
        release.refuses(shell, &["--to"], "no option with a value");
        let file = release.machine.path().join("file");
        fs::write(&file, "").unwrap();
        release.refuses(shell, &["--to", file.join("bin").to_str().unwrap()], "cannot be written");
        let taken = release.machine.path().join("taken");
        fs::create_dir_all(taken.join("provision")).unwrap();
        release.refuses(shell, &["--to", taken.to_str().unwrap()], "taken/provision is a directory");
        let homeless = release.command(shell, &workspace("install.sh")).env_remove("HOME").output().unwrap();
        assert!(
            text(&homeless.stderr).contains("HOME is not set; give the directory: --to DIR"),
            "{shell:?}"
        );
        release.publish("x86_64", "other bytes");
        let name = format!("/r/provision-{VERSION}-x86_64-linux");
        release.origin.put(&name, Content::bytes("wrong bytes"));
        release.refuses(shell, &[], "has the SHA-256 ");
        release.origin.put(&format!("{name}.sha256"), Content::bytes("<html>"));
        release.refuses(shell, &[], "has no SHA-256");
        Release::new("").refuses(shell, &[], "curl or wget is needed");
    }
}

#[test]
fn the_script_is_of_the_version_of_the_program() {
    let script = fs::read_to_string(workspace("install.sh")).unwrap();
    assert!(script.contains(&format!("\nversion={VERSION}\n")), "install.sh: set version={VERSION}");
}
