//! Which secret goes to which host, and to no other.

use std::fmt;

use crate::error::NO_REPOSITORY;
use provision_core::redact::Redactor;
use provision_core::source_url::SourceUrl;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A value for the `Authorization` header and the host that it belongs to.
#[derive(Debug, Clone)]
pub struct Credential {
    host: String,
    port: Option<u16>,
    authorization: Secret,
    /// A password, and both together: what `authorization` says in Base64.
    login: Option<[Secret; 2]>,
}

impl Credential {
    /// `Bearer TOKEN` for exactly this host, on any port or on one.
    pub fn bearer(host: impl Into<String>, port: Option<u16>, token: &str) -> Self {
        Self { host: host.into(), port, authorization: Secret::new(format!("Bearer {token}")), login: None }
    }

    /// HTTP Basic (RFC 7617) for exactly this host.
    pub fn basic(host: impl Into<String>, login: &str, password: &str) -> Self {
        let both = format!("{login}:{password}");
        let encoded = base64(both.as_bytes());
        let authorization = Secret::new(format!("Basic {encoded}"));
        let login = Some([Secret::new(password), Secret::new(both)]);
        Self { host: host.into(), port: None, authorization, login }
    }
}

/// Every credential of a run, and what to say to somebody who lacks one.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    entries: Vec<Credential>,
    /// Why a place where more could be was not read.
    unread: Option<String>,
}

impl Credentials {
    /// None at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds one. The first that fits a host is used.
    pub fn add(&mut self, credential: Credential) {
        self.entries.push(credential);
    }

    /// Says that there may be more, in a place that cannot be read: `why` is told to whom a host refuses.
    pub fn set_unread(&mut self, why: impl Into<String>) {
        self.unread = Some(why.into());
    }

    /// What a server may have been told by them, and must not be quoted with.
    pub(crate) fn tell(&self, told: &mut Redactor) {
        for Credential { authorization, login, .. } in &self.entries {
            told.add_token(authorization.reveal().rsplit(' ').next().unwrap_or_default());
            for text in login.iter().flatten() {
                told.add_password(text.reveal());
            }
        }
    }

    /// The `Authorization` value for a request to `url`: its own host's, and only over https or on loopback.
    pub(crate) fn authorization(&self, url: &SourceUrl) -> Option<&Secret> {
        if !url.is_https() && !url.is_loopback() {
            return None;
        }
        let (host, port) = (url.host(), url.as_url().port_or_known_default());
        self.entries
            .iter()
            .find(|entry| {
                entry.host.eq_ignore_ascii_case(&host) && entry.port.is_none_or(|own| Some(own) == port)
            })
            .map(|entry| &entry.authorization)
    }

