//! What a script's downloads would be, without running it: variables, arrays, functions and loops are followed as far as their
//! values are in the text.
//!
//! A value that only a run would know is [`UNKNOWN`] and stays it in every text that it becomes part of. Both branches of a condition are
//! followed. A variable that they set differently is unknown afterwards, so no value is guessed. Steps, depth and the length of values are
//! bounded: a script comes from a stranger.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::shell::{Array, Command, Edit, Here, Item, Part, Script, Word, is_name};

/// Stands for a text that only a run would know. A script cannot contain it: it is removed beforehand.
pub(super) const UNKNOWN: char = '\0';

/// The most steps: commands, elements and copied variables.
const MOST_STEPS: usize = 400_000;

/// The deepest calls of functions.
const DEEPEST_CALL: usize = 16;

/// The longest value, in bytes.
const LONGEST: usize = 16 << 10;

/// An expanded text and the line that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Text {
    /// Another text of the same line.
    pub(super) fn with(&self, text: &str) -> Self {
        Self { text: text.to_owned(), line: self.line }
    }

    pub(super) fn is_known(&self) -> bool {
        !self.text.contains(UNKNOWN)
    }
}

type Value = Rc<[Text]>;
type Variables = HashMap<String, Value>;

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
    /// The lines of a here-document.
    pub(super) here: Option<Here>,
    /// The current directory; empty at the script's begin.
    pub(super) directory: String,
    /// The call is in a function that the script does not call.
    pub(super) is_uncalled: bool,
}

/// The array of an assignment.
#[derive(Debug)]
pub(super) struct NamedArray {
    pub(super) name: String,
    pub(super) elements: Vec<Text>,
}

/// Everything that a script would do, in its order.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) calls: Vec<Call>,
    pub(super) arrays: Vec<NamedArray>,
    /// The script has more steps than are followed.
    pub(super) is_cut: bool,
}

/// Follows a script.
pub(super) fn evaluate(script: &Script) -> Trace {
    let mut evaluator = Evaluator {
        heres: &script.heres,
        functions: HashMap::new(),
        called: HashSet::new(),
        frames: vec![Frame::default()],
        directory: String::new(),
        directories: Vec::new(),
        steps: 0,
        is_uncalled: false,
        input: None,
        trace: Trace::default(),
    };
    // A function may stand behind its call.
    evaluator.define(&script.items);
    evaluator.run(&script.items);
    let functions: Vec<(String, Rc<[Item]>)> =
        evaluator.functions.iter().map(|(name, body)| (name.clone(), body.clone())).collect();
    evaluator.is_uncalled = true;
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

struct Evaluator<'a> {
    heres: &'a [Here],
    functions: HashMap<String, Rc<[Item]>>,
    called: HashSet<String>,
    frames: Vec<Frame>,
    directory: String,
    /// The directories that `pushd` left.
    directories: Vec<String>,
    steps: usize,
    is_uncalled: bool,
    /// The line that `read` reads.
    input: Option<Text>,
    trace: Trace,
}

