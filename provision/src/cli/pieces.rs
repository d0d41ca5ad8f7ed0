//! `pieces show`: prints a piece list.

use std::fs::File;
use std::io::{self, Read as _};

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};

use super::exit::{Code, Failure};
use super::{print_line, units};
use provision_core::byte_size::ByteSize;
use provision_core::digest::Sha256;
use provision_core::piece_list::{MAX_LIST, PieceList, VERSION};

/// Options of `pieces`.
#[derive(Args, Debug, Clone)]
pub struct PiecesArgs {
    /// The action.
    #[command(subcommand)]
    command: PiecesCommand,
}

#[derive(Subcommand, Debug, Clone)]
enum PiecesCommand {
    /// Print a piece list: its file, its own digest, and each piece's offset, length and SHA-256
    Show(ShowArgs),
}

#[derive(Args, Debug, Clone)]
struct ShowArgs {
    /// The list: a file of models.pieces
    #[arg(value_name = "FILE")]
    list: Utf8PathBuf,
    /// Print one JSON object, with a line for each piece
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Code::Lock`] for a file that is no piece list, [`Code::Disk`] for one that cannot be read.
pub fn run(args: &PiecesArgs) -> Result<(), Failure> {
    let PiecesCommand::Show(ShowArgs { list: path, json }) = &args.command;
    let bytes =
        read(path).map_err(|error| Failure::new(Code::Disk, format!("{path} cannot be read: {error}")))?;
    let list = PieceList::parse(&bytes).map_err(|error| {
        let why = format!(
            "{path} is no piece list of version {VERSION}: {error}; `lock pieces` writes the list of a model"
        );
        Failure::new(Code::Lock, why)
    })?;
    if *json {
        print_json(&list, Sha256::of(&bytes));
    } else {
        print(&list, Sha256::of(&bytes));
    }
    Ok(())
}

/// The file's bytes, one more than a list may have at most.
fn read(path: &Utf8Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_LIST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn print(list: &PieceList, digest: Sha256) {
    print_line(format_args!("version  {VERSION}"));
    print_line(format_args!("file     {}, SHA-256 {}", ByteSize(list.size()).exact(), list.file()));
    print_line(format_args!("list     {}, SHA-256 {digest}", units::count(list.pieces().len(), "piece")));
    for piece in list.pieces() {
        print_line(format_args!("{:>14} {:>8}  {}", piece.range.start, piece.range.len(), piece.sha256));
    }
}

fn print_json(list: &PieceList, digest: Sha256) {
    let (size, file) = (list.size(), list.file());
    print_line(format_args!(
        "{{\"version\":{VERSION},\"size\":{size},\"sha256\":\"{file}\",\"list\":\"{digest}\",\"pieces\":["
    ));
    let last = list.pieces().len() - 1;
    for (at, piece) in list.pieces().iter().enumerate() {
        let (offset, length, comma) =
            (piece.range.start, piece.range.len(), if at < last { "," } else { "" });
        print_line(format_args!(
            "{{\"offset\":{offset},\"length\":{length},\"sha256\":\"{}\"}}{comma}",
            piece.sha256
        ));
    }
    print_line("]}");
}
