//! Logins and keys: wrong, missing, short-lived; and signatures that expire.

use std::fs;

use anyhow::{Result, ensure};
use provision_testbed::{BlockingOrigin, Content, OriginConfig};

use crate::stores::server::{ACCESS_KEY, Kind, SECRET_KEY, Server};
use crate::stores::trial::{LARGE, Trial};
use crate::tools::process::{Ended, Run};

/// What a message names: the variable or the file.
fn origin_of_login(kind: Kind) -> &'static str {
    if kind.is_bucket() { "AWS_ACCESS_KEY_ID" } else { "config.json" }
}

pub(super) fn wrong_login(trial: &Trial<'_>) -> Result<()> {
    let (password, secret_key) = ("wrong-password-canary", "wrong-secret-canary");
    let folder = trial.fixture.scratch.fresh("access");
    let access = trial.server.access_as(&folder, trial.store.port, password, secret_key)?;
    let with_access = |run: Run| access.iter().fold(run, |run, (name, value)| run.env(name, value));
    let named = origin_of_login(trial.server.kind);
    let refused = |run: Run| -> Result<()> {
        let ended = with_access(run).exits(6)?.says(&[named])?;
        let text = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(!text.contains(password) && !text.contains(secret_key), "a secret is shown:\n{ended}");
        Ok(())
    };
    refused(trial.push()?)?;
    refused(trial.check(&[])?)?;
    refused(trial.fetch(&["--store-only"])?.0)?;
    trial.require_quiet_origin()?;
    // With an origin, the store's refusal is no failure of the run.
    let (run, destination) = trial.fetch(&[])?;
    with_access(run).exits(0)?;
    trial.require_files(&destination)?;
    // The login went to the store and to nothing else.
    let origin = trial.origin.traffic();
    let leaks = |head: &&String| head.to_lowercase().contains("authorization") || head.contains("X-Amz-");
    let leaked = origin.heads.iter().find(leaks);
    ensure!(leaked.is_none(), "the origin got a credential of the store: {leaked:?}");
    Ok(())
}

pub(super) fn no_login(trial: &Trial<'_>) -> Result<()> {
    let installed = trial.installed()?;
    let (address, lock) = (trial.address(), trial.lock.as_str());
    let push = ["store", "push", "--to", &address, "--lock", lock, "--dest", installed.as_str()];
    let advice = if trial.server.kind.is_bucket() { "AWS_ACCESS_KEY_ID" } else { "netrc" };
    trial.run_without_access(&push)?.exits(6)?.complains(&[advice])?;
    Ok(())
}

/// Keys of a container's endpoint that have ended when they are given: the program asks again every ten seconds.
pub(super) fn renewed_keys(trial: &Trial<'_>) -> Result<()> {
    trial.push()?.exits(0)?;
    let endpoint = BlockingOrigin::start(OriginConfig::default())?;
    let keys = serde_json::json!({
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "Token": "session-token-canary",
        "Expiration": "2020-01-01T00:00:00Z",
    });
    endpoint.put("/keys", Content::bytes(keys.to_string()));
    trial.reset();
    // The fetch takes 14 seconds.
    trial.store.set_rate(Some(LARGE / 14));
    let destination = trial.fixture.scratch.fresh("dest");
    let (address, lock) = (trial.address(), trial.lock.as_str());
    let arguments =
        ["fetch", "--lock", lock, "--dest", destination.as_str(), "--store", &address, "--store-only"];
    let run = trial.run_without_access(&arguments)?;
    run.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url("/keys")).exits(0)?;
    trial.require_files(&destination)?;
    let asked = endpoint.counters().requests;
    ensure!(asked >= 2, "keys that have ended were asked for {asked} times");
    Ok(())
}

/// The server's clock goes forward during a fetch, so that every signature made before has expired.
pub(super) fn expired(trial: &Trial<'_>) -> Result<()> {
    let fixture = trial.fixture;
    let clock = fixture.scratch.fresh("clock");
    // A store whose clock is wrong from the start: the answer's date corrects it.
    fs::write(&clock, "+2h")?;
    let server = Server::start_bucket_with_clock(&fixture.sh, &fixture.scratch, &clock)?;
    let trial = Trial::new(fixture, &server)?;
    trial.push()?.exits(0)?;
    let kept = |ended: Ended| {
        trial.require_quiet_origin()?;
        let heads = trial.store.traffic().heads;
        let refused = heads.len() > 200;
        ensure!(!refused, "{} requests for one correction of the clock:\n{ended}", heads.len());
        Ok(())
    };
    kept(trial.fetch_whole(&[])?)?;
    // Midway: half of the file is there when an hour passes at once.
    trial.reset();
    trial.store.set_rate(Some(20_000_000));
    let (run, destination) = trial.fetch(&[])?;
    let running = run.start()?;
    trial.store.wait_for("half of a file", |traffic| traffic.down >= LARGE / 2)?;
    fs::write(&clock, "+4h")?;
    let ended = running.end()?.exited(0)?;
    trial.require_files(&destination)?;
    kept(ended)
}
