//! The Hub's token for `docker build --secret`, in the places and the order in which `provision` looks for it.

use camino::Utf8PathBuf;

/// The token's place. The token itself is never read: docker reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The variable `HF_TOKEN` of this process.
    Variable,
    /// An absolute path.
    File(Utf8PathBuf),
}

/// Looks in `HF_TOKEN`, then in the file `HF_TOKEN_PATH`, else in the Hub client's own file. A missing file counts as
/// no token.
pub(crate) fn find(variable: impl Fn(&str) -> Option<String>) -> Option<Token> {
    let variable = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let path = |name: &str| variable(name).map(Utf8PathBuf::from);
    if variable("HF_TOKEN").is_some() {
        return Some(Token::Variable);
    }
    let cache = || path("XDG_CACHE_HOME").or_else(|| Some(path("HOME")?.join(".cache")));
    let home = || path("HF_HOME").or_else(|| Some(cache()?.join("huggingface")));
    let file = path("HF_TOKEN_PATH").or_else(|| Some(home()?.join("token")))?;
    file.is_file().then(|| file.canonicalize_utf8().ok().map(Token::File))?
}

impl Token {
    /// The value of `--secret`.
    pub(crate) fn secret(&self) -> String {
        match self {
            Self::Variable => "id=hf_token,env=HF_TOKEN".to_owned(),
            Self::File(path) => format!("id=hf_token,src={path}"),
        }
    }

    /// The place, for messages.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Variable => "HF_TOKEN".to_owned(),
            Self::File(path) => path.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_with_a_token_wins() {
        let folder = tempfile::tempdir().unwrap();
        let home = Utf8PathBuf::from_path_buf(folder.path().canonicalize().unwrap()).unwrap();
        let hub = home.join(".cache/huggingface");
        std::fs::create_dir_all(&hub).unwrap();
        let with = |variables: &[(&str, &str)]| {
            let mut variables: Vec<_> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            variables.push(("HOME".to_owned(), home.to_string()));
            find(move |name| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
        };
        assert_eq!(with(&[]), None);
        std::fs::write(hub.join("token"), "t").unwrap();
        std::fs::write(home.join("other"), "t").unwrap();
        let other = home.join("other");
        assert_eq!(with(&[]), Some(Token::File(hub.join("token"))));
        assert_eq!(with(&[("HF_TOKEN_PATH", other.as_str())]), Some(Token::File(other.clone())));
        assert_eq!(with(&[("HF_TOKEN_PATH", "/no/such/file")]), None);
        assert_eq!(with(&[("HF_TOKEN", " "), ("HF_HOME", "/no")]), None);
        assert_eq!(with(&[("HF_TOKEN", "t"), ("HF_TOKEN_PATH", other.as_str())]), Some(Token::Variable));
    }
}
