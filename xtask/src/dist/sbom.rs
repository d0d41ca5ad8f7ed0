//! The bill of materials of the binary: what is linked into it, in `CycloneDX` 1.6.
//!
//! `cargo tree` knows the packages of this build, with the features and the platform that it has; Cargo.lock knows
//! their digests. cargo-cyclonedx would name directories of this machine and the packages of every feature. The same
//! source gives the same bytes: no time, no serial number, no path.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use camino::Utf8Path;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use super::binary;
use crate::project;

/// A package of the binary.
#[derive(Debug, Default)]
struct Package {
    licence: String,
    repository: String,
    /// Identifiers of the packages that it uses.
    uses: BTreeSet<String>,
}

/// The components and their dependencies, for the artefacts of one binary.
#[derive(Debug)]
pub(super) struct Materials {
    components: Vec<Value>,
    dependencies: Vec<Value>,
    root: String,
}

impl Materials {
    /// Reads what is linked into `binary`, the build for `target`.
    pub(super) fn read(sh: &Shell, target: &str, binary: &Utf8Path) -> Result<Self> {
        let (what, edges) = ("{p}|{l}|{r}", "normal,no-proc-macro");
        let tree = cmd!(
            sh,
            "cargo tree --locked -p provision --target {target} --edges {edges} --prefix depth --format {what}"
        );
        let tree = tree.env("RUSTFLAGS", binary::rustflags(sh)?).quiet().read()?;
        let digests = digests(&sh.read_file(project::root().join("Cargo.lock"))?);
        let (packages, root) = packages(&tree)?;
        let mut components: Vec<Value> =
            packages.iter().map(|(id, package)| component(id, package, digests.get(id))).collect();
        components.push(rust(sh)?);
        components.extend(c_library(&sh.read_binary_file(binary)?));
        let edges = |(id, package): (&String, &Package)| {
            let uses: Vec<String> = package.uses.iter().map(|id| purl(id)).collect();
            json!({"ref": purl(id), "dependsOn": uses})
        };
        Ok(Self { components, dependencies: packages.iter().map(edges).collect(), root: purl(&root) })
    }

    /// The document of an artefact that is, or contains, the binary.
    pub(super) fn document(&self, artefact: &str, sha256: &str) -> String {
        let version = env!("CARGO_PKG_VERSION");
        let whole = json!({
            "type": "file", "bom-ref": artefact, "name": artefact, "version": version,
            "hashes": [{"alg": "SHA-256", "content": sha256}],
        });
        let mut dependencies = vec![json!({"ref": artefact, "dependsOn": [self.root]})];
        dependencies.extend(self.dependencies.iter().cloned());
        let document = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "metadata": {"component": whole},
            "components": self.components,
            "dependencies": dependencies,
        });
        format!("{document:#}\n")
    }
}

/// The packages of a tree by `NAME VERSION`, and its root. Each line is `DEPTHNAME vVERSION (…)|LICENCE|REPOSITORY
/// (*)`.
fn packages(tree: &str) -> Result<(BTreeMap<String, Package>, String)> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    let mut above: Vec<String> = Vec::new();
    for line in tree.lines() {
        let line = line.trim_end_matches(" (*)");
        let digits = line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let depth: usize = line[..digits].parse().with_context(|| format!("cargo tree printed {line:?}"))?;
        let [name, licence, repository] = line[digits..].split('|').collect::<Vec<_>>()[..] else {
            anyhow::bail!("cargo tree printed {line:?}");
        };
        let mut words = name.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let id = format!("{name} {}", version.trim_start_matches('v'));
        above.truncate(depth);
        if let Some(user) = above.last().and_then(|user| packages.get_mut(user)) {
            user.uses.insert(id.clone());
        }
        let package = packages.entry(id.clone()).or_default();
        (package.licence, package.repository) = (licence.to_owned(), repository.to_owned());
        above.push(id);
    }
    let root = above.into_iter().next().context("cargo tree printed nothing")?;
    Ok((packages, root))
}

/// The SHA-256 of each package from a registry, by `NAME VERSION`.
fn digests(lock: &str) -> BTreeMap<String, String> {
    let value = |block: &str, key: &str| {
        let start = format!("{key} = \"");
        let line = block.lines().find_map(|line| line.strip_prefix(&start));
        line.map(|line| line.trim_end_matches('"').to_owned())
    };
    let digest = |block| {
        Some((format!("{} {}", value(block, "name")?, value(block, "version")?), value(block, "checksum")?))
    };
    lock.split("[[package]]").filter_map(digest).collect()
}

