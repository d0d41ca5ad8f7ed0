//! Torrents by the clients that people run: aria2 and libtorrent.
//!
//! The program writes the torrents of installed files; each client then gets the files from the web seeds alone, a peer
//! gives them without any, and `--reuse` installs what aria2 has downloaded. libtorrent computes the info hashes anew.

use std::fs;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::stores::trial::{File, Trial};
use crate::tools::files::{verify_contents, write_contents};
use crate::tools::process::Run;
use crate::tools::{nginx, programs};

/// The library in a version that works.
const LIBTORRENT: &str = "libtorrent==2.1.1";

/// aria2 without the machine's settings and without a network: web seeds, trackers and the peers that they name remain.
const ARIA2: [&str; 8] = [
    "--no-conf",
    "--quiet",
    "--seed-time=0",
    "--enable-dht=false",
    "--enable-dht6=false",
    "--bt-enable-lpd=false",
    "--enable-peer-exchange=false",
    "--file-allocation=none",
];

/// nginx, which is the store, serves the installed files to the clients.
pub(super) fn by_other_clients(trial: &mut Trial<'_>) -> Result<()> {
    // A piece that both files share, and several that one has alone.
    let trial = &Trial::of(trial.server, &[9_000_001, 300_000])?;
    let fixture = trial.server.fixture;
    let scratch = &fixture.scratch;
    let library = programs::python_package(&fixture.sh, &fixture.libraries, LIBTORRENT, &[])?;
    let script = scratch.file("peers.py", include_str!("peers.py"))?;
    let python = |arguments: &[&str]| -> Result<Run> {
        let run = scratch.run(&fixture.sh, "python3")?.env("PYTHONPATH", &library);
        Ok(run.args(&[script.as_str()]).args(arguments))
    };
    let aria2 = |torrent: &Utf8Path, folder: &Utf8Path| {
        let place = [torrent.as_str(), &format!("--dir={folder}")];
        scratch.run(&fixture.sh, "aria2c")?.args(&ARIA2).args(&place).exits(0)
    };
    let site = trial.server.data.join(&trial.name);
    let base = format!("http://127.0.0.1:{}/{}/models/", trial.server.port, trial.name);
    write_contents(&site.join("models"), &trial.files)?;

    trial.write_lock(|path| format!("{base}{path}"))?;
    let torrents = write_torrents(trial, &site, &["--web-seed", &base])?;
    let again = write_torrents(trial, &site, &["--web-seed", &base])?;
    ensure!(torrents.len() == 3, "a torrent for each file and one for the set: {torrents:?}");
    let (by_aria2, by_libtorrent) = (scratch.fresh("aria2"), scratch.fresh("libtorrent"));
    for ((hash, torrent), (_, other)) in torrents.iter().zip(&again) {
        ensure!(fs::read(torrent)? == fs::read(other)?, "{torrent} and {other} differ");
        aria2(torrent, &by_aria2)?;
        let printed = python(&["web", torrent.as_str(), by_libtorrent.as_str()])?.exits(0)?.stdout;
        ensure!(printed.trim() == hash, "libtorrent says {printed} for {torrent}, the program {hash}");
    }
    // The set has a folder, and the torrent of one file has none.
    let name = |path| Utf8Path::new(path).file_name().unwrap_or(path);
    let single: Vec<File> = trial.files.iter().map(|(path, content)| (name(path), content.clone())).collect();
    for folder in [&by_aria2, &by_libtorrent] {
        verify_contents(&folder.join("models"), &trial.files)?;
        verify_contents(folder, &single)?;
    }
    // What aria2 downloaded is installed without a network.
    let models = scratch.fresh("models");
    let reuse = ["fetch", "--offline", "--dest", models.as_str(), "--reuse", by_aria2.as_str()];
    trial.run(&reuse)?.exits(0)?;
    verify_contents(&models, &trial.files)?;

    // libtorrent has the set from libtorrent, a peer alone.
    let by_peer = scratch.fresh("peer");
    let set = torrents.iter().find(|(_, path)| path.ends_with("models.torrent")).context("no set")?;
    python(&["peer", set.1.as_str(), site.as_str(), by_peer.as_str()])?.exits(0)?;
    verify_contents(&by_peer.join("models"), &trial.files)?;

    // aria2 has a file from libtorrent by a tracker. Addresses with a query are no web seeds, so only the tracker's
    // peer has the file.
    let [port] = nginx::free_ports()?;
    trial.write_lock(|path| format!("{base}{path}?signature=secret"))?;
    let tracker = format!("http://127.0.0.1:{port}/announce");
    let unseeded = write_torrents(trial, &site, &["--tracker", &tracker])?;
    let large = unseeded.iter().find(|(_, path)| path.as_str().contains(single[0].0));
    let (_, torrent) = large.context("no torrent of the large file")?;
    ensure!(!String::from_utf8_lossy(&fs::read(torrent)?).contains("secret"), "{torrent} has a secret");
    let (number, seed) = (port.to_string(), site.join("models"));
    let seeder = python(&["tracker", &number, torrent.as_str(), seed.as_str()])?.start()?;
    let _seeder = seeder.listens((Ipv4Addr::LOCALHOST, port))?;
    let by_tracker = scratch.fresh("tracker");
    aria2(torrent, &by_tracker)?;
    verify_contents(&by_tracker, &single[..1])
}

/// Writes the torrents of the trial's lock for the files in `site`; returns the info hash and the path of each.
fn write_torrents(
    trial: &Trial<'_>,
    site: &Utf8Path,
    options: &[&str],
) -> Result<Vec<(String, Utf8PathBuf)>> {
    let (folder, models) = (trial.server.fixture.scratch.fresh("torrents"), site.join("models"));
    let arguments = ["lock", "torrent", "-o", folder.as_str(), "--dest", models.as_str()];
    let printed = trial.run(&arguments)?.args(options).exits(0)?.stdout;
    let torrent = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        Some((words.next()?.to_owned(), words.next()?.into()))
    };
    let torrents = printed.lines().map(|line| torrent(line).with_context(|| format!("an odd line: {line}")));
    torrents.collect()
}
