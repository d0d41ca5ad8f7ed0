//! Refusals: the cause of a 4xx and the way out, as pure functions of the answer and of the login that was sent.
//!
//! A refusal has one of several causes, and each has its own message: a challenge for browsers, early access, a region,
//! a login that the host does not know, a login without access, a repository that is not there, and no login at all. A
//! message names the variable or the file of the login, and blames it only if it is the cause (faults 100 and 123).

use http::header::HeaderMap;

use crate::auth::bearer::Issued;
use crate::host_rules::{self, Site};
use provision_core::source_url::SourceUrl;

/// The Hub's `X-Error-Code` for a repository that does not exist, or that the request may not see.
const NO_REPOSITORY: &str = "RepoNotFound";
/// The Hub's code for a repository whose licence the account has not accepted.
const GATED: &str = "GatedRepo";

/// A refused request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal<'a> {
    pub(crate) url: &'a SourceUrl,
    pub(crate) status: u16,
    pub(crate) headers: &'a HeaderMap,
    /// The Hub's `X-Error-Code`.
    pub(crate) code: Option<&'a str>,
    /// The host's reason: a header's, or the body's.
    pub(crate) reason: Option<&'a str>,
    /// The login that was sent, as [`Credentials::name`](crate::Credentials) describes it.
    pub(crate) login: Option<&'a str>,
    /// The registry's token that was sent.
    pub(crate) issued: Option<&'a Issued>,
    /// A login for the host that was not sent, because the URL is plain http.
    pub(crate) withheld: Option<&'a str>,
    /// The reason for which a place that may have a login was not read, as a clause.
    pub(crate) unread: Option<&'a str>,
}

/// The cause of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Challenge,
    EarlyAccess,
    Region,
    NoLogin,
    WrongLogin,
    NoAccess,
    NoRepository,
}

/// True if a firewall in front of the host sends a challenge for browsers, by the headers of `Cloudflare`, AWS and
/// Vercel.
pub(crate) fn is_challenge(headers: &HeaderMap) -> bool {
    let has = |name: &str, words: &[&str]| {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        words.iter().any(|word| value.trim().eq_ignore_ascii_case(word))
    };
    has("cf-mitigated", &["challenge"])
        || has("x-amzn-waf-action", &["challenge", "captcha"])
        || has("x-vercel-mitigated", &["challenge", "deny"])
}

/// True for a reason that says that the login is unknown. The Hub then does not say anything about the repository.
pub(crate) fn is_unknown_login(reason: Option<&str>) -> bool {
    const WORDS: [&str; 8] = [
        "invalid credentials",
        "invalid username or password",
        "bad credentials",
        "invalid token",
        "token is invalid",
        "invalid access token",
        "invalid api key",
        "token expired",
    ];
    has_words(reason, &WORDS)
}

/// True for the Hub's code of a repository that the login does not see.
pub(crate) fn is_no_repository(code: Option<&str>) -> bool {
    code == Some(NO_REPOSITORY)
}

fn has_words(text: Option<&str>, words: &[&str]) -> bool {
    text.is_some_and(|text| {
        let text = text.to_ascii_lowercase();
        words.iter().any(|word| text.contains(word))
    })
}

