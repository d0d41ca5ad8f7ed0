//! The downloads that a script would make, without running it: variables, arrays, functions and loops are followed as
//! far as their values are in the text.
//!
//! A value that only a run would know is [`UNKNOWN`] and stays it in every text that it becomes part of. Both branches
//! of a condition are followed. A variable or directory that they set differently is unknown afterwards, so no value is
//! guessed. Steps, depth and the length of values are bounded: a script comes from a stranger.

mod expand;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::shell::{Array, Command, Input, Item, Kind, Text, is_name, parse};

/// Stands for a text that only a run would know. A script cannot contain it: it is removed beforehand.
pub(super) const UNKNOWN: char = '\0';

/// The most steps: commands, elements and copied variables.
const MOST_STEPS: usize = 400_000;

/// The deepest calls of functions, and nesting of expansions.
const DEEPEST: usize = 16;

/// The longest value, in bytes.
const LONGEST: usize = 16 << 10;

type Variables = HashMap<String, Rc<[Text]>>;

impl Text {
    pub(super) fn is_known(&self) -> bool {
        !self.text.contains(UNKNOWN)
    }

    /// A text that only a run would know.
    fn unknown(line: usize) -> Self {
        Self { text: UNKNOWN.to_string(), line }
    }

    /// The same, unless it is longer than allowed.
    fn limited(self) -> Self {
        if self.text.len() <= LONGEST { self } else { Self::unknown(self.line) }
    }
}

/// A call of a function, or the script itself.
#[derive(Debug, Default)]
struct Frame {
    positional: Vec<Text>,
    variables: Variables,
}

/// A command with its expanded words.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) line: usize,
    pub(super) words: Vec<Text>,
    /// The target of `>`.
    pub(super) output: Option<Text>,
    /// The text of its standard input.
    pub(super) input: Option<Text>,
    /// The current directory; empty at the script's begin.
    pub(super) directory: String,
    /// The call is in a function that the script does not call.
    pub(super) is_uncalled: bool,
}

impl Call {
    /// The line that one of its words comes from.
    pub(super) fn line_of(&self, word: &Text) -> usize {
        if word.line > 0 { word.line } else { self.line }
    }
}

/// The commands and arrays of a script, in its order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) calls: Vec<Call>,
    /// The names and elements of arrays that are assigned.
    pub(super) arrays: Vec<(String, Vec<Text>)>,
    /// The script has more steps than are followed.
    pub(super) is_cut: bool,
}

/// Follows a script.
pub(super) fn evaluate(items: &[Item]) -> Trace {
    let mut evaluator = Evaluator { frames: vec![Frame::default()], ..Evaluator::default() };
    // A function may stand behind its call.
    for item in items {
        if let Item::Function(name, body) = item {
            evaluator.functions.insert(name.clone(), body.clone());
        }
    }
    evaluator.run(items);
    evaluator.is_uncalled = true;
    let mut functions: Vec<(String, Rc<[Item]>)> = evaluator.functions.clone().into_iter().collect();
    functions.sort_by(|one, other| one.0.cmp(&other.0));
    for (name, body) in functions {
        if !evaluator.called.contains(&name) {
            evaluator.frames.push(Frame::default());
            evaluator.run(&body);
            evaluator.frames.truncate(1);
        }
    }
    evaluator.trace.is_cut = evaluator.steps >= MOST_STEPS;
    evaluator.trace
}

#[derive(Default)]
struct Evaluator {
    functions: HashMap<String, Rc<[Item]>>,
    called: HashSet<String>,
    frames: Vec<Frame>,
    directory: String,
    /// The directories that `pushd` left.
    directories: Vec<String>,
    steps: usize,
    /// The nesting of expansions.
    depth: usize,
    is_uncalled: bool,
    /// The line that `read` reads.
    input: Option<Text>,
    trace: Trace,
}

