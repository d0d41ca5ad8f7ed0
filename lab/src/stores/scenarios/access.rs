//! Logins and keys: wrong, missing, short-lived; and signatures that expire.

use std::fs;

use anyhow::{Result, ensure};
use provision_testbed::{BlockingOrigin, Content, OriginConfig};

use crate::stores::server::{ACCESS_KEY, SECRET_KEY, Server};
use crate::stores::trial::{LARGE, Trial};
use crate::tools::files::verify_contents;
use crate::tools::process::{Ended, Run};

pub(super) fn wrong_login(trial: &mut Trial<'_>) -> Result<()> {
    let secret = "wrong-secret-canary";
    trial.access = trial.server.access(trial.port, Some(secret))?;
    let origin_of_login = if trial.server.kind.is_bucket() { "AWS_ACCESS_KEY_ID" } else { "config.json" };
    let refused = |run: Run| -> Result<()> {
        let ended = run.exits(6)?.says(&[origin_of_login])?;
        let text = format!("{}{}", ended.stdout, ended.stderr);
        ensure!(!text.contains(secret), "a secret is shown:\n{ended}");
        Ok(())
    };
    refused(trial.push()?)?;
    refused(trial.check(&[])?)?;
    refused(trial.fetch(&["--store-only"])?.0)?;
    trial.require_quiet_origin()?;
    // With an origin, the store's refusal is no failure of the run.
    trial.fetch_whole(&[])?;
    // The login went to the store and to nothing else.
    let origin = trial.origin.traffic();
    let leaks = |head: &&String| head.to_lowercase().contains("authorization") || head.contains("X-Amz-");
    let leaked = origin.heads.iter().find(leaks);
    ensure!(leaked.is_none(), "the origin got a credential of the store: {leaked:?}");
    Ok(())
}

pub(super) fn no_login(trial: &mut Trial<'_>) -> Result<()> {
    trial.access.clear();
    let advice = if trial.server.kind.is_bucket() { "AWS_ACCESS_KEY_ID" } else { "netrc" };
    trial.push()?.exits(6)?.complains(&[advice])?;
    Ok(())
}

/// Keys of a container's endpoint that have ended when they are given: the program asks again every ten seconds.
pub(super) fn renewed_keys(trial: &mut Trial<'_>) -> Result<()> {
    trial.fill()?;
    let endpoint = BlockingOrigin::start(OriginConfig::default())?;
    let keys = serde_json::json!({
        "AccessKeyId": ACCESS_KEY,
        "SecretAccessKey": SECRET_KEY,
        "Token": "session-token-canary",
        "Expiration": "2020-01-01T00:00:00Z",
    });
    endpoint.put("/keys", Content::bytes(keys.to_string()));
    // The fetch takes 14 seconds.
    trial.store.set_rate(Some(LARGE / 14));
    trial.access.clear();
    let (run, destination) = trial.fetch(&["--store-only"])?;
    run.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url("/keys")).exits(0)?;
    verify_contents(&destination, &trial.files)?;
    let asked = endpoint.counters().requests;
    ensure!(asked >= 2, "keys that have ended were asked for {asked} times");
    Ok(())
}

/// The server's clock goes forward during a fetch, so that every signature made before has expired.
pub(super) fn expired(trial: &mut Trial<'_>) -> Result<()> {
    let fixture = trial.server.fixture;
    // A store whose clock is wrong from the start: the answer's date corrects it.
    let clock = fixture.scratch.file("clock", "+2h")?;
    let server = Server::start_bucket_with_clock(fixture, &clock)?;
    let trial = Trial::new(&server)?;
    trial.push()?.exits(0)?;
    let kept = |ended: &Ended| {
        trial.require_quiet_origin()?;
        let requests = trial.store.traffic().heads.len();
        ensure!(requests <= 200, "{requests} requests for one correction of the clock:\n{ended}");
        Ok(())
    };
    kept(&trial.fetch_whole(&[])?)?;
    // Midway: half of the file is there when an hour passes at once.
    trial.reset();
    trial.store.set_rate(Some(20_000_000));
    let (run, destination) = trial.fetch(&[])?;
    let running = run.start()?;
    trial.store.wait_for("half of a file", |traffic| traffic.down >= LARGE / 2)?;
    fs::write(&clock, "+4h")?;
    let ended = running.end()?.exited(0)?;
    verify_contents(&destination, &trial.files)?;
    kept(&ended)
}
