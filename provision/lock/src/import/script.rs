//! A shell script or Dockerfile that downloads models, such as the provisioning scripts of rented machines. It is read as text and
//! never run.
//!
//! `shell` parses, `evaluate` follows variables, loops and functions, and `tools` knows the programs' options. So the downloads of
//! `provisioning_get_models "$DIR" "${LORA_MODELS[@]}"` come from the script's own loop. An array whose addresses reach no download that can
//! be followed is taken by itself; then its name says the folder.
//!
//! What only a run would know is left out and listed with its line. Headers and logins are never imported.

mod evaluate;
mod shell;
mod tools;

use std::collections::HashSet;

use super::{At, Format, ImportError, ImportedModel, List, Place, ScriptProblem, UnusedReason, digest};
use crate::placement;
use crate::source::Source;
use evaluate::{Call, NamedArray, Text, UNKNOWN, joined};
use tools::{CommandLine, Tool};

/// The longest script in bytes. A parsed one takes a hundred times its length at most.
const LONGEST: usize = 1 << 20;

/// Programs whose arguments are no downloads, although an address may be among them.
const NO_DOWNLOADS: [&str; 22] = [
    "[", "test", "echo", "printf", "git", "pip", "pip3", "uv", "apt", "apt-get", "log", "cat", "grep", "sed",
    "awk", "rm", "mkdir", "python", "python3", "npm", "conda", "export",
];

/// Arrays that never have models.
const NO_MODELS: [&str; 6] = ["NODES", "WORKFLOWS", "EXTENSIONS", "APT_PACKAGES", "PIP_PACKAGES", "REPOS"];

/// Suffixes of models.
const SUFFIXES: [&str; 10] =
    [".bin", ".ckpt", ".gguf", ".onnx", ".pkl", ".pt", ".pth", ".safetensors", ".sft", ".engine"];

/// Folders of other programs' model directories, as `ComfyUI` spells them.
const ALIASES: [(&str, &str); 10] = [
    ("ckpt", "checkpoints"),
    ("ckpts", "checkpoints"),
    ("checkpoint", "checkpoints"),
    ("stable-diffusion", "checkpoints"),
    ("lora", "loras"),
    ("esrgan", "upscale_models"),
    ("realesrgan", "upscale_models"),
    ("upscaler", "upscale_models"),
    ("embedding", "embeddings"),
    ("control_net", "controlnet"),
];

/// Words in an array's name, and the folder that they mean. The first one that fits decides.
const ARRAYS: [(&str, &str); 27] = [
    ("LATENT_UPSCALE", "latent_upscale_models"),
    ("UPSCALE", "upscale_models"),
    ("ESRGAN", "upscale_models"),
    ("CLIP_VISION", "clip_vision"),
    ("TEXT_ENCODER", "text_encoders"),
    ("AUDIO_ENCODER", "audio_encoders"),
    ("STYLE_MODEL", "style_models"),
    ("MODEL_PATCH", "model_patches"),
    ("DIFFUSION_MODEL", "diffusion_models"),
    ("DIFFUSERS", "diffusers"),
    ("VAE_APPROX", "vae_approx"),
    ("FRAME_INTERPOLATION", "frame_interpolation"),
    ("CONTROLNET", "controlnet"),
    ("CONTROL_NET", "controlnet"),
    ("CHECKPOINT", "checkpoints"),
    ("CKPT", "checkpoints"),
    ("UNET", "diffusion_models"),
    ("LORA", "loras"),
    ("VAE", "vae"),
    ("CLIP", "text_encoders"),
    ("T5", "text_encoders"),
    ("EMBEDDING", "embeddings"),
    ("TEXTUAL_INVERSION", "embeddings"),
    ("HYPERNETWORK", "hypernetworks"),
    ("GLIGEN", "gligen"),
    ("PHOTOMAKER", "photomaker"),
    ("IPADAPTER", "ipadapter"),
];

/// Returns true for a shell script or a Dockerfile.
pub(super) fn is_script(text: &str) -> bool {
    if let Some(shebang) = text.strip_prefix("#!") {
        let program = shebang.lines().next().unwrap_or_default();
        return program
            .split(['/', ' ', '\t'])
            .any(|part| matches!(part, "sh" | "bash" | "zsh" | "dash" | "ksh"));
    }
    is_dockerfile(text) || super::lines(text).any(|(_, line)| is_command(line))
}

