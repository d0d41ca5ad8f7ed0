//! Host rules: the peculiarities of single hosts, as pure functions of a URL and an answer's headers.
//!
//! The rules are for GitHub's API, the Hub, Civitai and `ModelScope`: which `Accept` a file needs, which headers hold
//! the error code, the message and the wait of a rate limit, and which host a URL belongs to. `refusal` has the advice
//! after a refusal.

use std::time::{Duration, SystemTime};

use http::header::HeaderMap;

use provision_core::backoff;
use provision_core::source_url::SourceUrl;

/// The Hub's headers with an error's code and message.
pub(crate) const ERROR_CODE: &str = "x-error-code";
pub(crate) const ERROR_MESSAGE: &str = "x-error-message";

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The `Accept` for the file at `source`. GitHub's API serves an asset's bytes and its description at one URL, so there
/// the bytes have to be named. No other URL opens the assets of a private repository to a token.
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

/// A kind of host: the variable of its token, and the words of its refusals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Site {
    /// The Hub, or a server with its URLs; `page` is the repository's web page.
    Hub {
        page: String,
    },
    Civitai,
    /// GitHub's API.
    GitHub,
    ModelScope,
    /// An OCI registry.
    Registry,
    Other,
}

/// The kind of the host of `url`: by its name, or by its path, because an endpoint may replace the host.
pub(crate) fn site(url: &SourceUrl) -> Site {
    let (host, path) = (url.host(), url.as_url().path());
    let begins = |starts: &[&str]| starts.iter().any(|start| path.starts_with(start));
    if matches!(&*host, "civitai.com" | "civitai.red" | "civitai.green")
        || begins(&["/api/download/models/", "/api/v1/model-versions/"])
    {
        Site::Civitai
    } else if host == "api.github.com" || (path.contains("/repos/") && path.contains("/releases/")) {
        Site::GitHub
    } else if matches!(&*host, "modelscope.cn" | "www.modelscope.cn")
        || begins(&["/api/v1/models/"])
        || (begins(&["/models/"]) && path.contains("/resolve/"))
    {
        Site::ModelScope
    } else if begins(&["/v2/"]) {
        Site::Registry
    } else if let Some(repository) = hub_repository(url) {
        Site::Hub { page: format!("{}://{}/{repository}", url.as_url().scheme(), url.as_url().authority()) }
    } else {
        Site::Other
    }
}

/// True for the login page to which Civitai redirects a download without a valid token.
pub(crate) fn is_civitai_login(from: &SourceUrl, url: &SourceUrl) -> bool {
    let reason = url.as_url().query_pairs().any(|(name, value)| name == "reason" && value == "download-auth");
    url.as_url().path() == "/login" && (reason || matches!(site(from), Site::Civitai))
}

/// The Hub repository that a URL of a file, a listing or a description is about, as its web page names it. A `models/`
/// in front of `resolve` is `ModelScope`'s.
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
    fn hosts_are_told_by_name_or_by_path() {
        let page = "http://127.0.0.1:9/datasets/o/r".to_owned();
        for (text, expected) in [
            ("https://civitai.com/api/download/models/1", Site::Civitai),
            ("http://127.0.0.1:9/api/download/models/1", Site::Civitai),
            ("http://127.0.0.1:9/api/v3/repos/o/r/releases/latest", Site::GitHub),
            ("http://127.0.0.1:9/models/o/r/resolve/master/x", Site::ModelScope),
            ("http://127.0.0.1:9/api/v1/models/o/r/repo/files", Site::ModelScope),
            ("https://ghcr.io/v2/o/r/blobs/sha256:0", Site::Registry),
            ("http://127.0.0.1:9/datasets/o/r/resolve/main/x", Site::Hub { page }),
            ("https://h.example/x", Site::Other),
        ] {
            assert_eq!(site(&url(text)), expected, "{text}");
        }
        let (download, other) =
            (url("https://civitai.com/api/download/models/1"), url("https://h.example/x"));
        let page = url("https://civitai.com/login?returnUrl=/&reason=download-auth");
        assert!(is_civitai_login(&download, &page) && is_civitai_login(&other, &page));
        assert!(is_civitai_login(&download, &url("https://civitai.com/login?returnUrl=/")));
        assert!(!is_civitai_login(&other, &url("https://h.example/login")));
        let api = url("https://api.github.com/repos/o/r/releases/tags/v1");
        assert!(limit_advice(&api, false).contains("GITHUB_TOKEN"));
    }
}
