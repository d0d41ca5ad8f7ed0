use std::collections::VecDeque;
use std::task::Poll;

use proptest::prelude::*;

use super::*;

/// A peer that says these pieces, one each time it is read, and then closes the connection or falls silent.
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
            // Nothing just now.
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

fn saying(text: &str) -> Exchange {
    peer([text.as_bytes().to_vec()], false)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// The body, read by `room` bytes at a time.
fn body(exchange: &mut Exchange, room: usize) -> Result<Vec<u8>, TransportError> {
    block_on(async {
        exchange.ask(b"GET").await?;
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
    fn a_body_is_the_same_however_it_is_framed_cut_and_read(
        bytes in prop::collection::vec(any::<u8>(), 0..40_000),
        chunks in prop::collection::vec(1..20_000usize, 0..8),
        cuts in prop::collection::vec(0..9_000usize, 0..12),
        room in 1..30_000usize,
        framing in 0..3u8,
    ) {
        let mut said = match framing {
            0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()).into_bytes(),
            1 => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        };
        if framing == 2 {
            for chunk in cut(&bytes, &chunks).iter().filter(|chunk| !chunk.is_empty()) {
                said.extend(format!("{:x};a=b\r\n", chunk.len()).bytes());
                said.extend(chunk);
                said.extend(b"\r\n");
            }
            said.extend(b"0\r\nTrailer: x\r\n\r\n");
        } else {
            said.extend(&bytes);
        }
        let mut exchange = peer(cut(&said, &cuts), framing == 1);
        prop_assert_eq!(body(&mut exchange, room).unwrap(), bytes);
        prop_assert_eq!(exchange.is_ready(), framing != 1, "only a framed body leaves the connection usable");
    }

    #[test]
    fn fault_12_14_a_framed_body_that_is_cut_anywhere_is_broken(
        bytes in prop::collection::vec(any::<u8>(), 1..3_000),
        chunked in any::<bool>(),
        share in 0.0..1.0f64,
    ) {
        let mut said = if chunked {
            format!("HTTP/1.1 206 x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", bytes.len()).into_bytes()
        } else {
            format!("HTTP/1.1 206 x\r\nContent-Length: {}\r\n\r\n", bytes.len()).into_bytes()
        };
        said.extend(&bytes);
        if chunked {
            said.extend(b"\r\n0\r\n\r\n");
        }
        said.truncate((said.len() as f64 * share) as usize);
        let mut exchange = peer([said], true);
        prop_assert_eq!(body(&mut exchange, 1000), Err(TransportError::Broken));
        prop_assert!(!exchange.is_ready());
    }

    #[test]
    fn no_bytes_make_it_panic_or_wait_for_ever(
        said in prop::collection::vec(any::<u8>(), 0..3_000),
        head in any::<bool>(),
    ) {
        let mut bytes = if head { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec() } else { Vec::new() };
        bytes.extend(said);
        let _ = body(&mut peer([bytes], true), 100);
    }
}

#[test]
fn informational_answers_are_passed_over() {
    let mut exchange =
        saying("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(body(&mut exchange, 10).unwrap(), b"hi");
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(3000);
    assert_eq!(body(&mut saying(&endless), 10), Err(TransportError::NotHttp));
}

#[test]
fn fault_31_a_head_has_a_longest_length() {
    let field = format!("x: {}\r\n", "y".repeat(MAX_HEAD));
    assert_eq!(body(&mut saying(&format!("HTTP/1.1 200 OK\r\n{field}")), 10), Err(TransportError::NotHttp));
    assert_eq!(body(&mut peer([b"HTTP/1.1 200 OK\r\n".to_vec()], true), 10), Err(TransportError::Broken));
}

#[test]
fn a_chunks_length_is_a_number_and_its_line_has_an_end() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "y".repeat(5000));
    let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(4000));
    for lie in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "1g\r\nx",
        "ffffffffffffffff\r\nx",
        "1\r\nxy\r\n0\r\n\r\n",
        &long,
        &trailers,
    ] {
        let mut exchange = peer([format!("{head}{lie}").into_bytes()], true);
        assert_eq!(body(&mut exchange, 10), Err(TransportError::Broken), "{}", &lie[..lie.len().min(20)]);
        assert!(!exchange.is_ready());
    }
}

#[test]
fn a_connection_that_says_more_than_it_was_asked_is_not_used_again() {
    let mut exchange = saying("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhimore");
    assert_eq!(body(&mut exchange, 10).unwrap(), b"hi");
    assert!(exchange.is_over() && !exchange.is_ready());
}

#[test]
fn fault_39_a_connection_that_was_closed_meanwhile_is_not_used_again() {
    let said = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec();
    let mut exchange = peer([said], true);
    assert_eq!(body(&mut exchange, 10).unwrap(), b"hi");
    assert!(!exchange.is_ready());
}