/// The package URL of `NAME VERSION` (<https://github.com/package-url/purl-spec>).
fn purl(id: &str) -> String {
    format!("pkg:cargo/{}", id.replacen(' ', "@", 1).replace('+', "%2B"))
}

fn component(id: &str, package: &Package, digest: Option<&String>) -> Value {
    let (name, version) = id.split_once(' ').unwrap_or((id, ""));
    let mut component = json!({
        "type": "library", "bom-ref": purl(id), "name": name, "version": version, "purl": purl(id),
        // Some manifests still write `A/B` for `A OR B`.
        "licenses": [{"expression": package.licence.replace('/', " OR ")}],
    });
    if let Some(digest) = digest {
        component["hashes"] = json!([{"alg": "SHA-256", "content": digest}]);
    }
    if !package.repository.is_empty() {
        component["externalReferences"] = json!([{"type": "vcs", "url": package.repository}]);
    }
    component
}

/// Rust's standard library, which every program contains.
fn rust(sh: &Shell) -> Result<Value> {
    let version = cmd!(sh, "rustc --version").quiet().read()?;
    let version = version.split(' ').nth(1).unwrap_or_default();
    Ok(json!({
        "type": "library", "bom-ref": format!("rust-std@{version}"), "name": "rust-std", "version": version,
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }))
}

/// The C library, from its own words in the binary: `GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.`
fn c_library(binary: &[u8]) -> Option<Value> {
    let words = b"GNU C Library (";
    let start = binary.windows(words.len()).position(|window| window == words)? + words.len();
    let length = binary[start..].iter().position(|byte| *byte == b')')?;
    let build = std::str::from_utf8(&binary[start..start + length]).ok()?;
    let version = build.split(' ').next_back()?;
    Some(json!({
        "type": "library", "bom-ref": format!("glibc@{version}"), "name": "glibc", "version": version,
        "description": format!("The GNU C Library ({build}), linked in"),
        "licenses": [{"expression": "LGPL-2.1-or-later"}],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0provision v0.1.0 (/home/me/provision)|MIT OR Apache-2.0|\n\
                        1camino v1.2.6|MIT/Apache-2.0|https://example.org/camino\n\
                        2serde v1.0.2|MIT|\n\
                        1ring v0.17.14+x|Apache-2.0 AND ISC|\n\
                        2serde v1.0.2|MIT| (*)\n";

    #[test]
    fn a_tree_gives_packages_edges_and_no_path() {
        let (packages, root) = packages(TREE).unwrap();
        assert_eq!(root, "provision 0.1.0");
        assert_eq!(
            packages.keys().collect::<Vec<_>>(),
            ["camino 1.2.6", "provision 0.1.0", "ring 0.17.14+x", "serde 1.0.2"]
        );
        assert_eq!(packages["provision 0.1.0"].uses.len(), 2);
        assert!(packages["ring 0.17.14+x"].uses.contains("serde 1.0.2"));
        let text = component("camino 1.2.6", &packages["camino 1.2.6"], None).to_string();
        assert!(text.contains("MIT OR Apache-2.0") && text.contains("pkg:cargo/camino@1.2.6"), "{text}");
        assert!(!format!("{packages:?}").contains("/home"));
    }

    #[test]
    fn the_digest_of_a_package_is_that_of_the_lock() {
        let lock = sample_lock();
        let digests = digests(&lock);
        assert_eq!(digests.get("adler 1.0.2").map(String::as_str), Some("f26201604c"));
        assert_eq!(digests.get("provision 0.1.0"), None);
    }

    fn sample_lock() -> String {
        "[[package]]\nname = \"adler\"\nversion = \"1.0.2\"\nsource = \"registry\"\nchecksum = \"f26201604c\"\n\n\
         [[package]]\nname = \"provision\"\nversion = \"0.1.0\"\n"
            .to_owned()
    }

    #[test]
    fn the_c_library_of_a_binary_names_its_build() {
        let found = c_library(b"\0\0GNU C Library (Debian GLIBC 2.36-9+deb12u9) stable").unwrap();
        assert_eq!(found["version"], "2.36-9+deb12u9");
        assert!(c_library(b"no such words").is_none());
    }
}
