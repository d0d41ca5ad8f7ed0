//! The grammar of shell scripts, as far as downloads need it: commands, words, arrays, functions, loops and branches.
//!
//! The parser accepts any text and never fails: a part that it does not know becomes a command or an unknown word. Its depth is
//! bounded, and its time is linear in the text. It runs nothing.

use std::rc::Rc;

/// The deepest nesting of words and blocks. What lies deeper is not read.
const DEEPEST: usize = 40;

/// A word of a command, unexpanded.
#[derive(Debug, Clone, Default)]
pub(super) struct Word {
    pub(super) line: usize,
    pub(super) parts: Vec<Part>,
}

/// A part of a word.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Text(String),
    Variable {
        name: String,
        edit: Edit,
        is_quoted: bool,
    },
    /// `$(basename WORD)`.
    Basename(Word),
    /// The output of a command, or an expansion that is not read.
    Unknown,
}

/// The change that `${NAME…}` makes to a value.
#[derive(Debug, Clone)]
pub(super) enum Edit {
    None,
    /// `:-`, `-`, `:=`, `=`.
    Default(Word),
    /// `#`, `##`, `%`, `%%` and a pattern.
    Strip {
        pattern: String,
        at_end: bool,
        is_longest: bool,
    },
    /// `:NUMBER` of a list.
    From(usize),
    Unknown,
}

/// An assignment of an array's elements.
#[derive(Debug, Clone)]
pub(super) struct Array {
    pub(super) name: String,
    pub(super) is_appended: bool,
    pub(super) elements: Vec<Word>,
}

/// A simple command.
#[derive(Debug, Clone, Default)]
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) words: Vec<Word>,
    pub(super) arrays: Vec<Array>,
    /// The target of `>`.
    pub(super) output: Option<Word>,
    /// The text of `<<<`.
    pub(super) input: Option<Word>,
    /// The lines of `<<`.
    pub(super) here: Option<usize>,
}

/// An item of a script.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Command(Command),
    For {
        variable: String,
        /// `None` for the positional parameters.
        words: Option<Vec<Word>>,
        body: Vec<Item>,
    },
    /// `while` and `until`.
    Loop {
        condition: Vec<Item>,
        body: Vec<Item>,
        here: Option<usize>,
    },
    /// The branches of `if` and `case`.
    Branches(Vec<Vec<Item>>),
    Function {
        name: String,
        body: Rc<[Item]>,
    },
    Group(Vec<Item>),
    Subshell(Vec<Item>),
}

/// A here-document.
#[derive(Debug, Clone)]
pub(super) struct Here {
    /// The number of its first line.
    pub(super) line: usize,
    pub(super) text: String,
}

/// A parsed script.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) items: Vec<Item>,
    pub(super) heres: Vec<Here>,
}

/// Parses a script. In a Dockerfile, a comment does not end a continued line.
pub(super) fn parse(text: &str, is_dockerfile: bool) -> Script {
    let text: Vec<char> = text.chars().filter(|c| *c != '\r').collect();
    let mut parser = Parser {
        text: &text,
        at: 0,
        line: 1,
        depth: 0,
        is_dockerfile,
        heres: Vec::new(),
        pending: Vec::new(),
        peeked: None,
    };
    let mut items = Vec::new();
    while !parser.is_at_end() {
        items.extend(parser.list(&[]));
        // A stray `)`, `;;` or keyword.
        parser.next();
    }
    Script { items, heres: parser.heres }
}

#[derive(Debug, Clone)]
enum Token {
    Word(Word),
    Array(Array),
    /// `;`, `&&`, `||`, `|`, `&`, `(`, `)`, `;;`.
    Operator(&'static str),
    /// `>`, `<`, `<<<`; a word follows.
    Redirect(&'static str),
    Here(usize),
    Newline,
    End,
}

struct Parser<'a> {
    text: &'a [char],
    at: usize,
    line: usize,
    depth: usize,
    is_dockerfile: bool,
    heres: Vec<Here>,
    /// The here-documents that begin after this line: index, delimiter, whether leading tabs are dropped.
    pending: Vec<(usize, String, bool)>,
    peeked: Option<Token>,
}

/// The text of a word without expansions.
fn literal(word: &Word) -> Option<&str> {
    match &word.parts[..] {
        [Part::Text(text)] => Some(text),
        _ => None,
    }
}

/// Returns true for a variable's name.
pub(super) fn is_name(text: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.chars().all(is_of_name) && text.starts_with(|c: char| !c.is_ascii_digit())
}

/// Words and operators.
impl Parser<'_> {
    fn is_at_end(&self) -> bool {
        self.peeked.is_none() && self.at >= self.text.len()
    }