    /// What would let somebody ask more often who was told to wait, as the end of a sentence.
    pub(crate) fn limit_advice(&self, url: &SourceUrl) -> &'static str {
        if self.authorization(url).is_some() {
            return "";
        }
        if url.as_url().path().contains("/repos/") {
            "; GITHUB_TOKEN, set to any token of yours, raises the limit"
        } else if hub_repository(url).is_some() {
            "; HF_TOKEN, set to any token of yours, raises the limit"
        } else {
            ""
        }
    }

    /// What somebody can do whose request to `url` was refused. `code` is the Hub's `X-Error-Code`.
    pub(crate) fn advice(&self, url: &SourceUrl, code: Option<&str>) -> String {
        let has_one = self.authorization(url).is_some();
        let host = url.host();
        if let Some(repository) = hub_repository(url).filter(|_| host != "civitai.com") {
            let page = format!("{}://{}/{repository}", url.as_url().scheme(), url.as_url().authority());
            return match (has_one, code) {
                (true, Some("GatedRepo")) => {
                    format!("the token is good, but its owner has to accept the licence at {page}")
                }
                (true, Some(NO_REPOSITORY)) => format!(
                    "for the owner of the token that was sent there is no such repository: it is gone, renamed or misspelt, \
                     or it is somebody else's private one, or the token's scope leaves it out ({page})"
                ),
                (true, _) => format!(
                    "the token may lack access: check its scope, the spelling, and whether the licence at {page} is accepted"
                ),
                (false, Some(NO_REPOSITORY)) => format!(
                    "there is no such repository (gone, renamed or misspelt), or it is private: the Hub tells that only to \
                     whoever may read it, so set HF_TOKEN to a token with read access ({page})"
                ),
                (false, _) => format!(
                    "set HF_TOKEN to a token with read access; the licence may need accepting at {page}"
                ),
            };
        }
        match (host.as_str(), has_one) {
            ("civitai.com", false) => "set CIVITAI_TOKEN to an API key of your Civitai account".to_owned(),
            ("civitai.com", true) => {
                "CIVITAI_TOKEN was refused: check that the key is valid and may download this file".to_owned()
            }
            ("api.github.com", false) => {
                "set GITHUB_TOKEN to a token that may read the repository".to_owned()
            }
            ("api.github.com", true) => {
                "the token in GITHUB_TOKEN was refused: check that it is valid and may read the repository"
                    .to_owned()
            }
            ("modelscope.cn" | "www.modelscope.cn", false) => {
                "set MODELSCOPE_API_TOKEN to an access token of your ModelScope account".to_owned()
            }
            ("modelscope.cn" | "www.modelscope.cn", true) => {
                "MODELSCOPE_API_TOKEN was refused: check that the token is valid".to_owned()
            }
            (host, false) => match &self.unread {
                Some(why) => format!("if it needs a login that is in your netrc file: {why}"),
                None => format!(
                    "if it needs a login, add a line `machine {host} login … password …` to ~/.netrc (or the file in NETRC); a signed link may have expired"
                ),
            },
            (host, true) => format!("the login for {host} in the netrc file was refused"),
        }
    }
}

/// The repository that an address of a Hub's file, listing or description is about, as in its web address. The Hub's own
/// collections are not owners, and a `models/` in front is another host's.
fn hub_repository(url: &SourceUrl) -> Option<String> {
    let path = url.as_url().path().trim_start_matches('/');
    if let Some((repository, _)) = path.split_once("/resolve/") {
        return (!repository.starts_with("models/")).then(|| repository.to_owned());
    }
    let rest = path.strip_prefix("api/")?;
    let (collection, rest) = rest.split_once('/')?;
    let prefix = match collection {
        "models" => "",
        "datasets" => "datasets/",
        "spaces" => "spaces/",
        _ => return None,
    };
    let mut words = rest.split('/');
    let (owner, name) = (words.next()?, words.next()?);
    matches!(words.next(), Some("tree" | "revision")).then(|| format!("{prefix}{owner}/{name}"))
}