impl Evaluator<'_> {
    fn define(&mut self, items: &[Item]) {
        for item in items {
            if let Item::Function { name, body } = item {
                self.functions.insert(name.clone(), body.clone());
            }
        }
    }

    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the script's own frame stays")
    }

    fn set(&mut self, name: &str, value: Vec<Text>) {
        self.steps += cost(&value);
        self.frame().variables.insert(name.to_owned(), value.into());
    }

    fn get(&self, name: &str) -> Option<&Value> {
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
                Item::For { variable, words, body } => self.for_loop(variable, words.as_deref(), body),
                Item::Loop { condition, body, here } => self.while_loop(condition, body, *here),
                Item::Branches(branches) => self.branches(branches),
                Item::Function { name, body } => {
                    self.functions.insert(name.clone(), body.clone());
                }
                Item::Group(body) => self.run(body),
                Item::Subshell(body) => {
                    let (before, directory) = (self.snapshot(), self.directory.clone());
                    self.run(body);
                    self.directory = directory;
                    self.frame().variables = before;
                }
            }
        }
    }

    fn for_loop(&mut self, variable: &str, words: Option<&[Word]>, body: &[Item]) {
        let elements = match words {
            Some(words) => words.iter().flat_map(|word| self.expand(word)).collect(),
            None if variable.is_empty() => vec![Text { text: UNKNOWN.to_string(), line: 0 }],
            None => self.frame().positional.clone(),
        };
        // What an iteration sets does not reach the next one.
        let before = self.snapshot();
        for element in elements {
            self.steps += 1 + before.len();
            if self.steps >= MOST_STEPS {
                return;
            }
            self.frame().variables.clone_from(&before);
            self.set(variable, vec![element]);
            self.run(body);
        }
    }

    fn while_loop(&mut self, condition: &[Item], body: &[Item], here: Option<usize>) {
        let lines = here.map(|here| self.heres[here].clone());
        let Some(Here { line, text }) = lines else {
            self.run(condition);
            self.run(body);
            return;
        };
        let before = self.snapshot();
        for (number, text) in text.lines().enumerate() {
            self.steps += 1 + before.len();
            if self.steps >= MOST_STEPS {
                return;
            }
            self.frame().variables.clone_from(&before);
            let is_plain = !text.contains(['$', '`']);
            let text = if is_plain { text.to_owned() } else { UNKNOWN.to_string() };
            self.input = Some(Text { text, line: line + number });
            self.run(condition);
            self.run(body);
        }
        self.input = None;
    }

    fn branches(&mut self, branches: &[Vec<Item>]) {
        let before = self.snapshot();
        let mut after: Variables = before.clone();
        for branch in branches {
            self.frame().variables.clone_from(&before);
            self.steps += before.len();
            self.run(branch);
            for (name, value) in std::mem::take(&mut self.frame().variables) {
                if before.get(&name) == Some(&value) {
                    continue;
                }
                let is_other = after.get(&name).is_some_and(|other| *other != value);
                let line = value.first().map_or(0, |text| text.line);
                let unknown = || [Text { text: UNKNOWN.to_string(), line }].into();
                after.insert(name, if is_other { unknown() } else { value });
            }
        }
        self.frame().variables = after;
    }

    fn command(&mut self, command: &Command) {
        for array in &command.arrays {
            self.array(array);
        }
        let mut words: Vec<Text> = Vec::new();
        let is_declaration = |word: &Text| {
            matches!(
                word.text.as_str(),
                "local" | "export" | "declare" | "readonly" | "typeset" | "ENV" | "ARG"
            )
        };
        let mut separator = None;
        for word in &command.words {
            let is_free = words.is_empty() || words.first().is_some_and(is_declaration);
            match assignment(word) {
                Some((name, index, is_appended, value)) if is_free => {
                    let value = self.scalar(&value);
                    if name == "IFS" {
                        separator = value.text.chars().next();
                    } else {
                        self.assign(name, index, is_appended, value);
                    }
                }
                _ => words.extend(self.expand(word)),
            }
        }
        self.steps += cost(&words);
        let words = without_prefix(words);
        let Some(name) = words.first().map(|word| word.text.clone()) else { return };
        match name.as_str() {
            "cd" | "pushd" | "WORKDIR" => self.change_directory(&words, name == "pushd"),
            "popd" => self.directory = self.directories.pop().unwrap_or_default(),
            "read" => {
                let input = command.input.as_ref().map(|word| self.scalar(word));
                self.read(&words[1..], separator, input);
            }
            "shift" => {
                let positional = &mut self.frame().positional;
                let count = words.get(1).and_then(|count| count.text.parse().ok()).unwrap_or(1);
                positional.drain(..positional.len().min(count));
            }
            "bash" | "sh" | "zsh"
                if words
                    .get(1)
                    .is_some_and(|word| word.text.starts_with('-') && word.text.ends_with('c')) =>
            {
                let text = words.get(2).map(|word| word.text.clone()).unwrap_or_default();
                self.nested(&text, words[0].line);
            }
            "RUN" | "bash" | "sh" if words.len() == 1 && command.here.is_some() => {
                if let Some(here) = command.here.map(|here| self.heres[here].clone()) {
                    self.nested(&here.text, here.line);
                }
            }
            _ if self.functions.contains_key(&name) => self.call(&name, words),
            _ => {
                let output = command.output.as_ref().map(|word| self.scalar(word));
                let here = command.here.map(|here| self.heres[here].clone());
                let (line, directory) = (command.line, self.directory.clone());
                let is_uncalled = self.is_uncalled;
                self.trace.calls.push(Call { line, words, output, here, directory, is_uncalled });
            }
        }
    }

    /// Follows the text of another shell.
    fn nested(&mut self, text: &str, line: usize) {
        if self.frames.len() > DEEPEST_CALL {
            return;
        }
        let script = super::shell::parse(text, false);
        self.steps += text.len() / 16;
        let mut inner = Evaluator {
            heres: &script.heres,
            functions: self.functions.clone(),
            called: HashSet::new(),
            frames: std::mem::take(&mut self.frames),
            directory: self.directory.clone(),
            directories: Vec::new(),
            steps: self.steps,
            is_uncalled: self.is_uncalled,
            input: None,
            trace: Trace::default(),
        };
        inner.frames.push(Frame::default());
        inner.run(&script.items);
        inner.frames.pop();
        let Evaluator { frames, steps, trace, .. } = inner;
        (self.frames, self.steps) = (frames, steps);
        self.trace.arrays.extend(trace.arrays);
        // The lines count from the text's own begin.
        let shifted = trace.calls.into_iter().map(|call| Call { line: line + call.line - 1, ..call });
        self.trace.calls.extend(shifted);
    }

    fn call(&mut self, name: &str, words: Vec<Text>) {
        self.called.insert(name.to_owned());
        let Some(body) = self.functions.get(name).cloned() else { return };
        if self.frames.len() > DEEPEST_CALL {
            return;
        }
        let positional = words.into_iter().skip(1).collect();
        self.frames.push(Frame { positional, variables: Variables::new() });
        self.run(&body);
        self.frames.pop();
    }

    fn change_directory(&mut self, words: &[Text], is_pushed: bool) {
        let target = words.iter().skip(1).find(|word| !word.text.starts_with('-'));
        let Some(target) = target else { return };
        if is_pushed && self.directories.len() < DEEPEST_CALL {
            self.directories.push(self.directory.clone());
        }
        self.directory = joined(&self.directory, &target.text);
        // A function's `cd` stays, as in a shell.
        self.directory.truncate(longest_prefix(&self.directory));
    }

    fn read(&mut self, words: &[Text], separator: Option<char>, input: Option<Text>) {
        let input = input.or_else(|| self.input.clone());
        let mut options = words.iter();
        let mut names = Vec::new();
        while let Some(word) = options.next() {
            match word.text.as_str() {
                "-p" | "-t" | "-n" | "-d" | "-u" => drop(options.next()),
                text if text.starts_with('-') => {}
                text => names.push(text.to_owned()),
            }
        }
        let is_separator = |c: char| separator.map_or(c.is_whitespace(), |separator| c == separator);
        let mut rest = input.as_ref().map(|input| input.text.trim());
        let line = input.as_ref().map_or(0, |input| input.line);
        for (at, name) in names.iter().enumerate() {
            let is_last = at + 1 == names.len();
            let field = match rest {
                None => UNKNOWN.to_string(),
                Some(text) if text.contains(UNKNOWN) => UNKNOWN.to_string(),
                Some(text) if is_last => text.trim().to_owned(),
                Some(text) => {
                    let (field, after) = text.split_once(is_separator).unwrap_or((text, ""));
                    rest = Some(after.trim_start());
                    field.trim().to_owned()
                }
            };
            self.set(name, vec![Text { text: field, line }]);
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
        self.steps += cost(&elements);
        self.trace.arrays.push(NamedArray { name: array.name.clone(), elements: elements.clone() });
        if array.is_appended {
            let known = self.get(&array.name).cloned();
            elements.splice(..0, known.iter().flat_map(|known| known.iter().cloned()));
        }
        self.set(&array.name, elements);
    }

    fn assign(&mut self, name: &str, index: Option<String>, is_appended: bool, value: Text) {
        if let Some(index) = index {
            // An element of an associative array is listed as in the array's own assignment.
            let element = value.with(&format!("[{index}]={}", value.text));
            self.trace.arrays.push(NamedArray { name: name.to_owned(), elements: vec![element] });
            return;
        }
        let value = match self.get(name).and_then(|known| known.first()).filter(|_| is_appended) {
            Some(known) => limited(Text { text: format!("{}{}", known.text, value.text), line: value.line }),
            None => value,
        };
        self.set(name, vec![value]);
    }

    /// The word as one text.
    fn scalar(&mut self, word: &Word) -> Text {
        let texts = self.expand_parts(word, false);
        let line = texts.first().map_or(word.line, |text| text.line);
        let text = texts.into_iter().map(|text| text.text).collect::<Vec<_>>().join(" ");
        limited(Text { text, line })
    }

    /// The texts that a shell makes of a word.
    fn expand(&mut self, word: &Word) -> Vec<Text> {
        let texts = self.expand_parts(word, true);
        if word.parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('{'))) {
            return texts.iter().flat_map(braces).collect();
        }
        texts
    }

    fn expand_parts(&mut self, word: &Word, splits: bool) -> Vec<Text> {
        let mut done = Vec::new();
        let mut open: Option<String> = None;
        // A word that is one variable keeps the line of its value. Quotes leave an empty text.
        let mut line = word.line;
        let is_text = |part: &&Part| !matches!(part, Part::Text(text) if text.is_empty());
        let is_one = word.parts.iter().filter(is_text).count() == 1;
        for part in &word.parts {
            match part {
                Part::Text(text) => open.get_or_insert_default().push_str(text),
                Part::Unknown => open.get_or_insert_default().push(UNKNOWN),
                Part::Basename(word) => {
                    let path = self.scalar(word).text;
                    let end = path.split(['?', '#']).next().unwrap_or(&path);
                    let keeps_query = end != path && !path.contains("://");
                    let path = if keeps_query { path.as_str() } else { end };
                    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                    open.get_or_insert_default().push_str(last);
                }
                Part::Variable { name, edit, is_quoted } => {
                    let is_list = matches!(name.as_str(), "@" | "*") || name.ends_with("[@]");
                    let mut values = self.values(name, edit);
                    self.steps += values.len();
                    if !is_list {
                        values.truncate(1);
                        if splits && !is_quoted && values.iter().any(|text| text.text.contains([' ', '\n'])) {
                            values = fields(&values[0]);
                        }
                    }
                    if is_one && let Some(first) = values.first() {
                        line = first.line;
                    }
                    let count = values.len();
                    for (at, value) in values.into_iter().enumerate() {
                        open.get_or_insert_default().push_str(&value.text);
                        if at + 1 < count {
                            let text = open.take().unwrap_or_default();
                            let line = if is_one { value.line } else { word.line };
                            done.push(limited(Text { text, line }));
                        } else if is_one {
                            line = value.line;
                        }
                    }
                }
            }
        }
        done.extend(open.map(|text| limited(Text { text, line })));
        done
    }

    /// The values of a parameter.
    fn values(&mut self, name: &str, edit: &Edit) -> Vec<Text> {
        let line = 0;
        let unknown = || vec![Text { text: UNKNOWN.to_string(), line }];
        let is_in_call = self.frames.len() > 1;
        let positional = &self.frame().positional;
        let values: Option<Vec<Text>> = match name.trim_end_matches("[@]") {
            "@" | "*" => Some(positional.clone()),
            number if number.starts_with(|c: char| c.is_ascii_digit()) => {
                let at = number.parse::<usize>().ok().filter(|at| *at > 0);
                at.and_then(|at| positional.get(at - 1)).cloned().map(|value| vec![value])
            }
            name => self.get(name).map(|value| value.to_vec()),
        };
        let is_empty = values.as_ref().is_none_or(|values| values.iter().all(|text| text.text.is_empty()));
        match edit {
            Edit::Default(word) if is_empty => vec![self.scalar(word)],
            Edit::Unknown => unknown(),
            Edit::From(from) => match values {
                // The positional parameters count from one.
                Some(values) if matches!(name, "@" | "*") => {
                    values.into_iter().skip(from.saturating_sub(1)).collect()
                }
                Some(values) if name.ends_with("[@]") => values.into_iter().skip(*from).collect(),
                _ => unknown(),
            },
            Edit::Strip { pattern, at_end, is_longest } => {
                let Some(values) = values else { return unknown() };
                values
                    .iter()
                    .map(|value| value.with(strip(&value.text, pattern, *at_end, *is_longest)))
                    .collect()
            }
            Edit::None | Edit::Default(_) => match values {
                Some(values) => values,
                // A parameter that the call does not have is empty.
                None if is_in_call && !self.is_uncalled && !is_name(name) => Vec::new(),
                None => unknown(),
            },
        }
    }
}

