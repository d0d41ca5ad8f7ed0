//! Downloads over http and https, through the hub's redirects, and two that must fail.

use std::collections::HashSet;

use anyhow::{Result, ensure};

use super::fixture::{MARKER, REPOSITORY, RealFixture, SIGNATURE, TOKEN};
use crate::tools::access_log;
use crate::tools::files::{files_with, verify_sums};
use crate::tools::wheel::{MODEL, MODEL_SHA256, MODEL_SIZE};

pub(super) fn http(fixture: &RealFixture) -> Result<()> {
    let (lock, destination) = (fixture.lock(), fixture.destination());
    let mark = fixture.log.mark()?;
    fixture.fetch(&lock, &destination)?.exits(0)?;
    fixture.assert_complete(&lock, &destination)?;
    let requests = fixture.log.since(mark)?;
    let ranges = requests.iter().filter(|request| request.status == 206 && request.path.ends_with(MODEL));
    let connections = ranges.map(|request| request.connection).collect::<HashSet<_>>().len();
    ensure!(connections > 1, "{MODEL} was downloaded over {connections} connection");
    ensure!(requests.iter().all(|request| request.referer.is_empty()), "a Referer was sent: {requests:#?}");
    let (sent, total) = (access_log::bytes(&requests), fixture.assets.total());
    // The end of a claim that another connection took over is sent twice. That must stay rare.
    ensure!((total..=total + total / 20).contains(&sent), "nginx sent {sent} bytes for {total}");

    let mark = fixture.log.mark()?;
    let second = fixture.fetch(&lock, &destination)?.args(&["--progress", "json"]);
    second.exits(0)?.says(&["\"marker-valid\""])?;
    // The marker vouches for bytes, not for URLs.
    fixture.fetch(&fixture.https_lock(), &destination)?.exits(0)?;
    fixture.run_on("verify", &lock, &destination)?.exits(0)?;
    fixture.run_on("status", &lock, &destination)?.exits(0)?.says(&[MODEL])?;
    fixture.assert_no_request(mark)
}

pub(super) fn https(fixture: &RealFixture) -> Result<()> {
    let (lock, destination) = (fixture.https_lock(), fixture.destination());
    let mark = fixture.log.mark()?;
    let run = fixture.fetch(&lock, &destination)?.env("SSL_CERT_FILE", &fixture.authority);
    let ended = run.args(&["--progress", "none", "--quiet"]).exits(0)?;
    ensure!(ended.stdout.is_empty() && ended.stderr.is_empty(), "a quiet run should print nothing:\n{ended}");
    fixture.assert_complete(&lock, &destination)?;
    let requests = fixture.log.since(mark)?;
    let over_https = requests.iter().all(|request| request.port == fixture.ports.https);
    ensure!(over_https, "not every request was over https: {requests:#?}");
    Ok(())
}

pub(super) fn unknown_authority(fixture: &RealFixture) -> Result<()> {
    let (lock, destination) = (fixture.https_lock(), fixture.destination());
    let mark = fixture.log.mark()?;
    let ended = fixture.fetch(&lock, &destination)?.exits(4)?;
    ended.complains(&["certificate", "localhost", "SSL_CERT_FILE"])?;
    let mut names = lock.entries.iter().map(|entry| entry.path.as_str()).chain([MARKER]);
    let installed = names.find(|name| destination.join(name).exists());
    ensure!(installed.is_none(), "{installed:?} came from a server without a trusted certificate");
    fixture.assert_no_request(mark)
}

/// A right file stays installed when a lock asks for bytes that no source has.
pub(super) fn wrong_digest(fixture: &RealFixture) -> Result<()> {
    let (right, destination) = (fixture.lock(), fixture.destination());
    let mut wrong = right.clone();
    for entry in wrong.entries.iter_mut().filter(|entry| entry.path.ends_with(MODEL)) {
        entry.sha256 = "0".repeat(64);
    }
    fixture.fetch(&right, &destination)?.exits(0)?;
    fixture.fetch(&wrong, &destination)?.exits(5)?.complains(&[MODEL, MODEL_SHA256])?;
    verify_sums(&fixture.sh, &destination, &right.sums())?;
    ensure!(!destination.join(MARKER).exists(), "a marker vouches for bytes that the lock does not list");
    Ok(())
}

pub(super) fn token(fixture: &RealFixture) -> Result<()> {
    let destination = fixture.destination();
    let lock = fixture.lock_at(&format!("https://huggingface.co/{REPOSITORY}/resolve/main"));
    let mark = fixture.log.mark()?;
    let run = fixture.fetch(&lock, &destination)?.args(&["-v", "--report", "report.json"]);
    let ended = run.env("HF_TOKEN", TOKEN).env("HF_ENDPOINT", fixture.hub()).exits(0)?;
    verify_sums(&fixture.sh, &destination, &lock.sums())?;

    let requests = fixture.log.since(mark)?;
    let bearer = format!("Bearer {TOKEN}");
    let hub: Vec<_> = requests.iter().filter(|request| request.path.contains("/resolve/")).collect();
    let cdn: Vec<_> = requests.iter().filter(|request| request.port == fixture.ports.cdn).collect();
    ensure!(!hub.is_empty() && !cdn.is_empty(), "the hub or the CDN got no request: {requests:#?}");
    ensure!(hub.iter().all(|request| request.authorization == bearer), "the hub needs the token: {hub:#?}");
    ensure!(cdn.iter().all(|request| request.authorization.is_empty()), "the token left the hub: {cdn:#?}");
    ensure!(cdn.iter().all(|request| request.query.contains(SIGNATURE)), "the signature was lost: {cdn:#?}");

    // A search that misses it would miss a secret, too.
    let known = files_with(&fixture.sh, &ended.folder, "config.json")?;
    ensure!(!known.is_empty(), "the report does not name config.json");
    // Parts of the secrets, so that a secret that was cut or masked is found, too.
    for secret in ["canary_4e1f7a90", "sig_canary"] {
        for folder in [&destination, &ended.folder] {
            let files = files_with(&fixture.sh, folder, secret)?;
            ensure!(files.is_empty(), "{secret:?} is in {files:?}");
        }
    }
    Ok(())
}

pub(super) fn group(fixture: &RealFixture) -> Result<()> {
    let (lock, destination) = (fixture.lock(), fixture.destination());
    let run = fixture.fetch(&lock, &destination)?.args(&["--group", "weights", "--limit-rate", "40M"]);
    let ended = run.exits(0)?;
    for entry in &lock.entries {
        let (path, is_wanted) = (&entry.path, entry.group == "weights");
        ensure!(destination.join(path).exists() == is_wanted, "--group weights: {path}\n{ended}");
    }
    // The limit allows one second's worth at once. A busy machine has no upper bound.
    let (seconds, least) = (ended.took.as_secs_f64(), MODEL_SIZE as f64 / 40e6 - 1.0);
    ensure!(seconds >= least, "faster than 40 MB/s:\n{ended}");

    // The marker of a part of the set must not vouch for the set.
    fixture.fetch(&lock, &destination)?.exits(0)?;
    fixture.assert_complete(&lock, &destination)
}
