//! The wheel: the binary as a Python package, for `pip install`, `pipx run` and `uvx`.
//!
//! It is written here, from the one binary that all artefacts share. maturin builds the binary again, for minutes, and
//! refuses to name both C libraries in one wheel, although a static binary needs neither. The format is that of
//! <https://packaging.python.org/en/latest/specifications/binary-distribution-format/>, with licences by PEP 639 and
//! the bill of materials by PEP 770.

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use xshell::cmd;

use super::{Source, share};
use crate::project;

/// The package index has another project named `provision`. The command keeps its name.
const NAME: &str = "provision-models";

const PACK: &str = include_str!("wheel.py");

/// Writes the wheel and returns its path.
pub(super) fn make(source: &Source<'_>) -> Result<Utf8PathBuf> {
    let Source { sh, version, .. } = source;
    let name = NAME.replace('-', "_");
    let tags = ["manylinux_2_17", "musllinux_1_1"].map(|system| format!("{system}_{}", source.architecture));
    let stage = source.stage("wheel")?;
    let info = format!("{name}-{version}.dist-info");
    let data = format!("{name}-{version}.data");
    stage.copy(format!("{data}/scripts/provision"), &source.binary, 0o755)?;
    for file in share::files("site-functions")? {
        stage.write(format!("{data}/data/{}", file.path), &file.bytes)?;
    }
    let lines = tags.each_ref().map(|tag| format!("Tag: py3-none-{tag}\n")).concat();
    let wheel = format!("Wheel-Version: 1.0\nGenerator: provision\nRoot-Is-Purelib: false\n{lines}");
    stage.write(format!("{info}/WHEEL"), wheel)?;
    let readme = sh.read_file(project::root().join("README.md"))?;
    stage.write(format!("{info}/METADATA"), metadata(version) + &readme)?;
    for licence in super::LICENCES {
        stage.copy(format!("{info}/licenses/{licence}"), &project::root().join(licence), 0o644)?;
    }
    stage.write(format!("{info}/sboms/provision.cdx.json"), source.sbom("provision", &source.binary)?)?;

    let path = source.out.join(format!("{name}-{version}-py3-none-{}.whl", tags.join(".")));
    let (root, epoch) = (&stage.root, source.epoch.to_string());
    let pack = cmd!(sh, "python3 - {root} {path} {epoch}").stdin(PACK).quiet();
    pack.run().context("python3 packs the wheel; on Debian: apt-get install python3")?;
    Ok(path)
}

fn metadata(version: &str) -> String {
    let licences = super::LICENCES.map(|licence| format!("License-File: {licence}\n")).concat();
    format!(
        "Metadata-Version: 2.4\nName: {NAME}\nVersion: {version}\nSummary: {}\nLicense-Expression: {}\n{licences}\
         Requires-Python: >=3.7\nDescription-Content-Type: text/markdown\n\n",
        super::SUMMARY,
        env!("CARGO_PKG_LICENSE"),
    )
}
