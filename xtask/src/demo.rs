//! `cargo xtask fetch-models --demo`: the whole job, with the engine that the real job uses, against an origin in
//! this process. A set shaped like the four Qwen files at 1/100 scale; each connection is capped, as a CDN does.

#![expect(clippy::print_stderr, reason = "it talks to a person")]

use std::fmt::Write as _;
use std::time::Instant;

use camino::Utf8Path;
use provision::cli::arguments::FetchArgs;
use provision::cli::exit::{Code, Failure};
use provision::cli::progress::Verbosity;
use provision::cli::{fetch, units};
use provision_core::lockfile::{Lockfile, Selection};
use provision_http::ClientConfig;
use provision_testbed::{BlockingOrigin, Content, OriginConfig as TestbedConfig, Shape};

/// The real set's paths and sizes, in bytes.
const QWEN: [(&str, u64); 4] = [
    ("diffusion_models/qwen_image_edit_2509_fp8_e4m3fn.safetensors", 20_430_698_424),
    ("loras/Qwen-Image-Lightning-4steps-V1.0.safetensors", 1_698_951_104),
    ("text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors", 9_384_670_680),
    ("vae/qwen_image_vae.safetensors", 253_806_246),
];
const SCALE: u64 = 100;
/// What one connection gets, in bytes per second.
const CAP: u64 = 2_000_000;

/// Runs the demo.
pub(crate) fn run(args: &FetchArgs) -> Result<(), Failure> {
    let unexpected = |error: std::io::Error| Failure::new(Code::Unexpected, error);
    let config = TestbedConfig { threads: 2, shape: Shape::rate(CAP), ..TestbedConfig::default() };
    let origin = BlockingOrigin::start(config).map_err(unexpected)?;
    let lock = Lockfile::parse("the demo's lock", &serve(&origin))?;
    let models = lock.select(&Selection::default()).map_err(|error| Failure::new(Code::Unexpected, error))?;
    let total: u64 = models.iter().map(|model| model.size).sum();

    let directory = tempfile::tempdir().map_err(unexpected)?;
    let mut args = args.clone();
    args.place.dest =
        Utf8Path::from_path(directory.path()).unwrap_or(Utf8Path::new("demo-models")).join("models");
    let talks = args.output.verbosity() > Verbosity::Quiet;
    let one_connection = std::time::Duration::from_secs_f64(total as f64 / CAP as f64);
    if talks {
        eprintln!(
            "demo: an origin at {}, {} for each connection; {} shaped like the Qwen set at 1/{SCALE}, {}",
            origin.addr(),
            units::rate(CAP as f64),
            units::count(models.len(), "file"),
            units::bytes(total),
        );
    }

    // No token, no proxy, no certificate of the environment has any business here.
    let report = fetch::fetch(&args, None, &lock, models.clone(), ClientConfig::default())?;
    let requests = origin.counters().requests;
    fetch::conclude(&args, &report)?;

    let second = Instant::now();
    let stopped_at_marker = provision_engine::fetch::marker_covers(&args.place.dest, &lock, &models);
    let again = second.elapsed();
    if !stopped_at_marker || origin.counters().requests != requests {
        return Err(Failure::new(Code::Unexpected, "the second run did not stop at the marker"));
    }
    if talks {
        let run = report.elapsed;
        eprintln!();
        eprintln!("  one connection would have taken   {}", units::duration(one_connection));
        eprintln!(
            "  this run took                     {} ({:.0} times as fast; {} connections, all proven)",
            units::duration(run),
            one_connection.as_secs_f64() / run.as_secs_f64(),
            origin.counters().peak_open.min(u64::from(args.connections)),
        );
        eprintln!("  a second run stops at the marker  {:.1} ms, no request", again.as_secs_f64() * 1000.0);
        eprintln!();
        eprintln!(
            "The real job is `cargo xtask fetch-models`: the four files in models.lock, 31.8 GB, into ./models."
        );
    }
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
