//! Torrents by the clients that people run: aria2 and libtorrent.
//!
//! The program writes the torrents of installed files; each client then gets the files from the web seeds alone, a peer
//! gives them without any, and `--reuse` installs what aria2 has downloaded. libtorrent computes the info hashes anew.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::Content;
use xshell::{Shell, cmd};

use crate::tools::lock_text;
use crate::tools::nginx::{self, Nginx};
use crate::tools::process::Run;
use crate::tools::scratch::Scratch;

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

/// The files, and where they lie.
struct Site<'a> {
    sh: &'a Shell,
    program: &'a Utf8Path,
    scratch: &'a Scratch,
    files: [(&'static str, Content); 2],
    /// The directory above `models`, which nginx serves.
    root: Utf8PathBuf,
    /// `http://HOST/models/`
    base: String,
}

/// Checks the torrents of `program`. The library is kept in `folder`.
pub(crate) fn check(sh: &Shell, program: &Utf8Path, folder: &Utf8Path, scratch: &Scratch) -> Result<()> {
    let library = folder.join(LIBTORRENT);
    if !library.join("libtorrent").is_dir() {
        let options = ["--quiet", "--disable-pip-version-check", "--root-user-action", "ignore", "--target"];
        cmd!(sh, "pip install {options...} {library} {LIBTORRENT}")
            .run()
            .with_context(|| format!("pip could not install {LIBTORRENT}"))?;
    }
    let _library = sh.push_env("PYTHONPATH", &library);
    let script = scratch.path().join("peers.py");
    fs::write(&script, include_str!("torrents/peers.py"))?;
    let [web, announce] = nginx::free_ports()?;
    let root = scratch.fresh("site");
    let http = format!("access_log logs/access.log; server {{ listen 127.0.0.1:{web}; root {root}; }}");
    // A piece that both files share, and several that each has alone.
    let files = [
        ("loras/x.safetensors", Content::generated(21, 9_000_001)),
        ("vae/y.bin", Content::generated(22, 300_000)),
    ];
    for (path, content) in &files {
        let path = root.join("models").join(path);
        fs::create_dir_all(path.parent().unwrap_or(&root))?;
        fs::write(&path, content.to_vec())?;
    }
    let config = nginx::Config { workers: "1", ports: vec![web], http };
    let _server = Nginx::start(sh, &scratch.fresh("nginx"), &config)?;
    let base = format!("http://127.0.0.1:{web}/models/");
    let site = Site { sh, program, scratch, files, root, base };

    let lock = site.lock("web.lock", "")?;
    let web_seed = ["--web-seed", &site.base];
    let torrents = site.torrents("torrents", &lock, &web_seed)?;
    let again = site.torrents("again", &lock, &web_seed)?;
    ensure!(torrents.len() == 3, "a torrent for each file and one for the set: {torrents:?}");
    for ((_, one), (_, other)) in torrents.iter().zip(&again) {
        ensure!(fs::read(one)? == fs::read(other)?, "{one} and {other} differ");
    }
    let aria2 = scratch.fresh("aria2");
    let by_libtorrent = scratch.fresh("libtorrent");
    for (hash, torrent) in &torrents {
        site.aria2(torrent, &aria2)?;
        let printed =
            cmd!(sh, "timeout 120 python3 {script} web {torrent} {by_libtorrent}").quiet().read()?;
        ensure!(printed == *hash, "libtorrent says {printed} for {torrent}, the program {hash}");
    }
    site.has_all(&aria2, true)?;
    site.has_all(&by_libtorrent, true)?;
    println!("    web seeds alone: aria2 and libtorrent have each file and the set, by the same info hashes");
    site.reuse(&lock, &aria2)?;
    println!("    --reuse: what aria2 downloaded is installed without a network");

    let by_peer = scratch.fresh("peer");
    let set = &torrents.iter().find(|(_, path)| path.ends_with("models.torrent")).context("no set")?.1;
    let seed = &site.root;
    cmd!(sh, "timeout 120 python3 {script} peer {set} {seed} {by_peer}").quiet().run()?;
    site.has_all(&by_peer.join("models"), false)?;
    println!("    a peer alone: libtorrent has the set from libtorrent");

    // Addresses with a query are no web seeds, so only the tracker's peer has the file.
    let tracker = format!("http://127.0.0.1:{announce}/announce");
    let signed = site.lock("signed.lock", "?signature=secret")?;
    let unseeded = site.torrents("unseeded", &signed, &["--tracker", &tracker])?;
    let (_, torrent) =
        unseeded.iter().find(|(_, path)| path.as_str().contains("x.safetensors")).context("no torrent")?;
    ensure!(!String::from_utf8_lossy(&fs::read(torrent)?).contains("secret"), "{torrent} has a secret");
    let port = announce.to_string();
    let seed = site.root.join("models/loras");
    let _seeder = Run::new("python3".into(), &sh.var("PATH")?, scratch.fresh("seeder"))?
        .env("PYTHONPATH", &library)
        .args(&[script.as_str(), "tracker", &port, torrent.as_str(), seed.as_str()])
        .start()?
        .listens((std::net::Ipv4Addr::LOCALHOST, announce))?;
    let from_tracker = scratch.fresh("tracker");
    site.aria2(torrent, &from_tracker)?;
    let (path, content) = &site.files[0];
    let name = Utf8Path::new(path).file_name().unwrap_or_default();
    ensure!(fs::read(from_tracker.join(name))? == content.to_vec(), "aria2 has other bytes from its peer");
    println!("    a tracker: aria2 has a file from libtorrent");
    Ok(())
}

impl Site<'_> {
    /// A lock whose addresses end with `query`.
    fn lock(&self, name: &str, query: &str) -> Result<Utf8PathBuf> {
        let model = |(path, content): &(&str, Content)| {
            let url = format!("{}{path}{query}", self.base);
            lock_text::model(path, &url, content.size(), &content.sha256_hex())
        };
        let text = lock_text::VERSION.to_owned() + &self.files.iter().map(model).collect::<String>();
        let path = self.scratch.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Writes the torrents of the lock; returns the info hash and the path of each.
    fn torrents(&self, name: &str, lock: &Utf8Path, options: &[&str]) -> Result<Vec<(String, Utf8PathBuf)>> {
        let (folder, models) = (self.scratch.fresh(name), self.root.join("models"));
        let arguments =
            ["lock", "torrent", "-o", folder.as_str(), "--lock", lock.as_str(), "--dest", models.as_str()];
        let (program, sh) = (self.program, self.sh);
        let printed = cmd!(sh, "{program} {arguments...} {options...}").quiet().ignore_stderr().read()?;
        let torrent = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?.to_owned(), words.next()?.into()))
        };
        printed
            .lines()
            .map(|line| torrent(line).with_context(|| format!("an unexpected line: {line}")))
            .collect()
    }

    /// Downloads a torrent by aria2.
    fn aria2(&self, torrent: &Utf8Path, folder: &Utf8Path) -> Result<()> {
        let sh = self.sh;
        Ok(cmd!(sh, "timeout 60 aria2c {ARIA2...} --dir={folder} {torrent}").quiet().run()?)
    }

    /// Checks the files that a client has downloaded: below their paths in the set's folder, and `by_name` beside it.
    fn has_all(&self, folder: &Utf8Path, by_name: bool) -> Result<()> {
        for (path, content) in &self.files {
            let name = Utf8Path::new(path).file_name().unwrap_or_default();
            let below = if by_name { folder.join("models").join(path) } else { folder.join(path) };
            let copies = [Some(below), by_name.then(|| folder.join(name))];
            for copy in copies.into_iter().flatten() {
                ensure!(fs::read(&copy)? == content.to_vec(), "{copy} has other bytes");
            }
        }
        Ok(())
    }

    fn reuse(&self, lock: &Utf8Path, folder: &Utf8Path) -> Result<()> {
        let models = self.scratch.fresh("models");
        let options = ["--lock", lock.as_str(), "--dest", models.as_str(), "--reuse", folder.as_str()];
        let (program, sh) = (self.program, self.sh);
        cmd!(sh, "{program} fetch --offline --quiet {options...}").quiet().ignore_stderr().run()?;
        self.has_all(&models, false)
    }
}
