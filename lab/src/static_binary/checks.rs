//! What has to hold in a root where nothing of the program's own world is.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Check;
use super::root::Kind;
use super::world::{HOST, HOST_BY_FILE, HOST_IN_DOMAIN, RESOLV, SILENT, World};

pub(super) const CHECKS: &[Check] = &[
    Check { name: "an empty root, as FROM scratch", prove: |world| everything(world, Kind::Empty) },
    Check { name: "a root with musl, as Alpine", prove: |world| everything(world, Kind::Musl) },
    Check { name: "a root that names foreign modules", prove: |world| everything(world, Kind::Modules) },
    Check { name: "/etc/hosts comes first", prove: hosts_file },
    Check { name: "a search domain completes a name", prove: search_domain },
    Check { name: "without resolv.conf this machine is asked", prove: no_resolv_conf },
    Check { name: "the second name server steps in", prove: second_server },
    Check { name: "a name that does not exist", prove: absent_name },
    Check { name: "a name server that says nothing", prove: silent_server },
    Check { name: "a name server that is not there", prove: no_server },
];

/// The commands, one after the other; the second fetch is done without a name.
fn everything(world: &World, kind: Kind) -> Result<()> {
    let root = world.root(kind, HOST, &[("resolv.conf", RESOLV)])?;
    let before = world.name_server.asked(HOST)?;
    world.fetches(&root)?;
    let after = world.name_server.asked(HOST)?;
    ensure!(after > before, "the name server was not asked");
    world.run(&root, "verify", &[], 0)?;
    world.run(&root, "status", &[], 0)?.says(&["large.safetensors"])?;
    world.run(&root, "fetch", &[], 0)?;
    ensure!(world.name_server.asked(HOST)? == after, "a run with nothing to do asked for a name");
    Ok(())
}

fn hosts_file(world: &World) -> Result<()> {
    let hosts = format!("127.0.0.1 {HOST_BY_FILE} alias\n");
    let etc = [("resolv.conf", RESOLV), ("hosts", hosts.as_str())];
    world.fetches(&world.root(Kind::Empty, HOST_BY_FILE, &etc)?)?;
    ensure!(
        world.name_server.asked(HOST_BY_FILE)? == 0,
        "the name server was asked for what /etc/hosts knows"
    );
    Ok(())
}

fn search_domain(world: &World) -> Result<()> {
    let resolv = format!("{RESOLV}search none.test lan.test\n");
    world.fetches(&world.root(Kind::Empty, HOST_IN_DOMAIN, &[("resolv.conf", &resolv)])?)?;
    let tried = world.name_server.asked(&format!("{HOST_IN_DOMAIN}.none.test"))?;
    ensure!(tried > 0, "the first search domain was not tried");
    Ok(())
}

fn no_resolv_conf(world: &World) -> Result<()> {
    world.fetches(&world.root(Kind::Empty, HOST, &[])?)
}

fn second_server(world: &World) -> Result<()> {
    let resolv = format!("nameserver {SILENT}\n{RESOLV}options timeout:1\n");
    world.fetches(&world.root(Kind::Empty, HOST, &[("resolv.conf", &resolv)])?)
}

fn absent_name(world: &World) -> Result<()> {
    let root = world.root(Kind::Empty, "no-such-host.lan.test", &[("resolv.conf", RESOLV)])?;
    let ended = world.fails(&root, &[], &["no-such-host.lan.test", "does not resolve"])?;
    // Tried again, in case it is only just being made.
    ensure!(ended.took < Duration::from_secs(20), "it took {:?}", ended.took);
    Ok(())
}

fn silent_server(world: &World) -> Result<()> {
    let resolv = format!("nameserver {SILENT}\noptions timeout:1 attempts:1\n");
    let root = world.root(Kind::Empty, HOST, &[("resolv.conf", &resolv)])?;
    let ended =
        world.fails(&root, &["--retries", "2"], &[HOST, "no name server answered", "/etc/resolv.conf"])?;
    ensure!(ended.took < Duration::from_secs(30), "it took {:?}", ended.took);
    Ok(())
}

fn no_server(world: &World) -> Result<()> {
    let root = world.root(Kind::Empty, HOST, &[("resolv.conf", "nameserver 127.0.0.3\n")])?;
    let ended =
        world.fails(&root, &["--retries", "2"], &[HOST, "no name server answered", "/etc/resolv.conf"])?;
    ensure!(ended.took < Duration::from_secs(20), "it took {:?}", ended.took);
    Ok(())
}
