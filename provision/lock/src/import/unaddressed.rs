//! Files that the nodes of a workflow name without an address, in widgets or inputs.

use std::collections::HashSet;

use serde_json::Value;

use super::list::last;
use super::{List, ListPosition, UnusedReason, loader_folders};
use crate::placement::is_model_name;

/// The longest widget text that is taken for a path, in bytes.
const LONGEST_NAME: usize = 1024;

/// A file that a node names without an address.
pub(super) struct Named {
    pub(super) file: String,
    /// The folder of the node's files.
    pub(super) folder: Option<&'static str>,
    pub(super) place: ListPosition,
}

/// Lists files without an address as unused, once each, unless the list has a file of that name.
pub(super) fn leave_out(list: &mut List, named: Vec<Named>) {
    let known: HashSet<String> = list
        .models
        .iter()
        .map(|model| last(&model.name).to_owned())
        .chain(list.unused.iter().map(|unused| last(&unused.what).to_owned()))
        .collect();
    // A subgraph's or group's own node shows the name again, and is no loader.
    let of_loaders: HashSet<String> =
        named.iter().filter(|named| named.folder.is_some()).map(|named| named.file.clone()).collect();
    let mut said = HashSet::new();
    for Named { file, folder, place } in named {
        let is_again = folder.is_none() && of_loaders.contains(&file);
        if !is_again && !known.contains(last(&file)) && said.insert((file.clone(), folder)) {
            list.leave_out(file, UnusedReason::Named { folder }, &place);
        }
    }
}

/// Finds model file names in a node's widgets or inputs, at any depth, with the folder of the loader.
pub(super) fn files_in(
    value: &Value,
    class: &str,
    input: Option<&str>,
    found: &mut impl FnMut(String, Option<&'static str>),
) {
    match value {
        Value::String(text) => {
            let is_address = text.contains("://") || text.contains('\n');
            if !is_address && text.len() <= LONGEST_NAME && is_model_name(text) {
                found(text.replace('\\', "/"), loader_folders::folder(class, input));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| files_in(item, class, input, found)),
        Value::Object(items) => {
            items.iter().for_each(|(name, item)| files_in(item, class, Some(name), found));
        }
        _ => {}
    }
}