fn is_dockerfile(text: &str) -> bool {
    super::lines(text).map(|(_, line)| line.trim_start()).find(|line| !line.starts_with("ARG ")).is_some_and(
        |line| line.get(..5).is_some_and(|from| from.eq_ignore_ascii_case("FROM ")) && !line.contains("://"),
    )
}

/// Returns true for a line that downloads, or that begins an array of models.
fn is_command(line: &str) -> bool {
    let is_prefix =
        |word: &&str| matches!(*word, "sudo" | "RUN" | "!" | "nohup" | "do" | "then" | "else" | "if");
    let downloads = |part: &str| {
        let mut words = part.split_whitespace().skip_while(is_prefix);
        match words.next().unwrap_or_default() {
            "wget" | "curl" | "aria2c" => words.next().is_some(),
            "hf" | "huggingface-cli" => words.next() == Some("download"),
            _ => false,
        }
    };
    let first = line.split_whitespace().next().unwrap_or_default();
    let begins_array = first.split_once("=(").is_some_and(|(name, _)| {
        let name = name.trim_end_matches('+');
        !name.is_empty() && shell::is_name(name)
    });
    begins_array || !first.contains("://") && line.split([';', '&', '|', '(', '{']).any(downloads)
}

pub(super) fn read(name: &str, text: &str) -> Result<List, ImportError> {
    if text.len() > LONGEST {
        return Err(ImportError::LongScript { list: name.to_owned(), most: LONGEST });
    }
    let text = text.replace(UNKNOWN, "");
    let script = shell::parse(&text, is_dockerfile(&text));
    let trace = evaluate::evaluate(&script);
    let mut reader = Reader::new(name);
    for call in &trace.calls {
        reader.call(call);
    }
    let has_arrays = reader.arrays(&trace.arrays);
    // An array that is taken by itself explains the downloads without an address.
    if !has_arrays {
        reader.tell_unknown();
    }
    if trace.is_cut {
        let why = UnusedReason::Script(ScriptProblem::TooLong);
        reader.list.leave_out("the script", why, &Place::entry(name, "its end"));
    }
    let mut list = reader.list;
    // A branch that does not tell the folder adds nothing to one that does.
    let placed: HashSet<Source> = {
        let placed = list.models.iter().filter(|model| model.directory.is_some());
        placed.map(|model| model.source.clone()).collect()
    };
    list.unused.sort_by_key(|unused| match unused.place.at {
        At::Line(line) => line,
        At::Entry(_) => usize::MAX,
    });
    list.models.retain(|model| model.directory.is_some() || !placed.contains(&model.source));
    if list.models.is_empty() && list.unused.is_empty() {
        return Err(ImportError::NoDownload { list: name.to_owned() });
    }
    Ok(list)
}

/// A file's target, as far as the script tells it.
#[derive(Debug, Default)]
struct Target {
    directory: Option<String>,
    name: Option<String>,
}

impl Target {
    /// The target for a directory in the script.
    fn directory(path: &str) -> Self {
        Self { directory: Some(path.to_owned()), name: None }
    }

    /// The target for a file's path in the script.
    fn file(path: &str) -> Self {
        match path.rsplit_once('/') {
            Some((directory, "")) => Self::directory(directory),
            Some((directory, name)) => {
                Self { directory: Some(directory.to_owned()), name: Some(name.to_owned()) }
            }
            None => Self { directory: None, name: Some(path.to_owned()) },
        }
    }
}

struct Reader<'a> {
    list_name: &'a str,
    list: List,
    /// Files that were added: source, directory, name.
    seen: HashSet<(Source, Option<String>, String)>,
    /// Addresses that reached a download.
    used: HashSet<String>,
    /// Lines whose address is known in one of their calls.
    known: HashSet<usize>,
    /// Lines whose address only a run would know.
    unknown: Vec<usize>,
    /// Problems that were listed.
    told: HashSet<(usize, String)>,
    has_told_login: bool,
}

impl<'a> Reader<'a> {
    fn new(list_name: &'a str) -> Self {
        Self {
            list_name,
            list: List::new(Format::Script),
            seen: HashSet::new(),
            used: HashSet::new(),
            known: HashSet::new(),
            unknown: Vec::new(),
            told: HashSet::new(),
            has_told_login: false,
        }
    }

