//! Paths: an accepted path, joined to a destination, stays beneath it and names one file on every system.
#![no_main]

use libfuzzer_sys::fuzz_target;
use provision_core::model_path::ModelPath;
use provision_fuzz::{bounded, stays_beneath, text};

fuzz_target!(|data: &[u8]| bounded(data, check));

/// An input is a path.
fn check(data: &[u8]) {
    let path = text(data);
    match path.parse::<ModelPath>() {
        Ok(accepted) => {
            assert_eq!(accepted.as_str(), path, "the path was changed");
            stays_beneath(&accepted);
        }
        // Errors are printed to a terminal.
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
}
