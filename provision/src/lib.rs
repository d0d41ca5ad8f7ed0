//! The program: arguments, environment, progress, messages and exit codes. Shared by `provision` and `cargo xtask`.

pub mod cli;
