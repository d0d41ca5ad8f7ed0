//! The grammar of shell scripts, as far as downloads need it: commands, arrays, functions and blocks.
//!
//! A word keeps its quotes and expansions, which `evaluate` reads. The parser accepts any text and never fails: unknown
//! syntax becomes a command. Its depth is bounded, and its time is linear in the text. It runs nothing.

use std::rc::Rc;

/// The deepest nesting of blocks. The keywords of deeper ones are passed over.
const DEEPEST: usize = 40;

/// A text, as written or expanded, and its line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) line: usize,
}

impl Text {
    /// Another text of the same line.
    pub(super) fn with(&self, text: impl Into<String>) -> Self {
        Self { text: text.into(), line: self.line }
    }
}

/// An assignment of an array's elements.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) name: String,
    pub(super) is_appended: bool,
    pub(super) elements: Vec<Text>,
}

/// The standard input of a command.
#[derive(Debug)]
pub(super) enum Input {
    /// The word behind `<<<`.
    Word(Text),
    /// A here-document.
    Here(Text),
}

/// A simple command, or the redirections of a block.
#[derive(Debug, Default)]
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) words: Vec<Text>,
    pub(super) arrays: Vec<Array>,
    /// The target of `>`.
    pub(super) output: Option<Text>,
    pub(super) input: Option<Input>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    If,
    Case,
    For,
    /// `while` and `until`.
    While,
    Group,
    Subshell,
}

#[derive(Debug)]
pub(super) enum Item {
    Command(Command),
    /// The lists between a block's keywords, and its redirections.
    Block(Kind, Vec<Vec<Item>>, Command),
    Function(String, Rc<[Item]>),
}

/// A parsed script.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) items: Vec<Item>,
    /// The line of a quote, bracket or here-document without an end: it took the rest of the text.
    pub(super) unclosed: Option<usize>,
}

/// Parses a text whose first line has the number `first`.
pub(super) fn parse(text: &str, first: usize) -> Script {
    let newlines = text.match_indices('\n').map(|(at, _)| at).collect();
    let (at, after_heres, peeked) = (0, None, None);
    let mut parser = Parser { text, first, newlines, at, depth: 0, after_heres, unclosed: None, peeked };
    let (items, _) = parser.list(&[]);
    Script { items, unclosed: parser.unclosed }
}

/// Returns true for a variable's name.
pub(super) fn is_name(text: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(is_of_name) && text.starts_with(|c: char| !c.is_ascii_digit())
}

/// The length of a text up to the character that closes a quote or bracket before it, with that character.
pub(super) fn closed_length(text: &str, close: char) -> Option<usize> {
    let mut open = vec![close];
    let mut letters = text.char_indices().peekable();
    while let (Some(&close), Some((at, letter))) = (open.last(), letters.next()) {
        let next = letters.peek().map_or(' ', |(_, next)| *next);
        match letter {
            '\\' if close != '\'' => drop(letters.next()),
            _ if letter == close => {
                open.pop();
                if open.is_empty() {
                    return Some(at + letter.len_utf8());
                }
            }
            _ if matches!(close, '\'' | '`') => {}
            '\'' if close == ')' => open.push('\''),
            '"' | '`' => open.push(letter),
            '$' if matches!(next, '(' | '{') => {
                letters.next();
                open.push(if next == '(' { ')' } else { '}' });
            }
            '(' if close == ')' => open.push(')'),
            _ => {}
        }
    }
    None
}

#[derive(Debug)]
enum Token {
    Word(Text),
    Array(Array),
    /// `;`, `&&`, `||`, `|`, `&`, `(`, `)`, `;;`.
    Operator(&'static str),
    /// A word follows.
    Redirect(&'static str),
    Newline,
    End,
}

impl Token {
    /// The text of a word or operator.
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => &word.text,
            Self::Operator(operator) => operator,
            _ => "",
        }
    }
}

const OPERATORS: [&str; 11] = [";;&", ";;", ";&", "&&", "||", "|&", "|", ";", "&", "(", ")"];
const REDIRECTS: [&str; 12] = ["<<<", "<<-", "<<", "<&", "<>", "<", "&>>", "&>", ">>", ">|", ">&", ">"];

struct Parser<'a> {
    text: &'a str,
    /// The number of the text's first line.
    first: usize,
    newlines: Vec<usize>,
    at: usize,
    depth: usize,
    /// The end of the here-documents that begin behind this line.
    after_heres: Option<usize>,
    unclosed: Option<usize>,
    peeked: Option<Token>,
}