    fn leave_out(&mut self, what: impl Into<String>, why: UnusedReason, line: usize) {
        let what = what.into();
        if self.told.insert((line, what.clone())) {
            self.list.leave_out(what, why, &Place::line(self.list_name, line));
        }
    }

    fn tell_unknown(&mut self) {
        for line in std::mem::take(&mut self.unknown) {
            if !self.known.contains(&line) {
                self.leave_out("a download", UnusedReason::Script(ScriptProblem::Address), line);
            }
        }
    }

    fn call(&mut self, call: &Call) {
        let name = call.words.first().map_or("", |word| word.text.as_str());
        if let Some((tool, named_by)) = Tool::of(&call.words) {
            let line = tool.parse(&call.words[named_by..]);
            let before = self.list.models.len();
            match tool {
                Tool::Wget => self.wget(call, &line),
                Tool::Curl => self.curl(call, &line),
                Tool::Aria2 => self.aria2(call, &line),
                Tool::Hub => self.hub(call, &line),
                Tool::Comfy => self.comfy(call, &line),
            }
            let login = line.login(tool).filter(|_| self.list.models.len() > before && !self.has_told_login);
            if let Some(option) = login {
                self.has_told_login = true;
                self.leave_out(option, UnusedReason::Option, call.line);
            }
        } else if matches!(name, "xargs" | "parallel") {
            // Its addresses come through a pipe.
            if (1..call.words.len()).any(|at| Tool::of(&call.words[at..]).is_some()) {
                self.no_address(call);
            }
        } else if name.starts_with("python") {
            self.python(call);
        } else if name == "git" {
            self.git(call);
        } else if !NO_DOWNLOADS.contains(&name) {
            self.other(call);
        }
    }

