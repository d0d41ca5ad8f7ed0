//! The table of checks: each kind of root, and each way in which a name resolves or fails to.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::fixture::{HOST, HOST_IN_DOMAIN, HOSTS_FILE_HOST, RESOLV_CONF, SILENT_SERVER, StaticFixture};
use super::root::Kind;
use crate::tools::wheel::MODEL;

/// A check and its name.
type Check = (&'static str, fn(&StaticFixture) -> Result<()>);

pub(super) const CHECKS: &[Check] = &[
    ("an empty root, as FROM scratch", |fixture| all_commands(fixture, Kind::Empty)),
    ("a root with musl, as Alpine", |fixture| all_commands(fixture, Kind::Musl)),
    ("a root that names foreign modules", |fixture| all_commands(fixture, Kind::Modules)),
    ("/etc/hosts comes first", hosts_file),
    ("a search domain completes a name", search_domain),
    ("without resolv.conf this machine is asked", no_resolv_conf),
    ("the second name server steps in", second_server),
    ("a name that does not exist", absent_name),
    ("a name server that does not answer", silent_server),
    ("a name server that is not there", absent_server),
];

fn all_commands(fixture: &StaticFixture, kind: Kind) -> Result<()> {
    let root = fixture.root(kind, HOST, &[("resolv.conf", RESOLV_CONF)])?;
    let before = fixture.name_server.queries(HOST)?;
    fixture.fetch(&root)?;
    let lock = format!("https://{HOST}/models.lock");
    fixture.run_with_lock(&root, &lock, "fetch", &[], 0)?;
    let after = fixture.name_server.queries(HOST)?;
    ensure!(after > before, "the name server got no query");
    fixture.run(&root, "verify", &[], 0)?;
    fixture.run(&root, "status", &[], 0)?.says(&[MODEL])?;
    fixture.run(&root, "fetch", &[], 0)?;
    ensure!(fixture.name_server.queries(HOST)? == after, "a run with nothing to do resolved a name");
    Ok(())
}

fn hosts_file(fixture: &StaticFixture) -> Result<()> {
    let hosts = format!("127.0.0.1 {HOSTS_FILE_HOST} alias\n");
    let etc = [("resolv.conf", RESOLV_CONF), ("hosts", hosts.as_str())];
    fixture.fetch(&fixture.root(Kind::Empty, HOSTS_FILE_HOST, &etc)?)?;
    let queries = fixture.name_server.queries(HOSTS_FILE_HOST)?;
    ensure!(queries == 0, "the name server got {queries} queries for a name in /etc/hosts");
    Ok(())
}

fn search_domain(fixture: &StaticFixture) -> Result<()> {
    let resolv = format!("{RESOLV_CONF}search none.test lan.test\n");
    fixture.fetch(&fixture.root(Kind::Empty, HOST_IN_DOMAIN, &[("resolv.conf", &resolv)])?)?;
    let tried = fixture.name_server.queries(&format!("{HOST_IN_DOMAIN}.none.test"))?;
    ensure!(tried > 0, "the first search domain was not tried");
    Ok(())
}

fn no_resolv_conf(fixture: &StaticFixture) -> Result<()> {
    fixture.fetch(&fixture.root(Kind::Empty, HOST, &[])?)
}

fn second_server(fixture: &StaticFixture) -> Result<()> {
    let resolv = format!("nameserver {SILENT_SERVER}\n{RESOLV_CONF}options timeout:1\n");
    fixture.fetch(&fixture.root(Kind::Empty, HOST, &[("resolv.conf", &resolv)])?)
}

fn absent_name(fixture: &StaticFixture) -> Result<()> {
    let host = "no-such-host.lan.test";
    // The client retries: the name may be about to appear.
    fixture.fetch_fails(
        host,
        RESOLV_CONF,
        &["--retries", "2"],
        &[host, "does not resolve"],
        Duration::from_secs(20),
    )
}

const NO_ANSWER: &[&str] = &[HOST, "no name server answered", "/etc/resolv.conf"];

fn silent_server(fixture: &StaticFixture) -> Result<()> {
    let resolv = format!("nameserver {SILENT_SERVER}\noptions timeout:1 attempts:1\n");
    fixture.fetch_fails(HOST, &resolv, &["--retries", "2"], NO_ANSWER, Duration::from_secs(30))
}

fn absent_server(fixture: &StaticFixture) -> Result<()> {
    let resolv = "nameserver 127.0.0.3\n";
    fixture.fetch_fails(HOST, resolv, &["--retries", "2"], NO_ANSWER, Duration::from_secs(20))
}
