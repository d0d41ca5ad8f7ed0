//! The manifest that holds files at a registry: a registry removes a blob that no manifest names.
//!
//! Its form is `ModelPack` (model-spec 0.0.7): each file is a raw layer, with its path in three annotations that tools
//! read. A piece list is one, too, so a set with lists has another tag than the same set without, and neither push
//! takes the other's lists away. The bytes follow from the files alone, so a second push makes the same manifest.

use serde_json::{Value, json};

use provision_core::digest::Sha256;
use provision_core::lockfile::Model;

/// The manifest's media type.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The media types of layers: a model, and a file that belongs to one.
const WEIGHT: &str = "application/vnd.cncf.model.weight.v1.raw";
const LIST: &str = "application/vnd.cncf.model.weight.config.v1.raw";

/// A manifest, its config, and the tag that they get.
pub(super) struct Manifest {
    pub(super) tag: String,
    pub(super) config: Vec<u8>,
    pub(super) bytes: Vec<u8>,
}

impl Manifest {
    /// The manifest for `models` and their piece lists, in any order.
    pub(super) fn of(models: &[&Model], lists: &[Model]) -> Self {
        let with_type = |media_type| move |model| (model, media_type);
        let models = models.iter().copied().map(with_type(WEIGHT)).chain(lists.iter().map(with_type(LIST)));
        let mut models: Vec<(&Model, &str)> = models.collect();
        models.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        let list: Vec<String> =
            models.iter().map(|(file, _)| format!("{} {} {}\n", file.sha256, file.size, file.path)).collect();
        let digests: Vec<String> = models.iter().map(|(file, _)| named(&file.sha256)).collect();
        let config = bytes_of(&json!({
            "descriptor": {},
            "config": {},
            "modelfs": { "type": "layers", "diffIds": digests },
        }));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.cncf.model.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.cncf.model.config.v1+json",
                "digest": named(&Sha256::of(&config)),
                "size": config.len(),
            },
            "layers": models.iter().map(|(file, media_type)| layer(file, media_type)).collect::<Vec<_>>(),
        });
        let set = Sha256::of(list.concat().as_bytes()).to_string();
        Self { tag: format!("provision-{}", &set[..12]), config, bytes: bytes_of(&manifest) }
    }
}

fn layer(model: &Model, media_type: &str) -> Value {
    let metadata = json!({
        "name": model.path.file_name(),
        "mode": 0o644,
        "uid": 0,
        "gid": 0,
        "size": model.size,
        "mtime": "2000-01-01T00:00:00Z",
        "typeflag": 48,
    });
    json!({
        "mediaType": media_type,
        "digest": named(&model.sha256),
        "size": model.size,
        "annotations": {
            "org.cncf.model.filepath": model.path.as_str(),
            "org.cncf.model.file.metadata+json": metadata.to_string(),
            "org.opencontainers.image.title": model.path.as_str(),
        },
    })
}

/// A digest as registries write it.
pub(super) fn named(sha256: &Sha256) -> String {
    format!("sha256:{sha256}")
}

fn bytes_of(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(path: &str, bytes: &[u8]) -> Model {
        let url = "https://h.example/x".parse().unwrap();
        Model {
            path: path.parse().unwrap(),
            sources: vec![url],
            size: bytes.len() as u64,
            sha256: Sha256::of(bytes),
            pieces: None,
            groups: Vec::new(),
            source: None,
        }
    }

    #[test]
    fn a_manifest_follows_from_its_files_alone() {
        let (a, b) = (model("vae/a", b"a"), model("b", b"bb"));
        let (one, other) = (Manifest::of(&[&a, &b], &[]), Manifest::of(&[&b, &a], &[]));
        assert_eq!((&one.tag, &one.bytes, &one.config), (&other.tag, &other.bytes, &other.config));
        assert_ne!(one.tag, Manifest::of(&[&a], &[]).tag);
        let read: Value = serde_json::from_slice(&one.bytes).unwrap();
        assert_eq!(read["config"]["digest"], named(&Sha256::of(&one.config)));
        assert_eq!(read["layers"][1]["digest"], named(&a.sha256));
        assert_eq!(read["layers"][1]["annotations"]["org.cncf.model.filepath"], "vae/a");
        let metadata =
            read["layers"][0]["annotations"]["org.cncf.model.file.metadata+json"].as_str().unwrap();
        let metadata: Value = serde_json::from_str(metadata).unwrap();
        assert_eq!((&metadata["mode"], &metadata["size"]), (&json!(420), &json!(2)));
        let config: Value = serde_json::from_slice(&one.config).unwrap();
        assert_eq!(config["modelfs"]["diffIds"][0], named(&b.sha256), "in the order of the layers");
        assert_eq!(one.tag, "provision-3d58abd5c501");
    }

    #[test]
    fn a_manifest_holds_lists_under_a_tag_of_its_own() {
        let (file, list) = (model("a", b"a"), model("models.pieces/x", b"list"));
        let (plain, with_list) =
            (Manifest::of(&[&file], &[]), Manifest::of(&[&file], std::slice::from_ref(&list)));
        assert_ne!(plain.tag, with_list.tag);
        let read: Value = serde_json::from_slice(&with_list.bytes).unwrap();
        assert_eq!(read["layers"][1]["digest"], named(&list.sha256));
        assert_eq!(
            (&read["layers"][0]["mediaType"], &read["layers"][1]["mediaType"]),
            (&json!(WEIGHT), &json!(LIST))
        );
    }
}
