//! Real lists against the emulated Hub: the workflow templates of `ComfyUI` and the model list of its manager, from
//! Python's index.
//!
//! The Hub is told to know their files, with small generated contents. One command makes one lock of all workflows.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::Content;
use provision_testbed::hosts::github::GitHub;
use serde_json::Value;

use super::{EmulatedHub, Fixture};
use crate::tools::process::Ended;

/// The lists in versions whose numbers are known.
const TEMPLATES: &str = "comfyui-workflow-templates-json==0.1.123";
const MANAGER: &str = "comfyui-manager==4.3";

/// The templates' workflows, their distinct files, and the repositories of those.
const WORKFLOWS: usize = 644;
const FILES: usize = 354;
const REPOSITORIES: usize = 140;

/// A file whose template names the address of another one, `BASE`: two files of one path.
const SFT: &str = "moss_image_sft_int8_convrot.safetensors";
const BASE: &str = "moss_image_base_int8_convrot.safetensors";

pub(super) fn check(fixture: &Fixture) -> Result<()> {
    let templates = fixture.library(TEMPLATES, &["--no-deps"])?;
    templates_are_one_lock(fixture, &templates.join("comfyui_workflow_templates_json/templates"))?;
    let manager = fixture.library(MANAGER, &["--no-deps"])?;
    every_entry_of_the_manager_is_accounted_for(fixture, manager.join("comfyui_manager/model-list.json"))
}

/// Imports files into a new lock, and requires this exit code. Returns the lock's text, too. No request leaves this
/// machine.
fn import(
    fixture: &Fixture,
    hosts: &EmulatedHub,
    files: &[Utf8PathBuf],
    options: &[&str],
    code: i32,
) -> Result<(Ended, String)> {
    let lock = fixture.scratch.fresh("lock");
    let run = fixture.run(&["lock", "import", "--lock", lock.as_str()])?.args(options).args(files);
    let ended = run
        .env("HF_ENDPOINT", hosts.site.url(""))
        .env("GITHUB_API_URL", hosts.site.url("/api/v3"))
        // Hosts that are not emulated: nothing listens there.
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("NO_PROXY", "127.0.0.1")
        .env("PROVISION_RETRIES", "1")
        .exits(code)?;
    Ok((ended, fs::read_to_string(lock)?))
}

/// A Hub and a GitHub that know the files at these addresses, each with the content that `seed` makes of the name at
/// its source.
fn hosts_of<'a>(urls: impl IntoIterator<Item = &'a str>, seed: impl Fn(&str) -> u64) -> Result<EmulatedHub> {
    let hosts = EmulatedHub::start()?;
    let github = GitHub::mount(&hosts.site, &hosts.store);
    let mut repositories: BTreeMap<_, BTreeMap<&str, Content>> = BTreeMap::new();
    for url in urls {
        let url = url.split('?').next().unwrap_or(url);
        let content = Content::generated(seed(url.rsplit('/').next().unwrap_or(url)), 1000);
        if let Some((repository, revision, path)) = on_hub(url) {
            repositories.entry((repository, revision)).or_default().insert(path, content);
        } else if let Some((repository, tag, name)) = on_github(url) {
            github.upload(repository, tag, name, &content, true);
        }
    }
    for ((repository, revision), files) in repositories {
        let files: Vec<_> = files.into_iter().collect();
        hosts.hub.commit(repository, revision, &files);
    }
    Ok(hosts)
}

/// `OWNER/NAME`, revision and path of an address of the Hub.
fn on_hub(url: &str) -> Option<(&str, &str, &str)> {
    let rest = url.strip_prefix("https://huggingface.co/")?;
    let (repository, rest) =
        ["/resolve/", "/blob/", "/raw/"].iter().find_map(|word| rest.split_once(word))?;
    let (revision, path) = rest.split_once('/')?;
    Some((repository, revision, path))
}

/// `OWNER/NAME`, tag and name of a release's asset.
fn on_github(url: &str) -> Option<(&str, &str, &str)> {
    let (repository, rest) = url.strip_prefix("https://github.com/")?.split_once("/releases/download/")?;
    let (tag, name) = rest.rsplit_once('/')?;
    Some((repository, tag, name))
}

/// A seed that depends on every byte of a name.
fn seed(name: &str) -> u64 {
    u64::from(crc32fast::hash(name.as_bytes()))
}

/// Adds the models of all nodes, at any depth.
fn collect(value: &Value, models: &mut Vec<Value>) {
    match value {
        Value::Object(fields) => {
            let listed = fields.get("properties").and_then(|properties| properties["models"].as_array());
            models.extend(listed.into_iter().flatten().cloned());
            fields.values().for_each(|value| collect(value, models));
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, models)),
        _ => {}
    }
}

