//! [`ModelPath`]: a relative path that means the same file everywhere, and never one outside the destination.
//!
//! Components are separated by `/`. Parsing refuses, before any I/O: traversal, absolute and home paths, drive letters
//! and other characters with a meaning on some file system, control characters, names that Windows reserves, names too
//! long for a directory entry, and the names of the program's own working files. A lock that works on one machine then
//! works on all.

use std::fmt;
use std::str::FromStr;

use crate::terminal_text;
use unicode_normalization::UnicodeNormalization as _;

/// The longest directory entry that common file systems take (`NAME_MAX` on Linux), in bytes.
pub const NAME_MAX: usize = 255;
/// The longest path that Linux takes (`PATH_MAX`, less room for the destination in front), in bytes.
const PATH_MAX: usize = 3072;
/// The directory of the destination that keeps the piece lists of installed files.
pub const KEPT_LISTS: &str = ".provision.pieces";

/// A portable path below the destination, such as `vae/qwen_image_vae.safetensors`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelPath(Box<str>);

/// A text that is no [`ModelPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelPathError {
    /// No characters.
    #[error("the path is empty")]
    Empty,
    /// Begins with `/`.
    #[error("the path is absolute; paths in a lock are below the destination")]
    Absolute,
    /// Begins with `~`.
    #[error("`~` is not a home directory here; paths in a lock are below the destination")]
    Home,
    /// An empty, `.` or `..` component.
    #[error("the component {component:?} would leave or repeat a directory")]
    Traversal {
        /// The component.
        component: String,
    },
    /// A character that is not the same on every file system.
    #[error("the character {found:?} is not allowed in a model's path")]
    Character {
        /// The character.
        found: char,
    },
    /// More bytes than a directory entry holds.
    #[error("the component {component:?}… has {bytes} bytes, a file name has {NAME_MAX} at most")]
    ComponentTooLong {
        /// Its beginning.
        component: String,
        /// Its length.
        bytes: usize,
    },
    /// More bytes than a path holds.
    #[error("the path has {bytes} bytes, {PATH_MAX} at most are portable")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A device name on Windows, with or without an ending.
    #[error("{component:?} is a reserved device name on Windows")]
    ReservedName {
        /// The component.
        component: String,
    },
    /// Windows drops trailing dots and spaces, so two names would be one.
    #[error("{component:?} ends with a dot or a space, or begins with a space")]
    Trimmed {
        /// The component.
        component: String,
    },
    /// A name of the program's own working files.
    #[error("{component:?} is a name that part files, journals and locks use")]
    WorkingFile {
        /// The component.
        component: String,
    },
}

/// The directories above a path of components joined by `/`, the outermost first: `a` and `a/b` for `a/b/c`.
pub fn directories_above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

impl ModelPath {
    /// The path as written, `/` between components.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components, at least one.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The last component.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The components above the file, `""` for a file right below the destination.
    pub fn parent(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(parent, _)| parent)
    }

    /// The file name without its last ending.
    pub fn stem(&self) -> &str {
        let name = self.file_name();
        match name.rsplit_once('.') {
            Some((stem, _)) if !stem.is_empty() => stem,
            _ => name,
        }
    }

    /// The file name's last ending, without the dot and in lower case.
    pub fn extension(&self) -> Option<String> {
        self.file_name().rsplit_once('.').map(|(_, ending)| ending.to_lowercase())
    }

    /// Equal for two paths that some file system takes for one: they differ only in case, in Unicode form or in
    /// characters without a shape.
    pub fn collision_key(&self) -> String {
        folded(&self.0)
    }
}

impl FromStr for ModelPath {
    type Err = ModelPathError;

    fn from_str(text: &str) -> Result<Self, ModelPathError> {
        if text.is_empty() {
            return Err(ModelPathError::Empty);
        }
        if text.starts_with('/') {
            return Err(ModelPathError::Absolute);
        }
        if text.starts_with('~') {
            return Err(ModelPathError::Home);
        }
        if let Some(found) = text.chars().find(|c| !is_portable(*c)) {
            return Err(ModelPathError::Character { found });
        }
        if text.len() > PATH_MAX {
            return Err(ModelPathError::TooLong { bytes: text.len() });
        }
        text.split('/').try_for_each(check_component)?;
        Ok(Self(text.into()))
    }
}

/// The text as a file system that ignores case compares it: canonical caseless matching, without the characters that
/// some of them skip. Such are ext4 and f2fs with `casefold`, APFS, HFS+, NTFS and exFAT.
fn folded(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Full case folding, from the mappings of the standard library: `ẞ` becomes `ß`, that `SS`, and that `ss`. It also
    // folds `ı` to `i`, as a few systems do.
    let fold = |c: char| c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    text.nfd().filter(|c| !is_ignorable(*c)).flat_map(fold).nfd().collect()
}

/// True for the code points that Unicode calls `Default_Ignorable_Code_Point` (`DerivedCoreProperties.txt`): ext4 and
/// HFS+ skip all or some of them.
fn is_ignorable(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
    )
}

