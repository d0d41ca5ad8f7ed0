//! The directories in which `ComfyUI` looks for models: those below its `models`, and those of its
//! `extra_model_paths.yaml`.
//!
//! The rules are those of `folder_paths.py` and `utils/extra_config.py`. A folder has a list of directories, and the
//! first one that has a file is where `ComfyUI` loads it from. A section's directories come last, or first with
//! `is_default`. Options of `ComfyUI`'s own command line (`--extra-model-paths-config`, `--models-directory`) are not
//! known here.

mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};

use super::environment;
use super::exit::{Code, Failure};
use provision_core::lockfile::Model;
use provision_disk::{Folder, Folders};
use provision_lock::placement;
use yaml::Section;

const YAML: &str = "extra_model_paths.yaml";
/// The longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// Folders with more than one directory below `models`, in the order of `ComfyUI`'s search.
const SEARCHED: [(&str, [&str; 2]); 3] = [
    ("text_encoders", ["text_encoders", "clip"]),
    ("diffusion_models", ["unet", "diffusion_models"]),
    ("controlnet", ["controlnet", "t2i_adapter"]),
];
/// Older names of folders, as keys of the file.
const LEGACY: [(&str, &str); 2] = [("unet", "diffusion_models"), ("clip", "text_encoders")];
/// Keys of directories that are not below `models`.
const NOT_MODELS: [&str; 2] = ["custom_nodes", "datasets"];
/// A folder whose models are directories.
const OF_DIRECTORIES: &str = "diffusers";

/// The directories of an installation of `ComfyUI`.
#[derive(Debug, Clone, Default)]
pub struct Installation {
    /// For the engine.
    pub folders: Arc<Folders>,
    /// The directories that the file names.
    named: Vec<Named>,
}

/// A directory that the file names.
#[derive(Debug, Clone)]
struct Named {
    directory: Utf8PathBuf,
    /// `/c/extra_model_paths.yaml, section a, key vae`
    by: String,
    /// The section's base, if it does not exist.
    missing_base: Option<Utf8PathBuf>,
}

impl Installation {
    /// Reads `ComfyUI`'s directory `path`.
    ///
    /// # Errors
    /// It is not `ComfyUI`'s. Its file cannot be read, or `ComfyUI` would not read it.
    pub fn read(path: &Utf8Path) -> Result<Self, Failure> {
        let usage = |why: String| Failure::new(Code::Usage, format!("--comfyui {path}: {why}"));
        let root =
            path.canonicalize_utf8().map_err(|error| usage(format!("it cannot be opened: {error}")))?;
        let has = |name: &str| root.join(name).symlink_metadata().is_ok();
        if !["models", "main.py", YAML].into_iter().any(has) {
            let why =
                format!("it has no models, no main.py and no {YAML}; give the directory that has main.py");
            return Err(usage(why));
        }
        let file = path.join(YAML);
        let sections = match read_text(&root.join(YAML)) {
            Ok(Some(text)) => yaml::sections(&text).map_err(|error| error.to_string()),
            Ok(None) => Ok(Vec::new()),
            Err(why) => Err(why),
        };
        let sections =
            sections.map_err(|why| Failure::new(Code::Usage, format!("{file} cannot be read: {why}")))?;
        let mut lists = Lists::new(root);
        for section in &sections {
            lists.add(&file, section).map_err(|why| Failure::new(Code::Usage, why))?;
        }
        Ok(Self { folders: Arc::new(lists.folders()), named: lists.named })
    }

    /// A message for each base that does not exist, if new files of `models` would create it.
    pub fn missing_bases(&self, models: &[&Model]) -> BTreeSet<String> {
        let first = |model: &&Model| model.path.components().next().map(str::to_owned);
        let used: BTreeSet<String> = models.iter().filter_map(first).collect();
        let new = used.iter().filter_map(|name| Some(self.folders.0.get(name)?.new.as_str()));
        let named = new.filter_map(|new| self.named.iter().find(|named| named.directory == new));
        let message = |named: &Named| {
            let base = named.missing_base.as_ref()?;
            let by = named.by.rsplit_once(',').map_or(&*named.by, |(by, _)| by);
            Some(format!(
                "{by}: base_path {base} does not exist, and new files would create it; if it is a volume, mount it first"
            ))
        };
        named.filter_map(message).collect()
    }

    /// The message of a failure, with the origin of each directory that it names.
    pub fn explain(&self, mut failure: Failure) -> Failure {
        let message = &failure.message;
        let is_named = |named: &&Named| {
            let mut found = message.match_indices(named.directory.as_str());
            // The name of another directory may begin in the same way.
            found.any(|(at, name)| {
                let next = message[at + name.len()..].chars().next();
                next.is_none_or(|next| !(next.is_alphanumeric() || matches!(next, '_' | '-' | '.')))
            })
        };
        let notes = self.named.iter().filter(is_named);
        let notes: BTreeSet<String> =
            notes.map(|named| format!("\n  {} is from {}", named.directory, named.by)).collect();
        failure.message.extend(notes);
        failure
    }
}

