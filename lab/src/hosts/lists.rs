//! Real lists against the emulated Hub: the workflow templates of `ComfyUI` and the model list of its manager, from
//! Python's index.
//!
//! The Hub is told to know their files, with small generated contents. One command makes one lock of all workflows.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::hosts::github::GitHub;
use provision_testbed::hosts::hub::Hub;
use provision_testbed::{BlockingOrigin, Content};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::tools::process::{Ended, Run};
use crate::tools::program;
use crate::tools::scratch::Scratch;

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

pub(super) fn check(sh: &Shell, folder: &Utf8Path, scratch: &Scratch) -> Result<()> {
    let program = program::xtask(sh)?;
    let import = Import { program, path: sh.var("PATH")?, scratch };
    let templates = install(sh, folder, TEMPLATES)?.join("comfyui_workflow_templates_json/templates");
    let lists = Lists::read(&templates)?;
    templates_are_one_lock(&import, &lists, scratch)?;
    let manager = install(sh, folder, MANAGER)?.join("comfyui_manager/model-list.json");
    every_entry_of_the_manager_is_accounted_for(&import, &manager)
}

/// Installs a package below its own name and version; returns that directory.
fn install(sh: &Shell, folder: &Utf8Path, package: &str) -> Result<Utf8PathBuf> {
    let at = folder.join(package);
    if !at.is_dir() {
        let options = [
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action",
            "ignore",
            "--no-deps",
            "--target",
        ];
        cmd!(sh, "pip install {options...} {at} {package}")
            .run()
            .with_context(|| format!("pip could not install {package}"))?;
    }
    Ok(at)
}

/// The program, as it imports.
struct Import<'s> {
    program: Utf8PathBuf,
    path: String,
    scratch: &'s Scratch,
}

impl Import<'_> {
    /// Imports files into `lock`, and requires this exit code. No request leaves this machine.
    fn run(
        &self,
        hosts: &Hosts,
        files: &[Utf8PathBuf],
        lock: &Utf8Path,
        options: &[&str],
        code: i32,
    ) -> Result<Ended> {
        let mut args = vec!["lock", "import", "--lock", lock.as_str()];
        args.extend(options);
        args.extend(files.iter().map(|file| file.as_str()));
        Run::new(&self.program, &self.path, self.scratch.fresh("run"))?
            .env("HF_ENDPOINT", hosts.site.url(""))
            .env("GITHUB_API_URL", hosts.site.url("/api/v3"))
            // Hosts that are not emulated: nothing listens there.
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .env("NO_PROXY", "127.0.0.1")
            .env("PROVISION_RETRIES", "1")
            .args(&args)
            .start()?
            .end()?
            .exited(code)
    }
}

/// Emulated hosts.
struct Hosts {
    site: BlockingOrigin,
    store: BlockingOrigin,
}

impl Hosts {
    /// The Hub knows the files at these addresses, each with the content that `seed` makes of the name at its source.
    fn knowing<'a>(urls: impl IntoIterator<Item = &'a str>, seed: impl Fn(&str) -> u64) -> Result<Self> {
        let (site, store) = (super::start_origin()?, super::start_origin()?);
        let (hub, github) = (Hub::mount(&site, &store), GitHub::mount(&site, &store));
        let mut repositories: BTreeMap<(&str, &str), BTreeMap<&str, Content>> = BTreeMap::new();
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
            hub.commit(repository, revision, &files.into_iter().collect::<Vec<_>>());
        }
        Ok(Self { site, store })
    }
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

fn json(path: &Utf8Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.to_string())?;
    serde_json::from_str(&text).with_context(|| path.to_string())
}

/// The templates.
struct Lists {
    /// Every JSON file: workflows, and indexes of them.
    files: Vec<Utf8PathBuf>,
    /// The models of the workflows.
    models: Vec<Value>,
}

impl Lists {
    fn read(folder: &Utf8Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut models = Vec::new();
        let mut workflows = 0;
        for entry in folder.read_dir_utf8()? {
            let path = entry?.into_path();
            if path.extension() != Some("json") {
                continue;
            }
            let value = json(&path)?;
            workflows += usize::from(value.get("nodes").is_some());
            collect(&value, &mut models);
            files.push(path);
        }
        files.sort();
        ensure!(workflows == WORKFLOWS, "{workflows} workflows");
        Ok(Self { files, models })
    }