fn templates_are_one_lock(fixture: &Fixture, templates: &Utf8Path) -> Result<()> {
    // Every JSON file: workflows, and indexes of them.
    let (mut texts, mut models, mut workflows) = (BTreeMap::new(), Vec::new(), 0);
    for entry in templates.read_dir_utf8()? {
        let path = entry?.into_path();
        if path.extension() == Some("json") {
            let text = fs::read_to_string(&path)?;
            let value: Value = serde_json::from_str(&text).with_context(|| path.to_string())?;
            workflows += usize::from(value.get("nodes").is_some());
            collect(&value, &mut models);
            texts.insert(path.file_name().context("a file has a name")?.to_owned(), text);
        }
    }
    ensure!(workflows == WORKFLOWS, "{workflows} workflows");
    // Copies of the files whose digests are those of the generated contents.
    let digests: BTreeMap<_, _> = (models.iter())
        .filter_map(|model| Some((model["hash"].as_str()?, model["name"].as_str()?)))
        .map(|(hash, name)| (hash, Content::generated(seed(name), 1000).sha256_hex()))
        .collect();
    let folder = fixture.scratch.fresh("templates");
    fs::create_dir(&folder)?;
    let mut files = Vec::new();
    for (name, mut text) in texts {
        for (real, generated) in &digests {
            text = text.replace(real, generated);
        }
        let copy = folder.join(name);
        fs::write(&copy, text)?;
        files.push(copy);
    }
    let urls = || models.iter().filter_map(|model| model["url"].as_str());
    let import_all = |hosts: &EmulatedHub, files: &[Utf8PathBuf], options: &[&str], code| {
        let (ended, lock) = import(fixture, hosts, files, options, code)?;
        let entries = lock.matches("[[model]]").count();
        ensure!(entries == FILES, "{entries} entries:\n{ended}");
        Ok(ended)
    };

    // Equal digests for every repeated name.
    let hosts = hosts_of(urls(), |name| seed(if name == BASE { SFT } else { name }))?;
    let ended = import_all(&hosts, &files, &[], 0)?;
    let summary = ended.stdout.lines().last().unwrap_or_default();
    ensure!(summary.contains(&format!("{FILES} entries added")), "{summary}");
    ensure!(ended.stderr.lines().count() < 12, "the notes bury the result:\n{}", ended.stderr);
    let (of_repositories, of_files) = requests(&hosts);
    ensure!(of_repositories.len() == REPOSITORIES, "{} repositories", of_repositories.len());
    let most = of_repositories.values().max().copied().unwrap_or_default();
    ensure!(most <= 3, "{most} requests for a repository");
    ensure!(of_files <= 3 * FILES, "{of_files} requests for files");
    println!(
        "    {} files, {WORKFLOWS} of them workflows: one lock of {FILES} files, {of_files} requests for them and at most {most} \
         for each of {REPOSITORIES} repositories",
        files.len()
    );

    // A broken list among them; and as it is: one template names the address of another file.
    let broken = fixture.scratch.file("broken.json", "{\"nodes\": [")?;
    let hosts = hosts_of(urls(), seed)?;
    let option = format!("hf:Comfy-Org/MOSS-Image@main/diffusion_models/{BASE}=diffusion_models/{BASE}");
    let mut with_broken = files.clone();
    with_broken.insert(files.len() / 2, broken.clone());
    let ended = import_all(&hosts, &with_broken, &[], 2)?;
    ended.complains(&["2 failures", broken.as_str(), "invalid JSON", SFT, "is listed twice", &option])?;
    println!("    a broken list among them is reported, and the others are one lock of {FILES} files");
    import_all(&hosts, &files, &["--path-of", &option], 0)?;
    println!("    two files of one path are an error with a ready --path-of, which ends it");
    Ok(())
}

/// The requests for each repository, and for all files.
fn requests(hosts: &EmulatedHub) -> (BTreeMap<String, usize>, usize) {
    let mut repositories = BTreeMap::new();
    let mut files = hosts.store.requests().len();
    for request in hosts.site.requests() {
        let name = request.path.strip_prefix("/api/models/").map(|rest| rest.split('/').take(2));
        match name {
            Some(name) => *repositories.entry(name.collect::<Vec<_>>().join("/")).or_default() += 1,
            None => files += 1,
        }
    }
    (repositories, files)
}

/// Each entry is in the lock, or named as a failure: none is lost silently.
fn every_entry_of_the_manager_is_accounted_for(fixture: &Fixture, list: Utf8PathBuf) -> Result<()> {
    let value: Value = serde_json::from_str(&fs::read_to_string(&list)?).with_context(|| list.to_string())?;
    let models = value["models"].as_array().context("the manager's list has models")?;
    let keys = ["save_path", "filename", "url"];
    let distinct: BTreeSet<_> = models.iter().map(|model| keys.map(|key| model[key].as_str())).collect();
    let hosts = hosts_of(models.iter().filter_map(|model| model["url"].as_str()), seed)?;
    let (ended, lock) = import(fixture, &hosts, &[list], &[], 4)?;
    let used = lock.matches("https://").count();
    let failures = ended.stderr.split("not imported: ").nth(1).and_then(|rest| rest.split(' ').next());
    let failures: usize = failures.context("failures")?.parse()?;
    println!(
        "    the manager's list: {} entries, {} distinct: {used} used, {failures} left out, each with its reason",
        models.len(),
        distinct.len()
    );
    ensure!(used + failures == distinct.len(), "{used} used and {failures} left out of {}", distinct.len());
    Ok(())
}
