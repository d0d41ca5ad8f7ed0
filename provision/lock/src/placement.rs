//! Chooses a file's folder below the destination.
//!
//! The destination is `ComfyUI`'s `models` directory, so the folders are those of `folder_paths.py`; `--path` gives any
//! other. A file's name is never used as a hint. `ComfyUI` does not list a model in a wrong folder, and the user would
//! find out only after the download.
//!
//! The first known of these decides:
//! 1. `--path`: a path, or a directory if it ends with `/` or is the bare name of one of the folders.
//! 2. A list's directory and name.
//! 3. Civitai's model type.
//! 4. The repository's own layout, from the first component that is one of the folders on (`split_files/vae/x` →
//!    `vae/x`).
//! 5. `--folder` of an import.

use provision_core::model_path::{ModelPath, ModelPathError};

use provision_core::terminal_text::TerminalText;

/// `ComfyUI`'s folders below `models`. `clip` and `unet` are older names of `text_encoders` and `diffusion_models`,
/// which `ComfyUI` still searches.
pub const FOLDERS: [&str; 27] = [
    "audio_encoders",
    "background_removal",
    "checkpoints",
    "classifiers",
    "clip",
    "clip_vision",
    "configs",
    "controlnet",
    "detection",
    "diffusers",
    "diffusion_models",
    "embeddings",
    "frame_interpolation",
    "geometry_estimation",
    "gligen",
    "hypernetworks",
    "latent_upscale_models",
    "loras",
    "model_patches",
    "optical_flow",
    "photomaker",
    "style_models",
    "t2i_adapter",
    "text_encoders",
    "unet",
    "upscale_models",
    "vae",
];

/// A folder that is not in `ComfyUI`'s list but common in repositories.
const ALSO: &str = "vae_approx";

/// Suffixes of models. Another ending, as in `flux.1-dev`, is part of a name.
const OF_MODELS: [&str; 11] =
    ["bin", "ckpt", "engine", "gguf", "onnx", "pkl", "pt", "pt2", "pth", "safetensors", "sft"];

/// Suffixes of the small files beside models.
const BESIDE_MODELS: [&str; 5] = ["json", "txt", "yaml", "yml", "zip"];

/// The known facts about a file's place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// The value of `--path`.
    pub explicit: Option<&'a str>,
    /// The directory from a list.
    pub directory: Option<&'a str>,
    /// The file's name, if it differs from the last part of `at_source`.
    pub name: Option<&'a str>,
    /// Civitai's model type (`LORA`).
    pub civitai_type: Option<&'a str>,
    /// The path at the source: below the repository, or of the URL.
    pub at_source: Option<&'a str>,
    /// The folder of files for which nothing else names one: the value of `--folder`.
    pub otherwise: Option<&'a str>,
}

/// The reason that a file has no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// No fact gives the folder.
    #[error(
        "no folder is known for {what}; give --path FOLDER/ or --path FOLDER/NAME, where FOLDER is one of ComfyUI's ({}) \
         or your own",
        FOLDERS.join(", ")
    )]
    Unknown {
        /// The file.
        what: String,
    },
    /// A glob that is not resolved to the repository's files yet.
    #[error(
        "{pattern:?} is a glob, and its files are known only after the host has listed them; give --path FOLDER/"
    )]
    Several {
        /// The glob.
        pattern: String,
    },
    /// A directory, but no name for the file in it.
    #[error("the source does not contain the file's name; give --path {}NAME", TerminalText(directory))]
    NoName {
        /// The directory.
        directory: String,
    },
    /// A typed path that may be a folder, or a file's name whose suffix was left out.
    #[error(
        "{path:?} has no suffix, but the file is {name:?}; give --path {} for a folder, or --path {} for the file",
        TerminalText(directory),
        TerminalText(file)
    )]
    NoSuffix {
        /// The path, as typed.
        path: String,
        /// The file's name at its source.
        name: String,
        /// The path as a folder.
        directory: String,
        /// The path with the suffix.
        file: String,
    },
    /// The resulting path is invalid.
    #[error("{path:?} is not a valid model path: {error}; give another one with --path")]
    Path {
        /// The resulting path.
        path: String,
        /// The parser's error.
        error: ModelPathError,
    },
}