impl Refusal<'_> {
    fn cause(&self) -> Cause {
        let says = |words: &[&str]| has_words(self.reason, words) || has_words(self.code, words);
        let challenges = [
            "just a moment",
            "attention required",
            "checking your browser",
            "verify you are human",
            "security check",
            "captcha",
        ];
        let regions = [
            "your region",
            "your country",
            "your location",
            "your territory",
            "your jurisdiction",
            "this region",
            "this country",
            "unavailable for legal reasons",
            "geo-block",
            "geoblock",
            "geo-restrict",
            "embargo",
        ];
        // A host that sends its code has answered itself, and its reason may repeat a name with such a word.
        let says_challenge = self.code.is_none() && has_words(self.reason, &challenges);
        if is_challenge(self.headers) || says_challenge {
            Cause::Challenge
        } else if says(&["early access", "earlyaccess", "early_access"]) {
            Cause::EarlyAccess
        } else if self.status == 451 || says(&regions) {
            Cause::Region
        } else if self.login.is_none() {
            Cause::NoLogin
        } else if is_unknown_login(self.reason) {
            Cause::WrongLogin
        } else if is_no_repository(self.code) {
            Cause::NoRepository
        } else if self.status == 403 || self.code == Some(GATED) || self.issued.is_some() {
            Cause::NoAccess
        } else {
            Cause::WrongLogin
        }
    }

    /// The advice after 401 or 403, or a challenge, as the end of a sentence.
    pub(crate) fn advice(&self) -> String {
        let site = host_rules::site(self.url);
        let login = self.login.unwrap_or("the login");
        match (self.cause(), &site) {
            (Cause::NoLogin, site) => self.without_login(site),
            (Cause::WrongLogin, _) => {
                format!(
                    "the host does not know {login}: it is mistyped, expired or revoked, so set a valid one"
                )
            }
            (Cause::NoAccess, Site::Hub { page }) => format!(
                "{login} is valid, but its account has no access: accept the licence at {page}, and check the \
                 scope of the token"
            ),
            (Cause::NoAccess, Site::GitHub) => format!(
                "{login} is valid, but may not read the repository: check its scopes, and its authorization for the \
                 organization"
            ),
            (Cause::NoAccess, _) => {
                format!(
                    "the host knows {login}, but that account may not download this file: get access to it first"
                )
            }
            (Cause::NoRepository, site) => {
                let page = if let Site::Hub { page } = site { format!(" ({page})") } else { String::new() };
                format!(
                    "for {login} there is no such repository: it is gone, renamed or misspelt, or it is private to \
                     another account, or the scope of the token leaves it out{page}"
                )
            }
            (cause, _) => beyond_logins(cause),
        }
    }

    /// The advice after another 4xx: the host says that there is no such file.
    pub(crate) fn advice_if_missing(&self) -> String {
        let site = host_rules::site(self.url);
        let cause = self.cause();
        let private = |what: &str, variable: &str| match self.login {
            Some(login) => format!("{what} does not exist, or it is private and {login} may not read it"),
            None => format!(
                "{what} does not exist, or it is private: then set {variable} to a token that may read it"
            ),
        };
        match (cause, site, self.login) {
            (Cause::Challenge | Cause::EarlyAccess | Cause::Region, ..) => beyond_logins(cause),
            (Cause::NoRepository, ..) => self.advice(),
            (_, Site::GitHub, _) => private("the release or its repository", "GITHUB_TOKEN"),
            (_, Site::ModelScope, _) => private("the model or its file", "MODELSCOPE_API_TOKEN"),
            (_, Site::Registry, None) => {
                format!("the registry has no such blob, or it is private: then {}", self.way_to_log_in())
            }
            (_, Site::Registry, Some(login)) => {
                format!("the registry has no such blob, or it is private and {login} may not read it")
            }
            (_, Site::Other, Some(login)) => {
                format!("check the URL in the lock; the host may hide the file from {login}")
            }
            _ => "check the URL in the lock".to_owned(),
        }
    }

    fn without_login(&self, site: &Site) -> String {
        match site {
            Site::Hub { page } if is_no_repository(self.code) => format!(
                "there is no such repository (gone, renamed or misspelt), or it is private: the Hub shows a private one only to \
                 a token that may read it, so set HF_TOKEN to a token with read access ({page})"
            ),
            Site::Hub { page } => {
                format!("set HF_TOKEN to a token with read access; the licence may need accepting at {page}")
            }
            Site::Civitai => "set CIVITAI_TOKEN to an API key of your Civitai account".to_owned(),
            Site::GitHub => "set GITHUB_TOKEN to a token that may read the repository".to_owned(),
            Site::ModelScope => {
                "set MODELSCOPE_API_TOKEN to an access token of your ModelScope account".to_owned()
            }
            Site::Registry | Site::Other => match (self.withheld, self.unread) {
                (Some(login), _) => format!("{login} is not sent over plain http: correct the URL to https"),
                (None, Some(why)) => why.to_owned(),
                (None, None) => {
                    format!("if it needs a login, {}; a signed link may have expired", self.way_to_log_in())
                }
            },
        }
    }

    /// The way to give the login: for a registry's token service, if it issued the token that was refused.
    fn way_to_log_in(&self) -> String {
        let registry = self.url.authority();
        let registry = registry.strip_suffix(":443").unwrap_or(&registry);
        let host = match self.issued {
            Some(Issued { service, may_have_credentials: false, .. }) => {
                return format!(
                    "run `docker login {registry}`: no login of a netrc file goes to the registry's token service, {service}, \
                     which is another host"
                );
            }
            Some(Issued { service, .. }) => service.clone(),
            None => self.url.host(),
        };
        let line =
            format!("add a line `machine {host} login … password …` to ~/.netrc (or the file in NETRC)");
        match host_rules::site(self.url) {
            Site::Registry => format!("run `docker login {registry}`, or {line}"),
            _ => line,
        }
    }
}

