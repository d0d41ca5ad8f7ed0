//! A `ComfyUI` workflow. Nodes list their models in `properties.models`. A subgraph is defined once under
//! `definitions.subgraphs` and has nodes of its own. Older files have one list of `models` at the top instead.
//!
//! A node may also name a file in its widgets without an address. Such files are listed as unused; otherwise the set would look
//! complete.

use std::collections::HashSet;

use serde_json::Value;

use super::{Format, ImportError, ImportedModel, List, Place, UnusedReason};
use crate::source::Source;

/// File name endings of models.
pub(super) const ENDINGS: [&str; 8] =
    [".safetensors", ".ckpt", ".pt", ".pth", ".gguf", ".sft", ".bin", ".onnx"];

/// The longest widget text that is taken for a path, in bytes.
const LONGEST_NAME: usize = 1024;

pub(super) fn read(name: &str, value: &Value) -> Result<List, ImportError> {
    if !value.get("nodes").is_some_and(Value::is_array) {
        return Err(ImportError::Shape { list: name.to_owned(), format: Format::Workflow });
    }
    let mut list = List::new(Format::Workflow);
    let mut named = Vec::new();
    for model in array(value.get("models")) {
        model_of(&mut list, model, &Place::entry(name, "its list of models"));
    }
    graph(&mut list, &mut named, name, value);
    let known: HashSet<String> = list
        .models
        .iter()
        .map(|model| last(&model.name))
        .chain(list.unused.iter().map(|unused| last(&unused.what)))
        .collect();
    let mut said = HashSet::new();
    for (file, place) in named {
        if !known.contains(&last(&file)) && said.insert(file.clone()) {
            list.leave_out(file, UnusedReason::NoAddress, &place);
        }
    }
    Ok(list)
}

/// Reads a graph's nodes, and those of its subgraphs.
fn graph(list: &mut List, named: &mut Vec<(String, Place)>, name: &str, graph_: &Value) {
    for node in array(graph_.get("nodes")) {
        let id = node.get("id").map(ToString::to_string).unwrap_or_default();
        let kind = node.get("type").and_then(Value::as_str).unwrap_or("?");
        let place = Place::entry(name, format!("node {} ({kind})", id.trim_matches('"')));
        for model in array(node.get("properties").and_then(|properties| properties.get("models"))) {
            model_of(list, model, &place);
        }
        if let Some(widgets) = node.get("widgets_values") {
            let mut files = Vec::new();
            files_in(widgets, &mut files);
            named.extend(files.into_iter().map(|file| (file, place.clone())));
        }
    }
    let definitions = graph_.get("definitions").and_then(|definitions| definitions.get("subgraphs"));
    for subgraph in array(definitions) {
        graph(list, named, name, subgraph);
    }
}

fn model_of(list: &mut List, model: &Value, place: &Place) {
    let text =
        |key: &str| model.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let name = text("name").map(|name| name.replace('\\', "/"));
    let shown = name.clone().unwrap_or_else(|| "a model without a name".to_owned());
    let Some(url) = text("url") else {
        list.leave_out(shown, UnusedReason::NoAddress, place);
        return;
    };
    let source: Source = match url.parse() {
        Ok(source) => source,
        Err(error) => {
            list.leave_out(shown, UnusedReason::Source(error), place);
            return;
        }
    };
    let sha256 = text("hash").and_then(|hash| list.hash(&shown, text("hash_type"), hash, place));
    list.models.push(ImportedModel {
        name: name.or_else(|| source.file_name()).unwrap_or_default(),
        source,
        mirrors: Vec::new(),
        path: None,
        chosen: None,
        directory: text("directory").map(|directory| directory.replace('\\', "/")),
        size: None,
        sha256,
        place: place.clone(),
    });
}

/// Collects model file names from a node's widgets, at any depth.
fn files_in(value: &Value, files: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let lower = text.to_ascii_lowercase();
            let is_address = lower.contains("://") || text.contains('\n');
            if !is_address
                && text.len() <= LONGEST_NAME
                && ENDINGS.iter().any(|ending| lower.ends_with(ending))
            {
                files.push(text.replace('\\', "/"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| files_in(item, files)),
        Value::Object(items) => items.values().for_each(|item| files_in(item, files)),
        _ => {}
    }
}

fn last(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