/// The text of the file; `None` if there is none.
fn read_text(path: &Utf8Path) -> Result<Option<String>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err("it is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it is longer than {MAX_BYTES} bytes"));
    }
    let not_text = |error: std::string::FromUtf8Error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        format!("line {}: it is not UTF-8", before.split(|byte| *byte == b'\n').count())
    };
    String::from_utf8(bytes).map(Some).map_err(not_text)
}

/// The lists of directories, as they grow with each section.
struct Lists {
    root: Utf8PathBuf,
    /// By the folder's name.
    directories: BTreeMap<String, Vec<String>>,
    /// The folders whose first directory is a section's default.
    with_default: BTreeSet<String>,
    named: Vec<Named>,
}

impl Lists {
    fn new(root: Utf8PathBuf) -> Self {
        let of = |(name, directories): (&str, [&str; 2])| {
            (name.to_owned(), directories.map(str::to_owned).to_vec())
        };
        let directories = SEARCHED.into_iter().map(of).collect();
        Self { root, directories, with_default: BTreeSet::new(), named: Vec::new() }
    }

    fn add(&mut self, file: &Utf8Path, section: &Section) -> Result<(), String> {
        let base = section.base_path.as_deref().map(|base| self.root.join(expand(base)));
        let missing_base = base.clone().filter(|base| !base.exists());
        for (key, lines) in &section.folders {
            if NOT_MODELS.contains(&key.as_str()) {
                continue;
            }
            let kind = LEGACY.into_iter().find(|(old, _)| old == key).map_or(key.as_str(), |(_, new)| new);
            for line in lines.split('\n').filter(|line| !line.is_empty()) {
                let directory = normalized(&base.as_ref().unwrap_or(&self.root).join(line));
                let by = format!("{file}, section {}, key {key}", section.name);
                if directory.parent().is_none() {
                    return Err(format!("{by}: models cannot lie in the root directory"));
                }
                self.set(kind, self.named_below(&directory), section.is_default);
                self.named.push(Named { directory, by, missing_base: missing_base.clone() });
            }
        }
        Ok(())
    }

    /// A directory's name for the destination: its path below `models`, else its absolute path.
    fn named_below(&self, directory: &Utf8Path) -> String {
        let below = directory.strip_prefix(self.root.join("models")).ok();
        below.filter(|below| !below.as_str().is_empty()).unwrap_or(directory).as_str().to_owned()
    }

    fn set(&mut self, kind: &str, directory: String, is_default: bool) {
        let list = self.directories.entry(kind.to_owned()).or_insert_with(|| match placement::folder(kind) {
            Some(known) if known == kind => vec![kind.to_owned()],
            // ComfyUI does not know it: a custom node may add its own directory later.
            _ => Vec::new(),
        });
        if is_default {
            list.retain(|other| *other != directory);
            list.insert(0, directory);
            self.with_default.insert(kind.to_owned());
        } else if !list.contains(&directory) {
            list.push(directory);
        }
    }

    fn folders(&self) -> Folders {
        let mut folders = BTreeMap::new();
        // `t2i_adapter` as a key is a folder that nothing reads; the directory of that name is one of `controlnet`.
        let is_of_another =
            |kind: &str| SEARCHED.into_iter().any(|(name, below)| name != kind && below.contains(&kind));
        for (kind, list) in self.directories.iter().filter(|(kind, _)| !is_of_another(kind)) {
            let is_known = placement::folder(kind) == Some(kind);
            let below = SEARCHED.into_iter().find(|(name, _)| name == kind);
            let names: Vec<&str> = below.map_or(vec![kind.as_str()], |(_, directories)| directories.to_vec());
            for name in names {
                let mut directories = list.clone();
                if !is_known && !directories.iter().any(|other| other == name) {
                    directories.push(name.to_owned());
                }
                let own = is_known && !self.with_default.contains(kind);
                let new = if own { name.to_owned() } else { directories[0].clone() };
                if directories != [name] {
                    let whole = kind == OF_DIRECTORIES;
                    folders.insert(name.to_owned(), Folder { kind: kind.clone(), directories, new, whole });
                }
            }
        }
        Folders(folders)
    }
}

/// The path with `~` and variables replaced, as Python's `expanduser` and `expandvars` do. Unknown names stay.
fn expand(path: &str) -> String {
    let (user, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    let home = user.strip_prefix('~').and_then(environment::home_of);
    let path = home.map_or_else(|| path.to_owned(), |home| format!("{}{rest}", home.trim_end_matches('/')));
    expand_variables(&path, environment::named)
}

fn expand_variables(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded += before;
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, left) = braced.unwrap_or_else(|| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            after.split_at(after.find(|c| !is_part(c)).unwrap_or(after.len()))
        });
        match value(name).filter(|_| !name.is_empty()) {
            Some(value) => expanded += &value,
            None => expanded += &rest[before.len()..rest.len() - left.len()],
        }
        rest = left;
    }
    expanded + rest
}

/// The absolute path without `.`, `..` and doubled slashes, as Python's `normpath` makes it: links are not looked at.
fn normalized(path: &Utf8Path) -> Utf8PathBuf {
    let mut normal = Utf8PathBuf::from("/");
    for component in path.components() {
        match component {
            Utf8Component::ParentDir => drop(normal.pop()),
            Utf8Component::Normal(name) => normal.push(name),
            _ => {}
        }
    }
    normal
}
