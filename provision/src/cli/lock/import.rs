//! `provision lock import`.
//!
//! A model without an address in the list is a note, not a failure: in most workflows a widget names a file that
//! `properties.models` does not, and `import … && fetch` has to work. A model with an address that did not get into
//! the lock is a failure, and so is a list that added nothing.
//!
//! Lists come from others, so they must not reach into the user's network: without an option, only public addresses are
//! asked, over https (fault 115). The URLs that `lock add` gets are the user's own words, and any of them is asked.

mod left_out;
mod path_of;
mod read_lists;

use crate::cli::exit::{Code, Failure};
use crate::cli::{say, units};
use camino::Utf8PathBuf;
use clap::Args;
use clap::builder::FalseyValueParser;
use provision_core::model_path::ModelPath;
use provision_http::Sources;
use provision_lock::entry_builder::AddRequest;
use provision_lock::import::{Format, ImportedModel, join};

use super::AddOptions;
use super::batch::{Batch, WantedSource};
use super::session::{Failures, HostSession};

/// Options of `lock import`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// The lists, also workflows inside pictures and videos; `-` is standard input. Output of sha256sum gives digests
    /// to what the others name
    #[arg(value_name = "FILE", required = true)]
    files: Vec<Utf8PathBuf>,
    /// The format of the lists [default: detected for each]: workflow, api, manager, aria2, pget, urls, script,
    /// sha256sum
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// A lock or list with URLs for the names that a workflow has no URL for (repeatable)
    #[arg(long = "names", value_name = "FILE")]
    names: Vec<Utf8PathBuf>,
    /// Take the links to model files in the notes of workflows too
    #[arg(long)]
    notes: bool,
    /// The hosts that are asked.
    #[command(flatten)]
    trust: Trust,
    /// The path of one source of the lists (repeatable), as for `lock add --path`
    // A source may have a secret, and clap's errors repeat a value.
    #[arg(long = "path-of", value_name = "SOURCE=PATH")]
    paths: Vec<String>,
    /// The folder of files for which neither a list nor a source names one
    #[arg(long, value_name = "FOLDER", value_parser = folder)]
    folder: Option<String>,
    /// Name every model for which the lists have no URL
    #[arg(short, long, env = "PROVISION_VERBOSE", value_parser = FalseyValueParser::new())]
    verbose: bool,
    /// The options of `lock add` and `lock import`.
    #[command(flatten)]
    options: AddOptions,
}

/// The hosts of lists that are asked, beside public ones over https.
#[derive(Debug, Clone, Copy, Args)]
struct Trust {
    /// Ask private and loopback addresses of the lists too, without a login
    #[arg(long, env = "PROVISION_ALLOW_PRIVATE", value_parser = FalseyValueParser::new())]
    allow_private: bool,
    /// Ask hosts of the lists over plain http too
    #[arg(long)]
    allow_http: bool,
}

impl Trust {
    fn sources(self) -> Sources {
        Sources::Listed { private: self.allow_private, http: self.allow_http }
    }
}

/// A folder, as a path below the destination.
fn folder(text: &str) -> Result<String, String> {
    let path: Result<ModelPath, _> = format!("{}/x", text.trim_end_matches('/')).parse();
    path.map(|_| text.to_owned()).map_err(|error| format!("it is no folder: {error}"))
}

pub(crate) fn run(args: &ImportArgs, default: &str) -> Result<(), Failure> {
    let path = args.options.file.writable(default)?;
    let paths = args.paths.iter().map(|text| path_of::splits(text)).collect::<Result<Vec<_>, _>>()?;
    let mut failures = Failures::default();
    let mut lists = read_lists::lists(&args.files, args.format, &mut failures);
    if lists.is_empty() {
        return failures.conclude("not imported");
    }
    let dictionary = read_lists::dictionary(&args.names, &mut failures);
    let mut links = 0;
    for list in &mut lists {
        if args.notes {
            list.take_links();
        }
        links += list.links.len();
        dictionary.look_up(list);
    }
    path_of::place(&mut lists, &paths, &mut failures);
    let imported = join(lists);
    left_out::refuse(&imported.conflicts, &mut failures);
    let document = super::current(&path)?;
    let session = HostSession::start_for(args.trust.sources(), args.options.patience)?;
    let mut batch = args.options.batch(&session, &path, &document, failures)?;
    let request = |model: &ImportedModel| {
        let request = AddRequest { groups: args.options.groups.clone(), ..AddRequest::from(model) };
        request.with_folder(args.folder.clone())
    };
    let wanted = imported
        .models
        .iter()
        .map(|model| WantedSource { request: request(model), place: Some(&model.place) });
    let checked = batch.check(wanted.collect());
    let _ = batch.add(checked);
    let Batch { mut writing, mut failures, mut builder, .. } = batch;
    let _ = writing.flush(&mut failures);
    args.options.write_pieces(&writing, builder.reader.take_lists(), &mut failures)?;
    left_out::report(&imported.unused, &writing, args.verbose, &mut failures);
    if links > 0 {
        let links = units::count(links, "link");
        say(format_args!("note: {links} to model files in notes are not used; --notes takes them"));
    }
    writing.summarize();
    if imported.models.is_empty() && failures.is_empty() {
        failures.add(
            Code::Usage,
            "no list has a file with a URL, so nothing was added; add models with `lock add SOURCE`, or give a list with \
             --names FILE that has the URLs of these names",
        );
    }
    failures.conclude("not imported")
}