fn is_portable(c: char) -> bool {
    // Bidirectional controls would make a name read as another.
    !terminal_text::is_unsafe(c) && !matches!(c, '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

fn check_component(component: &str) -> Result<(), ModelPathError> {
    let owned = || component.to_owned();
    if matches!(component, "" | "." | "..") {
        return Err(ModelPathError::Traversal { component: owned() });
    }
    if component.len() > NAME_MAX {
        let bytes = component.len();
        return Err(ModelPathError::ComponentTooLong {
            component: component.chars().take(24).collect(),
            bytes,
        });
    }
    if component.starts_with(' ') || component.ends_with(['.', ' ']) {
        return Err(ModelPathError::Trimmed { component: owned() });
    }
    let stem = component.split('.').next().unwrap_or(component).trim_end().to_ascii_uppercase();
    let numbered =
        |prefix| stem.strip_prefix(prefix).is_some_and(|n: &str| matches!(n.as_bytes(), [b'1'..=b'9']));
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT") {
        return Err(ModelPathError::ReservedName { component: owned() });
    }
    let lower = folded(component);
    if matches!(lower.as_str(), "" | "." | "..") {
        return Err(ModelPathError::Traversal { component: owned() });
    }
    let is_part_of_run = [".part", ".journal", ".lock", ".tmp"].iter().any(|end| lower.ends_with(end));
    if lower.starts_with('.') && is_part_of_run || lower == KEPT_LISTS {
        return Err(ModelPathError::WorkingFile { component: owned() });
    }
    Ok(())
}

impl fmt::Display for ModelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ModelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl serde::Serialize for ModelPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for ModelPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelPath, ModelPathError> {
        text.parse()
    }

    #[test]
    fn the_qwen_paths_are_paths() {
        let path = parse("text_encoders/qwen_2.5_vl_7b_fp8_scaled.safetensors").unwrap();
        assert_eq!(path.file_name(), "qwen_2.5_vl_7b_fp8_scaled.safetensors");
        assert_eq!(path.stem(), "qwen_2.5_vl_7b_fp8_scaled");
        assert_eq!(path.parent(), "text_encoders");
        assert_eq!(path.extension().as_deref(), Some("safetensors"));
        assert!(parse("ünïcode/模型.safetensors").is_ok());
    }

    #[test]
    fn fault_56_paths_that_could_leave_the_destination_are_refused() {
        let outside = [
            "",
            "/etc/passwd",
            "../x",
            "a/../x",
            "a/..",
            "./x",
            "a//b",
            "a/",
            "~/x",
            "~root/x",
            "C:\\x",
            "c:x",
        ];
        let characters = ["a\\b", "a\0b", "a\nb", "x*", "x?", "a\u{7f}b", "a\u{202e}b", "a\u{61c}b"];
        for text in outside.into_iter().chain(characters) {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
        assert!(matches!(parse(&"a".repeat(256)), Err(ModelPathError::ComponentTooLong { bytes: 256, .. })));
        assert!(parse(&"a".repeat(255)).is_ok());
        assert!(matches!(parse(&"a/".repeat(2000)), Err(ModelPathError::TooLong { .. })));
    }

    #[test]
    fn fault_57_reserved_names_fail_and_look_alikes_share_a_key() {
        for text in ["CON", "nul.safetensors", "a/com1", "lpt9.x/y", "x.", "x ", " x"] {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
        for text in ["console", "com0", "com10", "null.safetensors"] {
            assert!(parse(text).is_ok(), "{text:?} was refused");
        }
        let key = |text| parse(text).unwrap().collision_key();
        assert_eq!(key("VAE/é.bin"), key("vae/e\u{301}.BIN"));
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn fault_117_full_case_folding_and_ignored_characters_share_a_key() {
        let key = |text| parse(text).unwrap().collision_key();
        for (one, other) in [
            ("straße", "STRASSE"),
            ("STRAẞE", "strasse"),
            ("İ", "i\u{307}"),
            ("ΌΣΟΣ", "όσος"),
            ("ﬁx", "FIX"),
            ("\u{212a}", "k"),
            ("ſ", "S"),
            ("\u{1f88}", "ἀι"),
            ("a\u{200d}b", "ab"),
            ("a\u{ad}B", "Ab"),
            ("❤\u{fe0f}", "❤"),
            ("\u{2126}", "ω"),
            ("e\u{34f}\u{301}", "É"),
        ] {
            assert_eq!(key(one), key(other), "{one} {other}");
            assert_ne!(key(one), key("another"), "{one}");
        }
        for text in
            [".provision.loc\u{212a}", ".x.par\u{200d}t", ".\u{200b}x.journal", "\u{200d}", "a/.\u{ad}/x"]
        {
            assert!(parse(text).is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn the_stores_own_names_are_refused() {
        assert!(parse("vae/.x.safetensors.0123abcd.part").is_err());
        assert!(parse(".provision.lock").is_err());
        assert!(parse(".Provision.pieces/x").is_err());
        assert!(parse("vae/x.part").is_ok());
    }
}
