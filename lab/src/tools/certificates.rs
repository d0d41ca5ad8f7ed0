//! A throw-away certificate authority and a server certificate that it signed, made with openssl.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Shell, cmd};

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
        let [authority, server] = ["authority", "server"].map(|name| folder.join(format!("{name}.pem")));
        let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        let authority_key = certificate(sh, &authority, "throw-away CA of cargo lab", &extensions, &[])?;
        let extensions = [
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            "extendedKeyUsage=serverAuth",
            &format!("subjectAltName={names}"),
        ];
        let signer = ["-CA", authority.as_str(), "-CAkey", authority_key.as_str()];
        let server_key = certificate(sh, &server, "localhost", &extensions, &signer)?;
        let directives = format!("ssl_certificate {server}; ssl_certificate_key {server_key};");
        Ok(Self { authority, directives })
    }
}

/// Makes a certificate that its own key signs, or `signer`. Returns the path of its key.
fn certificate(
    sh: &Shell,
    path: &Utf8Path,
    name: &str,
    extensions: &[&str],
    signer: &[&str],
) -> Result<Utf8PathBuf> {
    let key_path = path.with_extension("key");
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let extensions = extensions.iter().flat_map(|extension| ["-addext", extension]);
    // openssl reads the system's configuration unless it gets one, and that differs by machine.
    let command = cmd!(sh, "openssl req -x509 -config /dev/null -days 2 -subj /CN={name} {key...}")
        .args(extensions)
        .args(signer)
        .args(["-keyout", key_path.as_str(), "-out", path.as_str()])
        .quiet()
        .ignore_status();
    // It reports progress on standard error, too.
    let output = command.output()?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(key_path)
}
