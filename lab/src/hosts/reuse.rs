//! The cache of the Hub's own client, as `--reuse` reads it: its layout is the client's, not the project's.

#![expect(clippy::print_stdout, reason = "the checks are the command's output")]

use anyhow::{Result, ensure};
use camino::Utf8Path;
use provision_testbed::Content;
use xshell::Shell;

use crate::tools::lock_text;
use crate::tools::process::Run;
use crate::tools::program;
use crate::tools::scratch::Scratch;

/// Installs `files` from the client's cache in `home`, without network.
pub(super) fn check(sh: &Shell, scratch: &Scratch, home: &Utf8Path, files: &[(&str, Content)]) -> Result<()> {
    let (program, path) = (program::xtask(sh)?, sh.var("PATH")?);
    let model = |(name, content): &(&str, Content)| {
        lock_text::model(name, "https://unused.example/", content.size(), &content.sha256_hex())
    };
    let text = lock_text::VERSION.to_owned() + &files.iter().map(model).collect::<String>();
    let lock = super::script(scratch, "reuse.lock", &text)?;
    for mode in ["copy", "link"] {
        let models = scratch.fresh("models");
        let arguments = ["fetch-models", "--offline", "--lock", lock.as_str(), "--dest", models.as_str()];
        let reuse = ["--reuse", home.as_str(), "--reuse-mode", mode];
        let run = Run::new(&program, &path, scratch.fresh("run"))?.args(&arguments).args(&reuse);
        run.start()?.end()?.exited(0)?;
        for (name, content) in files {
            ensure!(std::fs::read(models.join(name))? == content.to_vec(), "{name} has other bytes");
        }
        println!("    --reuse {mode}: a large and a small file come from the client's cache");
    }
    Ok(())
}
