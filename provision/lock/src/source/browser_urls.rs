//! Recognises hosts' URLs that people copy from a browser or that other tools' lists contain.

use percent_encoding::percent_decode_str;
use url::Url;

use super::repository::split_ref;
use super::{
    Blob, CivitaiVersion, Form, FormProblem, HubFile, ReleaseAsset, RepoFile, RepoKind, Source, SourceError,
};

/// The source for a host's own URL of a file; `None` for any other URL.
pub(super) fn recognise(url: &Url) -> Result<Option<Source>, SourceError> {
    let host = url.host_str().unwrap_or_default();
    if let Some(blob) = registry(url) {
        return Ok(Some(Source::Oci(blob)));
    }
    // A host on another port is a proxy or a test server, so its URLs are taken as they are.
    if url.port().is_some() {
        return Ok(None);
    }
    match host.strip_prefix("www.").unwrap_or(host) {
        "huggingface.co" | "hf.co" => hub(&segments(url, Form::Hub)?),
        "civitai.com" | "civitai.red" | "civitai.green" => civitai(url, &segments(url, Form::Civitai)?),
        "modelscope.cn" => modelscope(url, &segments(url, Form::ModelScope)?),
        "github.com" => github(&segments(url, Form::GitHub)?),
        _ => Ok(None),
    }
}

/// `v2/NAME/blobs/sha256:HEX` on any host: such a path is a registry's, and the digest in it verifies the bytes anyway.
fn registry(url: &Url) -> Option<Blob> {
    let (name, hex) = url.path().strip_prefix("/v2/")?.split_once("/blobs/sha256:")?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let blob = Blob::parse(&format!("{}{port}/{name}@sha256:{hex}", url.host_str()?)).ok()?;
    (blob.address() == *url).then_some(blob)
}

/// The path's segments, decoded; an empty last one (a final slash) is dropped.
fn segments(url: &Url, form: Form) -> Result<Vec<String>, SourceError> {
    let decode = |segment: &str| {
        let decoded = percent_decode_str(segment).decode_utf8();
        decoded.map(String::from).map_err(|_| FormProblem::Character { found: '\u{fffd}' }.of(form))
    };
    let mut all = url.path_segments().into_iter().flatten().map(decode).collect::<Result<Vec<_>, _>>()?;
    if all.last().is_some_and(String::is_empty) {
        all.pop();
    }
    Ok(all)
}

fn texts(segments: &[String]) -> Vec<&str> {
    segments.iter().map(String::as_str).collect()
}

/// `[datasets/|spaces/]OWNER/REPO/(blob|resolve|raw)/REV/PATH`
fn hub(segments: &[String]) -> Result<Option<Source>, SourceError> {
    let segments = texts(segments);
    let kind = segments.first().and_then(|first| RepoKind::of_prefix(first));
    let rest = if kind.is_some() { &segments[1..] } else { &segments[..] };
    let kind = kind.unwrap_or(RepoKind::Model);
    let prefix = kind.prefix().map(|prefix| format!("{prefix}/")).unwrap_or_default();
    let page = |what, repo: &str, directory: &str| {
        let instead = format!("give hf:{prefix}{repo}/{directory}PATH, where PATH may be a glob");
        Err(SourceError::Page { what, instead })
    };
    match rest {
        [owner, name, "blob" | "resolve" | "raw", revision, path @ ..] => {
            let path = path.join("/");
            let (revision, path) = match split_ref(&path) {
                Some((revision_, path)) if *revision == "refs" => (revision_, path),
                _ => ((*revision).to_owned(), path.as_str()),
            };
            let file = RepoFile::new(Form::Hub, owner, name, Some(revision), path)?;
            Ok(Some(Source::Hub(HubFile { kind, file })))
        }
        ["api" | "docs" | "settings" | "collections" | "papers", ..] => Ok(None),
        [owner, name, "tree", revision, directory @ ..] => {
            let repo = format!("{owner}/{name}@{}", revision.replace('/', "%2F"));
            let directory = directory.iter().flat_map(|part| [part, "/"]).collect::<String>();
            page("a directory", &repo, &directory)
        }
        // A repository without an owner is an old name that the Hub still redirects; its URL works as it is.
        [owner, name] if !matches!(*name, "blob" | "resolve" | "raw") => {
            page("a repository", &format!("{owner}/{name}"), "")
        }
        _ => Ok(None),
    }
}

