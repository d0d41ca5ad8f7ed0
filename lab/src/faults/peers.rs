//! `cargo lab faults --peer`: the cases about origins (1 to 35 and 43 to 51), run with other download tools and with this
//! program.
//!
//! A run is judged by what a script sees: the exit status and the file under the final name. The judgement is about wrong
//! bytes with exit 0, and about a credential that reaches another host. A reported failure deceives no script, nor does
//! a control file beside a part.
//!
//! All runs share a network namespace with a loopback interface only. No tool can reach the outside, and case 47 gets an
//! address that looks public. Where namespaces are not allowed, case 47 is left out.

#![expect(clippy::print_stdout, reason = "a person watches the runs and reads the table")]

mod case;
mod report;
mod sandbox;
mod tool;
mod verdict;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::Content;
use xshell::{Shell, cmd};

use self::case::Case;
use self::report::Row;
use self::sandbox::{FILE, PUBLIC, Sandbox, TOKEN};
use self::tool::Tool;
use self::verdict::{Exit, Verdict};
use super::{FaultsArgs, PAGE, catalogue, page};
use crate::project;
use crate::tools::programs::{self, OPENSSL};
use crate::tools::{parallel, wait};

pub(crate) use tool::Peer;

/// Most runs wait for a timeout, so their number may exceed that of the cores.
const JOBS: usize = 8;
/// `prlimit`'s bound for a tool that buffers a header without end.
const MEMORY: &str = "--as=8589934592";

pub(super) fn run(sh: &Shell, args: &FaultsArgs, cases: &[catalogue::Case]) -> Result<()> {
    programs::extend_path(sh);
    if !args.in_namespace && rerun_in_namespace(sh)? {
        return Ok(());
    }
    programs::require(sh, "cargo lab faults --peer", &[OPENSSL])?;
    let mut tools = vec![Tool::ours(sh)?];
    let mut missing = Vec::new();
    for &peer in &args.peer {
        peer.find(sh).map_or_else(|| missing.push(peer), |tool| tools.push(tool));
    }
    let mut numbers = case::numbers(args.in_namespace);
    numbers.retain(|number| args.case.is_empty() || args.case.contains(number));
    ensure!(
        !numbers.is_empty(),
        "none of these cases can be run: only 1 to 35 and 43 to 51 are about origins"
    );

    let temporary = tempfile::Builder::new().prefix("provision-faults-").tempdir()?;
    let folder = Utf8Path::from_path(temporary.path()).context("the temporary directory is not UTF-8")?;
    let environment = Environment {
        folder: folder.to_owned(),
        authority: write_authority(sh, folder)?,
        path: sh.var("PATH")?,
        limit: Duration::from_secs(args.limit),
        in_namespace: args.in_namespace,
    };
    let runs: Vec<_> =
        numbers.iter().flat_map(|number| tools.iter().map(move |tool| (*number, tool))).collect();
    let verdicts = parallel::map(&runs, JOBS, |&(number, tool)| {
        let name = tool.name();
        let verdict =
            run_one(&environment, number, tool).with_context(|| format!("case {number}, {name}"))?;
        let shown = verdict.as_ref().map_or("not run: it takes one URL only".to_owned(), Verdict::to_string);
        println!("{number:02} {name:7} {shown}");
        anyhow::Ok(verdict)
    });
    let verdicts = verdicts.into_iter().collect::<Result<Vec<_>>>()?;
    let rows: Vec<_> = numbers
        .iter()
        .zip(verdicts.chunks(tools.len()))
        .filter_map(|(number, verdicts)| {
            let case = cases.iter().find(|case| case.number == *number)?;
            Some(Row { case, verdicts: verdicts.to_vec() })
        })
        .collect();
    let table = report::table(&tools, &missing, &rows, args.limit);
    println!("{table}");
    if args.write {
        ensure!(missing.is_empty(), "a tool is not installed: {PAGE} would lose its column");
        sh.write_file(PAGE, page::replace(&sh.read_file(PAGE)?, page::PEERS, &table)?)?;
        println!("{PAGE} written");
    }
    Ok(())
}

/// The settings of all runs.
struct Environment {
    folder: Utf8PathBuf,
    /// The certificate of the authority that the https origins' certificates are from.
    authority: Utf8PathBuf,
    path: String,
    limit: Duration,
    in_namespace: bool,
}

/// Runs a tool against the origins of a case. `None`: the tool cannot do the case.
fn run_one(environment: &Environment, number: u8, tool: &Tool) -> Result<Option<Verdict>> {
    let sandbox = Sandbox::start(environment.in_namespace)?;
    let case = Case::prepare(number, &sandbox)?;
    if !tool.can_run(&case) {
        return Ok(None);
    }
    let folder = environment.folder.join(format!("{number}-{}", tool.name()));
    let path = folder.join("models").join(FILE);
    fs::create_dir_all(folder.join("models"))?;
    let before = case.before.as_ref().map(Content::to_vec);
    if let Some(bytes) = &before {
        fs::write(&path, bytes)?;
    }
    let log = File::create(folder.join("log"))?;
    let mut command = Command::new("prlimit");
    command.env_clear().env("PATH", &environment.path).env("HOME", &folder).current_dir(&folder);
    command.args([MEMORY, "--core=0", "--", tool.program.as_str()]);
    tool.configure(&mut command, &case, &folder, &environment.authority)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting prlimit (of util-linux)")?;
    let exit = match wait::until("its end", environment.limit, || Ok(child.try_wait()?)) {
        Ok(status) if status.signal().is_some() => Exit::Signal,
        Ok(status) => status.code().map_or(Exit::Signal, Exit::Code),
        Err(_) => {
            child.kill()?;
            child.wait()?;
            Exit::NoEnd
        }
    };
    let file = verdict::compare(fs::read(&path).ok().as_deref(), before.as_deref(), &case.content.to_vec());
    let is_marked = path.with_file_name(format!("{FILE}.aria2")).exists();
    let mut foreign = sandbox.foreign_requests().into_iter();
    let has_token = foreign.any(|request| request.headers.iter().any(|(_, value)| value.contains(TOKEN)));
    let trespasses = case.trespass(&sandbox).into_iter().chain(has_token.then_some("token sent on"));
    let verdict = Verdict { exit, file, is_marked, trespasses: trespasses.collect() };
    fs::remove_dir_all(&folder)?;
    Ok(Some(verdict))
}

/// Writes the certificate of the testbed's authority, as the tools read it: in PEM.
fn write_authority(sh: &Shell, folder: &Utf8Path) -> Result<Utf8PathBuf> {
    let (der, pem) = (folder.join("authority.der"), folder.join("authority.pem"));
    sh.write_file(&der, provision_testbed::authority())?;
    cmd!(sh, "openssl x509 -inform DER -in {der} -out {pem}").quiet().run()?;
    Ok(pem)
}

/// Runs this command again in a network namespace. Returns false where none can be made.
fn rerun_in_namespace(sh: &Shell) -> Result<bool> {
    let setup = format!("ip link set lo up && ip address add {PUBLIC}/32 dev lo");
    if cmd!(sh, "unshare --net -- sh -c {setup}").quiet().ignore_stderr().run().is_err() {
        println!("no network namespace can be made here (unshare, ip): case 47 is not run");
        return Ok(false);
    }
    let script = format!("{setup} && exec \"$0\" \"$@\" --in-namespace");
    let (this, args) = (std::env::current_exe()?, std::env::args_os().skip(1));
    let _root = sh.push_dir(project::root());
    cmd!(sh, "unshare --net -- sh -c {script} {this} {args...}").quiet().run()?;
    Ok(true)
}
