//! The table of checks: each kind of root, and each way in which a name resolves or fails to.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::fixture::{HOST, HOST_IN_DOMAIN, HOSTS_FILE_HOST, RESOLV_CONF, SILENT_SERVER, StaticFixture};
use crate::tools::wheel::MODEL;

/// A check and its name.
type Check = (&'static str, fn(&StaticFixture) -> Result<()>);

pub(super) const CHECKS: &[Check] = &[
    ("an empty root, as FROM scratch", |fixture| all_commands(fixture, "")),
    ("a root with musl, as Alpine", |fixture| all_commands(fixture, MUSL)),
    ("a root that names foreign modules", |fixture| all_commands(fixture, MODULES)),
    ("/etc/hosts comes first", hosts_file),
    ("a search domain completes a name", search_domain),
    ("without resolv.conf this machine is asked", |fixture| fixture.fetch(&fixture.root("", HOST, None)?)),
    ("the second name server steps in", second_server),
    ("a name that does not exist", absent_name),
    ("a name server that does not answer", silent_server),
    ("a name server that is not there", |fixture| no_answer(fixture, "nameserver 127.0.0.3\n", 20)),
];

/// Gives a root another C library and busybox, as in Alpine. `-L`: Debian's loader is a symlink into another directory.
const MUSL: &str = "
    mkdir bin lib
    cp -L /lib/ld-musl-*.so.1 lib
    cp $(command -v busybox) bin/busybox
    chroot . /bin/busybox true";

/// Gives a root the name-service configuration of systemd and Avahi. A module is there and is no library: loading it
/// fails, and the trace shows a search for it.
const MODULES: &str = "
    echo 'hosts: mymachines mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] files myhostname dns' \
        > etc/nsswitch.conf
    mkdir -p lib usr/lib
    echo 'not a library' | tee lib/libnss_mdns4_minimal.so.2 > usr/lib/libnss_mdns4_minimal.so.2
    chmod 755 lib/*.so.2 usr/lib/*.so.2";

fn all_commands(fixture: &StaticFixture, setup: &str) -> Result<()> {
    let root = fixture.root(setup, HOST, Some(RESOLV_CONF))?;
    let before = fixture.name_server.queries(HOST)?;
    fixture.fetch(&root)?;
    fixture.run(&root, "fetch", &fixture.remote_lock(HOST), 0)?;
    let after = fixture.name_server.queries(HOST)?;
    ensure!(after > before, "the name server got no query");
    fixture.run(&root, "verify", &[], 0)?;
    fixture.run(&root, "status", &[], 0)?.says(&[MODEL])?;
    fixture.run(&root, "fetch", &[], 0)?;
    ensure!(fixture.name_server.queries(HOST)? == after, "a run with nothing to do resolved a name");
    Ok(())
}

fn hosts_file(fixture: &StaticFixture) -> Result<()> {
    let setup = format!("echo '127.0.0.1 {HOSTS_FILE_HOST} alias' > etc/hosts");
    fixture.fetch(&fixture.root(&setup, HOSTS_FILE_HOST, Some(RESOLV_CONF))?)?;
    let queries = fixture.name_server.queries(HOSTS_FILE_HOST)?;
    ensure!(queries == 0, "the name server got {queries} queries for a name in /etc/hosts");
    Ok(())
}

fn search_domain(fixture: &StaticFixture) -> Result<()> {
    let resolv = format!("{RESOLV_CONF}search none.test lan.test\n");
    fixture.fetch(&fixture.root("", HOST_IN_DOMAIN, Some(&resolv))?)?;
    let tried = fixture.name_server.queries(&format!("{HOST_IN_DOMAIN}.none.test"))?;
    ensure!(tried > 0, "the first search domain was not tried");
    Ok(())
}

fn second_server(fixture: &StaticFixture) -> Result<()> {
    let resolv = format!("nameserver {SILENT_SERVER}\n{RESOLV_CONF}options timeout:1\n");
    fixture.fetch(&fixture.root("", HOST, Some(&resolv))?)
}

fn absent_name(fixture: &StaticFixture) -> Result<()> {
    let host = "no-such-host.lan.test";
    fetch_fails(fixture, host, RESOLV_CONF, &[host, "does not resolve"], 20)
}

fn silent_server(fixture: &StaticFixture) -> Result<()> {
    no_answer(fixture, &format!("nameserver {SILENT_SERVER}\noptions timeout:1 attempts:1\n"), 30)
}

fn no_answer(fixture: &StaticFixture, resolv_conf: &str, seconds: u64) -> Result<()> {
    fetch_fails(fixture, HOST, resolv_conf, &[HOST, "no name server answered", "/etc/resolv.conf"], seconds)
}

/// Runs `fetch` from `host` in an empty root. Requires that it fails within `seconds` with `words`, without a marker.
fn fetch_fails(
    fixture: &StaticFixture,
    host: &str,
    resolv_conf: &str,
    words: &[&str],
    seconds: u64,
) -> Result<()> {
    let root = fixture.root("", host, Some(resolv_conf))?;
    // Model bodies have a client of their own, and a lock at an address is a document.
    for lock in [vec![], fixture.remote_lock(host)] {
        // The client retries: the name may be about to appear.
        let options = [&lock[..], &["--retries".to_owned(), "2".to_owned()]].concat();
        let ended = fixture.run(&root, "fetch", &options, 4)?.complains(words)?;
        ensure!(!root.join("models/.models-installed").exists(), "a failed fetch left a marker:\n{ended}");
        ensure!(ended.took < Duration::from_secs(seconds), "it should fail within {seconds} s:\n{ended}");
    }
    Ok(())
}
