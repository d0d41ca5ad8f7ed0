//! Host rules: what single hosts do differently, as pure functions of a URL and an answer's headers.
//!
//! The rules are for GitHub's API, the Hub, Civitai and `ModelScope`: which `Accept` a file needs, which headers hold the error
//! code, the message and the wait of a rate limit, and which advice helps after a refusal.

use std::time::{Duration, SystemTime};

use http::header::HeaderMap;

use provision_core::backoff;
use provision_core::source_url::SourceUrl;

/// The Hub's `X-Error-Code` for a repository that does not exist, or that the request may not see.
pub(crate) const NO_REPOSITORY: &str = "RepoNotFound";

/// The Hub's headers with an error's code and message.
pub(crate) const ERROR_CODE: &str = "x-error-code";
pub(crate) const ERROR_MESSAGE: &str = "x-error-message";

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The `Accept` for the file at `source`. GitHub's API serves an asset's bytes and its description at one URL, so there the
/// bytes have to be named. No other URL opens the assets of a private repository to a token.
pub(crate) fn accept(source: &SourceUrl) -> &'static str {
    if is_github_asset(source) { "application/octet-stream" } else { "*/*" }
}

/// True for an asset of GitHub's API, or of an enterprise server's.
pub(crate) fn is_github_asset(url: &SourceUrl) -> bool {
    let asset = url.as_url().path().split_once("/releases/assets/");
    asset
        .filter(|(front, _)| front.contains("/repos/"))
        .is_some_and(|(_, id)| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()))
}

/// True for a 403 that is a rate limit: GitHub's answer to a client that has used up its requests.
pub(crate) fn is_rate_limit(status: u16, headers: &HeaderMap) -> bool {
    status == 403
        && (text(headers, "x-ratelimit-remaining") == Some("0") || text(headers, "retry-after").is_some())
}

/// The wait that a rate limit ([`is_rate_limit`]) asks for: `Retry-After`, or GitHub's `X-RateLimit-Reset`.
pub(crate) fn rate_limit_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    text(headers, "retry-after")
        .and_then(|value| backoff::retry_after(value, now))
        .or_else(|| text(headers, "x-ratelimit-reset").and_then(|value| until_reset(value, now)))
}

/// The wait that a busy host asks for: `Retry-After`, or `RateLimit`, which the Hub sends.
pub(crate) fn busy_wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    text(headers, "retry-after")
        .and_then(|value| backoff::retry_after(value, now))
        .or_else(|| text(headers, "ratelimit").and_then(backoff::rate_limit))
}

/// The time until the second since 1970 that `X-RateLimit-Reset` names.
fn until_reset(value: &str, now: SystemTime) -> Option<Duration> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let at = Duration::from_secs(value.trim().parse().ok()?);
    Some(at.saturating_sub(now).min(backoff::LONGEST_REQUEST))
}

/// The advice after a rate limit, as the end of a sentence: a token that raises the limit, if the request had none.
pub(crate) fn limit_advice(url: &SourceUrl, has_login: bool) -> &'static str {
    if has_login {
        ""
    } else if url.as_url().path().contains("/repos/") {
        "; GITHUB_TOKEN, set to any token of yours, raises the limit"
    } else if hub_repository(url).is_some() {
        "; HF_TOKEN, set to any token of yours, raises the limit"
    } else {
        ""
    }
}

/// The advice after a refusal of a request to `url`.
///
/// `code` is the Hub's `X-Error-Code`. `has_login` says that a credential is configured for the host. `unread` is the reason
/// for which the netrc file, which may have one, was not read.
pub(crate) fn advice(url: &SourceUrl, code: Option<&str>, has_login: bool, unread: Option<&str>) -> String {
    let host = url.host();
    if let Some(repository) = hub_repository(url).filter(|_| host != "civitai.com") {
        let page = format!("{}://{}/{repository}", url.as_url().scheme(), url.as_url().authority());
        return hub_advice(&page, code, has_login);
    }
    match (host.as_str(), has_login) {
        ("civitai.com", false) => "set CIVITAI_TOKEN to an API key of your Civitai account".to_owned(),
        ("civitai.com", true) => {
            "CIVITAI_TOKEN was refused: check that the key is valid and may download this file".to_owned()
        }
        ("api.github.com", false) => "set GITHUB_TOKEN to a token that may read the repository".to_owned(),
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
        (host, false) => match unread {
            Some(why) => format!("if it needs a login that is in your netrc file: {why}"),
            None => format!(
                "if it needs a login, add a line `machine {host} login … password …` to ~/.netrc (or the file in NETRC); \
                 a signed link may have expired"
            ),
        },
        (host, true) => format!("the login for {host} in the netrc file was refused"),
    }
}