/// `ComfyUI`'s spelling of the folder `name`.
pub fn folder(name: &str) -> Option<&'static str> {
    FOLDERS.into_iter().chain([ALSO]).find(|known| known.eq_ignore_ascii_case(name))
}

/// The directory that a value of `--path` names, with a `/` at its end; `None` if it is a file's path.
pub fn as_directory(explicit: &str) -> Option<String> {
    if explicit.ends_with('/') {
        return Some(explicit.to_owned());
    }
    folder(explicit).map(|folder| format!("{folder}/"))
}

/// Checks that a typed path has a suffix if the source's file `name` has one: `loras/flux` may be a folder as well.
///
/// # Errors
/// [`PlacementError::NoSuffix`] with both meanings.
pub fn check_suffix(explicit: &str, name: &str) -> Result<(), PlacementError> {
    let last = explicit.rsplit('/').next().unwrap_or(explicit);
    match suffix(name) {
        Some(suffix) if as_directory(explicit).is_none() && self::suffix(last).is_none() => {
            Err(PlacementError::NoSuffix {
                path: explicit.to_owned(),
                name: name.to_owned(),
                directory: format!("{explicit}/"),
                file: format!("{explicit}.{suffix}"),
            })
        }
        _ => Ok(()),
    }
}

/// Returns true for the name or path of a model's file, by its suffix.
pub(crate) fn is_model_name(name: &str) -> bool {
    suffix(name).is_some_and(|suffix| is_one_of(suffix, &OF_MODELS))
}

/// Returns true for the name of a model's file, or of a small file beside one, by its suffix.
pub(crate) fn has_suffix(name: &str) -> bool {
    suffix(name).is_some()
}

/// The suffix of a model's file name or of a small file's beside it, as written.
fn suffix(name: &str) -> Option<&str> {
    let (stem, suffix) = name.rsplit_once('.')?;
    let is_known = is_one_of(suffix, &OF_MODELS) || is_one_of(suffix, &BESIDE_MODELS);
    (is_known && !stem.is_empty() && !stem.ends_with('/')).then_some(suffix)
}

fn is_one_of(suffix: &str, known: &[&str]) -> bool {
    known.iter().any(|known| suffix.eq_ignore_ascii_case(known))
}

/// The folder for Civitai's model type; `None` if the type is no model file (workflows, poses) or has no folder.
pub fn folder_of_civitai_type(kind: &str) -> Option<&'static str> {
    Some(match kind.to_ascii_lowercase().as_str() {
        "checkpoint" => "checkpoints",
        "lora" | "locon" | "dora" => "loras",
        "textualinversion" => "embeddings",
        "hypernetwork" => "hypernetworks",
        "vae" => "vae",
        "controlnet" => "controlnet",
        "upscaler" => "upscale_models",
        "unet" => "diffusion_models",
        "textencoder" | "clip" => "text_encoders",
        "clipvision" => "clip_vision",
        _ => return None,
    })
}

/// The path from `ComfyUI`'s first folder on, if a file follows it.
pub fn from_layout(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (_, directories) = parts.split_last()?;
    let (at, name) =
        directories.iter().enumerate().find_map(|(at, part)| folder(part).map(|name| (at, name)))?;
    Some([&[name], &parts[at + 1..]].concat().join("/"))
}

