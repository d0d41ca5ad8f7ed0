//! A `ComfyUI` workflow in API format: a node for each identifier, with its class and its inputs. It names files, but
//! has no addresses. The nodes are the whole text, or under `prompt` as the server gets them, or in a job of
//! worker-comfyui.

use serde_json::{Map, Value};

use super::unaddressed::{Named, files_in, leave_out};
use super::{Format, ImportError, List, ListPosition};

/// The places of the nodes in other programs' requests.
const POINTERS: [&str; 6] =
    ["", "/prompt", "/input/workflow", "/input/prompt", "/input/input/workflow", "/workflow"];

/// The nodes of a workflow in API format.
pub(super) fn nodes(value: &Value) -> Option<&Map<String, Value>> {
    let is_call = |node: &Value| node.get("class_type").is_some();
    let objects = POINTERS.iter().filter_map(|pointer| value.pointer(pointer)?.as_object());
    objects.into_iter().find(|nodes| nodes.values().any(is_call))
}

pub(super) fn read(name: &str, value: &Value) -> Result<List, ImportError> {
    let Some(nodes) = nodes(value) else {
        return Err(ImportError::Shape { list: name.to_owned(), format: Format::Api });
    };
    let mut list = List::new(Format::Api);
    let mut named = Vec::new();
    for (id, node) in nodes {
        let class = node.get("class_type").and_then(Value::as_str).unwrap_or("?");
        let place = ListPosition::entry(name, format!("node {id} ({class})"));
        for (input, value) in node.get("inputs").and_then(Value::as_object).into_iter().flatten() {
            files_in(value, class, Some(input), &mut |file, folder| {
                named.push(Named { file, folder, place: place.clone() });
            });
        }
    }
    leave_out(&mut list, named);
    Ok(list)
}
