//! The Debian package: the binary with completions and man pages where Debian's shells and `man` find them.

use anyhow::{Context as _, Result};
use camino::Utf8PathBuf;
use xshell::cmd;

use super::{Source, share};
use crate::project;

/// The maintainer, unless the variable names one. Packages of a release get the address of those who publish it.
const MAINTAINER: &str = "the provision contributors <provision@packages.invalid>";
const VARIABLE: &str = "PROVISION_MAINTAINER";

const DESCRIPTION: &str = " The file models.lock lists each model with its SHA-256, its size and its
 download URLs. This program downloads what is missing over many connections,
 resumes, verifies every byte, and installs a file only when it is complete.
 It also writes the lock: from URLs, the Hub, Civitai, GitHub and workflows.
";

/// Writes the package and returns its path.
pub(super) fn make(source: &Source<'_>) -> Result<Utf8PathBuf> {
    let sh = source.sh;
    let architecture = match source.architecture {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // In Debian's order `0.2.0-rc.1` is after `0.2.0`, and `0.2.0~rc.1` before.
    let version = source.version.replace('-', "~");
    let maintainer = sh.var(VARIABLE).unwrap_or_else(|_| MAINTAINER.to_owned());
    let stage = source.stage("deb")?;
    let doc = "usr/share/doc/provision";

    stage.copy("usr/bin/provision", &source.binary, 0o755)?;
    for file in share::files("vendor-completions")? {
        stage.write(format!("usr/{}", file.path), &file.bytes)?;
    }
    let epoch = format!("@{}", source.epoch);
    let date = cmd!(sh, "date --utc --rfc-email --date {epoch}").quiet().read()?;
    let changelog = format!(
        "provision ({version}) unstable; urgency=medium\n\n  * Release {}.\n\n -- {maintainer}  {date}\n",
        source.version
    );
    stage.write(format!("{doc}/changelog"), changelog)?;
    stage
        .write(format!("{doc}/copyright"), copyright(&sh.read_file(project::root().join("LICENSE-MIT"))?))?;
    stage.write(format!("{doc}/provision.cdx.json"), source.sbom("provision", &source.binary)?)?;
    stage.write(
        "usr/share/lintian/overrides/provision",
        "# One binary for every root: it also runs in images without a C library.\n\
         provision: shared-library-lacks-prerequisites [usr/bin/provision]\n",
    )?;

    let root = &stage.root;
    // Without -n gzip would write the file's name and time.
    let pack = "gzip -9n usr/share/man/man1/* usr/share/doc/provision/changelog
                find . -type d -exec chmod 755 {} +
                mkdir DEBIAN && chmod 755 DEBIAN
                find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum > DEBIAN/md5sums
                du --apparent-size --block-size=1024 --summarize usr | cut -f 1";
    let _inside = sh.push_dir(root);
    let size = cmd!(sh, "sh -e -c {pack}").quiet().read()?;
    let control = format!(
        "Package: provision\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: {maintainer}\n\
         Installed-Size: {size}\nRecommends: ca-certificates\nSection: utils\nPriority: optional\n\
         Description: {}\n{DESCRIPTION}",
        super::SUMMARY
    );
    stage.write("DEBIAN/control", control)?;
    let path = source.out.join(format!("provision_{version}_{architecture}.deb"));
    let build = cmd!(sh, "dpkg-deb --root-owner-group -Zxz --build . {path}").quiet().ignore_stdout();
    let build = build.env("SOURCE_DATE_EPOCH", source.epoch.to_string()).env("DPKG_DEB_THREADS_MAX", "1");
    build.run().context("dpkg-deb packs the files; on Debian: apt-get install dpkg")?;
    Ok(path)
}

/// The licences in Debian's machine-readable form.
fn copyright(mit: &str) -> String {
    let indented: String = mit
        .lines()
        .skip_while(|line| !line.starts_with("Permission"))
        .map(|line| if line.is_empty() { " .\n".to_owned() } else { format!(" {line}\n") })
        .collect();
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: provision\n\
         Comment: provision.cdx.json beside this file lists what is linked in, with each licence.\n\n\
         Files: *\nCopyright: 2026 the provision contributors\nLicense: Expat or Apache-2.0\n\n\
         License: Expat\n{indented}\n\
         License: Apache-2.0\n On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.\n"
    )
}