/// Chooses the file's path.
pub fn destination(hints: &Hints<'_>) -> Result<ModelPath, PlacementError> {
    // No file has these characters in its path. Brackets and braces do occur in names.
    let is_glob = |path: &&str| path.contains(['*', '?']);
    if let (None, None, Some(pattern)) = (hints.explicit, hints.name, hints.at_source.filter(is_glob)) {
        return Err(PlacementError::Several { pattern: pattern.to_owned() });
    }
    let last = hints.at_source.and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
    let name = hints.name.or(last);
    let below = |directory: &str| match name {
        Some(name) => Ok(format!("{directory}{name}")),
        None => Err(PlacementError::NoName { directory: directory.to_owned() }),
    };
    let text = if let Some(path) = hints.explicit {
        match as_directory(path) {
            Some(directory) => below(&directory)?,
            None => path.to_owned(),
        }
    } else if let Some(directory) = hints.directory {
        within(&below(&format!("{}/", directory.trim_end_matches('/')))?)
    } else if let Some(folder) = hints.civitai_type.and_then(folder_of_civitai_type) {
        below(&format!("{folder}/"))?
    } else if let Some(path) = hints.at_source.and_then(from_layout) {
        match hints.name {
            // The list's name, in the repository's folder.
            Some(name) => match path.rsplit_once('/') {
                Some((directory, _)) => format!("{directory}/{name}"),
                None => path,
            },
            None => path,
        }
    } else if let Some(folder) = hints.otherwise {
        let known = as_directory(folder).unwrap_or_else(|| format!("{folder}/"));
        below(&known)?
    } else {
        let what = name.map_or_else(|| "the file".to_owned(), |name| format!("{name:?}"));
        return Err(PlacementError::Unknown { what });
    };
    text.parse().map_err(|error| PlacementError::Path { path: text, error })
}

