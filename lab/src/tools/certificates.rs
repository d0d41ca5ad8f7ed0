//! A throw-away certificate authority and a server certificate that it signed, made with openssl.

use anyhow::{Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use xshell::{Cmd, Shell, cmd};

/// openssl reads the system's configuration unless it gets one, and that differs by machine.
const REQUEST: &str = "\
[req]
prompt = no
distinguished_name = name
[name]
CN = localhost
";
const AUTHORITY: &str = "\
[req]
prompt = no
distinguished_name = name
x509_extensions = authority
[name]
CN = throw-away CA of cargo lab
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
";
const SERVER: &str = "\
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = ";

/// The PEM files.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The client's `SSL_CERT_FILE`.
    pub(crate) authority: Utf8PathBuf,
    pub(crate) server: Utf8PathBuf,
    pub(crate) server_key: Utf8PathBuf,
}

impl Certificates {
    /// Makes the files for `names` in openssl's notation: `DNS:localhost, IP:127.0.0.1`.
    pub(crate) fn make(sh: &Shell, folder: &Utf8Path, names: &str) -> Result<Self> {
        sh.create_dir(folder)?;
        let _pushed = sh.push_dir(folder);
        sh.write_file("authority.cnf", AUTHORITY)?;
        sh.write_file("request.cnf", REQUEST)?;
        sh.write_file("server.cnf", format!("{SERVER}{names}\n"))?;
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let authority = ["-config", "authority.cnf", "-keyout", "authority.key", "-out", "authority.pem"];
        openssl(cmd!(sh, "openssl req -x509 -days 2 {key...} {authority...}"))?;
        let request = ["-config", "request.cnf", "-keyout", "server.key", "-out", "server.csr"];
        openssl(cmd!(sh, "openssl req -new {key...} {request...}"))?;
        let by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial"];
        let server = ["-in", "server.csr", "-extfile", "server.cnf", "-out", "server.pem"];
        openssl(cmd!(sh, "openssl x509 -req -days 2 {by...} {server...}"))?;
        Ok(Self {
            authority: folder.join("authority.pem"),
            server: folder.join("server.pem"),
            server_key: folder.join("server.key"),
        })
    }
}

/// Runs openssl and shows its standard error only if it fails: it reports progress there, too.
fn openssl(command: Cmd<'_>) -> Result<()> {
    let command = command.quiet().ignore_status();
    let output = command.output()?;
    ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