impl Evaluator {
    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the script's own frame stays")
    }

    fn set(&mut self, name: &str, value: Vec<Text>) {
        self.steps += cost(&value);
        self.frame().variables.insert(name.to_owned(), value.into());
    }

    fn get(&self, name: &str) -> Option<&Rc<[Text]>> {
        self.frames.iter().rev().find_map(|frame| frame.variables.get(name))
    }

    /// A copy of the current frame's variables, which costs steps.
    fn snapshot(&mut self) -> Variables {
        let variables = self.frame().variables.clone();
        self.steps += variables.len();
        variables
    }

    fn run(&mut self, items: &[Item]) {
        for item in items {
            self.steps += 1;
            if self.steps >= MOST_STEPS {
                return;
            }
            match item {
                Item::Command(command) => self.command(command),
                Item::Function(name, body) => drop(self.functions.insert(name.clone(), body.clone())),
                Item::Block(Kind::If, sections, _) => {
                    self.run(&sections[0]);
                    self.branches(&sections[1..]);
                }
                Item::Block(Kind::Case, sections, _) => self.branches(sections),
                Item::Block(Kind::For, sections, _) => self.for_loop(sections),
                Item::Block(Kind::While, sections, ending) => self.while_loop(sections, ending),
                Item::Block(Kind::Group, sections, _) => self.run(&sections[0]),
                Item::Block(Kind::Subshell, sections, _) => {
                    let (before, directory) = (self.snapshot(), self.directory.clone());
                    self.run(&sections[0]);
                    self.directory = directory;
                    self.frame().variables = before;
                }
            }
        }
    }

    /// Runs the sections for each value. A variable that an iteration sets does not reach the next one.
    fn each(&mut self, sections: &[Vec<Item>], values: Vec<Text>, set: impl Fn(&mut Self, Text)) {
        let before = self.snapshot();
        for value in values {
            self.steps += 1 + before.len();
            if self.steps >= MOST_STEPS {
                return;
            }
            self.frame().variables.clone_from(&before);
            set(self, value);
            for section in sections {
                self.run(section);
            }
        }
    }

    fn for_loop(&mut self, sections: &[Vec<Item>]) {
        let head = match sections[0].first() {
            Some(Item::Command(command)) => &command.words[..],
            _ => &[],
        };
        let (variable, values) = match head {
            [variable, is_in, words @ ..] if is_in.text == "in" => {
                (variable.text.as_str(), words.iter().flat_map(|word| self.expand(word)).collect())
            }
            [variable] => (variable.text.as_str(), self.frame().positional.clone()),
            // `for ((…))`.
            _ => ("", vec![Text::unknown(0)]),
        };
        self.each(&sections[1..], values, |evaluator, value| evaluator.set(variable, vec![value]));
    }

    fn while_loop(&mut self, sections: &[Vec<Item>], ending: &Command) {
        let before = self.input.take();
        match self.input_of(ending) {
            Some(input) => {
                let lines = input.text.lines().enumerate();
                let lines = lines.map(|(at, text)| Text { text: text.to_owned(), line: input.line + at });
                self.each(sections, lines.collect(), |evaluator, line| evaluator.input = Some(line));
            }
            None => sections.iter().for_each(|section| self.run(section)),
        }
        self.input = before;
    }

    fn branches(&mut self, branches: &[Vec<Item>]) {
        let (before, directory) = (self.snapshot(), self.directory.clone());
        let mut after = before.clone();
        let mut directories = HashSet::new();
        for branch in branches {
            self.frame().variables.clone_from(&before);
            self.directory.clone_from(&directory);
            self.steps += before.len();
            self.run(branch);
            if self.directory != directory {
                directories.insert(self.directory.clone());
            }
            for (name, value) in std::mem::take(&mut self.frame().variables) {
                if before.get(&name) != Some(&value) {
                    let is_other = after.get(&name).is_some_and(|other| *other != value);
                    let line = value.first().map_or(0, |text| text.line);
                    let value = if is_other { [Text::unknown(line)].into() } else { value };
                    after.insert(name, value);
                }
            }
        }
        self.frame().variables = after;
        self.directory = match directories.len() {
            0 => directory,
            1 => directories.into_iter().collect(),
            _ => UNKNOWN.to_string(),
        };
    }

    fn command(&mut self, command: &Command) {
        for array in &command.arrays {
            self.array(array);
        }
        let mut words: Vec<Text> = Vec::new();
        let mut separator = None;
        for word in &command.words {
            let is_free = words.first().is_none_or(|first| {
                let name = first.text.as_str();
                matches!(name, "local" | "export" | "declare" | "readonly" | "typeset" | "ENV" | "ARG")
            });
            match assignment(word).filter(|_| is_free) {
                Some(("IFS", .., value)) => separator = self.scalar(&value).text.chars().next(),
                Some((name, index, is_appended, value)) => {
                    let value = self.scalar(&value);
                    let is_reference = words.iter().any(|option| option.text == "-n");
                    match self.get(&value.text).cloned().filter(|_| is_reference) {
                        Some(elements) => self.set(name, elements.to_vec()),
                        None => self.assign(name, index, is_appended, value),
                    }
                }
                None => words.extend(self.expand(word)),
            }
        }
        self.steps += cost(&words);
        let words = without_prefix(words);
        let Some(name) = words.first().map(|word| word.text.clone()) else { return };
        let text = |at: usize| words.get(at).map_or("", |word| word.text.as_str());
        match name.as_str() {
            "cd" | "pushd" | "WORKDIR" => {
                let Some(target) = words[1..].iter().find(|word| !word.text.starts_with('-')) else { return };
                if name == "pushd" && self.directories.len() < DEEPEST {
                    self.directories.push(self.directory.clone());
                }
                let text = joined(&self.directory, &target.text);
                self.directory = target.with(text).limited().text;
            }
            "popd" => self.directory = self.directories.pop().unwrap_or_default(),
            "FROM" => self.directory.clear(),
            "read" => {
                let input = self.input_of(command).or_else(|| self.input.clone());
                self.read(&words[1..], separator, input);
            }
            "shift" => {
                let count = text(1).parse().unwrap_or(1);
                let positional = &mut self.frame().positional;
                positional.drain(..positional.len().min(count));
            }
            "bash" | "sh" | "zsh" if text(1).starts_with('-') && text(1).ends_with('c') => {
                let script = words.get(2).cloned().unwrap_or_default();
                self.nested(&Text { line: words[0].line, ..script });
            }
            "RUN" | "bash" | "sh" if words[1..].iter().all(|word| word.text.starts_with('-')) => {
                if let Some(Input::Here(script)) = &command.input {
                    self.nested(script);
                }
            }
            _ if self.functions.contains_key(&name) => {
                let body = self.functions[&name].clone();
                self.called.insert(name);
                self.within(Frame { positional: words[1..].to_vec(), ..Frame::default() }, &body);
            }
            _ => {
                let output = command.output.as_ref().map(|word| self.scalar(word));
                let (input, line) = (self.input_of(command), command.line);
                let (directory, is_uncalled) = (self.directory.clone(), self.is_uncalled);
                self.trace.calls.push(Call { line, words, output, input, directory, is_uncalled });
            }
        }
    }

    /// Runs a function's body, or another shell's.
    fn within(&mut self, frame: Frame, body: &[Item]) {
        if self.frames.len() <= DEEPEST {
            self.frames.push(frame);
            self.run(body);
            self.frames.pop();
        }
    }

    /// Follows the text of another shell.
    fn nested(&mut self, script: &Text) {
        self.steps += script.text.len() / 16;
        if self.steps < MOST_STEPS {
            self.within(Frame::default(), &parse(&script.text, script.line).items);
        }
    }

    /// The text of a command's standard input.
    fn input_of(&mut self, command: &Command) -> Option<Text> {
        match command.input.as_ref()? {
            Input::Word(word) => Some(self.scalar(word)),
            Input::Here(text) => Some(self.quoted(text)),
        }
    }

    /// `read`: the fields of a line.
    fn read(&mut self, words: &[Text], separator: Option<char>, input: Option<Text>) {
        let Text { text, line } = input.unwrap_or_else(|| Text::unknown(0));
        let mut rest = text.trim();
        let is_separator = |c: char| separator.map_or(c.is_whitespace(), |separator| c == separator);
        let mut options = words.iter();
        let mut names = Vec::new();
        while let Some(word) = options.next() {
            match word.text.as_str() {
                "-p" | "-t" | "-n" | "-d" | "-u" => drop(options.next()),
                option if option.starts_with('-') && option.ends_with('a') => {
                    let fields = rest.split(is_separator).map(|field| Text { text: field.to_owned(), line });
                    let array = options.next().map_or("", |name| name.text.as_str());
                    self.set(array, fields.collect());
                }
                option if option.starts_with('-') => {}
                name => names.push(name),
            }
        }
        for (at, name) in names.iter().enumerate() {
            let (field, after) = match rest.split_once(is_separator) {
                _ if rest.contains(UNKNOWN) => ("\0", rest),
                Some(fields) if at + 1 < names.len() => fields,
                _ => (rest, ""),
            };
            self.set(name, vec![Text { text: field.trim().to_owned(), line }]);
            rest = after.trim_start();
        }
    }

    fn array(&mut self, array: &Array) {
        let mut elements = Vec::new();
        for word in &array.elements {
            elements.extend(self.expand(word));
            if self.steps >= MOST_STEPS {
                return;
            }
        }
        self.add_elements(&array.name, array.is_appended, elements);
    }

    fn add_elements(&mut self, name: &str, is_appended: bool, elements: Vec<Text>) {
        self.steps += cost(&elements);
        let before = self.get(name).filter(|_| is_appended).map_or_else(Vec::new, |known| known.to_vec());
        self.set(name, [before, elements.clone()].concat());
        self.trace.arrays.push((name.to_owned(), elements));
    }

    fn assign(&mut self, name: &str, index: Option<Text>, is_appended: bool, value: Text) {
        if let Some(index) = index {
            // As in the array's own assignment.
            let index = self.scalar(&index).text;
            let element = value.with(format!("[{index}]={}", value.text)).limited();
            return self.add_elements(name, true, vec![element]);
        }
        let before = self.get(name).and_then(|known| known.first()).filter(|_| is_appended);
        let value = match before {
            Some(before) => value.with(format!("{}{}", before.text, value.text)).limited(),
            None => value,
        };
        self.set(name, vec![value]);
    }
}