/// Words and operators.
impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn char(&self) -> char {
        self.rest().chars().next().unwrap_or('\0')
    }

    fn line(&self) -> usize {
        self.first + self.newlines.partition_point(|newline| *newline < self.at)
    }

    /// Passes the quote or bracket that the last character has opened.
    fn close(&mut self, close: char) {
        self.skip_to(closed_length(self.rest(), close));
    }

    /// Passes so many bytes; all of them if the end is missing.
    fn skip_to(&mut self, length: Option<usize>) {
        if length.is_none() {
            self.unclosed = self.unclosed.or(Some(self.line()));
        }
        self.at += length.unwrap_or(self.rest().len());
    }

    fn peek(&mut self) -> &Token {
        let token = match self.peeked.take() {
            Some(token) => token,
            None => self.token(),
        };
        self.peeked.insert(token)
    }

    fn next(&mut self) -> Token {
        self.peek();
        self.peeked.take().unwrap_or(Token::End)
    }

    /// Takes the next token if it has this text.
    fn take(&mut self, text: &str) -> bool {
        let is_it = self.peek().text() == text;
        if is_it {
            self.next();
        }
        is_it
    }

    /// Skips blanks, continued lines and comments.
    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            self.at += match self.char() {
                ' ' | '\t' | '\r' => 1,
                '\\' if rest[1..].starts_with('\n') => 2,
                '#' => rest.find('\n').unwrap_or(rest.len()),
                _ => return,
            };
        }
    }

    fn token(&mut self) -> Token {
        self.skip_blanks();
        let rest = self.rest();
        if rest.is_empty() {
            return Token::End;
        }
        if rest.starts_with('\n') {
            self.at = self.after_heres.take().unwrap_or(self.at + 1);
            return Token::Newline;
        }
        if !rest.starts_with("<(") && !rest.starts_with(">(") {
            if let Some(redirect) = REDIRECTS.into_iter().find(|redirect| rest.starts_with(redirect)) {
                self.at += redirect.len();
                return Token::Redirect(redirect);
            }
            if let Some(operator) = OPERATORS.into_iter().find(|operator| rest.starts_with(operator)) {
                self.at += operator.len();
                return Token::Operator(if operator.starts_with(";;") { ";;" } else { operator });
            }
        }
        let word = self.word();
        if matches!(self.char(), '<' | '>') && word.text.chars().all(|c| c.is_ascii_digit()) {
            // `2>`: the number belongs to the redirection.
            return self.token();
        }
        match word.text.strip_suffix('=').map(|name| (name, name.trim_end_matches('+'))) {
            Some((whole, name)) if self.char() == '(' && is_name(name) => {
                self.at += 1;
                Token::Array(Array {
                    name: name.to_owned(),
                    is_appended: whole != name,
                    elements: self.elements(),
                })
            }
            _ => Token::Word(word),
        }
    }

    /// The elements of an array, up to its `)`.
    fn elements(&mut self) -> Vec<Text> {
        let (mut elements, line) = (Vec::new(), self.line());
        loop {
            self.skip_blanks();
            match self.char() {
                '\n' | ';' | '&' | '|' | '<' | '>' | '(' => self.at += 1,
                ')' => {
                    self.at += 1;
                    return elements;
                }
                _ if self.rest().is_empty() => {
                    self.unclosed = self.unclosed.or(Some(line));
                    return elements;
                }
                _ => elements.push(self.word()),
            }
        }
    }

    fn word(&mut self) -> Text {
        let (begin, line) = (self.at, self.line());
        while !self.rest().is_empty() {
            let letter = self.char();
            let next = self.rest()[letter.len_utf8()..].chars().next().unwrap_or(' ');
            match letter {
                // `<(…)` is a word.
                '<' | '>' if next == '(' && self.at == begin => {
                    self.at += 2;
                    self.close(')');
                }
                ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\\' => self.at += 1 + next.len_utf8().min(self.rest().len() - 1),
                '\'' | '"' | '`' => {
                    self.at += 1;
                    self.close(letter);
                }
                '$' if matches!(next, '(' | '{') => {
                    self.at += 2;
                    self.close(if next == '(' { ')' } else { '}' });
                }
                _ => self.at += letter.len_utf8(),
            }
        }
        Text { text: self.text[begin..self.at].to_owned(), line }
    }

    /// The here-document of a delimiter. It begins behind the line, or behind the line's last one.
    fn here(&mut self, delimiter: &str, drops_tabs: bool) -> Input {
        let delimiter = delimiter.replace(['\'', '"', '\\'], "");
        let next_line = |at: usize| self.text[at..].find('\n').map_or(self.text.len(), |end| at + end + 1);
        let begin = self.after_heres.unwrap_or_else(|| next_line(self.at));
        let line = self.first + self.newlines.partition_point(|newline| *newline < begin);
        let (mut end, mut text) = (begin, String::new());
        loop {
            if end == self.text.len() {
                self.unclosed = self.unclosed.or(Some(line));
                break;
            }
            let (from, to) = (end, next_line(end));
            end = to;
            let line = self.text[from..to].trim_end_matches(['\r', '\n']);
            let line = if drops_tabs { line.trim_start_matches('\t') } else { line };
            if line == delimiter {
                break;
            }
            text.push_str(line);
            text.push('\n');
        }
        self.after_heres = Some(end);
        Input::Here(Text { text, line })
    }
}

