//! The binary in an image that has nothing else: names and TLS, too.

use anyhow::{Result, ensure};

use crate::containers::env::ContainerEnv;
use crate::containers::names::{COMPILED, DESTINATION, SCRATCH};
use crate::tools::certificates::Certificates;
use crate::tools::name_server::NameServer;
use crate::tools::nginx::{self, Nginx};
use crate::tools::steps::Done;

/// Known to no name server but ours.
const HOST: &str = "models.lan.test";
/// Ours, among loopback's many addresses: port 53 of the usual ones may be taken.
const NAME_SERVER: &str = "127.53.53.53";

/// Fetches over https, by a name and with an authority that only this image has.
pub(super) fn run(env: &mut ContainerEnv) -> Result<Done> {
    // Has the binary.
    env.built_dockerfile()?;
    let sh = env.engine.shell().clone();
    let folder = env.root.join("scratch");
    sh.create_dir(&folder)?;
    let certificates = Certificates::make(&sh, &folder.join("certificates"), &format!("DNS:{HOST}"))?;
    let [port] = nginx::free_ports()?;
    let config = nginx::Config {
        workers: "1",
        ports: vec![port],
        http: format!(
            "access_log off; server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {}; \
             location /files/ {{ alias {}/; }} }}",
            certificates.server, certificates.server_key, env.server.folder
        ),
    };
    let _web_server = Nginx::start(&sh, &folder.join("nginx"), &config)?;
    let names = NameServer::start(&sh, &folder, NAME_SERVER, &[HOST])?;

    let context = folder.join("context");
    let lock = env.server.lock.text().replace(&env.server.base, &format!("https://{HOST}:{port}/files"));
    sh.write_file(context.join("models.lock"), lock)?;
    sh.write_file(context.join("ca.pem"), sh.read_file(&certificates.authority)?)?;
    sh.write_file(
        context.join("Dockerfile"),
        format!(
            "FROM scratch\nCOPY --from={COMPILED} /out/provision /provision\nCOPY models.lock ca.pem /\n\
             ENV PROVISION_LOCK=/models.lock PROVISION_DEST={DESTINATION} SSL_CERT_FILE=/ca.pem\n\
             ENTRYPOINT [\"/provision\"]\n"
        ),
    )?;
    env.engine.docker(&["build", "--quiet", "--tag", SCRATCH, context.as_str()])?.exited(0)?;

    let volume = env.engine.volume("provision-check-scratch")?;
    let resolv = folder.join("resolv.conf");
    sh.write_file(&resolv, format!("nameserver {NAME_SERVER}\n"))?;
    let resolv = format!("{resolv}:/etc/resolv.conf:ro");
    env.engine.container(&volume, &["--volume", &resolv, SCRATCH, "ensure"])?.exited(0)?.says(&["done: "])?;
    env.complete(&volume)?;
    let asked = names.queries(HOST)?;
    ensure!(asked > 0, "nobody asked the name server for {HOST}:\n{}", names.log());
    env.engine.container(&volume, &[SCRATCH, "verify"])?.exited(0)?;
    env.engine.container(&volume, &[SCRATCH, "ensure", "--offline"])?.exited(0)?.says(&["nothing to do"])?;
    Ok(Done::Passed)
}
