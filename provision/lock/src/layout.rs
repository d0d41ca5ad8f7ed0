//! Where a file goes below the destination, from what it is.
//!
//! The destination is `ComfyUI`'s `models` directory, so the folders are its own (`folder_paths.py`); a folder of another
//! name is given by `--path`. Nothing is guessed from a file's name: a wrong folder is a model that `ComfyUI` does not list,
//! found out minutes after thirty gigabytes.
//!
//! In order, what is known first counts:
//! 1. `--path`: a path, or a directory where it ends with `/`.
//! 2. What a list says: a directory and a name.
//! 3. Civitai's type of the model.
//! 4. The repository's own layout: from the first component on that is one of the folders
//!    (`split_files/vae/x` → `vae/x`).

use provision_core::model_path::{ModelPath, ModelPathError};

use provision_core::terminal_text::TerminalText;

/// `ComfyUI`'s folders below `models`. `clip` and `unet` are the older names of `text_encoders` and `diffusion_models`, and
/// still looked into.
pub const FOLDERS: [&str; 23] = [
    "audio_encoders",
    "background_removal",
    "checkpoints",
    "classifiers",
    "clip",
    "clip_vision",
    "configs",
    "controlnet",
    "diffusers",
    "diffusion_models",
    "embeddings",
    "gligen",
    "hypernetworks",
    "latent_upscale_models",
    "loras",
    "model_patches",
    "photomaker",
    "style_models",
    "t2i_adapter",
    "text_encoders",
    "unet",
    "upscale_models",
    "vae",
];

/// A folder that has no model lists of its own but is often in repositories.
const ALSO: &str = "vae_approx";

/// What is known of a file's place.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// What `--path` says.
    pub explicit: Option<&'a str>,
    /// The directory that a list gives.
    pub directory: Option<&'a str>,
    /// The file's name, where it is not the last part of `at_source`.
    pub name: Option<&'a str>,
    /// Civitai's type of the model (`LORA`).
    pub civitai_type: Option<&'a str>,
    /// The path at the source: below the repository, or an address's.
    pub at_source: Option<&'a str>,
}

/// Why there is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Nothing says where it goes.
    #[error(
        "where {what} goes is not to be seen from where it comes from; give --path FOLDER/ or --path FOLDER/NAME, where \
         FOLDER is one of ComfyUI's ({}) or your own",
        FOLDERS.join(", ")
    )]
    Unknown {
        /// The file.
        what: String,
    },
    /// A glob, which has not been held against the repository's files yet.
    #[error("{pattern:?} is a glob, so where its files go is known when the host has said which there are")]
    Several {
        /// The glob.
        pattern: String,
    },
    /// A directory, and no name for the file in it.
    #[error("the source does not tell the file's name; give --path {}NAME", TerminalText(directory))]
    NoName {
        /// The directory.
        directory: String,
    },
    /// What comes out is no path.
    #[error("{path:?} cannot be a model's path: {error}; give another one with --path")]
    Path {
        /// What came out.
        path: String,
        /// What is wrong with it.
        error: ModelPathError,
    },
}

/// The folder that `name` means, as `ComfyUI` writes it.
pub fn folder(name: &str) -> Option<&'static str> {
    FOLDERS.into_iter().chain([ALSO]).find(|known| known.eq_ignore_ascii_case(name))
}

/// The folder for Civitai's type of a model; `None` for what is no file of a model (workflows, poses), or has no folder.
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

/// The path from the first folder of `ComfyUI` on, where a file comes behind it.
pub fn from_layout(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (_, directories) = parts.split_last()?;
    let (at, name) =
        directories.iter().enumerate().find_map(|(at, part)| folder(part).map(|name| (at, name)))?;
    Some([&[name], &parts[at + 1..]].concat().join("/"))
}

/// Where the file goes.
pub fn destination(hints: &Hints<'_>) -> Result<ModelPath, LayoutError> {
    // No file has these characters in its path. Brackets and braces are in names, too.
    let is_glob = |path: &&str| path.contains(['*', '?']);
    if let (None, None, Some(pattern)) = (hints.explicit, hints.name, hints.at_source.filter(is_glob)) {
        return Err(LayoutError::Several { pattern: pattern.to_owned() });
    }
    let last = hints.at_source.and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
    let name = hints.name.or(last);
    let below = |directory: &str| match name {
        Some(name) => Ok(format!("{directory}{name}")),
        None => Err(LayoutError::NoName { directory: directory.to_owned() }),
    };
    let text = if let Some(path) = hints.explicit {
        if path.ends_with('/') { below(path)? } else { path.to_owned() }
    } else if let Some(directory) = hints.directory {
        within(&below(&format!("{}/", directory.trim_end_matches('/')))?)
    } else if let Some(folder) = hints.civitai_type.and_then(folder_of_civitai_type) {
        below(&format!("{folder}/"))?
    } else if let Some(path) = hints.at_source.and_then(from_layout) {
        match hints.name {
            // A list's own name, in the repository's folder.
            Some(name) => match path.rsplit_once('/') {
                Some((directory, _)) => format!("{directory}/{name}"),
                None => path,
            },
            None => path,
        }
    } else {
        let what = name.map_or_else(|| "the file".to_owned(), |name| format!("{name:?}"));
        return Err(LayoutError::Unknown { what });
    };
    text.parse().map_err(|error| LayoutError::Path { path: text, error })
}

/// A list's path as it is below `models`: other tools write where that is in front (`/workspace/ComfyUI/models/vae/x`).
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
    fn a_repositorys_layout_is_followed_from_its_first_folder_on() {
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
    fn what_is_said_counts_before_what_is_worked_out() {
        let all = Hints {
            explicit: Some("mine/y"),
            directory: Some("ipadapter/"),
            name: Some("n"),
            civitai_type: Some("LORA"),
            at_source: Some("split_files/vae/x"),
        };
        assert_eq!(path(&all), "mine/y");
        assert_eq!(path(&Hints { explicit: Some("mine/"), ..all }), "mine/n");
        assert_eq!(path(&Hints { explicit: Some("mine/"), name: None, ..all }), "mine/x");
        assert_eq!(path(&Hints { explicit: None, ..all }), "ipadapter/n");
        assert_eq!(path(&Hints { explicit: None, directory: None, ..all }), "loras/n");
        let layout = Hints { explicit: None, directory: None, civitai_type: Some("Workflows"), ..all };
        assert_eq!(path(&layout), "vae/n");
    }

    #[test]
    fn lists_may_say_where_models_is() {
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
            Err(LayoutError::NoName { .. })
        ));
        let glob = Hints { at_source: Some("split_files/vae/*"), ..hints() };
        assert!(matches!(destination(&glob), Err(LayoutError::Several { .. })));
        assert_eq!(path(&Hints { explicit: Some("vae/x"), ..glob }), "vae/x");
        for bad in ["../x", "/abs", "a/../b", "vae/x?"] {
            let error = destination(&Hints { explicit: Some(bad), ..hints() }).unwrap_err();
            assert!(matches!(error, LayoutError::Path { .. }), "{error}");
        }
        let escaping = Hints { directory: Some("../../etc"), name: Some("n"), ..hints() };
        assert!(matches!(destination(&escaping), Err(LayoutError::Path { .. })));
    }
}
