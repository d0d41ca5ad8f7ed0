//! nginx without a limit, from memory to memory over loopback.

use anyhow::Result;

use super::result::Outcome;
use super::{Scenario, Stage};
use crate::nginx::{self, Config, Nginx};

pub(super) fn run(stage: &Stage<'_>) -> Result<Outcome> {
    let source = stage.folder.join("source");
    stage.set.write(&source)?;
    let [port] = nginx::free_ports()?;
    let config = Config {
        workers: "auto",
        ports: vec![port],
        http: format!("access_log off;\nserver {{ listen 127.0.0.1:{port}; root {source}; }}"),
    };
    let prefix = stage.folder.join("nginx");
    let nginx = Nginx::start(stage.sh, &prefix, &config)?;
    let measurements = stage.compete(&format!("http://127.0.0.1:{port}"))?;
    drop(nginx);
    stage.sh.remove_path(&source)?;
    let setting = "nginx, no limit, memory to memory, both verify SHA-256".to_owned();
    Ok(Outcome::new(Scenario::Loopback, stage, setting, None, measurements))
}
