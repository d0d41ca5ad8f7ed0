//! Detects a list's format from its text. The first line that fits any format decides, so a stray line before it does
//! not hide the format.

use serde_json::Value;

use super::{Format, ImportError, api_workflow, json, lines, script, sha256sum};
use crate::placement::is_model_name;
use crate::source::Source;

/// The format of `text`.
pub(super) fn format(name: &str, text: &str) -> Result<Format, ImportError> {
    if text.trim_start().starts_with(['{', '[']) {
        return of_json(name, &json(name, text)?);
    }
    let unknown = || ImportError::Unknown { list: name.to_owned() };
    if lines(text).next().is_none() && !text.starts_with("#!") {
        return Err(ImportError::Empty { list: name.to_owned() });
    }
    if script::is_script(text) {
        return Ok(Format::Script);
    }
    let has_address = |line: &str| line.split_whitespace().next().is_some_and(|first| first.contains(':'));
    let is_sum = |line: &str| sha256sum::line(line).is_ok();
    let telling = lines(text).map(|(_, line)| line).find(|line| is_sum(line) || has_address(line));
    if telling.is_some_and(is_sum) {
        return Ok(Format::Sha256sum);
    }
    let is_option = |line: &str| line.starts_with([' ', '\t']) && line.contains('=');
    let has_mirrors = |line: &str| line.split('\t').filter(|part| part.contains("://")).count() > 1;
    if lines(text).any(|(_, line)| is_option(line) || has_mirrors(line)) {
        return Ok(Format::Aria2);
    }
    let Some(line) = telling else { return Err(unknown()) };
    let has_path = |line: &str| line.split_whitespace().nth(1).is_some_and(|second| !second.starts_with('#'));
    Ok(if line.contains('|') || has_path(line) { Format::Pget } else { Format::Urls })
}

fn of_json(name: &str, value: &Value) -> Result<Format, ImportError> {
    let is_model = |model: &Value| model.get("filename").is_some() || model.get("save_path").is_some();
    let models = value.get("models").unwrap_or(value).as_array();
    if value.get("nodes").is_some_and(Value::is_array) {
        Ok(Format::Workflow)
    } else if models.is_some_and(|models| models.iter().any(is_model)) {
        Ok(Format::Manager)
    } else if api_workflow::nodes(value).is_some() {
        Ok(Format::Api)
    } else if names_model(value) {
        Err(ImportError::Unknown { list: name.to_owned() })
    } else {
        Err(ImportError::NoModels { list: name.to_owned() })
    }
}

/// True if any text of the value may be a model's name or address.
fn names_model(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let mut words = text.split(|c: char| c.is_whitespace() || "?#&\"'()|".contains(c));
            let is_source = || text.parse().is_ok_and(|source| !matches!(source, Source::Url(_)));
            words.any(is_model_name) || is_source()
        }
        Value::Array(items) => items.iter().any(names_model),
        Value::Object(items) => items.values().any(names_model),
        _ => false,
    }
}
