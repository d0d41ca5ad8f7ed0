//! The command lines of download programs: addresses, targets, and options that are not imported.
//!
//! Each program's options are known by name, so that the value of `-U` or `--retry` is never taken for an address.

use super::evaluate::Text;

/// A download program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Wget,
    Curl,
    Aria2,
    /// `hf download` and `huggingface-cli download`.
    Hub,
    /// `comfy model download`.
    Comfy,
}

/// The options of a program that take a value.
struct Options {
    /// Their letters.
    short: &'static str,
    /// Their long names.
    long: &'static [&'static str],
    /// A letter that begins a switch of two letters (`-nc`).
    pairs: Option<char>,
}

/// A parsed command line.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    /// Options with their values, by long name or letter.
    options: Vec<(String, Text)>,
    /// Switches, by long name or letter.
    switches: Vec<String>,
    /// Everything else.
    pub(super) operands: Vec<Text>,
}

impl Tool {
    /// The program that these words call, and the number of words that name it.
    pub(super) fn of(words: &[Text]) -> Option<(Self, usize)> {
        let word = |at: usize| words.get(at).map_or("", |word| word.text.as_str());
        Some(match word(0).rsplit('/').next().unwrap_or_default() {
            "wget" | "wget2" => (Self::Wget, 1),
            "curl" => (Self::Curl, 1),
            "aria2c" => (Self::Aria2, 1),
            "hf" | "huggingface-cli" if word(1) == "download" => (Self::Hub, 2),
            "comfy" => {
                let at =
                    words.windows(2).position(|pair| pair[0].text == "model" && pair[1].text == "download");
                (Self::Comfy, at? + 2)
            }
            _ => return None,
        })
    }

    fn options(self) -> Options {
        match self {
            Self::Wget => Options { short: "aABDeiIlOoPQRtTUwX", long: WGET, pairs: Some('n') },
            Self::Curl => Options { short: "AbcCdDeEFhHKmoPQrtTuUwxXyYz", long: CURL, pairs: None },
            Self::Aria2 => Options { short: "dijklmoOsTUx", long: ARIA2, pairs: None },
            Self::Hub => Options { short: "", long: HUB, pairs: None },
            Self::Comfy => Options { short: "", long: COMFY, pairs: None },
        }
    }

    /// Parses the words after the program's name.
    pub(super) fn parse(self, words: &[Text]) -> CommandLine {
        let known = self.options();
        let mut line = CommandLine::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word.text == "--" {
                line.operands.extend(words.by_ref().cloned());
            } else if let Some(long) = word.text.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(word.with(value))),
                    None => (long, None),
                };
                // Patterns follow one another.
                let is_pattern = self == Self::Hub && matches!(name, "include" | "exclude");
                if is_pattern && value.is_none() {
                    while let Some(pattern) = words.clone().next().filter(|next| !next.text.starts_with('-'))
                    {
                        line.options.push((name.to_owned(), pattern.clone()));
                        words.next();
                    }
                } else if known.long.contains(&name) {
                    let value = value.or_else(|| words.next().cloned());
                    line.options.extend(value.map(|value| (name.to_owned(), value)));
                } else {
                    line.switches.push(name.to_owned());
                }
            } else if word.text.len() > 1 && word.text.starts_with('-') {
                let mut letters = word.text[1..].char_indices();
                while let Some((at, letter)) = letters.next() {
                    if Some(letter) == known.pairs {
                        letters.next();
                    } else if known.short.contains(letter) {
                        let rest = &word.text[1 + at + letter.len_utf8()..];
                        let rest = rest.strip_prefix('=').unwrap_or(rest);
                        let value =
                            if rest.is_empty() { words.next().cloned() } else { Some(word.with(rest)) };
                        line.options.extend(value.map(|value| (letter.to_string(), value)));
                        break;
                    } else {
                        line.switches.push(letter.to_string());
                    }
                }
            } else {
                line.operands.push(word.clone());
            }
        }
        line
    }
}

impl CommandLine {
    /// The values of an option, by any of its names.
    pub(super) fn all<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a Text> {
        let is_it = move |(name, _): &&(String, Text)| names.contains(&name.as_str());
        self.options.iter().filter(is_it).map(|(_, value)| value)
    }

    /// The last value of an option.
    pub(super) fn value(&self, names: &[&str]) -> Option<Text> {
        self.all(names).last().cloned()
    }

    /// Returns true if one of the switches is there.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.switches.iter().any(|switch| names.contains(&switch.as_str()))
    }

    /// The name of an option that has a login or changes the request.
    pub(super) fn login(&self, tool: Tool) -> Option<&'static str> {
        let names: &[&'static str] = match tool {
            Tool::Wget => &["header", "user", "password", "http-user", "http-password", "load-cookies"],
            Tool::Curl => &["header", "H", "user", "u", "cookie", "b", "oauth2-bearer"],
            Tool::Aria2 => &["header", "http-user", "http-passwd", "load-cookies"],
            Tool::Hub => &["token"],
            Tool::Comfy => &["set-civitai-api-token", "set-hf-api-token"],
        };
        names.iter().copied().find(|name| self.options.iter().any(|(given, _)| given == name))
    }
}

const WGET: &[&str] = &[
    "accept",
    "append-output",
    "base",
    "body-data",
    "ca-certificate",
    "connect-timeout",
    "cut-dirs",
    "directory-prefix",
    "dns-timeout",
    "execute",
    "header",
    "http-password",
    "http-user",
    "input-file",
    "level",
    "limit-rate",
    "load-cookies",
    "max-redirect",
    "method",
    "output-document",
    "output-file",
    "password",
    "post-data",
    "progress",
    "quota",
    "read-timeout",
    "referer",
    "reject",
    "retry-on-http-error",
    "save-cookies",
    "timeout",
    "tries",
    "user",
    "user-agent",
    "wait",
    "waitretry",
];

const CURL: &[&str] = &[
    "cacert",
    "cert",
    "config",
    "connect-timeout",
    "continue-at",
    "cookie",
    "cookie-jar",
    "data",
    "data-raw",
    "dump-header",
    "form",
    "header",
    "key",
    "limit-rate",
    "max-redirs",
    "max-time",
    "netrc-file",
    "oauth2-bearer",
    "output",
    "output-dir",
    "parallel-max",
    "proxy",
    "range",
    "referer",
    "request",
    "resolve",
    "retry",
    "retry-delay",
    "retry-max-time",
    "speed-limit",
    "speed-time",
    "url",
    "user",
    "user-agent",
    "write-out",
];

const ARIA2: &[&str] = &[
    "checksum",
    "connect-timeout",
    "console-log-level",
    "dir",
    "file-allocation",
    "header",
    "http-passwd",
    "http-user",
    "input-file",
    "load-cookies",
    "log",
    "max-concurrent-downloads",
    "max-connection-per-server",
    "max-tries",
    "min-split-size",
    "out",
    "referer",
    "retry-wait",
    "save-session",
    "split",
    "summary-interval",
    "timeout",
    "user-agent",
];

const HUB: &[&str] = &[
    "cache-dir",
    "exclude",
    "include",
    "local-dir",
    "local-dir-use-symlinks",
    "max-workers",
    "repo-type",
    "revision",
    "token",
];

const COMFY: &[&str] =
    &["downloader", "filename", "relative-path", "set-civitai-api-token", "set-hf-api-token", "url"];
