//! Credentials: an imitated hub asks for a token and redirects to another server.

use anyhow::{Result, ensure};

use super::World;
use crate::real::world::{REPOSITORY, SIGNATURE};
use crate::tools::lock_text::Lock;
use crate::tools::steps::Done;

const TOKEN: &str = "hf_canary_4e1f7a90b2c35d68";

pub(super) fn token(world: &World) -> Result<Done> {
    let destination = world.destination();
    let hub = format!("https://huggingface.co/{REPOSITORY}/resolve/main");
    let lock = Lock::new(&world.assets.files, &hub);
    let endpoint = format!("http://127.0.0.1:{}", world.ports.http);
    let mark = world.log.mark()?;
    let run = world.fetch(&lock, &destination)?.args(&["-v", "--report", "report.json"]);
    let ended = run.env("HF_TOKEN", TOKEN).env("HF_ENDPOINT", &endpoint).exits(0)?;
    world.right(&lock, &destination)?;

    let requests = world.log.since(mark)?;
    let (hub, others): (Vec<_>, Vec<_>) = requests
        .iter()
        .partition(|request| request.port == world.ports.http && request.path.contains("/resolve/"));
    ensure!(!hub.is_empty(), "the endpoint was not asked");
    let bearer = format!("Bearer {TOKEN}");
    ensure!(
        hub.iter().all(|request| request.authorization == bearer),
        "the endpoint did not get the token: {hub:#?}"
    );
    let elsewhere: Vec<_> = others.iter().filter(|request| request.port == world.ports.cdn).collect();
    ensure!(!elsewhere.is_empty(), "the server that the endpoint redirects to was not asked");
    ensure!(
        elsewhere.iter().all(|request| request.authorization.is_empty()),
        "the token went past the redirect: {elsewhere:#?}"
    );
    ensure!(elsewhere.iter().all(|request| request.query.contains(SIGNATURE)), "the signature was lost");

    // Neither secret is in what the run said or left, whole or in part.
    let report = ended.report()?.to_string();
    let mut left = world.texts_below(&destination)?;
    left.push(("standard output".to_owned(), ended.stdout.into_bytes()));
    left.push(("standard error".to_owned(), ended.stderr.into_bytes()));
    left.push(("the report".to_owned(), report.into_bytes()));
    for (name, bytes) in &left {
        for secret in ["canary_4e1f7a90", "sig_canary"] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            ensure!(!found, "{name} has {secret:?} in it");
        }
    }
    Ok(Done::Passed)
}
