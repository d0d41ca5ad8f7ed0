//! The folder that a directory or an array's name of a script means.

use super::evaluate::UNKNOWN;
use crate::placement::{self, FOLDERS};

/// Words for `ComfyUI`'s folders in other programs and in the names of arrays. A folder's own name without its `s` is
/// such a word, too.
const WORDS: [(&str, &str); 18] = [
    ("ckpt", "checkpoints"),
    ("stable-diffusion", "checkpoints"),
    ("unet", "diffusion_models"),
    ("clip", "text_encoders"),
    ("t5", "text_encoders"),
    ("latent_upscale", "latent_upscale_models"),
    ("upscale", "upscale_models"),
    ("upscaler", "upscale_models"),
    ("esrgan", "upscale_models"),
    ("realesrgan", "upscale_models"),
    ("control_net", "controlnet"),
    ("textual_inversion", "embeddings"),
    ("model_patch", "model_patches"),
    ("vae_approx", "vae_approx"),
    ("ipadapter", "ipadapter"),
    ("hypernet", "hypernetworks"),
    ("style_model", "style_models"),
    ("photomaker", "photomaker"),
];

/// The folder of the longest word that fits.
fn by_word(fits: impl Fn(&str) -> bool) -> Option<&'static str> {
    let own = FOLDERS.into_iter().map(|folder| (folder.trim_end_matches('s'), folder));
    let fitting = own.chain(WORDS).filter(|(word, _)| fits(word));
    fitting.max_by_key(|(word, _)| word.len()).map(|(_, folder)| folder)
}

/// The folder that an array's name tells.
pub(super) fn folder_of_array(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    by_word(|word| name.contains(word))
}

/// The folder of a path in a script.
pub(super) enum Folder {
    /// Below `models`.
    Below(String),
    /// In another place of the program.
    Elsewhere(String),
    /// The path does not say it.
    Unknown,
}

pub(super) fn folder_of(path: &str) -> Folder {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let begin = parts.iter().rposition(|part| part.contains(UNKNOWN)).map_or(0, |at| at + 1);
    let parts = &parts[begin..];
    if parts.contains(&"custom_nodes") {
        return Folder::Elsewhere(parts.join("/"));
    }
    let after_models = parts.iter().rposition(|part| *part == "models").map(|at| &parts[at + 1..]);
    let known = parts.iter().position(|part| placement::folder(part).is_some()).map(|at| &parts[at..]);
    let below = after_models.filter(|parts| !parts.is_empty()).or(known);
    let Some((first, rest)) = below.and_then(<[&str]>::split_first) else { return Folder::Unknown };
    let by_word = || by_word(|word| first.trim_end_matches('s').eq_ignore_ascii_case(word));
    let first = placement::folder(first).or_else(by_word).unwrap_or(first);
    Folder::Below([&[first], rest].concat().join("/"))
}