/// Base64 (RFC 4648 section 4), for one header value: not worth a dependency of its own.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SourceUrl {
        text.parse().unwrap()
    }

    fn hub() -> Credentials {
        let mut credentials = Credentials::none();
        credentials.add(Credential::bearer("huggingface.co", None, "canary"));
        credentials
    }

    #[test]
    fn a_token_goes_to_its_own_host_over_https_only() {
        let credentials = hub();
        assert!(credentials.authorization(&url("https://huggingface.co/x")).is_some());
        assert!(credentials.authorization(&url("http://huggingface.co/x")).is_none());
    }

    #[test]
    fn fault_52_look_alike_hosts_get_no_token() {
        let credentials = hub();
        for text in [
            "https://huggingface.co.evil/x",
            "https://evil/?x=huggingface.co",
            "https://evilhuggingface.co/x",
            "https://cdn.huggingface.co/x",
            "https://evil/huggingface.co/resolve/main/x",
        ] {
            assert!(credentials.authorization(&url(text)).is_none(), "{text}");
        }
    }

    #[test]
    fn fault_44_a_credential_with_a_port_goes_to_that_port_only() {
        let mut credentials = Credentials::none();
        credentials.add(Credential::bearer("127.0.0.1", Some(8080), "canary"));
        assert!(credentials.authorization(&url("http://127.0.0.1:8080/x")).is_some());
        assert!(credentials.authorization(&url("http://127.0.0.1:8081/x")).is_none());
    }

    #[test]
    fn fault_53_secrets_are_not_in_debug_output() {
        assert!(!format!("{:?}", hub()).contains("canary"));
    }

    #[test]
    fn fault_53_what_a_server_repeats_of_a_request_is_not_said() {
        let asked = url("https://huggingface.co/x?X-Amz-Date=1&X-Amz-Signature=canary-signature");
        let mut credentials = Credentials::none();
        credentials.add(Credential::bearer("huggingface.co", None, "canary-token"));
        credentials.add(Credential::basic("h.example", "user", "canary"));
        let mut told = Redactor::default();
        credentials.tell(&mut told);
        told.add_queries([&asked].into_iter());
        let said = "Bearer canary-token may not GET /x?X-Amz-Date=1&X-Amz-Signature=canary-signature, \
                    canary-signature is over, user:canary (dXNlcjpjYW5hcnk=) is unknown";
        let shown = told.redact(said);
        assert!(!shown.contains("canary") && !shown.contains("dXNl"), "{shown}");
        assert!(shown.contains("may not GET /x?"), "{shown}");
        assert_eq!(told.redact("Access to 1 is restricted"), "Access to 1 is restricted");
    }

    #[test]
    fn base64_is_the_rfcs() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn the_advice_names_the_variable_and_the_page() {
        let advice =
            Credentials::none().advice(&url("https://huggingface.co/o/r/resolve/main/x"), Some("GatedRepo"));
        assert!(advice.contains("HF_TOKEN") && advice.contains("https://huggingface.co/o/r"), "{advice}");
        for listing in ["models/o/r/tree/main", "models/o/r/revision/main"] {
            let advice =
                Credentials::none().advice(&url(&format!("https://huggingface.co/api/{listing}")), None);
            assert!(
                advice.contains("HF_TOKEN") && advice.ends_with("https://huggingface.co/o/r"),
                "{advice}"
            );
        }
        let data = url("https://huggingface.co/api/datasets/o/r/tree/main");
        assert!(Credentials::none().advice(&data, None).ends_with("https://huggingface.co/datasets/o/r"));
        let other = url("https://modelscope.cn/models/o/r/resolve/master/x");
        assert!(Credentials::none().advice(&other, None).contains("MODELSCOPE_API_TOKEN"));
        let api = url("https://api.github.com/repos/o/r/releases/tags/v1");
        assert!(Credentials::none().advice(&api, None).contains("GITHUB_TOKEN"));
        assert!(Credentials::none().limit_advice(&api).contains("GITHUB_TOKEN"));
        let listing = url("https://huggingface.co/api/models/o/r/revision/main");
        let advice = Credentials::none().advice(&listing, Some("RepoNotFound"));
        assert!(advice.contains("no such repository") && advice.contains("private"), "{advice}");
        assert!(advice.contains("HF_TOKEN") && advice.contains("https://huggingface.co/o/r"), "{advice}");
        let advice = hub().advice(&listing, Some("RepoNotFound"));
        assert!(advice.contains("gone") && !advice.contains("HF_TOKEN"), "{advice}");
        let advice = hub().advice(&url("https://huggingface.co/o/r/resolve/main/x"), Some("GatedRepo"));
        assert!(advice.contains("licence"), "{advice}");
        assert!(
            Credentials::none()
                .advice(&url("https://civitai.com/api/download/models/1"), None)
                .contains("CIVITAI_TOKEN")
        );
        assert!(Credentials::none().advice(&url("https://h.example/x"), None).contains("machine h.example"));
    }
}