/// A list's path relative to `models`: other tools write the whole path (`/workspace/ComfyUI/models/vae/x`).
pub fn within(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    if let Some((_, rest)) = path.rsplit_once("ComfyUI/models/") {
        return rest.to_owned();
    }
    if let Some(rest) = path.strip_prefix("models/") {
        return rest.to_owned();
    }
    let below = if path.starts_with('/') { from_layout(path) } else { None };
    below.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints<'a>() -> Hints<'a> {
        Hints::default()
    }

    fn path(hints: &Hints<'_>) -> String {
        destination(hints).map_or_else(|error| panic!("{error}"), |path| path.to_string())
    }

    #[test]
    fn a_repositorys_layout_counts_from_its_first_known_folder() {
        for (source, expected) in [
            ("split_files/vae/x.safetensors", Some("vae/x.safetensors")),
            ("vae/x", Some("vae/x")),
            ("VAE/x", Some("vae/x")),
            ("ComfyUI/models/loras/flux/x", Some("loras/flux/x")),
            ("a/text_encoders/unet/x", Some("text_encoders/unet/x")),
            ("vae_approx/x", Some("vae_approx/x")),
            ("vae", None),
            ("x/vae", None),
            ("weights/x.safetensors", None),
            ("", None),
        ] {
            assert_eq!(from_layout(source).as_deref(), expected, "{source}");
        }
        assert_eq!(path(&Hints { at_source: Some("split_files/vae/x"), ..hints() }), "vae/x");
    }

    #[test]
    fn explicit_hints_precede_derived_ones() {
        let all = Hints {
            explicit: Some("mine/y"),
            directory: Some("ipadapter/"),
            name: Some("n"),
            civitai_type: Some("LORA"),
            at_source: Some("split_files/vae/x"),
            otherwise: Some("loras"),
        };
        assert_eq!(path(&all), "mine/y");
        assert_eq!(path(&Hints { explicit: Some("mine/"), ..all }), "mine/n");
        assert_eq!(path(&Hints { explicit: Some("mine/"), name: None, ..all }), "mine/x");
        assert_eq!(path(&Hints { explicit: None, ..all }), "ipadapter/n");
        assert_eq!(path(&Hints { explicit: None, directory: None, ..all }), "loras/n");
        let layout = Hints { explicit: None, directory: None, civitai_type: Some("Workflows"), ..all };
        assert_eq!(path(&layout), "vae/n");
        for (folder, expected) in [("LORAS", "loras/n"), ("mine", "mine/n"), ("mine/sub/", "mine/sub/n")] {
            let folder = Hints { at_source: Some("weights/x"), otherwise: Some(folder), ..layout };
            assert_eq!(path(&folder), expected);
        }
    }

    #[test]
    fn a_lists_path_may_include_the_models_directory() {
        for (directory, expected) in [
            ("/workspace/ComfyUI/models/loras", "loras/n"),
            ("models/vae", "vae/n"),
            ("./vae/sub/", "vae/sub/n"),
            ("/data/controlnet", "controlnet/n"),
            ("custom/ComfyUI/models/x", "x/n"),
        ] {
            assert_eq!(path(&Hints { directory: Some(directory), name: Some("n"), ..hints() }), expected);
        }
    }

    #[test]
    fn civitais_types_have_folders() {
        for (kind, expected) in [
            ("Checkpoint", Some("checkpoints")),
            ("LoCon", Some("loras")),
            ("DoRA", Some("loras")),
            ("TextualInversion", Some("embeddings")),
            ("Upscaler", Some("upscale_models")),
            ("Controlnet", Some("controlnet")),
            ("VAE", Some("vae")),
            ("Workflows", None),
            ("Poses", None),
        ] {
            assert_eq!(folder_of_civitai_type(kind), expected, "{kind}");
        }
    }

    #[test]
    fn errors_ask_for_path_and_name_the_folders() {
        let unknown = destination(&Hints { at_source: Some("weights/x.bin"), ..hints() }).unwrap_err();
        let said = unknown.to_string();
        assert!(
            said.contains("\"x.bin\"") && said.contains("--path") && said.contains("upscale_models"),
            "{said}"
        );
        assert!(matches!(
            destination(&Hints { explicit: Some("loras/"), ..hints() }),
            Err(PlacementError::NoName { .. })
        ));
        let glob = Hints { at_source: Some("split_files/vae/*"), ..hints() };
        assert!(matches!(destination(&glob), Err(PlacementError::Several { .. })));
        assert_eq!(path(&Hints { explicit: Some("vae/x"), ..glob }), "vae/x");
        for bad in ["../x", "/abs", "a/../b", "vae/x?"] {
            let error = destination(&Hints { explicit: Some(bad), ..hints() }).unwrap_err();
            assert!(matches!(error, PlacementError::Path { .. }), "{error}");
        }
        let error = destination(&Hints { explicit: Some("loras"), ..hints() }).unwrap_err();
        assert!(error.to_string().contains("--path loras/NAME"), "{error}");
        let escaping = Hints { directory: Some("../../etc"), name: Some("n"), ..hints() };
        assert!(matches!(destination(&escaping), Err(PlacementError::Path { .. })));
    }

    #[test]
    fn a_bare_name_of_a_folder_means_the_folder() {
        for (bare, expected) in [
            ("loras", "loras/n"),
            ("Loras", "loras/n"),
            ("vae_approx", "vae_approx/n"),
            ("geometry_estimation", "geometry_estimation/n"),
            ("optical_flow", "optical_flow/n"),
            // Not `ComfyUI`'s.
            ("mine", "mine"),
            ("mine/loras", "mine/loras"),
        ] {
            assert_eq!(path(&Hints { explicit: Some(bare), name: Some("n"), ..hints() }), expected);
        }
    }

    #[test]
    fn a_typed_path_without_the_files_suffix_has_two_meanings() {
        for (typed, name, file) in [
            ("loras/flux", "x.safetensors", Some("loras/flux.safetensors")),
            ("mine", "x.PTH", Some("mine.PTH")),
            ("loras/flux.1-dev", "x.safetensors", Some("loras/flux.1-dev.safetensors")),
            ("loras/flux.sft", "x.safetensors", None),
            ("loras/flux", "x", None),
            ("loras/flux", "flux.1-dev", None),
            ("loras", "x.safetensors", None),
            ("flux/", "x.safetensors", None),
            ("flux", ".safetensors", None),
        ] {
            match (check_suffix(typed, name), file) {
                (Ok(()), None) => {}
                (Err(PlacementError::NoSuffix { directory, file: found, .. }), Some(file)) => {
                    assert_eq!((directory, found.as_str()), (format!("{typed}/"), file));
                }
                (result, _) => panic!("{typed} {name}: {result:?}"),
            }
        }
    }
}