/// Splits `NAME=…`, `NAME+=…` or `NAME[INDEX]=…`: name, index, whether it appends, and the value.
fn assignment(word: &Word) -> Option<(&str, Option<String>, bool, Word)> {
    let Some(Part::Text(text)) = word.parts.first() else { return None };
    let end = text.find(['=', '['])?;
    let (mut name, mut rest) = text.split_at(end);
    let mut index = None;
    if rest.starts_with('[') {
        let (found, after) = rest[1..].split_once("]=")?;
        index = Some(found.to_owned());
        rest = after;
    } else {
        rest = &rest[1..];
    }
    let is_appended = name.ends_with('+');
    name = name.strip_suffix('+').unwrap_or(name);
    if !is_name(name) || name.is_empty() {
        return None;
    }
    let mut parts = vec![Part::Text(rest.to_owned())];
    if rest.is_empty() && word.parts.len() > 1 {
        parts.clear();
    }
    parts.extend(word.parts[1..].iter().cloned());
    Some((name, index, is_appended, Word { line: word.line, parts }))
}

/// A command without what stands before it: `sudo`, `nohup`, `timeout 60`, Docker's `RUN --mount=…`.
fn without_prefix(mut words: Vec<Text>) -> Vec<Text> {
    loop {
        let name = words.first().map(|word| word.text.rsplit('/').next().unwrap_or_default().to_owned());
        let takes_number = match name.as_deref() {
            Some(
                "sudo" | "nohup" | "exec" | "command" | "env" | "eval" | "stdbuf" | "ionice" | "\0" | "",
            ) => false,
            Some("timeout" | "nice" | "retry") => true,
            Some("RUN") if words.len() > 1 => false,
            _ => return words,
        };
        words.remove(0);
        while words.first().is_some_and(|word| {
            let text = word.text.as_str();
            let is_number = takes_number && text.starts_with(|c: char| c.is_ascii_digit());
            let is_environment = text.split_once('=').is_some_and(|(name, _)| is_name(name));
            text.starts_with('-') || is_number || is_environment
        }) {
            words.remove(0);
        }
    }
}

