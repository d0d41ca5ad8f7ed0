//! A profile of AWS's shared files: `~/.aws/credentials` and `~/.aws/config`.
//!
//! The same setting in both files is the credentials file's. Indented lines are nested settings of services, which are
//! not read.

use std::collections::HashMap;

/// A profile's settings, each with the file that it is from.
#[derive(Clone, Default)]
pub(super) struct Profile {
    settings: HashMap<String, (String, String)>,
    pub(super) is_defined: bool,
}

impl Profile {
    /// Adds the settings of the profile `name` in the text of a file; those that are there already stay. `is_config` is
    /// true for the config file, where a section is `[profile NAME]`.
    pub(super) fn add(&mut self, text: &str, name: &str, file: &str, is_config: bool) {
        let mut is_own = false;
        for line in text.lines() {
            if line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            if let Some(section) = line.strip_prefix('[') {
                let section = section.split(']').next().unwrap_or_default().trim();
                let named = section.strip_prefix("profile").filter(|rest| rest.starts_with([' ', '\t']));
                is_own = match named {
                    Some(named) if is_config => named.trim() == name,
                    _ => section == name && (!is_config || name == "default"),
                };
                self.is_defined |= is_own;
                continue;
            }
            let Some((key, value)) = line.split_once('=').filter(|_| is_own) else { continue };
            let value =
                value.split_once(" #").or_else(|| value.split_once(" ;")).map_or(value, |(value, _)| value);
            if !value.trim().is_empty() {
                let entry = self.settings.entry(key.trim().to_ascii_lowercase());
                entry.or_insert_with(|| (value.trim().to_owned(), file.to_owned()));
            }
        }
    }

    /// A setting.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(|(value, _)| value.as_str())
    }

    /// The file that a setting is from, in words.
    pub(super) fn file_of(&self, key: &str) -> &str {
        self.settings.get(key).map_or("", |(_, file)| file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AKIDEFAULT\naws_secret_access_key=s/e=c\n\
                               [ other ]\nAWS_ACCESS_KEY_ID = AKIOTHER ; note\n[profile third]\nregion = wrong\n";
    const CONFIG: &str = "[default]\nregion = eu-west-1 # near\naws_access_key_id = AKICONFIG\ns3 =\n  endpoint_url = \
                          nested\n[profile other]\r\nregion=us-west-2\r\n[other]\nregion = wrong\n[profile third]\n";

    #[test]
    fn both_files_make_one_profile() {
        let of = |name: &str| {
            let mut profile = Profile::default();
            profile.add(CREDENTIALS, name, "the credentials", false);
            profile.add(CONFIG, name, "the config", true);
            profile
        };
        let default = of("default");
        assert_eq!(default.get("aws_access_key_id"), Some("AKIDEFAULT"));
        assert_eq!(default.get("aws_secret_access_key"), Some("s/e=c"));
        assert_eq!(default.get("region"), Some("eu-west-1"));
        assert_eq!(
            (default.file_of("aws_access_key_id"), default.file_of("region")),
            ("the credentials", "the config")
        );
        assert_eq!(default.get("endpoint_url"), None);
        let other = of("other");
        assert_eq!(
            (other.get("aws_access_key_id"), other.get("region")),
            (Some("AKIOTHER"), Some("us-west-2"))
        );
        let third = of("third");
        assert!(third.is_defined && third.get("region").is_none());
        assert!(!of("fourth").is_defined);
    }
}
