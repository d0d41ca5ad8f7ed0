//! `cargo xtask fetch-models --demo`: a fetch by the real engine from an origin in this process.
//!
//! The set has the paths of the four Qwen files at 1/100 of their size. The origin caps each connection, as a CDN does.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use camino::Utf8Path;
use provision::cli::arguments::{DestinationArg, FetchArgs};
use provision::cli::progress::Verbosity;
use provision::cli::{fetch, say, units};
use provision_core::lockfile::{Lockfile, Selection};
use provision_engine::fetch::Local;
use provision_engine::piece_lists::ListPlaces;
use provision_http::ClientConfig;
use provision_testbed::{BlockingOrigin, Content, OriginConfig as TestbedConfig, Shape};

/// The paths and sizes of the real set, in bytes.
const QWEN: [(&str, u64); 4] = [
    ("diffusion_models/qwen_image_edit_2509_fp8_e4m3fn.safetensors", 20_430_698_424),
    ("loras/Qwen-Image-Lightning-4steps-V1.0.safetensors", 1_698_951_104),
    ("text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_384_670_680),
    ("vae/qwen_image_vae.safetensors", 253_806_246),
];
const SCALE: u64 = 100;
/// The rate of one connection, in bytes a second.
const CAP: u64 = 2_000_000;

pub(crate) fn run(args: &FetchArgs) -> anyhow::Result<()> {
    let config = TestbedConfig { threads: 2, shape: Shape::rate(CAP), ..TestbedConfig::default() };
    let origin = BlockingOrigin::start(config)?;
    let lock = Lockfile::parse("the demo's lock", &serve(&origin))?;
    let models = lock.select(&Selection::default())?;
    let total: u64 = models.iter().map(|model| model.size).sum();
    let directory = tempfile::tempdir()?;
    let mut args = args.clone();
    let directory = Utf8Path::from_path(directory.path()).context("TMPDIR is not UTF-8")?;
    args.place.at = DestinationArg::at(directory.join("models"));
    let tell = |text: fmt::Arguments<'_>| {
        if args.output.verbosity() > Verbosity::Quiet {
            say(text);
        }
    };
    tell(format_args!(
        "demo: an origin at {}, {} for each connection; {} shaped like the Qwen set at 1/{SCALE}, {}",
        origin.addr(),
        units::rate(CAP as f64),
        units::count(models.len(), "file"),
        units::bytes(total),
    ));

    // The default configuration: tokens, proxies and certificates of the environment do not apply here.
    let (local, lists, config) = (Local::default(), ListPlaces::default(), ClientConfig::default());
    let report = fetch::fetch(&args, local, (&lock, lists), models.clone(), config)?;
    let requests = origin.counters().requests;
    fetch::conclude(&args, &report)?;

    let second = Instant::now();
    let (dest, listed) = (args.place.dest(), (&lock, &ListPlaces::default()));
    let stopped_at_marker = provision_engine::fetch::marker_covers(&dest, &args.config(), listed, &models);
    let milliseconds = second.elapsed().as_secs_f64() * 1000.0;
    ensure!(
        stopped_at_marker && origin.counters().requests == requests,
        "the second run did not stop at the marker"
    );
    let one_connection = Duration::from_secs_f64(total as f64 / CAP as f64);
    tell(format_args!(
        "
  one connection would have taken   {}
  this run took                     {} ({:.0} times as fast; {} connections, every file verified)
  a second run stops at the marker  {milliseconds:.1} ms, no request

`cargo xtask fetch-models` fetches the real set: the four files of models.lock, 31.8 GB, into ./models.",
        units::duration(one_connection),
        units::duration(report.elapsed),
        one_connection.as_secs_f64() / report.elapsed.as_secs_f64(),
        origin.counters().peak_open.min(u64::from(args.connections)),
    ));
    Ok(())
}

/// Puts the set on the origin and returns its lock.
fn serve(origin: &BlockingOrigin) -> String {
    let mut text = "version = 1\n".to_owned();
    for (seed, (path, size)) in QWEN.into_iter().enumerate() {
        let content = Content::safetensors(seed as u64, size / SCALE);
        let at = format!("/{path}");
        let _ = writeln!(
            text,
            "\n[[model]]\npath = \"{path}\"\nurl = \"{}\"\nsize = {}\nsha256 = \"{}\"",
            origin.url(&at),
            content.size(),
            content.sha256_hex(),
        );
        origin.put(&at, content);
    }
    text
}
