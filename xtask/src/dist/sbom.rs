//! The bill of materials of the binary: what is linked into it, in `CycloneDX` 1.6.
//!
//! `cargo tree` knows the packages of this build, with the features and the platform that it has; Cargo.lock knows
//! their digests. cargo-cyclonedx would name directories of this machine and the packages of every feature. The same
//! source gives the same bytes: no time, no serial number, no path.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use camino::Utf8Path;
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use super::{VERSION, binary};

/// What is linked into a binary.
#[derive(Debug, Default)]
pub(super) struct Materials {
    /// The components by their package URLs.
    components: BTreeMap<String, Value>,
    /// The packages that each one uses, by their URLs.
    uses: BTreeMap<String, BTreeSet<String>>,
    /// The URL of the program's package.
    root: String,
}

impl Materials {
    /// Reads what is linked into `binary`, the build for `target`.
    pub(super) fn read(sh: &Shell, target: &str, binary: &Utf8Path) -> Result<Self> {
        let options = ["--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "|{p}|{l}|{r}|"];
        let tree = cmd!(sh, "cargo tree --locked -p provision --target {target} {options...}");
        let tree = tree.env("RUSTFLAGS", binary::RUSTFLAGS).quiet().read()?;
        let mut materials = Self::of(&tree, &sh.read_file("Cargo.lock")?)?;
        let rust = cmd!(sh, "rustc --version").quiet().read()?;
        let version = rust.split(' ').nth(1).context("rustc --version prints no version")?;
        materials.add("generic", "rust-std", version, "MIT OR Apache-2.0");
        if let Some(version) = c_library(&sh.read_binary_file(binary)?) {
            materials.add("generic", "glibc", &version, "LGPL-2.1-or-later");
        }
        Ok(materials)
    }

    /// The packages of a tree with lines `DEPTH|NAME vVERSION (…)|LICENCE|REPOSITORY|`, and their digests in a lock.
    fn of(tree: &str, lock: &str) -> Result<Self> {
        let mut materials = Self::default();
        let mut above: Vec<String> = Vec::new();
        for line in tree.lines() {
            let unknown = || format!("cargo tree printed {line:?}");
            let fields: Vec<&str> = line.split('|').collect();
            let [depth, package, licence, repository, _] = fields[..] else { bail!(unknown()) };
            let (name, version) = package.split_once(" v").with_context(unknown)?;
            let version = version.split(' ').next().unwrap_or_default();
            // Some manifests still write `A/B` for `A OR B`.
            let (url, component) = materials.add("cargo", name, version, &licence.replace('/', " OR "));
            if let Some(digest) = digest(lock, name, version) {
                component["hashes"] = json!([{"alg": "SHA-256", "content": digest}]);
            }
            if !repository.is_empty() {
                component["externalReferences"] = json!([{"type": "vcs", "url": repository}]);
            }
            above.truncate(depth.parse().with_context(unknown)?);
            if let Some(user) = above.last() {
                materials.uses.entry(user.clone()).or_default().insert(url.clone());
            }
            above.push(url);
        }
        materials.root = above.into_iter().next().context("cargo tree printed nothing")?;
        Ok(materials)
    }

    /// Adds a component with a package URL (<https://github.com/package-url/purl-spec>).
    fn add(&mut self, kind: &str, name: &str, version: &str, licence: &str) -> (String, &mut Value) {
        let url = format!("pkg:{kind}/{name}@{}", version.replace('+', "%2B"));
        let component = json!({
            "type": "library", "bom-ref": url, "name": name, "version": version, "purl": url,
            "licenses": [{"expression": licence}],
        });
        self.uses.entry(url.clone()).or_default();
        (url.clone(), self.components.entry(url).or_insert(component))
    }

    /// The document of an artefact that is, or contains, the binary.
    pub(super) fn document(&self, artefact: &str, sha256: &str) -> String {
        let whole = json!({
            "type": "file", "bom-ref": artefact, "name": artefact, "version": VERSION,
            "hashes": [{"alg": "SHA-256", "content": sha256}],
        });
        let mut dependencies = vec![json!({"ref": artefact, "dependsOn": [self.root]})];
        dependencies.extend(self.uses.iter().map(|(url, uses)| json!({"ref": url, "dependsOn": uses})));
        let document = json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "metadata": {"component": whole},
            "components": self.components.values().collect::<Vec<_>>(),
            "dependencies": dependencies,
        });
        format!("{document:#}\n")
    }
}

/// The SHA-256 of a package from a registry.
fn digest<'lock>(lock: &'lock str, name: &str, version: &str) -> Option<&'lock str> {
    let start = format!("name = \"{name}\"\nversion = \"{version}\"\n");
    let package = lock.split("\n\n").find(|package| package.contains(&start))?;
    package.split_once("\nchecksum = \"")?.1.split('"').next()
}

/// The C library's version, from its words in the binary: `GNU C Library (Debian GLIBC 2.36-9) stable release …`
fn c_library(binary: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(binary);
    let (build, _) = text.split_once("GNU C Library (")?.1.split_once(')')?;
    build.split(' ').next_back().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0|provision v0.1.0 (/home/me/provision)|MIT OR Apache-2.0||\n\
                        1|camino v1.2.6|MIT/Apache-2.0|https://example.org/camino|\n\
                        2|serde v1.0.2|MIT||\n\
                        1|ring v0.17.14+x|Apache-2.0 AND ISC||\n\
                        2|serde v1.0.2|MIT|| (*)\n";
    const LOCK: &str = "# Generated\nversion = 4\n\n\
                        [[package]]\nname = \"camino\"\nversion = \"1.2.6\"\nsource = \"registry\"\nchecksum = \"f26201604c\"\n\n\
                        [[package]]\nname = \"provision\"\nversion = \"0.1.0\"\n";

    #[test]
    fn a_tree_gives_packages_edges_and_digests_and_no_path() {
        let materials = Materials::of(TREE, LOCK).unwrap();
        assert_eq!(materials.root, "pkg:cargo/provision@0.1.0");
        assert_eq!(
            materials.components.keys().collect::<Vec<_>>(),
            ["camino@1.2.6", "provision@0.1.0", "ring@0.17.14%2Bx", "serde@1.0.2"]
                .map(|package| format!("pkg:cargo/{package}"))
                .each_ref()
        );
        assert_eq!(materials.uses[&materials.root].len(), 2);
        assert!(materials.uses["pkg:cargo/ring@0.17.14%2Bx"].contains("pkg:cargo/serde@1.0.2"));
        let camino = &materials.components["pkg:cargo/camino@1.2.6"];
        assert_eq!(camino["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(camino["hashes"][0]["content"], "f26201604c");
        assert!(materials.components[&materials.root].get("hashes").is_none());
        assert!(!materials.document("artefact", "0").contains("/home"));
    }

    #[test]
    fn the_c_library_of_a_binary_names_its_build() {
        let found = c_library(b"\xff\0GNU C Library (Debian GLIBC 2.36-9+deb12u9) stable");
        assert_eq!(found.as_deref(), Some("2.36-9+deb12u9"));
        assert!(c_library(b"no such words").is_none());
    }
}
