//! The Debian package: the binary with completions and man pages where Debian's shells and `man` find them.

use anyhow::{Context as _, Result};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::cmd;

use super::binary::debian;
use super::{SUMMARY, Source, VERSION};

/// The maintainer, unless the variable names one. Packages of a release get the address of those who publish it.
const MAINTAINER: &str = "the provision contributors <provision@packages.invalid>";
const VARIABLE: &str = "PROVISION_MAINTAINER";

const DESCRIPTION: &str = " The file models.lock lists each model with its SHA-256, its size and its
 download URLs. This program downloads what is missing over many connections,
 resumes, verifies every byte, and installs a file only when it is complete.
 It also writes the lock: from URLs, the Hub, Civitai, GitHub and workflows.
";

const OVERRIDES: &str = "# One binary for every root: it also runs in images without a C library.
provision: shared-library-lacks-prerequisites [usr/bin/provision]
";

/// Prepares the files and prints their size. Without -n gzip would write the file's name and time.
const PREPARE: &str = "
    gzip -9n usr/share/man/man1/* usr/share/doc/provision/changelog
    chmod +x usr/bin/provision
    mkdir DEBIAN
    find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums
    chmod -R u=rwX,go=rX .
    du --apparent-size --block-size=1024 --summarize usr | cut -f 1";

/// Writes the package and returns its path.
pub(super) fn make(source: &Source<'_>) -> Result<Utf8PathBuf> {
    let (Source { sh, out, binary, .. }, epoch) = (source, source.epoch.to_string());
    let architecture = debian(source.architecture);
    // In Debian's order `0.2.0-rc.1` is after `0.2.0`, and `0.2.0~rc.1` before.
    let version = VERSION.replace('-', "~");
    let maintainer = sh.var(VARIABLE).unwrap_or_else(|_| MAINTAINER.to_owned());
    let stage = tempfile::tempdir_in(out)?;
    let _inside = sh.push_dir(&stage);
    sh.write_file("usr/bin/provision", sh.read_binary_file(binary)?)?;
    super::write_share(sh, Utf8Path::new("usr/share"), "vendor-completions")?;
    let date = cmd!(sh, "date --utc --rfc-email --date @{epoch}").quiet().read()?;
    let changelog = format!(
        "provision ({version}) unstable; urgency=medium\n\n  * Release {VERSION}.\n\n -- {maintainer}  {date}\n"
    );
    sh.write_file("usr/share/doc/provision/changelog", changelog)?;
    sh.write_file("usr/share/doc/provision/copyright", include_str!("copyright"))?;
    sh.write_file("usr/share/doc/provision/provision.cdx.json", &source.sbom)?;
    sh.write_file("usr/share/lintian/overrides/provision", OVERRIDES)?;
    let size = cmd!(sh, "sh -e -c {PREPARE}").quiet().read()?;
    let control = format!(
        "Package: provision\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {maintainer}\n\
         Installed-Size: {size}\nRecommends: ca-certificates\nSection: utils\nPriority: optional\n\
         Description: {SUMMARY}\n{DESCRIPTION}"
    );
    sh.write_file("DEBIAN/control", control)?;
    let path = out.join(format!("provision_{version}_{architecture}.deb"));
    let build = cmd!(sh, "dpkg-deb --root-owner-group -Zxz --build . {path}").quiet().ignore_stdout();
    let build = build.env("SOURCE_DATE_EPOCH", epoch).env("DPKG_DEB_THREADS_MAX", "1");
    build.run().context("dpkg-deb packs the files; on Debian: apt-get install dpkg")?;
    Ok(path)
}
