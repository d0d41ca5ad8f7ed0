//! Body framing: the bytes of a body, by length, by chunks or to the end of the connection (RFC 9112 sections 6 and 7).
//!
//! A body that ends before its framing says is [`TransportError::Broken`], never a shorter body.

use tokio::io::AsyncReadExt as _;

use super::read_ahead::{READ_AHEAD, ReadAhead, Socket, broken};
use crate::transport::TransportError;

/// The longest line between chunks, in bytes.
const MAX_LINE: usize = 4 << 10;

/// The longest trailer section, in bytes.
const MAX_TRAILERS: usize = 16 << 10;

/// The rest of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunks(Chunk),
    /// Everything until the connection is closed.
    ToClose,
    /// Nothing: the connection was closed, which ended the body.
    Closed,
}

/// The next element of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// The line with a chunk's length.
    Size,
    /// This many bytes of a chunk.
    Data(u64),
    /// The line end after a chunk.
    DataEnd,
    /// The trailer section, of which this many bytes have been read.
    Trailers(usize),
    /// Nothing: the body is complete.
    Over,
}

impl Framing {
    /// A chunked body from its start.
    pub(super) fn chunked() -> Self {
        Self::Chunks(Chunk::Size)
    }

    /// True if the end of the body has been read.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunk::Over) | Self::Closed)
    }

    /// Reads the next bytes; 0 at the end.
    pub(super) async fn read(
        &mut self,
        ahead: &mut ReadAhead,
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

/// The first `left` bytes of `into`, or all of it.
fn limited(into: &mut [u8], left: u64) -> &mut [u8] {
    let len = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    &mut into[..len]
}

/// Reads from the read-ahead buffer, or straight from the socket if the buffer is empty.
async fn direct(
    ahead: &mut ReadAhead,
    io: &mut dyn Socket,
    into: &mut [u8],
) -> Result<usize, TransportError> {
    if !ahead.is_empty() {
        return Ok(ahead.move_to(into));
    }
    io.read(into).await.map_err(|error| broken(&error))
}

impl Chunk {
    async fn read(
        &mut self,
        ahead: &mut ReadAhead,
        io: &mut dyn Socket,
        into: &mut [u8],
    ) -> Result<usize, TransportError> {
        loop {
            match self {
                Self::Over => return Ok(0),
                Self::Data(left) => {
                    let into = limited(into, *left);
                    // One read of the socket fetches several short chunks.
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
                    let size = parse_size(&ahead.bytes()[..line])?;
                    ahead.take(line);
                    *self = if size == 0 { Self::Trailers(0) } else { Self::Data(size) };
                }
                Self::DataEnd => {
                    let line = line(ahead, io).await?;
                    if !is_blank(&ahead.bytes()[..line]) {
                        return Err(TransportError::Broken);
                    }
                    ahead.take(line);
                    *self = Self::Size;
                }
                Self::Trailers(before) => {
                    let line = line(ahead, io).await?;
                    let blank = is_blank(&ahead.bytes()[..line]);
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

/// The length of the next line, with its end.
async fn line(ahead: &mut ReadAhead, io: &mut dyn Socket) -> Result<usize, TransportError> {
    loop {
        if let Some(end) = ahead.bytes().iter().take(MAX_LINE).position(|byte| *byte == b'\n') {
            return Ok(end + 1);
        }
        if ahead.bytes().len() >= MAX_LINE || ahead.fill(io, READ_AHEAD).await? == 0 {
            return Err(TransportError::Broken);
        }
    }
}

fn is_blank(line: &[u8]) -> bool {
    matches!(line, b"\r\n" | b"\n")
}

/// The length in a chunk's first line: `1*HEXDIG [ chunk-ext ] CRLF`.
fn parse_size(line: &[u8]) -> Result<u64, TransportError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let next = line[digits..].first();
    if digits == 0 || digits > 15 || !matches!(next, Some(b'\r' | b'\n' | b';' | b' ' | b'\t')) {
        return Err(TransportError::Broken);
    }
    let value = |digit: u8| u64::from((digit as char).to_digit(16).unwrap_or_default());
    Ok(line[..digits].iter().fold(0, |size, digit| size << 4 | value(*digit)))
}