/// `models/ID[/NAME]?modelVersionId=V`, `api/download/models/V`, `model-versions/V`
fn civitai(url: &Url, segments: &[String]) -> Result<Option<Source>, SourceError> {
    match texts(segments)[..] {
        ["api", "download", "models", _] if CivitaiVersion::may_choose_otherwise(url) => Ok(None),
        ["api", "download", "models", id] => {
            CivitaiVersion::of_address(id, url).map(|version| Some(Source::Civitai(version)))
        }
        ["model-versions", id] | ["api", "v1", "model-versions", id] => {
            CivitaiVersion::of_address(id, url).map(|version| Some(Source::Civitai(version)))
        }
        ["models", _] | ["models", _, _] => {
            match url.query_pairs().find(|(name, _)| name == "modelVersionId") {
                Some((_, id)) => CivitaiVersion::of_address(&id, url).map(|v| Some(Source::Civitai(v))),
                None => Err(SourceError::Page {
                    what: "a model with several versions",
                    instead: format!(
                        "choose one on the page and give its URL with modelVersionId=…, or {}",
                        Form::Civitai
                    ),
                }),
            }
        }
        _ => Ok(None),
    }
}

/// `models/OWNER/REPO/resolve/REV/PATH`, `…/file/view/REV/PATH`, `api/v1/models/OWNER/REPO/repo?Revision=…&FilePath=…`
fn modelscope(url: &Url, segments: &[String]) -> Result<Option<Source>, SourceError> {
    let segments = texts(segments);
    let (owner, name, revision, path) = match &segments[..] {
        ["models", owner, name, "resolve", revision, path @ ..]
        | ["models", owner, name, "file", "view", revision, path @ ..] => {
            (*owner, *name, Some((*revision).to_owned()), path.join("/"))
        }
        ["api", "v1", "models", owner, name, "repo"] => {
            let value = |wanted: &str| {
                url.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
            };
            (*owner, *name, value("Revision"), value("FilePath").unwrap_or_default())
        }
        ["models", owner, name] | ["models", owner, name, "files" | "summary"] => {
            return Err(SourceError::Page {
                what: "a repository",
                instead: format!("give modelscope:{owner}/{name}/PATH, where PATH may be a glob"),
            });
        }
        _ => return Ok(None),
    };
    RepoFile::new(Form::ModelScope, owner, name, revision, &path).map(|file| Some(Source::ModelScope(file)))
}

/// `OWNER/REPO/releases/download/TAG/ASSET`, `OWNER/REPO/releases/latest/download/ASSET`
fn github(segments: &[String]) -> Result<Option<Source>, SourceError> {
    let segments = texts(segments);
    match &segments[..] {
        [owner, name, "releases", "download", tag @ .., asset] if !tag.is_empty() => {
            ReleaseAsset::new(owner, name, Some(&tag.join("/")), asset).map(|a| Some(Source::GitHub(a)))
        }
        [owner, name, "releases", "latest", "download", asset] => {
            ReleaseAsset::new(owner, name, None, asset).map(|asset| Some(Source::GitHub(asset)))
        }
        [owner, name, "blob", rest @ ..] => Err(SourceError::Page {
            what: "a file in a browser",
            instead: format!("give https://github.com/{owner}/{name}/raw/{}", rest.join("/")),
        }),
        [owner, name, "releases", ..] => Err(SourceError::Page {
            what: "releases",
            instead: format!("give github:{owner}/{name}@TAG/ASSET, or an asset's own URL"),
        }),
        _ => Ok(None),
    }
}
