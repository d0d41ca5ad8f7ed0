//! The command lines of download programs: addresses, targets, and options that are not imported.
//!
//! Options with a value are known by name, so that the value of `-U` or `--retry` is never taken for an address.

use super::shell::Text;

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

/// A parsed command line.
#[derive(Debug, Default)]
pub(super) struct CommandLine {
    /// Options with their values, by long name or letter. A switch has none.
    options: Vec<(String, Option<Text>)>,
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
                let is_download = |pair: &[Text]| pair[0].text == "model" && pair[1].text == "download";
                (Self::Comfy, words.windows(2).position(is_download)? + 2)
            }
            _ => return None,
        })
    }

    /// Parses the words after the program's name.
    pub(super) fn parse(self, words: &[Text]) -> CommandLine {
        let letters_with_value = match self {
            Self::Wget => "aABDeiIlOoPQRtTUwX",
            Self::Curl => "AbcCdDeEFhHKmoPQrtTuUwxXyYz",
            Self::Aria2 => "dijklmoOsTUx",
            Self::Hub | Self::Comfy => "",
        };
        let mut line = CommandLine::default();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let text = word.text.as_str();
            if text == "--" {
                line.operands.extend(words.by_ref().cloned());
            } else if let Some(long) = text.strip_prefix("--") {
                // Patterns follow one another.
                let is_pattern = self == Self::Hub && matches!(long, "include" | "exclude");
                if let Some((name, value)) = long.split_once('=') {
                    line.options.push((name.to_owned(), Some(word.with(value))));
                } else if is_pattern {
                    while let Some(pattern) = words.next_if(|next| !next.text.starts_with('-')) {
                        line.options.push((long.to_owned(), Some(pattern.clone())));
                    }
                } else {
                    let has_value = WITH_VALUE.split(' ').any(|known| known == long);
                    let value = if has_value { words.next().cloned() } else { None };
                    line.options.push((long.to_owned(), value));
                }
            } else if let Some(letters) = text.strip_prefix('-').filter(|letters| !letters.is_empty()) {
                let mut letters = letters.chars();
                while let Some(letter) = letters.next() {
                    let has_value = letters_with_value.contains(letter);
                    let attached = letters.as_str().trim_start_matches('=');
                    let value = match (has_value, attached) {
                        (false, _) => None,
                        (true, "") => words.next().cloned(),
                        (true, attached) => Some(word.with(attached)),
                    };
                    line.options.push((letter.to_string(), value));
                    if has_value {
                        break;
                    }
                    // Wget's `-nc` is one switch.
                    if self == Self::Wget && letter == 'n' {
                        letters.next();
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
    pub(super) fn all(&self, names: &'static [&'static str]) -> impl Iterator<Item = &Text> {
        let is_it = move |(name, _): &&(String, Option<Text>)| names.contains(&name.as_str());
        self.options.iter().filter(is_it).filter_map(|(_, value)| value.as_ref())
    }

    /// The last value of an option.
    pub(super) fn value(&self, names: &'static [&'static str]) -> Option<&Text> {
        self.all(names).last()
    }

    /// Returns true if one of the options is there.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        self.options.iter().any(|(name, _)| names.contains(&name.as_str()))
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
        names.iter().copied().find(|name| self.has(&[*name]))
    }
}

/// Long options with a value, of all the programs: none of them has one of these names for a switch that such scripts
/// use.
const WITH_VALUE: &str = "\
    accept append-output base body-data ca-certificate cacert cache-dir cert checksum config \
    connect-timeout console-log-level continue-at cookie cookie-jar cut-dirs data data-raw dir \
    directory-prefix dns-timeout downloader dump-header execute file-allocation filename \
    form header http-passwd http-password http-user input-file key level limit-rate \
    load-cookies local-dir local-dir-use-symlinks log max-concurrent-downloads \
    max-connection-per-server max-redirect max-redirs max-time max-tries max-workers method \
    min-split-size netrc-file out output output-dir output-document output-file parallel-max \
    password post-data progress proxy quota range read-timeout referer reject relative-path \
    repo-type request resolve retry retry-delay retry-max-time retry-on-http-error retry-wait \
    revision save-cookies save-session set-civitai-api-token set-hf-api-token speed-limit speed-time \
    split summary-interval timeout token tries url user user-agent wait waitretry write-out";