/// The advice for a cause that no login changes.
fn beyond_logins(cause: Cause) -> String {
    match cause {
        Cause::EarlyAccess => "the file is in early access: get access on its page, or wait for the end; a token \
             alone does not help"
            .to_owned(),
        Cause::Region => "the host does not serve the file to the region of this network: add a mirror, or fetch it \
             through another network"
            .to_owned(),
        _ => "a firewall of the host wants a browser to pass a challenge, because of this network's address and not \
             of a login: try again later or from another network, or add a mirror"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::headers;

    /// The advice for an answer of a host, or the one if the file is missing.
    fn advice(
        url: &str,
        status: u16,
        code: Option<&str>,
        reason: Option<&str>,
        login: Option<&str>,
    ) -> String {
        advice_with(&HeaderMap::new(), url, (status, code, reason, login))
    }

    fn advice_with(
        headers: &HeaderMap,
        url: &str,
        (status, code, reason, login): (u16, Option<&str>, Option<&str>, Option<&str>),
    ) -> String {
        let url = &url.parse().unwrap();
        let (issued, withheld, unread) = (None, None, None);
        let refusal = Refusal { url, status, headers, code, reason, login, issued, withheld, unread };
        if matches!(status, 401 | 403) { refusal.advice() } else { refusal.advice_if_missing() }
    }

    const HUB: &str = "https://huggingface.co/o/r/resolve/main/x";
    const CIVITAI: &str = "https://civitai.com/api/download/models/1";
    const GITHUB: &str = "https://api.github.com/repos/o/r/releases/tags/v1";
    const MODELSCOPE: &str = "https://modelscope.cn/api/v1/models/o/r/repo/files";
    const OTHER: &str = "https://h.example/x";

    #[test]
    fn without_a_login_the_advice_names_the_variable_and_the_page() {
        let text = advice(HUB, 401, Some("GatedRepo"), None, None);
        assert!(text.contains("HF_TOKEN") && text.contains("https://huggingface.co/o/r"), "{text}");
        for listing in ["models/o/r/tree/main", "models/o/r/revision/main"] {
            let text = advice(&format!("https://huggingface.co/api/{listing}"), 401, None, None, None);
            assert!(text.contains("HF_TOKEN") && text.ends_with("https://huggingface.co/o/r"), "{text}");
        }
        let data = "https://huggingface.co/api/datasets/o/r/tree/main";
        assert!(advice(data, 401, None, None, None).ends_with("https://huggingface.co/datasets/o/r"));
        let text = advice(HUB, 401, Some("RepoNotFound"), Some("Invalid username or password."), None);
        assert!(text.contains("no such repository") && text.contains("private"), "{text}");
        assert!(text.contains("HF_TOKEN") && text.contains("https://huggingface.co/o/r"), "{text}");
        for (url, name) in [
            (CIVITAI, "CIVITAI_TOKEN"),
            (GITHUB, "GITHUB_TOKEN"),
            ("https://modelscope.cn/models/o/r/resolve/master/x", "MODELSCOPE_API_TOKEN"),
            (MODELSCOPE, "MODELSCOPE_API_TOKEN"),
            (OTHER, "machine h.example"),
        ] {
            let text = advice(url, 401, None, None, None);
            assert!(text.contains(name), "{url}: {text}");
        }
    }

    #[test]
    fn fault_123_three_failures_of_a_login_have_three_messages() {
        let login = Some("the token in SOME_VARIABLE");
        for url in [HUB, CIVITAI, GITHUB, MODELSCOPE, OTHER, "https://h.example/v2/o/r/blobs/sha256:0"] {
            let wrong = advice(url, 401, None, None, login);
            let no_access = advice(url, 403, None, None, login);
            let missing = match url {
                HUB => advice(url, 404, Some("RepoNotFound"), None, login),
                CIVITAI => "SOME_VARIABLE".to_owned(),
                url => advice(url, 404, None, None, login),
            };
            for text in [&wrong, &no_access, &missing] {
                assert!(text.contains("SOME_VARIABLE"), "{url}: {text}");
            }
            assert!(
                wrong.contains("mistyped") && !no_access.contains("mistyped"),
                "{url}: {wrong}, {no_access}"
            );
            assert!(wrong != no_access && no_access != missing && missing != wrong, "{url}");
        }
        // The Hub's code for any repository that a token does not see says nothing if the token is unknown.
        for reason in ["Invalid credentials in Authorization header", "Invalid username or password."] {
            let text = advice(HUB, 401, Some("RepoNotFound"), Some(reason), login);
            assert!(text.contains("mistyped"), "{text}");
        }
        for reason in [None, Some("Access to model x/captcha-reader is restricted")] {
            let text = advice(HUB, 401, Some("GatedRepo"), reason, login);
            assert!(text.contains("accept the licence"), "{text}");
        }
    }

    #[test]
    fn fault_100_a_challenge_a_region_and_early_access_blame_no_login() {
        let login = Some("the token in CIVITAI_TOKEN");
        let text = advice_with(&headers(&[("cf-mitigated", "challenge")]), CIVITAI, (403, None, None, login));
        assert!(text.contains("challenge"), "{text}");
        for (status, reason, word) in [
            (403, "Just a moment...", "challenge"),
            (403, "Early Access: The creator has disabled downloads", "early access"),
            (403, "This file is not available in your country", "region"),
            (451, "Unavailable", "region"),
        ] {
            let text = advice(CIVITAI, status, None, Some(reason), login);
            assert!(text.contains(word) && !text.contains("CIVITAI_TOKEN"), "{text}");
        }
    }
}
