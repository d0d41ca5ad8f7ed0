//! A body's bytes out of what frames them (RFC 9112 sections 6 and 7).

use tokio::io::AsyncReadExt as _;

use super::{Ahead, READ_AHEAD, Socket, broken};
use crate::error::TransportError;

/// The longest line between chunks, and the longest trailer section, in bytes.
const MAX_LINE: usize = 4 << 10;
const MAX_TRAILERS: usize = 16 << 10;

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks, each with its length.
    Chunks(Chunk),
    /// All until the connection is closed.
    ToClose,
    /// Until the connection was closed, which it is.
    Closed,
}

/// Where between its chunks a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// A chunk's length is next.
    Size,
    /// So many of its bytes are next.
    Data(u64),
    /// The end of its line is next.
    DataEnd,
    /// Trailer fields are next, of which so many bytes have been read.
    Trailers(usize),
    /// Nothing is.
    Over,
}

impl Framing {
    pub(super) fn chunked() -> Self {
        Self::Chunks(Chunk::Size)
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunk::Over) | Self::Closed)
    }

    /// The next bytes; 0 at the end.
    pub(super) async fn read(
        &mut self,
        ahead: &mut Ahead,
        io: &mut dyn Socket,
        into: &mut [u8],
    ) -> Result<usize, TransportError> {
        match self {
            Self::Closed => Ok(0),
            Self::Length(left) => {
                if *left == 0 {
                    return Ok(0);
                }
                let read = direct(ahead, io, limited(into, *left)).await?;
                if read == 0 {
                    return Err(TransportError::Broken);
                }
                *left -= read as u64;
                Ok(read)
            }
            Self::ToClose => {
                let read = direct(ahead, io, into).await?;
                if read == 0 {
                    *self = Self::Closed;
                }
                Ok(read)
            }
            Self::Chunks(chunk) => chunk.read(ahead, io, into).await,
        }
    }
}

fn limited(into: &mut [u8], left: u64) -> &mut [u8] {
    let len = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    &mut into[..len]
}

/// What was read ahead, then what the socket has.
async fn direct(ahead: &mut Ahead, io: &mut dyn Socket, into: &mut [u8]) -> Result<usize, TransportError> {
    if !ahead.is_empty() {
        return Ok(ahead.copy_to(into));
    }
    io.read(into).await.map_err(|error| broken(&error))
}

impl Chunk {
    async fn read(
        &mut self,
        ahead: &mut Ahead,
        io: &mut dyn Socket,
        into: &mut [u8],
    ) -> Result<usize, TransportError> {
        loop {
            match self {
                Self::Over => return Ok(0),
                Self::Data(left) => {
                    let into = limited(into, *left);
                    // Of short chunks, several are read at once.
                    if ahead.is_empty() && *left < READ_AHEAD as u64 && ahead.fill(io, READ_AHEAD).await? == 0
                    {
                        return Err(TransportError::Broken);
                    }
                    let read = direct(ahead, io, into).await?;
                    if read == 0 {
                        return Err(TransportError::Broken);
                    }
                    *left -= read as u64;
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(read);
                }
                Self::Size => {
                    let line = line(ahead, io).await?;
                    let size = parse_size(&ahead.waiting()[..line])?;
                    ahead.take(line);
                    *self = if size == 0 { Self::Trailers(0) } else { Self::Data(size) };
                }
                Self::DataEnd => {
                    let line = line(ahead, io).await?;
                    if !is_blank(&ahead.waiting()[..line]) {
                        return Err(TransportError::Broken);
                    }
                    ahead.take(line);
                    *self = Self::Size;
                }
                Self::Trailers(before) => {
                    let line = line(ahead, io).await?;
                    let blank = is_blank(&ahead.waiting()[..line]);
                    ahead.take(line);
                    let so_far = *before + line;
                    if so_far > MAX_TRAILERS {
                        return Err(TransportError::Broken);
                    }
                    *self = if blank { Self::Over } else { Self::Trailers(so_far) };
                }
            }
        }
    }
}

/// The length of the line that is next, its end included.
async fn line(ahead: &mut Ahead, io: &mut dyn Socket) -> Result<usize, TransportError> {
    loop {
        if let Some(end) = ahead.waiting().iter().take(MAX_LINE).position(|byte| *byte == b'\n') {
            return Ok(end + 1);
        }
        if ahead.waiting().len() >= MAX_LINE || ahead.fill(io, READ_AHEAD).await? == 0 {
            return Err(TransportError::Broken);
        }
    }
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, b"\r\n" | b"\n")
}

/// `1*HEXDIG [ chunk-ext ] CRLF`.
fn parse_size(line: &[u8]) -> Result<u64, TransportError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let follows = line[digits..].first();
    if digits == 0 || digits > 15 || !matches!(follows, Some(b'\r' | b'\n' | b';' | b' ' | b'\t')) {
        return Err(TransportError::Broken);
    }
    let value = |digit: u8| u64::from((digit as char).to_digit(16).unwrap_or_default());
    Ok(line[..digits].iter().fold(0, |size, digit| size << 4 | value(*digit)))
}
