//! `ComfyUI`-Manager's model list: `{"models": [{name, type, base, save_path, filename, url, size}]}`.
//!
//! `save_path` is a directory below `models`; `default` means the folder of the type. Sizes are rounded for display
//! (`4.27GB`), so they are not used.

use serde_json::Value;

use super::{Format, ImportError, ImportedModel, List, ListPosition, UnusedReason};
use crate::source::Source;

pub(super) fn read(name: &str, value: &Value) -> Result<List, ImportError> {
    let Some(models) = value.get("models").unwrap_or(value).as_array() else {
        return Err(ImportError::Shape { list: name.to_owned(), format: Format::Manager });
    };
    let mut list = List::new(Format::Manager);
    for (at, model) in models.iter().enumerate() {
        let text =
            |key: &str| model.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
        let file = text("filename");
        let shown = text("name").or(file).unwrap_or("a model without a name");
        let place = ListPosition::entry(name, format!("entry {}", at + 1));
        let Some(url) = text("url") else {
            list.leave_out(shown, UnusedReason::NoAddress, &place);
            continue;
        };
        if file == Some("<huggingface>") {
            list.leave_out(shown, UnusedReason::Repository, &place);
            continue;
        }
        let directory = match text("save_path") {
            None | Some("default") => text("type").and_then(folder_of_type).map(str::to_owned),
            Some(path) if path == "custom_nodes" || path.starts_with("custom_nodes/") => {
                list.leave_out(shown, UnusedReason::Elsewhere { directory: path.to_owned() }, &place);
                continue;
            }
            Some(path) => Some(path.replace('\\', "/")),
        };
        match url.parse::<Source>() {
            Ok(source) => list.models.push(ImportedModel {
                directory,
                size: model.get("size").and_then(Value::as_u64),
                ..ImportedModel::new(file.map(str::to_owned), source, place)
            }),
            Err(error) => list.leave_out(shown, UnusedReason::Source(error), &place),
        }
    }
    Ok(list)
}

/// The Manager's folder for a model type.
fn folder_of_type(kind: &str) -> Option<&'static str> {
    Some(match kind.to_ascii_lowercase().as_str() {
        "checkpoint" | "checkpoints" | "unclip" => "checkpoints",
        "clip" | "text_encoders" => "text_encoders",
        "vae" => "vae",
        "lora" => "loras",
        "t2i-adapter" | "t2i-style" | "controlnet" => "controlnet",
        "clip_vision" => "clip_vision",
        "gligen" => "gligen",
        "upscale" => "upscale_models",
        "embedding" | "embeddings" => "embeddings",
        "unet" | "diffusion_model" => "diffusion_models",
        _ => return None,
    })
}