    fn wget(&mut self, call: &Call, line: &CommandLine) {
        let output = line.value(&["output-document", "O"]);
        let is_shown = output.as_ref().is_some_and(|output| output.text == "-");
        let output = if is_shown { call.output.clone() } else { output };
        let is_dropped = output.as_ref().is_some_and(|output| output.text.starts_with("/dev/"));
        if is_dropped || is_shown && output.is_none() {
            return;
        }
        if let Some(input) = line.value(&["input-file", "i"]) {
            let here = call.here.as_ref().filter(|_| input.text == "-");
            let Some(here) = here else {
                let why = UnusedReason::Script(ScriptProblem::AnotherFile);
                return self.leave_out("its list", why, call.line);
            };
            let prefix =
                line.value(&["directory-prefix", "P"]).map_or_else(String::new, |prefix| prefix.text);
            for (number, text) in here.text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
                let address = Text { text: text.trim().to_owned(), line: here.line + number };
                self.add(call, &address, Target::directory(&joined(&call.directory, &prefix)));
            }
            return;
        }
        let prefix = line.value(&["directory-prefix", "P"]);
        for address in self.addresses(call, line) {
            let target = match (&output, &prefix) {
                (Some(output), _) => Target::file(&joined(&call.directory, &output.text)),
                (None, Some(prefix)) => Target::directory(&joined(&call.directory, &prefix.text)),
                (None, None) => Target::directory(&call.directory),
            };
            self.add(call, &address, target);
        }
    }

    fn curl(&mut self, call: &Call, line: &CommandLine) {
        let directory = line
            .value(&["output-dir"])
            .map_or_else(|| call.directory.clone(), |directory| joined(&call.directory, &directory.text));
        let mut addresses: Vec<Text> = line.all(&["url"]).cloned().collect();
        let mut outputs: Vec<&Text> = line.all(&["output", "o"]).collect();
        outputs.extend(call.output.iter().filter(|_| line.value(&["output", "o"]).is_none()));
        let names_itself = line.has(&["remote-name", "O", "remote-name-all"]);
        let is_dropped = outputs.iter().any(|output| output.text.starts_with("/dev/"));
        if is_dropped || outputs.is_empty() && !names_itself {
            // To the standard output: a question to a host, or a program that is run.
            return;
        }
        addresses.extend(self.addresses(call, line));
        for (at, address) in addresses.iter().enumerate() {
            let target = match outputs.get(at) {
                Some(output) => Target::file(&joined(&directory, &output.text)),
                None => Target::directory(&directory),
            };
            self.add(call, address, target);
        }
    }

    fn aria2(&mut self, call: &Call, line: &CommandLine) {
        if line.value(&["input-file", "i"]).is_some() {
            let why = UnusedReason::Script(ScriptProblem::AnotherFile);
            return self.leave_out("its list", why, call.line);
        }
        let directory = line
            .value(&["dir", "d"])
            .map_or_else(|| call.directory.clone(), |directory| joined(&call.directory, &directory.text));
        let target = || match line.value(&["out", "o"]) {
            Some(output) => Target::file(&joined(&directory, &output.text)),
            None => Target::directory(&directory),
        };
        let addresses = self.addresses(call, line);
        // Several addresses are sources of one file, unless `-Z` says otherwise.
        if line.has(&["force-sequential", "Z"]) {
            return addresses.iter().for_each(|address| self.add(call, address, target()));
        }
        let Some(first) = addresses.first() else { return };
        let before = self.list.models.len();
        self.add(call, first, target());
        let sources = addresses[1..].iter().filter_map(|address| source_at(address).ok());
        let mirrors: Vec<Source> = sources.collect();
        if let Some(model) = self.list.models.get_mut(before) {
            model.mirrors = mirrors;
            let checksum = line.value(&["checksum"]);
            let hex = checksum.as_ref().and_then(|checksum| checksum.text.strip_prefix("sha-256="));
            model.sha256 = hex.and_then(|hex| digest(hex).ok());
        }
    }

    /// `hf download REPO [FILE…]`.
    fn hub(&mut self, call: &Call, line: &CommandLine) {
        let mut operands = line.operands.iter();
        let Some(repository) = operands.next().filter(|repository| repository.is_known()) else {
            return self.no_address(call);
        };
        self.known.insert(call.line);
        let files: Vec<&Text> = operands.chain(line.all(&["include"])).collect();
        let local = line.value(&["local-dir"]).map(|local| joined(&call.directory, &local.text));
        let revision = line
            .value(&["revision"])
            .map_or_else(String::new, |revision| format!("@{}", revision.text.replace('/', "%2F")));
        let kind = line.value(&["repo-type"]).map_or_else(String::new, |kind| match kind.text.as_str() {
            "dataset" => "datasets/".to_owned(),
            "space" => "spaces/".to_owned(),
            _ => String::new(),
        });
        if files.is_empty() {
            return self.leave_out(format!("{kind}{}", repository.text), UnusedReason::Repository, call.line);
        }
        for file in files {
            let address = file.with(&format!("hf:{kind}{}{revision}/{}", repository.text, file.text));
            let target = match &local {
                None => Target::default(),
                // The file keeps its path below the directory; a pattern's files get the directory.
                Some(local) if !file.text.contains(['*', '?']) => Target::file(&joined(local, &file.text)),
                Some(local) => Target::directory(local),
            };
            self.add(call, &address, target);
        }
    }

    fn comfy(&mut self, call: &Call, line: &CommandLine) {
        let Some(address) = line.value(&["url"]) else { return };
        let directory = line.value(&["relative-path"]).map(|path| path.text);
        let name = line.value(&["filename"]).map(|name| name.text);
        self.add(call, &address, Target { directory, name });
    }

    /// A Python program in the script, which is not followed.
    fn python(&mut self, call: &Call) {
        const DOWNLOADS: [&str; 3] = ["hf_hub_download", "snapshot_download", "urlretrieve"];
        let here = call.here.iter().map(|here| here.text.as_str());
        let mut texts = call.words.iter().map(|word| word.text.as_str()).chain(here);
        if texts.any(|text| DOWNLOADS.iter().any(|download| text.contains(download))) {
            let why = UnusedReason::Script(ScriptProblem::Python);
            self.leave_out("a Python program", why, call.line);
        }
    }

    /// A clone of a repository of models. Those of programs are none of this list's business.
    fn git(&mut self, call: &Call) {
        let is_hub =
            |word: &&Text| word.text.contains("://huggingface.co/") || word.text.contains("://hf.co/");
        if let (Some(address), true) =
            (call.words.iter().find(is_hub), call.words.iter().any(|word| word.text == "clone"))
        {
            let path = address.text.split(".co/").nth(1).unwrap_or_default();
            let path = path.split('?').next().unwrap_or_default().to_owned();
            if !path.starts_with("spaces/") {
                self.leave_out(path, UnusedReason::Repository, call.line);
            }
        }
    }

    /// Docker's `ADD`, and a command that the script does not define: an address of a model and a target.
    fn other(&mut self, call: &Call) {
        let words = call.words[1..].iter().filter(|word| !word.text.starts_with('-'));
        let (addresses, others): (Vec<&Text>, Vec<&Text>) = words.partition(|word| is_address(&word.text));
        let [address] = addresses[..] else { return };
        let is_of_model = |source: &Source| {
            matches!(source, Source::Civitai(_)) || source.file_name().is_some_and(|name| is_model(&name))
        };
        if !source_at(address).is_ok_and(|source| is_of_model(&source)) {
            return;
        }
        let paths: Vec<&&Text> =
            others.iter().filter(|word| word.text.contains('/') || is_model(&word.text)).collect();
        let target = match paths[..] {
            [path] if is_model(&path.text) => Target::file(&joined(&call.directory, &path.text)),
            [path] => Target::directory(&joined(&call.directory, &path.text)),
            _ => Target::default(),
        };
        self.add(call, address, target);
    }

    /// The addresses of a command line.
    fn addresses(&mut self, call: &Call, line: &CommandLine) -> Vec<Text> {
        let addresses: Vec<Text> =
            line.operands.iter().filter(|word| is_address(&word.text) || !word.is_known()).cloned().collect();
        // An option in a variable is no address.
        let known: Vec<Text> = addresses.iter().filter(|word| is_address(&word.text)).cloned().collect();
        let output = line.value(&["output-document", "O", "output", "o", "out"]);
        let is_no_model = output.is_some_and(|output| {
            let target = Target::file(&output.text);
            let is_known = |name: &String| !name.contains(UNKNOWN) && !is_model(name);
            target.name.as_ref().is_some_and(is_known)
                && matches!(target.directory.as_deref().map(folder_of), None | Some(Folder::Unknown))
        });
        if known.is_empty() && !addresses.is_empty() && !is_no_model {
            self.no_address(call);
        }
        known
    }

    fn no_address(&mut self, call: &Call) {
        if !call.is_uncalled {
            self.unknown.push(call.line);
        }
    }

    /// Adds a file.
    fn add(&mut self, call: &Call, address: &Text, target: Target) {
        let (address, column) = match address.text.split_once('|') {
            Some((text, column)) => (address.with(text.trim()), Some(column.trim().to_owned())),
            None => (address.clone(), None),
        };
        let line = if address.line > 0 { address.line } else { call.line };
        let source = match source_at(&address) {
            Ok(source) => source,
            Err(None) => return self.no_address(call),
            Err(Some(why)) => {
                self.known.insert(call.line);
                return self.leave_out(target.name.unwrap_or_else(|| "a URL".to_owned()), why, line);
            }
        };
        self.known.insert(call.line);
        self.used.insert(address.text.clone());
        let target = match column {
            Some(column) => Target { name: Target::file(&column).name, ..target },
            None => target,
        };
        self.push(source, target, line);
    }

    fn push(&mut self, source: Source, target: Target, line: usize) {
        let given = target.name.filter(|name| !name.contains(UNKNOWN) && !name.is_empty());
        let name = given.or_else(|| source.file_name()).unwrap_or_default();
        let directory = match target.directory.as_deref().map(folder_of) {
            Some(Folder::Below(directory)) => Some(directory),
            Some(Folder::Elsewhere(directory)) => {
                if is_model(&name) {
                    self.leave_out(name, UnusedReason::Elsewhere { directory }, line);
                }
                return;
            }
            Some(Folder::Unknown) | None => None,
        };
        let may_be_model = matches!(source, Source::Civitai(_)) || source.may_be_glob() || is_model(&name);
        if directory.is_none() && !may_be_model {
            let what = if name.is_empty() { source.to_string() } else { name };
            return self.leave_out(what, UnusedReason::Script(ScriptProblem::NoModel), line);
        }
        if !self.seen.insert((source.clone(), directory.clone(), name.clone())) {
            return;
        }
        self.list.models.push(ImportedModel {
            name,
            source,
            mirrors: Vec::new(),
            path: None,
            chosen: None,
            directory,
            size: None,
            sha256: None,
            place: Place::line(self.list_name, line),
        });
    }

    /// Takes the arrays whose addresses reached no download; returns true if there are any.
    fn arrays(&mut self, arrays: &[NamedArray]) -> bool {
        let mut has_any = false;
        for NamedArray { name, elements } in arrays {
            let upper = name.to_ascii_uppercase();
            if NO_MODELS.iter().any(|none| upper.contains(none)) {
                continue;
            }
            let folder = ARRAYS.iter().find(|(word, _)| upper.contains(word)).map(|(_, folder)| *folder);
            for element in elements {
                has_any |= self.element(element, folder);
            }
        }
        has_any
    }

    /// Takes an array's element with an address: `URL`, `URL|NAME`, `NAME|URL`, `URL NAME`, `[URL]=NAME`.
    fn element(&mut self, element: &Text, folder: Option<&str>) -> bool {
        let text = element
            .text
            .strip_prefix('[')
            .map_or_else(|| element.text.clone(), |text| text.replacen("]=", "|", 1));
        let separator = |c: char| if text.contains('|') { c == '|' } else { c.is_whitespace() };
        let columns: Vec<&str> =
            text.split(separator).map(str::trim).filter(|column| !column.is_empty()).collect();
        let Some(address) = columns.iter().find(|column| is_address(column)) else { return false };
        if self.used.contains(*address) {
            return false;
        }
        let others = columns.iter().filter(|column| !is_address(column));
        let mut target = Target { directory: folder.map(str::to_owned), name: None };
        for column in others {
            let path = Target::file(column);
            match path.name.filter(|name| is_model(name) && !name.contains(UNKNOWN)) {
                Some(name) => {
                    target.name = Some(name);
                    target.directory = path.directory.or(target.directory);
                }
                None if placement::folder(column).is_some() || column.contains('/') => {
                    target.directory = Some((*column).to_owned());
                }
                None => {}
            }
        }
        match source_at(&element.with(address)) {
            Ok(source) => self.push(source, target, element.line),
            Err(Some(why)) => self.leave_out("a URL", why, element.line),
            Err(None) => return false,
        }
        true
    }
}