/// The text without a prefix or an end that the pattern matches.
fn strip<'a>(text: &'a str, pattern: &str, at_end: bool, is_longest: bool) -> &'a str {
    let (literal, any_before, any_after) = match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(literal), None) => (literal, true, false),
        (None, Some(literal)) => (literal, false, true),
        _ => (pattern, false, false),
    };
    if literal.is_empty() || literal.contains('*') {
        return text;
    }
    if at_end && any_after {
        let at = if is_longest { text.find(literal) } else { text.rfind(literal) };
        at.map_or(text, |at| &text[..at])
    } else if !at_end && any_before {
        let at = if is_longest { text.rfind(literal) } else { text.find(literal) };
        at.map_or(text, |at| &text[at + literal.len()..])
    } else if at_end {
        text.strip_suffix(literal).unwrap_or(text)
    } else {
        text.strip_prefix(literal).unwrap_or(text)
    }
}

fn fields(text: &Text) -> Vec<Text> {
    text.text.split_whitespace().map(|field| text.with(field)).collect()
}

/// `a{b,c}d` as two texts; one group only.
fn braces(text: &Text) -> Vec<Text> {
    let group = text.text.split_once('{').and_then(|(before, rest)| {
        let (group, after) = rest.split_once('}')?;
        (group.contains(',') && !group.contains('{')).then_some((before, group, after))
    });
    match group {
        Some((before, group, after)) if group.len() < LONGEST / 16 => {
            group.split(',').take(64).map(|one| text.with(&format!("{before}{one}{after}"))).collect()
        }
        _ => vec![text.clone()],
    }
}

/// The steps that these texts cost, so that their bytes are bounded, too.
fn cost(texts: &[Text]) -> usize {
    texts.iter().map(|text| 1 + text.text.len() / 32).sum()
}

/// A value that is not longer than allowed.
fn limited(text: Text) -> Text {
    if text.text.len() <= LONGEST { text } else { text.with(&UNKNOWN.to_string()) }
}

/// The length of a directory that is not longer than allowed.
fn longest_prefix(directory: &str) -> usize {
    if directory.len() <= LONGEST { directory.len() } else { 0 }
}

/// `path` below `directory`, without `.` and `..`.
pub(super) fn joined(directory: &str, path: &str) -> String {
    let is_whole = path.starts_with(['/', '~', UNKNOWN]);
    let whole =
        if is_whole || directory.is_empty() { path.to_owned() } else { format!("{directory}/{path}") };
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
