//! The shipped Dockerfile, changed where the engine of a test needs it.
//!
//! An engine without a registry has only the builder's own frontend: it knows neither a `# syntax=` line nor
//! `COPY --link`. And the models' cache mount gets a name of its own, so that the checks begin without a byte and leave
//! the one that real builds use alone.

use anyhow::{Result, ensure};

/// The name of the models' cache mount in the checks.
pub(super) const CACHE: &str = "provision-models-check";

const CHANGES: &str = "without `# syntax=` and `--link`, which an engine without a registry does not know, and with a \
                       cache mount of its own for the models";

/// The stage before this line makes the binary.
const MODELS: &str = "FROM scratch AS models";

/// The shipped text, changed.
pub(super) fn adapted(shipped: &str) -> Result<String> {
    let shared = "id=provision-models,";
    ensure!(shipped.contains(shared), "the Dockerfile has no cache mount with {shared}");
    let lines = shipped.split_inclusive('\n').filter(|line| !line.starts_with("# syntax="));
    let text = lines.collect::<String>().replace("COPY --link ", "COPY ");
    Ok(text.replace(shared, &format!("id={CACHE},")))
}

/// What was changed, for the log.
pub(super) fn changes() -> String {
    format!("the Dockerfile is the shipped one, {CHANGES}")
}

/// The text with another address for the Hub.
pub(super) fn with_hub(text: &str, address: &str) -> String {
    text.replace(MODELS, &format!("{MODELS}\nENV HF_ENDPOINT={address}"))
}

/// The adapted text with the binary of the image `built`, instead of the stage that makes one.
pub(super) fn with_binary_of(adapted: &str, built: &str) -> Result<String> {
    let at = adapted.find(MODELS);
    ensure!(at.is_some(), "the Dockerfile has no line {MODELS}");
    let lines = adapted.split_inclusive('\n');
    let arguments: String = lines.take_while(|line| !line.starts_with("FROM ")).collect();
    Ok(format!("{arguments}FROM {built} AS build\n{}", &adapted[at.unwrap_or_default()..]))
}