/// The folder of a path in a script.
enum Folder {
    /// Below `models`.
    Below(String),
    /// In another place of the program.
    Elsewhere(String),
    /// The path does not say it.
    Unknown,
}

fn folder_of(path: &str) -> Folder {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let begin = parts.iter().rposition(|part| part.contains(UNKNOWN)).map_or(0, |at| at + 1);
    let parts = &parts[begin..];
    if parts.contains(&"custom_nodes") {
        return Folder::Elsewhere(parts.join("/"));
    }
    let below = |parts: &[&str]| {
        let (first, rest) = parts.split_first()?;
        let alias = ALIASES.iter().find(|(alias, _)| first.eq_ignore_ascii_case(alias));
        let first = alias.map(|(_, folder)| *folder).or_else(|| placement::folder(first)).unwrap_or(first);
        Some([&[first], rest].concat().join("/"))
    };
    let after_models = parts.iter().rposition(|part| *part == "models").map(|at| &parts[at + 1..]);
    let known = parts.iter().position(|part| placement::folder(part).is_some()).map(|at| &parts[at..]);
    match after_models.filter(|parts| !parts.is_empty()).or(known).and_then(below) {
        Some(directory) => Folder::Below(directory),
        None => Folder::Unknown,
    }
}

/// The source at an address; an error without a reason if only a run would know it.
fn source_at(address: &Text) -> Result<Source, Option<UnusedReason>> {
    let text = without_unknown_login(&address.text);
    if text.contains(UNKNOWN) {
        return Err(None);
    }
    text.parse().map_err(|error| Some(UnusedReason::Source(error)))
}

fn is_address(text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

fn is_model(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// The address without parameters for a login whose value only a run would know (`?token=$CIVITAI_TOKEN`). The lock must not have them
/// anyway.
fn without_unknown_login(address: &str) -> String {
    let Some((path, query)) = address.split_once('?').filter(|(_, query)| query.contains(UNKNOWN)) else {
        return address.to_owned();
    };
    let stays = |pair: &&str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        !(value.contains(UNKNOWN) && Source::is_login(name))
    };
    let kept: Vec<&str> = query.split('&').filter(stays).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

#[cfg(test)]
mod tests;
