//! `provision`: the program, also of images.

use std::process::ExitCode;

fn main() -> ExitCode {
    provision::cli::program::main()
}
