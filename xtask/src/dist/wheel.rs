//! The wheel: the binary as a Python package, for `pip install`, `pipx run` and `uvx`.
//!
//! It is written here, from the one binary that all artefacts share. maturin builds the binary again, for minutes, and
//! refuses to name both C libraries in one wheel, although a static binary needs neither. The format is that of
//! <https://packaging.python.org/en/latest/specifications/binary-distribution-format/>, with licences by PEP 639 and
//! the bill of materials by PEP 770.

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use xshell::cmd;

use super::{LICENCES, SUMMARY, Source, VERSION};
use crate::project;

/// The package index has another project named `provision`. The command keeps its name.
const NAME: &str = "provision-models";

const PACK: &str = include_str!("wheel.py");

/// Writes the wheel and returns its path.
pub(super) fn make(source: &Source<'_>) -> Result<Utf8PathBuf> {
    let (Source { sh, out, binary, .. }, epoch) = (source, source.epoch.to_string());
    let name = NAME.replace('-', "_");
    let tags = ["manylinux_2_17", "musllinux_1_1"].map(|system| format!("{system}_{}", source.architecture));
    let path = out.join(format!("{name}-{VERSION}-py3-none-{}.whl", tags.join(".")));
    let (info, data) = (format!("{name}-{VERSION}.dist-info"), format!("{name}-{VERSION}.data"));
    let stage = tempfile::tempdir_in(out)?;
    let _inside = sh.push_dir(&stage);
    sh.write_file(format!("{data}/scripts/provision"), sh.read_binary_file(binary)?)?;
    super::write_share(sh, format!("{data}/data/share").as_ref(), "site-functions")?;
    let tags = tags.map(|tag| format!("Tag: py3-none-{tag}\n")).concat();
    let wheel = format!("Wheel-Version: 1.0\nGenerator: provision\nRoot-Is-Purelib: false\n{tags}");
    sh.write_file(format!("{info}/WHEEL"), wheel)?;
    let licences = LICENCES.map(|licence| format!("License-File: {licence}\n")).concat();
    let metadata = format!(
        "Metadata-Version: 2.4\nName: {NAME}\nVersion: {VERSION}\nSummary: {SUMMARY}\n\
         License-Expression: {}\n{licences}Requires-Python: >=3.7\n\
         Description-Content-Type: text/markdown\n\n{}",
        env!("CARGO_PKG_LICENSE"),
        sh.read_file(project::root().join("README.md"))?,
    );
    sh.write_file(format!("{info}/METADATA"), metadata)?;
    for licence in LICENCES {
        let text = sh.read_file(project::root().join(licence))?;
        sh.write_file(format!("{info}/licenses/{licence}"), text)?;
    }
    sh.write_file(format!("{info}/sboms/provision.cdx.json"), &source.sbom)?;
    let pack = cmd!(sh, "python3 - . {path} {epoch}").stdin(PACK).quiet();
    pack.run().context("python3 packs the wheel; on Debian: apt-get install python3")?;
    Ok(path)
}