/// The advice after a refusal of the Hub. `page` is the repository's web page.
fn hub_advice(page: &str, code: Option<&str>, has_login: bool) -> String {
    match (has_login, code) {
        (true, Some("GatedRepo")) => {
            format!("the token is valid, but its owner has to accept the licence at {page}")
        }
        (true, Some(NO_REPOSITORY)) => format!(
            "for this token there is no such repository: it is gone, renamed or misspelt, or it is private to another \
             account, or the token's scope leaves it out ({page})"
        ),
        (true, _) => format!(
            "the token may lack access: check its scope, the spelling, and whether the licence at {page} is accepted"
        ),
        (false, Some(NO_REPOSITORY)) => format!(
            "there is no such repository (gone, renamed or misspelt), or it is private: the Hub shows a private one only to \
             a token that may read it, so set HF_TOKEN to a token with read access ({page})"
        ),
        (false, _) => {
            format!("set HF_TOKEN to a token with read access; the licence may need accepting at {page}")
        }
    }
}

/// The Hub repository that a URL of a file, a listing or a description is about, as its web page names it. A `models/` in
/// front of `resolve` is `ModelScope`'s.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SourceUrl {
        text.parse().unwrap()
    }

    #[test]
    fn advice_names_the_variable_and_the_page() {
        let file = url("https://huggingface.co/o/r/resolve/main/x");
        let advice_without = |url: &SourceUrl, code: Option<&str>| advice(url, code, false, None);
        let advice_with = |url: &SourceUrl, code: Option<&str>| advice(url, code, true, None);
        let text = advice_without(&file, Some("GatedRepo"));
        assert!(text.contains("HF_TOKEN") && text.contains("https://huggingface.co/o/r"), "{text}");
        for listing in ["models/o/r/tree/main", "models/o/r/revision/main"] {
            let text = advice_without(&url(&format!("https://huggingface.co/api/{listing}")), None);
            assert!(text.contains("HF_TOKEN") && text.ends_with("https://huggingface.co/o/r"), "{text}");
        }
        let data = url("https://huggingface.co/api/datasets/o/r/tree/main");
        assert!(advice_without(&data, None).ends_with("https://huggingface.co/datasets/o/r"));
        let other = url("https://modelscope.cn/models/o/r/resolve/master/x");
        assert!(advice_without(&other, None).contains("MODELSCOPE_API_TOKEN"));
        let api = url("https://api.github.com/repos/o/r/releases/tags/v1");
        assert!(advice_without(&api, None).contains("GITHUB_TOKEN"));
        assert!(limit_advice(&api, false).contains("GITHUB_TOKEN"));
        let listing = url("https://huggingface.co/api/models/o/r/revision/main");
        let text = advice_without(&listing, Some("RepoNotFound"));
        assert!(text.contains("no such repository") && text.contains("private"), "{text}");
        assert!(text.contains("HF_TOKEN") && text.contains("https://huggingface.co/o/r"), "{text}");
        let text = advice_with(&listing, Some("RepoNotFound"));
        assert!(text.contains("gone") && !text.contains("HF_TOKEN"), "{text}");
        let text = advice_with(&file, Some("GatedRepo"));
        assert!(text.contains("licence"), "{text}");
        let civitai = url("https://civitai.com/api/download/models/1");
        assert!(advice_without(&civitai, None).contains("CIVITAI_TOKEN"));
        assert!(advice_without(&url("https://h.example/x"), None).contains("machine h.example"));
    }
}