/// Splits `NAME=…`, `NAME+=…` or `NAME[INDEX]=…`: name, index, whether it appends, and the value.
fn assignment(word: &Text) -> Option<(&str, Option<Text>, bool, Text)> {
    let end = word.text.find(['=', '['])?;
    let (name, rest) = word.text.split_at(end);
    let (index, value) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once("]=").map(|(index, value)| (Some(word.with(index)), value))?,
        None => (None, &rest[1..]),
    };
    let (name, is_appended) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
    (is_name(name)).then(|| (name, index, is_appended, word.with(value)))
}

/// A command without the words before it: `sudo`, `nohup`, `timeout 60`, Docker's `RUN --mount=…`.
fn without_prefix(mut words: Vec<Text>) -> Vec<Text> {
    loop {
        let name = words.first().and_then(|word| word.text.rsplit('/').next()).unwrap_or("none");
        let takes_number = matches!(name, "timeout" | "nice" | "retry");
        let is_prefix = match name {
            "sudo" | "nohup" | "exec" | "command" | "env" | "eval" | "stdbuf" | "ionice" | "\0" | "" => true,
            "RUN" => words[1..].iter().any(|word| !word.text.starts_with('-')),
            _ => takes_number,
        };
        if !is_prefix {
            return words;
        }
        let is_of_prefix = |word: &&Text| {
            let is_number = takes_number && word.text.starts_with(|c: char| c.is_ascii_digit());
            word.text.starts_with('-') || is_number || assignment(word).is_some()
        };
        let count = 1 + words[1..].iter().take_while(is_of_prefix).count();
        words.drain(..count);
    }
}

/// The steps that these texts cost, so that their bytes are bounded, too.
fn cost(texts: &[Text]) -> usize {
    texts.iter().map(|text| 1 + text.text.len() / 32).sum()
}

/// `path` below `directory`, without `.` and `..`.
pub(super) fn joined(directory: &str, path: &str) -> String {
    let is_whole = directory.is_empty() || path.starts_with(['/', '~', UNKNOWN]);
    let whole = if is_whole { path.to_owned() } else { format!("{directory}/{path}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let root = if whole.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
