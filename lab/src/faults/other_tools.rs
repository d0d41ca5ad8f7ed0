//! `cargo lab faults --peer`: the cases about origins, run with other download tools and with this program.
//!
//! A run is judged by what a script sees: the exit status and the file under the final name. The judgement is about
//! wrong bytes with exit 0, and about a credential that reaches another host. A reported failure deceives no script,
//! nor does a control file beside a part.
//!
//! All runs share a network namespace with a loopback interface only. No tool can reach the outside, and case 47 gets
//! an address that looks public.

#![expect(clippy::print_stdout, reason = "a person watches the runs and reads the table")]

mod case;
mod origins;
mod report;
mod tool;
mod verdict;

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use provision_testbed::Content;
use xshell::{Shell, cmd};

use self::case::Case;
use self::origins::{FILE, Origins, PUBLIC, TOKEN};
use self::tool::{Tool, lock_text};
use self::verdict::Verdict;
use super::{FaultsArgs, PAGE, catalogue, page};
use crate::tools::process::Run;
use crate::tools::programs::{self, OPENSSL};
use crate::tools::scratch::Scratch;
use crate::tools::{namespace, parallel};

/// Most runs wait for a timeout, so their number may exceed that of the cores.
const JOBS: usize = 8;
/// The time that a run may take.
const LIMIT: Duration = Duration::from_secs(90);
/// `prlimit`'s bound for a tool that buffers a header without end.
const LIMITS: [&str; 3] = ["--as=8589934592", "--core=0", "--"];

pub(super) fn run(sh: &Shell, args: &FaultsArgs, cases: &[catalogue::Case]) -> Result<()> {
    programs::extend_path(sh);
    if !args.in_namespace {
        let setup = format!("ip link set lo up && ip address add {PUBLIC}/32 dev lo");
        let missing = "--peer needs a network namespace (unshare and ip, as root)";
        return namespace::rerun(sh, &["--net"], &setup, "--in-namespace", missing);
    }
    programs::require(sh, "cargo lab faults --peer", &[OPENSSL])?;
    let peers = args.peer.iter().map(|peer| Tool::find(sh, peer));
    let tools = [Tool::ours(sh)].into_iter().chain(peers).collect::<Result<Vec<_>>>()?;
    let is_run = |case: &&catalogue::Case| {
        case::NUMBERS.iter().any(|range| range.contains(&case.number))
            && (args.case.is_empty() || args.case.contains(&case.number))
    };
    let cases: Vec<_> = cases.iter().filter(is_run).collect();
    ensure!(!cases.is_empty(), "none of these cases is about origins: {:?}", case::NUMBERS);

    let scratch = Scratch::create(std::env::temp_dir(), "provision-faults-")?;
    let environment = Environment {
        authority: write_authority(sh, scratch.path())?,
        folder: scratch.path().to_owned(),
        path: sh.var("PATH")?,
    };
    let runs: Vec<_> =
        cases.iter().flat_map(|case| tools.iter().map(move |tool| (case.number, tool))).collect();
    let verdicts = parallel::map(&runs, JOBS, |&(number, tool)| {
        let name = tool.name();
        let verdict =
            run_one(&environment, number, tool).with_context(|| format!("case {number}, {name}"))?;
        let shown = verdict.as_ref().map_or("not run: it takes one URL only".to_owned(), Verdict::to_string);
        println!("{number:02} {name:7} {shown}");
        anyhow::Ok(verdict)
    });
    let verdicts = verdicts.into_iter().collect::<Result<Vec<_>>>()?;
    let table = report::table(&tools, &cases, &verdicts, LIMIT.as_secs());
    println!("{table}");
    if args.write {
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
}

/// Runs a tool against the origins of a case. `None`: the tool cannot do the case.
fn run_one(environment: &Environment, number: u8, tool: &Tool) -> Result<Option<Verdict>> {
    let origins = Origins::start()?;
    let case = Case::prepare(number, &origins)?;
    if !tool.can_run(&case) {
        return Ok(None);
    }
    let folder = environment.folder.join(format!("{number}-{}", tool.name()));
    let path = folder.join("models").join(FILE);
    fs::create_dir_all(folder.join("models"))?;
    fs::write(folder.join("models.lock"), lock_text(&case)?)?;
    let before = case.before.as_ref().map(Content::to_vec);
    if let Some(bytes) = &before {
        fs::write(&path, bytes)?;
    }
    let arguments = tool.arguments(&case, &folder, &environment.authority);
    let run = Run::new("prlimit".into(), &environment.path, folder.clone())?;
    let mut run = run.args(&LIMITS).args(&[&tool.program]).args(&arguments);
    // This program takes them from variables, the others from their arguments.
    run = run.env("SSL_CERT_FILE", &environment.authority);
    if case.with_token {
        let host: Vec<_> = case.urls[0].split('/').take(3).collect();
        run = run.env("HF_ENDPOINT", host.join("/")).env("HF_TOKEN", TOKEN);
    }
    let running = run.start()?;
    // A run that reaches the limit is killed.
    let exit = running.end_within(LIMIT).ok().map(|ended| ended.shell_code());
    let file = verdict::compare(fs::read(&path).ok().as_deref(), before.as_deref(), &case.content.to_vec());
    let is_marked = path.with_file_name(format!("{FILE}.aria2")).exists();
    let verdict = Verdict { exit, file, is_marked, trespasses: case.trespasses(&origins) };
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