/// Commands and blocks.
impl Parser<'_> {
    /// Items up to one of the keywords, which is taken and returned.
    fn list(&mut self, ends: &[&'static str]) -> (Vec<Item>, &'static str) {
        let mut items = Vec::new();
        loop {
            let token = self.peek();
            if let Some(end) = ends.iter().find(|end| token.text() == **end) {
                self.next();
                return (items, end);
            }
            match token {
                Token::End => return (items, ""),
                Token::Operator("(") => items.extend(self.item()),
                Token::Newline | Token::Operator(_) => drop(self.next()),
                _ => items.extend(self.item()),
            }
        }
    }

    /// A block, a function or a command; `None` for a part that has no downloads.
    fn item(&mut self) -> Option<Item> {
        let (kind, separators, end): (_, &[&'static str], _) = match self.peek().text() {
            "if" => (Kind::If, &["then", "elif", "else", "fi"], "fi"),
            "case" => (Kind::Case, &[";;", "esac"], "esac"),
            "while" | "until" => (Kind::While, &["do", "done"], "done"),
            "for" | "select" => (Kind::For, &["do", "done"], "done"),
            "{" => (Kind::Group, &["}"], "}"),
            "(" => (Kind::Subshell, &[")"], ")"),
            "!" | "time" | "then" | "do" | "else" | "elif" | "fi" | "done" | "esac" | "}" => {
                self.next();
                return None;
            }
            "[[" => {
                self.next();
                let end = self.rest().find("]]");
                self.skip_to(end.map(|end| end + 2));
                return None;
            }
            "function" => {
                self.next();
                let name = self.next().text().to_owned();
                if self.take("(") {
                    self.take(")");
                }
                return self.function(name);
            }
            _ => {
                let mut command = Command::default();
                self.arguments(&mut command);
                if command.words.len() != 1 || !self.take("(") {
                    return Some(Item::Command(command));
                }
                // A function, or Docker's `RUN (…)`.
                let is_function = self.take(")");
                return match command.words.pop() {
                    Some(name) if is_function => self.function(name.text),
                    _ => self.block(Kind::Subshell, &[")"], ")"),
                };
            }
        };
        self.next();
        // `((…))`.
        if kind == Kind::Subshell && self.char() == '(' && self.depth < DEEPEST {
            self.close(')');
            return None;
        }
        self.block(kind, separators, end)
    }

    /// A block behind its first keyword.
    fn block(&mut self, kind: Kind, separators: &[&'static str], end: &str) -> Option<Item> {
        if self.depth >= DEEPEST {
            return None;
        }
        self.depth += 1;
        let mut sections = Vec::new();
        loop {
            // `case WORD in PATTERN)`, and `PATTERN)`.
            while kind == Kind::Case && !matches!(self.peek().text(), ")" | "esac") {
                if matches!(self.next(), Token::End) {
                    break;
                }
            }
            if kind == Kind::Case {
                self.take(")");
            }
            let (section, found) = self.list(separators);
            sections.push(section);
            if found == end || found.is_empty() {
                break;
            }
        }
        self.depth -= 1;
        let mut ending = Command::default();
        self.arguments(&mut ending);
        Some(Item::Block(kind, sections, ending))
    }

    /// The body of a function.
    fn function(&mut self, name: String) -> Option<Item> {
        while matches!(self.peek(), Token::Newline) {
            self.next();
        }
        let is_block = matches!(self.peek().text(), "{" | "(" | "if" | "for" | "while");
        let body = if is_block { self.item()? } else { return None };
        Some(Item::Function(name, [body].into()))
    }

    /// Words, arrays and redirections up to the end of the command.
    fn arguments(&mut self, command: &mut Command) {
        loop {
            if !matches!(self.peek(), Token::Word(_) | Token::Array(_) | Token::Redirect(_)) {
                return;
            }
            match self.next() {
                Token::Word(word) => {
                    if command.words.is_empty() {
                        command.line = word.line;
                    }
                    command.words.push(word);
                }
                Token::Array(array) => command.arrays.push(array),
                Token::Redirect(redirect) if matches!(self.peek(), Token::Word(_)) => {
                    let Token::Word(word) = self.next() else { continue };
                    match redirect {
                        "<<<" => command.input = Some(Input::Word(word)),
                        "<<" | "<<-" => command.input = Some(self.here(&word.text, redirect == "<<-")),
                        _ if redirect.contains('>') => {
                            command.output = command.output.take().or(Some(word));
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
}
