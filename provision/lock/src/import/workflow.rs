//! A `ComfyUI` workflow. Nodes list their models in `properties.models`. A subgraph is defined once under
//! `definitions.subgraphs` and has nodes of its own; so does a group node, under `extra.groupNodes`. Older files have
//! one list of `models` at the top instead. The JSON parser bounds the depth of subgraphs in subgraphs.
//!
//! A node may also name a file in its widgets without an address. Such files are listed as unused; otherwise the set
//! would look complete. Links in notes are kept apart, because a note is no statement about the workflow's needs.

use serde_json::Value;

use super::notes::{self, Note};
use super::unaddressed::{Named, files_in, leave_out};
use super::{Format, ImportError, ImportedModel, List, ListPosition, UnusedReason};
use crate::placement;
use crate::source::Source;

/// The contents of a workflow's nodes.
struct Nodes<'a> {
    list: List,
    named: Vec<Named>,
    notes: Vec<Note<'a>>,
}

pub(super) fn read(name: &str, value: &Value) -> Result<List, ImportError> {
    if !value.get("nodes").is_some_and(Value::is_array) {
        return Err(ImportError::Shape { list: name.to_owned(), format: Format::Workflow });
    }
    let mut nodes = Nodes { list: List::new(Format::Workflow), named: Vec::new(), notes: Vec::new() };
    for model in array(value.get("models")) {
        model_of(&mut nodes.list, model, &ListPosition::entry(name, "its list of models"));
    }
    nodes.graph(name, value);
    let Nodes { mut list, named, notes } = nodes;
    notes::links(&mut list, &notes, &named);
    leave_out(&mut list, named);
    Ok(list)
}

impl<'a> Nodes<'a> {
    /// Reads a graph's nodes, and those of its subgraphs and group nodes.
    fn graph(&mut self, name: &str, graph: &'a Value) {
        for node in array(graph.get("nodes")) {
            let id = node.get("id").map(ToString::to_string).unwrap_or_default();
            let kind = node.get("type").and_then(Value::as_str).unwrap_or("?");
            let place = ListPosition::entry(name, format!("node {} ({kind})", id.trim_matches('"')));
            for model in array(node.get("properties").and_then(|properties| properties.get("models"))) {
                model_of(&mut self.list, model, &place);
            }
            if let Some(widgets) = node.get("widgets_values") {
                files_in(widgets, kind, None, &mut |file, folder| {
                    self.named.push(Named { file, folder, place: place.clone() });
                });
                notes::texts_in(widgets, &mut |text| self.notes.push(Note { text, place: place.clone() }));
            }
        }
        let subgraphs = array(graph.pointer("/definitions/subgraphs"));
        let groups = graph.pointer("/extra/groupNodes").and_then(Value::as_object);
        for inner in subgraphs.iter().chain(groups.into_iter().flat_map(|groups| groups.values())) {
            self.graph(name, inner);
        }
    }
}

fn model_of(list: &mut List, model: &Value, place: &ListPosition) {
    let text =
        |key: &str| model.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let name = text("name").map(|name| name.replace('\\', "/"));
    let shown = name.clone().unwrap_or_else(|| "a model without a name".to_owned());
    let Some(url) = text("url") else {
        let folder = text("directory").and_then(placement::folder);
        list.leave_out(shown, UnusedReason::Named { folder }, place);
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
        directory: text("directory").map(|directory| directory.replace('\\', "/")),
        sha256,
        ..ImportedModel::new(name, source, place.clone())
    });
}

fn array(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
