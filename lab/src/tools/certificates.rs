//! A throw-away certificate authority and a server certificate that it signed, made with openssl.

use anyhow::Result;
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

use crate::tools::process::silently;

/// The authority and the server's certificate.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The client's `SSL_CERT_FILE`.
    pub(crate) authority: Utf8PathBuf,
    /// nginx's directives for the server's certificate.
    pub(crate) directives: String,
}

impl Certificates {
    /// Makes the files for `names` in openssl's notation: `DNS:localhost, IP:127.0.0.1`.
    pub(crate) fn make(sh: &Shell, folder: &Utf8Path, names: &str) -> Result<Self> {
        sh.create_dir(folder)?;
        let certify = |name: &str, signer: &[&str], extensions: &[&str]| {
            let [key, path] = ["key", "pem"].map(|kind| folder.join(format!("{name}.{kind}")));
            // openssl reads the system's configuration unless it gets one, and that differs by machine.
            let options = ["-x509", "-config", "/dev/null", "-days", "2", "-nodes", "-newkey", "ec"];
            let subject = format!("/CN={name}");
            let curve = "ec_paramgen_curve:P-256";
            let command = cmd!(sh, "openssl req {options...} -pkeyopt {curve} -subj {subject} {signer...}")
                .args(extensions.iter().flat_map(|extension| ["-addext", extension]))
                .args(["-keyout", key.as_str(), "-out", path.as_str()]);
            silently(command).map(|()| (key, path))
        };
        let usages = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        let (key, authority) = certify("authority", &[], &usages)?;
        let usages = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth",
            &format!("subjectAltName={names}"),
        ];
        let signer = ["-CA", authority.as_str(), "-CAkey", key.as_str()];
        let (key, certificate) = certify("localhost", &signer, &usages)?;
        let directives = format!("ssl_certificate {certificate}; ssl_certificate_key {key};");
        Ok(Self { authority, directives })
    }
}
