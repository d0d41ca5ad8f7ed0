//! A second start of this command in namespaces of its own, which end with it in any case.

use anyhow::{Context as _, Result};
use xshell::{Shell, cmd};

/// Runs this command again with the further argument `flag`, in the namespaces of `options` (of unshare). The shell
/// commands of `setup` run there first. The error is `missing` where the namespaces cannot be made.
pub(crate) fn rerun(
    sh: &Shell,
    options: &[&str],
    setup: &str,
    flag: &str,
    missing: &'static str,
) -> Result<()> {
    cmd!(sh, "unshare {options...} -- sh -c {setup}").quiet().run().context(missing)?;
    let script = format!("{setup} && exec \"$0\" \"$@\"");
    let (this, arguments) = (std::env::current_exe()?, std::env::args_os().skip(1));
    Ok(cmd!(sh, "unshare {options...} -- sh -c {script} {this} {arguments...} {flag}").quiet().run()?)
}
