use std::collections::VecDeque;
use std::io;
use std::task::Poll;

use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;

/// A peer that sends one piece at each read, and then closes the connection or stays silent.
struct Script {
    pieces: VecDeque<Vec<u8>>,
    closes: bool,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.pieces.pop_front() else {
            return if self.closes { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        if piece.is_empty() {
            // No data at this poll.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let len = piece.len().min(into.remaining());
        into.put_slice(&piece[..len]);
        piece.drain(..len);
        if !piece.is_empty() {
            self.pieces.push_front(piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn peer(pieces: impl IntoIterator<Item = Vec<u8>>, closes: bool) -> Exchange {
    Exchange::new(Box::new(Script { pieces: pieces.into_iter().collect(), closes }))
}

fn sending(text: &str) -> Exchange {
    peer([text.as_bytes().to_vec()], false)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The body, read with a buffer of `room` bytes.
fn body(exchange: &mut Exchange, room: usize) -> Result<Vec<u8>, TransportError> {
    block_on(async {
        exchange.send(b"GET").await?;
        let (mut body, mut buffer) = (Vec::new(), vec![0; room]);
        loop {
            match exchange.read(&mut buffer).await? {
                0 => return Ok(body),
                read => body.extend_from_slice(&buffer[..read]),
            }
        }
    })
}

fn cut(bytes: &[u8], at: &[usize]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for len in at {
        let piece;
        (piece, rest) = rest.split_at((*len).min(rest.len()));
        pieces.push(piece.to_vec());
    }
    pieces.push(rest.to_vec());
    pieces
}

proptest! {
    #[test]
    fn a_body_is_independent_of_framing_segments_and_buffer(
        bytes in prop::collection::vec(any::<u8>(), 0..40_000),
        chunks in prop::collection::vec(1..20_000usize, 0..8),
        cuts in prop::collection::vec(0..9_000usize, 0..12),
        room in 1..30_000usize,
        framing in 0..3u8,
    ) {
        let mut sent = match framing {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()).into_bytes(),
            1 => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        };
        if framing == 2 {
            for chunk in cut(&bytes, &chunks).iter().filter(|chunk| !chunk.is_empty()) {
                sent.extend(format!("{:x};a=b\r\n", chunk.len()).bytes());
                sent.extend(chunk);
                sent.extend(b"\r\n");
            }
            sent.extend(b"0\r\nTrailer: x\r\n\r\n");
        } else {
            sent.extend(&bytes);
        }
        let mut exchange = peer(cut(&sent, &cuts), framing == 1);
        prop_assert_eq!(body(&mut exchange, room).unwrap(), bytes);
        prop_assert_eq!(exchange.is_ready(), framing != 1, "only a framed body leaves the connection usable");
    }

    #[test]
    fn fault_12_14_a_framed_body_cut_anywhere_is_broken(
        bytes in prop::collection::vec(any::<u8>(), 1..3_000),
        chunked in any::<bool>(),
        share in 0.0..1.0f64,
    ) {
        let mut sent = if chunked {
            format!("HTTP/1.1 206 x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", bytes.len()).into_bytes()
        } else {
            format!("HTTP/1.1 206 x\r\nContent-Length: {}\r\n\r\n", bytes.len()).into_bytes()
        };
        sent.extend(&bytes);
        if chunked {
            sent.extend(b"\r\n0\r\n\r\n");
        }
        sent.truncate((sent.len() as f64 * share) as usize);
        let mut exchange = peer([sent], true);
        prop_assert_eq!(body(&mut exchange, 1000), Err(TransportError::Broken));
        prop_assert!(!exchange.is_ready());
    }

    #[test]
    fn no_input_panics_or_blocks_for_ever(
        sent in prop::collection::vec(any::<u8>(), 0..3_000),
        head in any::<bool>(),
    ) {
        let mut bytes = if head { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec() } else { Vec::new() };
        bytes.extend(sent);
        let _ = body(&mut peer([bytes], true), 100);
    }
}

#[test]
fn informational_answers_are_skipped() {
    let mut exchange =
        sending("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(body(&mut exchange, 10).unwrap(), b"hi");
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(3000);
    assert_eq!(body(&mut sending(&endless), 10), Err(HeaderProblem::TooLong.into()));
}

#[test]
fn fault_31_an_overlong_head_is_refused() {
    let field = format!("x: {}\r\n", "y".repeat(MAX_HEAD));
    assert_eq!(
        body(&mut sending(&format!("HTTP/1.1 200 OK\r\n{field}")), 10),
        Err(HeaderProblem::TooLong.into())
    );
    assert_eq!(body(&mut peer([b"HTTP/1.1 200 OK\r\n".to_vec()], true), 10), Err(TransportError::Broken));
}

#[test]
fn malformed_chunk_lines_and_long_trailers_are_refused() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "y".repeat(5000));
    let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(4000));
    for chunks in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "1g\r\nx",
        "ffffffffffffffff\r\nx",
        "1\r\nxy\r\n0\r\n\r\n",
        &long,
        &trailers,
    ] {
        let mut exchange = peer([format!("{head}{chunks}").into_bytes()], true);
        assert_eq!(
            body(&mut exchange, 10),
            Err(TransportError::Broken),
            "{}",
            &chunks[..chunks.len().min(20)]
        );
        assert!(!exchange.is_ready());
    }
}

#[test]
fn a_connection_with_surplus_bytes_is_not_used_again() {
    let mut exchange = sending("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhimore");
    assert_eq!(body(&mut exchange, 10).unwrap(), b"hi");
    assert!(exchange.is_over() && !exchange.is_ready());
}

#[test]
fn fault_39_a_closed_connection_is_not_used_again() {
    let sent = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec();
    let mut exchange = peer([sent], true);
    assert_eq!(body(&mut exchange, 10).unwrap(), b"hi");
    assert!(!exchange.is_ready());
}