    fn urls(&self) -> impl Iterator<Item = &str> {
        self.models.iter().filter_map(|model| model["url"].as_str())
    }

    /// Copies of the files whose digests are those of the generated contents.
    fn with_generated_digests(&self, folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>> {
        std::fs::create_dir(folder)?;
        let digests: BTreeMap<&str, String> = (self.models.iter())
            .filter_map(|model| Some((model["hash"].as_str()?, model["name"].as_str()?)))
            .map(|(hash, name)| (hash, Content::generated(seed(name), 1000).sha256_hex()))
            .collect();
        let copy = |file: &Utf8PathBuf| {
            let mut text = std::fs::read_to_string(file)?;
            for (real, generated) in &digests {
                text = text.replace(real, generated);
            }
            let copy = folder.join(file.file_name().context("a file has a name")?);
            std::fs::write(&copy, text)?;
            Ok(copy)
        };
        self.files.iter().map(copy).collect()
    }
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

fn entries(lock: &Utf8Path) -> Result<usize> {
    Ok(std::fs::read_to_string(lock)?.matches("[[model]]").count())
}

fn templates_are_one_lock(import: &Import<'_>, lists: &Lists, scratch: &Scratch) -> Result<()> {
    let mut files = lists.with_generated_digests(&scratch.fresh("templates"))?;
    let as_base = |name: &str| seed(if name == BASE { SFT } else { name });
    // Equal digests for every repeated name.
    let hosts = Hosts::knowing(lists.urls(), as_base)?;
    let lock = scratch.fresh("lock");
    let ended = import.run(&hosts, &files, &lock, &[], 0)?;
    let summary = ended.stdout.lines().last().unwrap_or_default();
    ensure!(summary.contains(&format!("{FILES} entries added")), "{summary}");
    ensure!(ended.stderr.lines().count() < 12, "the notes bury the result:\n{}", ended.stderr);
    ensure!(entries(&lock)? == FILES, "{} entries", entries(&lock)?);
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
    let broken = scratch.fresh("broken.json");
    std::fs::write(&broken, "{\"nodes\": [")?;
    files.insert(files.len() / 2, broken.clone());
    let hosts = Hosts::knowing(lists.urls(), seed)?;
    let lock = scratch.fresh("lock");
    let option = format!("hf:Comfy-Org/MOSS-Image@main/diffusion_models/{BASE}=diffusion_models/{BASE}");
    let ended = import.run(&hosts, &files, &lock, &[], 2)?;
    ended.complains(&["2 failures", broken.as_str(), "invalid JSON", SFT, "is listed twice", &option])?;
    ensure!(entries(&lock)? == FILES, "a failure kept others out");
    println!("    a broken list among them is reported, and the others are one lock of {FILES} files");
    files.retain(|file| *file != broken);
    let lock = scratch.fresh("lock");
    import.run(&hosts, &files, &lock, &["--path-of", &option], 0)?;
    ensure!(entries(&lock)? == FILES, "{} entries", entries(&lock)?);
    println!("    two files of one path are an error with a ready --path-of, which ends it");
    Ok(())
}

/// The requests for each repository, and for all files.
fn requests(hosts: &Hosts) -> (BTreeMap<String, usize>, usize) {
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
fn every_entry_of_the_manager_is_accounted_for(import: &Import<'_>, list: &Utf8PathBuf) -> Result<()> {
    let value = json(list)?;
    let models = value["models"].as_array().context("the manager's list has models")?;
    let text = |model: &Value, key: &str| model[key].as_str().unwrap_or_default().to_owned();
    let distinct: BTreeSet<_> =
        models.iter().map(|model| ["save_path", "filename", "url"].map(|key| text(model, key))).collect();
    let urls: Vec<String> = models.iter().map(|model| text(model, "url")).collect();
    let hosts = Hosts::knowing(urls.iter().map(String::as_str), seed)?;
    let lock = import.scratch.fresh("lock");
    let ended = import.run(&hosts, std::slice::from_ref(list), &lock, &[], 4)?;
    let locked = std::fs::read_to_string(&lock)?;
    let used = locked.matches("https://").count();
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
