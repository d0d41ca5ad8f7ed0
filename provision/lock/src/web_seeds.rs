//! The web seeds of torrents (BEP 19): addresses that every client of the torrent asks, without a token.
//!
//! A torrent goes to other people and machines, so an address with a query is left out, whatever the query's names say:
//! a parameter that looks like a file's number may be a secret (I6). The hosts that [`Source`] knows are the exception:
//! it writes their addresses itself, without anything that it does not know.

use provision_core::model_path::ModelPath;
use provision_core::source_url::SourceUrl;
use url::Url;

use crate::source::{Source, address};

/// The reason that an address is no web seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoWebSeed {
    /// Its query may be a secret.
    #[error("its query may be a secret")]
    Query,
    /// A registry's blob.
    #[error("a registry wants a token for it, which torrent clients do not ask for")]
    Registry,
    /// Another scheme than http and https.
    #[error("torrent clients ask http and https addresses only")]
    Scheme,
}

/// The web seed for a lock's URL.
pub fn of_source(url: &SourceUrl) -> Result<Url, NoWebSeed> {
    if !matches!(url.as_url().scheme(), "http" | "https") {
        return Err(NoWebSeed::Scheme);
    }
    match Source::of_url(url) {
        Source::Oci(_) => Err(NoWebSeed::Registry),
        Source::Url(url) if url.as_url().query().is_some() => Err(NoWebSeed::Query),
        source => Ok(source.address().as_url().clone()),
    }
}

/// The web seed of the file `path` below `base`, an address that [`of_source`] takes.
pub fn below(base: &Url, path: &ModelPath) -> Url {
    address(base.as_str(), path.components())
}

/// The name of a set's torrent, and its web seeds: a client asks for the seed, the name and the path in a row. So the
/// name is the last folder of every base. `None` if the bases have none in common.
pub fn of_set(bases: &[Url]) -> Option<(String, Vec<Url>)> {
    let split = |base: &Url| {
        let name = base.path_segments()?.rfind(|segment| !segment.is_empty())?.to_owned();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let mut above = base.clone();
        above.path_segments_mut().ok()?.pop_if_empty().pop().push("");
        name.chars().all(is_plain).then_some((name, above))
    };
    let split: Vec<_> = bases.iter().map(split).collect::<Option<_>>()?;
    let (name, _) = split.first()?.clone();
    let is_common = split.iter().all(|(other, _)| *other == name);
    is_common.then(|| (name, split.into_iter().map(|(_, above)| above).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(text: &str) -> Result<String, NoWebSeed> {
        of_source(&text.parse().unwrap()).map(String::from)
    }

    #[test]
    fn fault_150_an_address_with_a_query_is_no_web_seed() {
        for query in ["token=canary", "X-Amz-Signature=canary", "sv=1&sig=canary", "id=canary", "canary", ""]
        {
            assert_eq!(seed(&format!("https://h.example/x?{query}")), Err(NoWebSeed::Query), "{query}");
        }
        // The parameters that a host's URLs have stay, and no others.
        let civitai = "https://civitai.com/api/download/models/7?type=Model&token=canary";
        assert_eq!(seed(civitai).unwrap(), "https://civitai.com/api/download/models/7?type=Model");
        let hub = "https://huggingface.co/o/r/resolve/main/vae/x%20y.bin";
        assert_eq!(seed(&format!("{hub}?download=true&token=canary")).unwrap(), hub);
        assert_eq!(seed(hub).unwrap(), hub);
        assert_eq!(seed("http://h.example:8/x%20y").unwrap(), "http://h.example:8/x%20y");
    }

    #[test]
    fn a_registry_and_a_directory_are_no_web_seeds() {
        assert_eq!(of_source(&SourceUrl::of_file("/mnt/models/x".into()).unwrap()), Err(NoWebSeed::Scheme));
        let blob = format!("https://ghcr.io/v2/o/r/blobs/sha256:{}", "0".repeat(64));
        assert_eq!(seed(&blob), Err(NoWebSeed::Registry));
    }

    #[test]
    fn a_set_is_named_by_the_last_folder_of_its_web_seeds() {
        let of = |bases: &[&str]| {
            let bases: Vec<Url> = bases.iter().map(|base| base.parse().unwrap()).collect();
            of_set(&bases).map(|(name, above)| (name, above.iter().map(Url::to_string).collect::<Vec<_>>()))
        };
        let found = of(&["https://h.example/team/models/", "http://i.example/models"]).unwrap();
        assert_eq!(found.0, "models");
        assert_eq!(found.1, ["https://h.example/team/", "http://i.example/"]);
        for none in [
            &["https://h.example/"][..],
            &["https://h.example/a/", "https://h.example/b/"],
            &["https://h.example/a%20b/"],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
        let path = "vae/x y.bin".parse().unwrap();
        for base in ["https://h.example/models", "https://h.example/models/"] {
            let url = below(&base.parse().unwrap(), &path);
            assert_eq!(url.as_str(), "https://h.example/models/vae/x%20y.bin");
        }
    }
}