    fn char(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.char(ahead) == c)
    }

    fn advance(&mut self) -> char {
        let c = self.char(0);
        self.at += 1;
        if c == '\n' {
            self.line += 1;
        }
        c
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.advance();
        }
    }

    fn peek(&mut self) -> &Token {
        if self.peeked.is_none() {
            let token = self.token();
            self.peeked = Some(token);
        }
        self.peeked.get_or_insert(Token::End)
    }

    fn next(&mut self) -> Token {
        match self.peeked.take() {
            Some(token) => token,
            None => self.token(),
        }
    }

    fn skip_line(&mut self) {
        while self.at < self.text.len() && self.char(0) != '\n' {
            self.at += 1;
        }
    }

    /// Skips blanks, comments and continued lines.
    fn skip_blanks(&mut self) {
        loop {
            match self.char(0) {
                ' ' | '\t' => self.at += 1,
                '\\' if self.char(1) == '\n' => {
                    self.skip(2);
                    self.skip_comments_of_dockerfile();
                }
                '#' => self.skip_line(),
                _ => return,
            }
        }
    }

    fn skip_comments_of_dockerfile(&mut self) {
        while self.is_dockerfile {
            let (at, line) = (self.at, self.line);
            while matches!(self.char(0), ' ' | '\t') {
                self.at += 1;
            }
            if self.char(0) != '#' {
                (self.at, self.line) = (at, line);
                return;
            }
            self.skip_line();
            self.advance();
        }
    }

    fn token(&mut self) -> Token {
        self.skip_blanks();
        if self.at >= self.text.len() {
            return Token::End;
        }
        if self.char(0) == '\n' {
            self.advance();
            self.read_heres();
            return Token::Newline;
        }
        if self.starts_with("<<<") {
            self.skip(3);
            return Token::Redirect("<<<");
        }
        if self.starts_with("<<") {
            return self.here();
        }
        if matches!(self.char(0), '<' | '>') && self.char(1) == '(' {
            let line = self.line;
            self.skip(2);
            self.skip_balanced('(', ')');
            return Token::Word(Word { line, parts: vec![Part::Unknown] });
        }
        for operator in ["&>>", "&>", ">>", ">|", ">&", ">"] {
            if self.starts_with(operator) {
                self.skip(operator.len());
                return Token::Redirect(">");
            }
        }
        for operator in ["<&", "<>", "<"] {
            if self.starts_with(operator) {
                self.skip(operator.len());
                return Token::Redirect("<");
            }
        }
        for operator in [";;&", ";;", ";&", "&&", "||", "|&", "|", ";", "&", "(", ")"] {
            if self.starts_with(operator) {
                self.skip(operator.len());
                return Token::Operator(if operator.len() > 1 && operator.starts_with(';') {
                    ";;"
                } else {
                    operator
                });
            }
        }
        self.word_or_array()
    }

    fn word_or_array(&mut self) -> Token {
        let word = self.word();
        let text = literal(&word);
        if matches!(self.char(0), '<' | '>')
            && text.is_some_and(|text| text.chars().all(|c| c.is_ascii_digit()))
        {
            // `2>`: the number belongs to the redirection.
            return self.token();
        }
        let name = text.and_then(|text| text.strip_suffix('='));
        if let (Some(name), '(') = (name, self.char(0)) {
            let (name, is_appended) = match name.strip_suffix('+') {
                Some(name) => (name, true),
                None => (name, false),
            };
            if is_name(name) {
                let name = name.to_owned();
                self.advance();
                return Token::Array(Array { name, is_appended, elements: self.elements() });
            }
        }
        Token::Word(word)
    }

    /// The elements of an array, up to its `)`.
    fn elements(&mut self) -> Vec<Word> {
        let mut elements = Vec::new();
        loop {
            self.skip_blanks();
            match self.char(0) {
                '\n' => drop(self.advance()),
                ')' => {
                    self.advance();
                    return elements;
                }
                _ if self.at >= self.text.len() => return elements,
                // No word begins with it.
                ';' | '&' | '|' | '<' | '>' | '(' => drop(self.advance()),
                _ => elements.push(self.word()),
            }
        }
    }

    /// A word, which is not empty in the text.
    fn word(&mut self) -> Word {
        let mut word = Word { line: self.line, parts: Vec::new() };
        while self.at < self.text.len() {
            match self.char(0) {
                ' ' | '\t' | '\n' | ';' | '&' | '|' | '<' | '>' | '(' | ')' => break,
                '\\' if self.char(1) == '\n' => {
                    self.skip(2);
                    self.skip_comments_of_dockerfile();
                }
                '\\' => {
                    self.advance();
                    let c = self.advance();
                    push(&mut word, c);
                }
                '\'' => {
                    self.advance();
                    text_part(&mut word);
                    while self.at < self.text.len() && self.char(0) != '\'' {
                        let c = self.advance();
                        push(&mut word, c);
                    }
                    self.advance();
                }
                '"' => {
                    self.advance();
                    self.double_quoted(&mut word);
                }
                '`' => self.backticks(&mut word),
                '$' => self.expansion(&mut word, false),
                _ => {
                    let c = self.advance();
                    push(&mut word, c);
                }
            }
        }
        word
    }

    /// The rest of a text in double quotes.
    fn double_quoted(&mut self, word: &mut Word) {
        text_part(word);
        while self.at < self.text.len() {
            match self.char(0) {
                '"' => {
                    self.advance();
                    return;
                }
                '\\' if self.char(1) == '\n' => self.skip(2),
                '\\' if matches!(self.char(1), '"' | '\\' | '$' | '`') => {
                    self.advance();
                    let c = self.advance();
                    push(word, c);
                }
                '`' => self.backticks(word),
                '$' => self.expansion(word, true),
                _ => {
                    let c = self.advance();
                    push(word, c);
                }
            }
        }
    }

    fn backticks(&mut self, word: &mut Word) {
        self.advance();
        while self.at < self.text.len() && self.advance() != '`' {}
        word.parts.push(Part::Unknown);
    }

    /// An expansion, from its `$` on.
    fn expansion(&mut self, word: &mut Word, is_quoted: bool) {
        self.advance();
        match self.char(0) {
            '(' => {
                self.advance();
                let part = self.substitution();
                word.parts.push(part);
            }
            '{' => {
                self.advance();
                let part = self.braced(is_quoted);
                word.parts.push(part);
            }
            // `$'…'` and `$"…"`.
            '\'' | '"' if !is_quoted => {}
            c if c.is_ascii_alphabetic() || c == '_' => {
                let mut name = String::new();
                while self.char(0).is_ascii_alphanumeric() || self.char(0) == '_' {
                    name.push(self.advance());
                }
                word.parts.push(Part::Variable { name, edit: Edit::None, is_quoted });
            }
            c if c.is_ascii_digit() || matches!(c, '@' | '*') => {
                self.advance();
                word.parts.push(Part::Variable { name: c.to_string(), edit: Edit::None, is_quoted });
            }
            '#' | '?' | '$' | '!' | '-' => {
                self.advance();
                word.parts.push(Part::Unknown);
            }
            _ => push(word, '$'),
        }
    }

    /// The rest of `$(…)`.
    fn substitution(&mut self) -> Part {
        let begin = self.at;
        if self.starts_with("basename") && self.depth < DEEPEST {
            self.depth += 1;
            self.skip("basename".len());
            self.skip_blanks();
            if self.starts_with("-- ") {
                self.skip(3);
            }
            let word = self.word();
            self.skip_blanks();
            self.depth -= 1;
            if self.char(0) == ')' && !word.parts.is_empty() {
                self.advance();
                return Part::Basename(word);
            }
        }
        // Lines are counted again from the begin on.
        self.line -= self.text[begin..self.at.min(self.text.len())].iter().filter(|c| **c == '\n').count();
        self.at = begin;
        self.skip_balanced('(', ')');
        Part::Unknown
    }

    /// Skips to the end of brackets whose first one was read.
    fn skip_balanced(&mut self, open: char, close: char) {
        let mut depth = 1;
        while self.at < self.text.len() {
            match self.advance() {
                '\\' => drop(self.advance()),
                '\'' => while self.at < self.text.len() && self.advance() != '\'' {},
                '"' => {
                    while self.at < self.text.len() {
                        match self.advance() {
                            '"' => break,
                            '\\' => drop(self.advance()),
                            _ => {}
                        }
                    }
                }
                c if c == open => depth += 1,
                c if c == close => {
                    depth -= 1;
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// The rest of `${…}`.
    fn braced(&mut self, is_quoted: bool) -> Part {
        let begin = self.at;
        let mut name = String::new();
        while self.char(0).is_ascii_alphanumeric() || matches!(self.char(0), '_' | '@' | '*') {
            name.push(self.advance());
        }
        if self.starts_with("[@]") || self.starts_with("[*]") {
            self.skip(3);
            name.push_str("[@]");
        }
        let edit = match self.char(0) {
            '}' if self.at > begin => {
                self.advance();
                return Part::Variable { name, edit: Edit::None, is_quoted };
            }
            ':' if matches!(self.char(1), '-' | '=') => self.default_of(2),
            ':' if self.char(1).is_ascii_digit() && self.char(2) == '}' => {
                let from = self.char(1).to_digit(10).unwrap_or_default() as usize;
                self.skip(3);
                Edit::From(from)
            }
            '-' | '=' => self.default_of(1),
            c @ ('#' | '%') if self.at > begin => {
                let is_longest = self.char(1) == c;
                self.skip(if is_longest { 2 } else { 1 });
                self.strip(c == '%', is_longest)
            }
            _ => {
                self.skip_balanced('{', '}');
                return Part::Unknown;
            }
        };
        Part::Variable { name, edit, is_quoted }
    }

    /// The default of an expansion, and its `}`.
    fn default_of(&mut self, skipped: usize) -> Edit {
        self.skip(skipped);
        if self.depth >= DEEPEST {
            self.skip_balanced('{', '}');
            return Edit::Unknown;
        }
        self.depth += 1;
        let mut word = Word { line: self.line, parts: vec![Part::Text(String::new())] };
        while self.at < self.text.len() && self.char(0) != '}' {
            match self.char(0) {
                '"' | '\'' => drop(self.advance()),
                '`' => self.backticks(&mut word),
                '$' => self.expansion(&mut word, true),
                _ => {
                    let c = self.advance();
                    push(&mut word, c);
                }
            }
        }
        self.advance();
        self.depth -= 1;
        Edit::Default(word)
    }

    /// The pattern of an expansion, and its `}`.
    fn strip(&mut self, at_end: bool, is_longest: bool) -> Edit {
        let mut pattern = String::new();
        let mut is_known = true;
        while self.at < self.text.len() && self.char(0) != '}' {
            match self.advance() {
                '\\' => pattern.push(self.advance()),
                '"' | '\'' => {}
                '$' | '`' | '?' | '[' => is_known = false,
                c => pattern.push(c),
            }
        }
        self.advance();
        if is_known { Edit::Strip { pattern, at_end, is_longest } } else { Edit::Unknown }
    }

    /// `<<` and its delimiter.
    fn here(&mut self) -> Token {
        self.skip(2);
        let drops_tabs = self.char(0) == '-';
        if drops_tabs {
            self.advance();
        }
        self.skip_blanks();
        let word = self.word();
        let Some(delimiter) = literal(&word).filter(|text| !text.is_empty()) else {
            return Token::Redirect("<");
        };
        let index = self.heres.len();
        self.heres.push(Here { line: self.line, text: String::new() });
        self.pending.push((index, delimiter.to_owned(), drops_tabs));
        Token::Here(index)
    }

    /// Reads the here-documents that begin at this line.
    fn read_heres(&mut self) {
        for (index, delimiter, drops_tabs) in std::mem::take(&mut self.pending) {
            self.heres[index].line = self.line;
            let mut text = String::new();
            while self.at < self.text.len() {
                let begin = self.at;
                self.skip_line();
                let line: String = self.text[begin..self.at].iter().collect();
                self.advance();
                let line = if drops_tabs { line.trim_start_matches('\t') } else { &line };
                if line == delimiter {
                    break;
                }
                text.push_str(line);
                text.push('\n');
            }
            self.heres[index].text = text;
        }
    }
}

fn push(word: &mut Word, c: char) {
    text_part(word).push(c);
}

/// The text at the word's end, which is created if it is missing.
fn text_part(word: &mut Word) -> &mut String {
    if !matches!(word.parts.last(), Some(Part::Text(_))) {
        word.parts.push(Part::Text(String::new()));
    }
    match word.parts.last_mut() {
        Some(Part::Text(text)) => text,
        _ => unreachable!("the last part is a text"),
    }
}

/// Commands and blocks.
impl Parser<'_> {
    /// The keyword at a command's begin.
    fn keyword(&mut self) -> Option<String> {
        match self.peek() {
            Token::Word(word) => literal(word).map(str::to_owned),
            _ => None,
        }
    }

    /// Items up to one of the keywords, `)` or `;;`, which stays.
    fn list(&mut self, end: &[&str]) -> Vec<Item> {
        let mut items = Vec::new();
        if self.depth >= DEEPEST {
            return items;
        }
        self.depth += 1;
        loop {
            match self.peek() {
                Token::End | Token::Operator(")" | ";;") => break,
                Token::Newline | Token::Operator(";" | "&" | "&&" | "||" | "|" | "|&") => drop(self.next()),
                Token::Operator(_) => {
                    self.next();
                    // `((…))`.
                    if self.peeked.is_none() && self.char(0) == '(' {
                        self.skip_balanced('(', ')');
                        continue;
                    }
                    let body = self.list(&[]);
                    self.close(")");
                    items.push(Item::Subshell(body));
                }
                _ => {
                    let keyword = self.keyword().unwrap_or_default();
                    if end.contains(&&*keyword) {
                        break;
                    }
                    self.item(&keyword, &mut items);
                }
            }
        }
        self.depth -= 1;
        items
    }

    /// Reads the closing operator or keyword, if it is there.
    fn close(&mut self, closing: &str) {
        let is_it = match self.peek() {
            Token::Operator(operator) => *operator == closing,
            Token::Word(word) => literal(word) == Some(closing),
            _ => false,
        };
        if is_it {
            self.next();
        }
    }

    fn item(&mut self, keyword: &str, items: &mut Vec<Item>) {
        match keyword {
            "if" => {
                self.next();
                items.extend(self.list(&["then", "fi"]));
                self.branches_of_if(items);
            }
            "case" => self.case(items),
            "while" | "until" => {
                self.next();
                let condition = self.list(&["do", "done"]);
                self.close("do");
                let body = self.list(&["done"]);
                self.close("done");
                let mut ending = Command::default();
                self.arguments(&mut ending);
                items.push(Item::Loop { condition, body, here: ending.here });
            }
            "for" | "select" => self.for_loop(items),
            "{" => {
                self.next();
                let body = self.list(&["}"]);
                self.close("}");
                items.push(Item::Group(body));
            }
            "!" | "time" | "then" | "do" | "else" | "elif" | "fi" | "done" | "esac" | "}" => {
                drop(self.next());
            }
            "[[" => {
                self.next();
                while self.at < self.text.len() && !self.starts_with("]]") {
                    match self.advance() {
                        '\\' => drop(self.advance()),
                        '"' => while self.at < self.text.len() && self.advance() != '"' {},
                        _ => {}
                    }
                }
                self.skip(2);
            }
            "function" => {
                self.next();
                let name = self.keyword().unwrap_or_default();
                self.next();
                self.close("(");
                self.close(")");
                self.function(name, items);
            }
            _ => self.command(items),
        }
    }

    fn branches_of_if(&mut self, items: &mut Vec<Item>) {
        let mut branches = Vec::new();
        loop {
            match self.keyword().as_deref() {
                Some("then" | "else") => {
                    self.next();
                    branches.push(self.list(&["elif", "else", "fi"]));
                }
                Some("elif") => {
                    self.next();
                    let condition = self.list(&["then", "fi"]);
                    branches.push(condition);
                }
                _ => break,
            }
        }
        self.close("fi");
        items.push(Item::Branches(branches));
    }

    fn case(&mut self, items: &mut Vec<Item>) {
        self.next();
        while !matches!(self.keyword().as_deref(), Some("in")) {
            if matches!(self.next(), Token::End | Token::Newline) {
                return;
            }
        }
        self.next();
        let mut branches = Vec::new();
        while self.keyword().as_deref() != Some("esac") {
            match self.peek() {
                Token::End => break,
                Token::Newline => drop(self.next()),
                _ => {
                    // The pattern.
                    while !matches!(self.next(), Token::Operator(")") | Token::End) {}
                    branches.push(self.list(&["esac"]));
                    self.close(";;");
                }
            }
        }
        self.close("esac");
        items.push(Item::Branches(branches));
    }

    fn for_loop(&mut self, items: &mut Vec<Item>) {
        self.next();
        let variable = self.keyword().unwrap_or_default();
        // `for ((…))` has no variable.
        if !variable.is_empty() {
            self.next();
        } else if matches!(self.peek(), Token::Operator("(")) {
            self.next();
            self.skip_balanced('(', ')');
        }
        let mut words = None;
        if self.keyword().as_deref() == Some("in") {
            self.next();
            let all = words.insert(Vec::new());
            while let Token::Word(_) = self.peek() {
                if let Token::Word(word) = self.next() {
                    all.push(word);
                }
            }
        }
        while matches!(self.peek(), Token::Newline | Token::Operator(";")) {
            self.next();
        }
        self.close("do");
        let body = self.list(&["done"]);
        self.close("done");
        let mut ending = Command::default();
        self.arguments(&mut ending);
        items.push(Item::For { variable, words, body });
    }

    /// The body of a function.
    fn function(&mut self, name: String, items: &mut Vec<Item>) {
        while matches!(self.peek(), Token::Newline) {
            self.next();
        }
        let body = if self.keyword().as_deref() == Some("{") {
            self.next();
            let body = self.list(&["}"]);
            self.close("}");
            body
        } else if matches!(self.peek(), Token::Operator("(")) {
            self.next();
            let body = self.list(&[]);
            self.close(")");
            body
        } else {
            return;
        };
        items.push(Item::Function { name, body: body.into() });
    }

    fn command(&mut self, items: &mut Vec<Item>) {
        let mut command = Command::default();
        self.arguments(&mut command);
        if let ([word], true) = (&command.words[..], matches!(self.peek(), Token::Operator("("))) {
            let name = literal(word).unwrap_or_default().to_owned();
            self.next();
            self.close(")");
            return self.function(name, items);
        }
        items.push(Item::Command(command));
    }

    /// Words, arrays and redirections up to the end of the command.
    fn arguments(&mut self, command: &mut Command) {
        loop {
            match self.peek() {
                Token::Word(_) | Token::Array(_) | Token::Redirect(_) | Token::Here(_) => {}
                _ => return,
            }
            if command.line == 0 {
                command.line = self.line;
            }
            match self.next() {
                Token::Word(word) => {
                    if command.words.is_empty() {
                        command.line = word.line;
                    }
                    command.words.push(word);
                }
                Token::Array(array) => command.arrays.push(array),
                Token::Here(index) => command.here = Some(index),
                Token::Redirect(kind) => {
                    if let Token::Word(_) = self.peek()
                        && let Token::Word(target) = self.next()
                    {
                        match kind {
                            ">" => command.output = command.output.take().or(Some(target)),
                            "<<<" => command.input = Some(target),
                            _ => {}
                        }
                    }
                }
                Token::Operator(_) | Token::Newline | Token::End => {}
            }
        }
    }
}
