//! The programs that are compared, and how each is told what to fetch.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};

use super::set::Set;

/// A program that fetches a set and verifies it.
#[derive(Debug)]
pub(super) struct Contender {
    kind: Kind,
    program: Utf8PathBuf,
    /// What it has to read.
    list: Utf8PathBuf,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Ours,
    Aria2,
}

/// As people run it: sixteen connections a file, four files at a time, no allocation, digests checked.
pub(super) const ARIA2_OPTIONS: [&str; 5] = ["-j4", "-x16", "-s16", "-k1M", "--file-allocation=none"];

impl Contender {
    pub(super) fn ours(folder: &Utf8Path) -> Result<Self> {
        let program = Utf8PathBuf::from_path_buf(std::env::current_exe()?)
            .ok()
            .context("the path of this program is not UTF-8")?;
        Ok(Self { kind: Kind::Ours, program, list: folder.join("models.lock") })
    }

    pub(super) fn aria2(folder: &Utf8Path) -> Self {
        Self { kind: Kind::Aria2, program: "aria2c".into(), list: folder.join("aria2.list") }
    }

    pub(super) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ours => "ours",
            Kind::Aria2 => "aria2c",
        }
    }

    pub(super) fn program(&self) -> &Utf8Path {
        &self.program
    }

    /// Writes the list and returns the arguments.
    pub(super) fn prepare(&self, set: &Set, base: &str, destination: &Utf8Path) -> Result<Vec<String>> {
        let mut text = String::new();
        let arguments = match self.kind {
            Kind::Ours => {
                text.push_str("version = 1\n");
                for (path, content) in &set.files {
                    let (size, sha256) = (content.size(), content.sha256_hex());
                    writeln!(text, "\n[[model]]\npath = \"{path}\"\nurl = \"{base}/{path}\"")?;
                    writeln!(text, "size = {size}\nsha256 = \"{sha256}\"")?;
                }
                vec![
                    "fetch-models",
                    "--lock",
                    self.list.as_str(),
                    "--dest",
                    destination.as_str(),
                    "--progress",
                    "none",
                ]
            }
            Kind::Aria2 => {
                for (path, content) in &set.files {
                    let sha256 = content.sha256_hex();
                    writeln!(
                        text,
                        "{base}/{path}\n  dir={destination}\n  out={path}\n  checksum=sha-256={sha256}"
                    )?;
                }
                let mut arguments = ARIA2_OPTIONS.to_vec();
                arguments.extend(["--no-conf", "--quiet", "-i", self.list.as_str()]);
                arguments
            }
        };
        fs::write(&self.list, text)?;
        Ok(arguments.into_iter().map(str::to_owned).collect())
    }
}
