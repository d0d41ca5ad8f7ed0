//! One connection: reads a request, sends the answer's script, and starts again.
//!
//! A body goes out in large writes from one buffer per connection, and each write is counted as the kernel takes it.
//! While the connection pauses (latency, rate, stall) it watches for the client to leave. A client that closes only its
//! sending side counts as gone, too.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::answer::{Answer, Close, Ending, Framing, HeadFault};
use crate::control::Shared;
use crate::request::{self, MAX_REQUEST_HEAD, Recorded};
use crate::shape::Pacer;
use crate::stream::Stream;

/// Large enough that system calls do not matter, small enough that the buffers of 64 connections fit into the cache.
const BUFFER: usize = 128 << 10;

/// The longest wait for the rest of a refused client's input.
const LINGER: Duration = Duration::from_millis(500);

pub(crate) struct Connection {
    stream: Stream,
    number: u64,
    shared: Arc<Shared>,
    pacer: Pacer,
    /// Input not yet parsed.
    input: Vec<u8>,
    /// The piece of a body that is being sent; empty until the first body.
    output: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(stream: Stream, number: u64, shared: Arc<Shared>) -> Self {
        let rate = shared.current_shape().rate_of(number);
        let pacer = Pacer::new(rate, Instant::now());
        Self { stream, number, shared, pacer, input: Vec::new(), output: Vec::new() }
    }

    /// Serves requests until one side closes.
    pub(crate) async fn serve(mut self) -> io::Result<()> {
        loop {
            let Some(mut request) = self.next_request().await? else { return Ok(()) };
            let shape = self.shared.current_shape();
            let mut answer = self.shared.answer(&request);
            if !request.keeps_open() && answer.close == Close::No {
                answer.close = Close::Announced;
            }
            request.status = answer.status;
            let (path, is_head) = (request.path.clone(), request.is_head());
            self.shared.tally.request(request);
            self.pacer.set_rate(shape.rate_of(self.number), Instant::now());
            if !shape.first_byte_delay.is_zero() {
                self.pause(shape.first_byte_delay).await?;
            }
            let ending = self.send(&answer, is_head, &path).await?;
            // TLS may still hold bytes that the network did not take at once.
            self.stream.transport.flush().await?;
            match ending {
                None if answer.close == Close::No => {}
                None | Some(Ending::Fin) => return self.stream.finish().await,
                Some(Ending::Reset) => return self.stream.transport.tcp().set_zero_linger(),
                Some(Ending::Stall) => {
                    self.drain().await;
                    return Ok(());
                }
            }
        }
    }

    /// Answers one request by 503 and closes: this connection is above the limit.
    pub(crate) async fn refuse(mut self) -> io::Result<()> {
        let Some(mut request) = self.next_request().await? else { return Ok(()) };
        request.status = 503;
        self.shared.tally.request(request);
        self.turn_away(503, "too many connections\n").await
    }

    /// The next request; `None` if the client sent none, or one that was turned away.
    async fn next_request(&mut self) -> io::Result<Option<Recorded>> {
        let length = loop {
            match request::head_length(&self.input) {
                Some(length) if length <= MAX_REQUEST_HEAD => break length,
                None if self.input.len() <= MAX_REQUEST_HEAD => {
                    if self.stream.transport.read_buf(&mut self.input).await? == 0 {
                        return Ok(None);
                    }
                }
                _ => {
                    self.turn_away(431, "the request's head is over 32 KiB\n").await?;
                    return Ok(None);
                }
            }
        };
        let rest = self.input.split_off(length);
        let head = std::mem::replace(&mut self.input, rest);
        let request = request::parse(&head, self.number);
        if request.is_none() {
            self.turn_away(400, "not HTTP/1\n").await?;
        }
        Ok(request)
    }

    async fn turn_away(&mut self, status: u16, text: &'static str) -> io::Result<()> {
        let mut answer = Answer::text(status, "text/plain", text);
        answer.close = Close::Announced;
        let bytes = [answer.head().as_slice(), text.as_bytes()].concat();
        self.stream.transport.write_all(&bytes).await?;
        self.stream.finish().await?;
        // A close with unread input would send a reset, and the reset could overtake the answer.
        let _ = timeout(LINGER, self.drain()).await;
        Ok(())
    }

    /// Reads and drops input until the client closes.
    async fn drain(&mut self) {
        loop {
            self.input.clear();
            if !matches!(self.stream.transport.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
    }

    /// Sends an answer. `Some` is the ending that its script demands.
    async fn send(&mut self, answer: &Answer, is_head: bool, path: &str) -> io::Result<Option<Ending>> {
        let head = answer.head();
        let transport = &mut self.stream.transport;
        match &answer.head_fault {
            None => transport.write_all(&head).await?,
            Some(HeadFault::Cut { after, ending }) => {
                let length = (*after).min(head.len() / 2);
                transport.write_all(&head[..length]).await?;
                return Ok(Some(*ending));
            }
            Some(HeadFault::Endless) => {
                transport.write_all(&head[..head.len() - 2]).await?;
                transport.write_all(b"X-Endless: ").await?;
                let letters = vec![b'e'; 16 << 10];
                loop {
                    transport.write_all(&letters).await?;
                }
            }
            Some(HeadFault::Slow { every }) => {
                for byte in &head {
                    self.pause(*every).await?;
                    self.stream.transport.write_all(&[*byte]).await?;
                }
            }
            Some(HeadFault::Raw(bytes)) => {
                transport.write_all(bytes).await?;
                return Ok(Some(Ending::Fin));
            }
        }
        if is_head {
            return Ok(None);
        }
        let length = answer.body_length();
        let stop = answer.stop.filter(|(at, _)| *at <= length);
        self.send_body(answer, stop.map_or(length, |(at, _)| at), path).await?;
        match (stop, answer.framing) {
            (Some((_, ending)), _) => return Ok(Some(ending)),
            (None, Framing::Chunked { last_chunk: false }) => return Ok(Some(Ending::Fin)),
            (None, Framing::Chunked { last_chunk: true }) => {
                self.stream.transport.write_all(b"0\r\n\r\n").await?;
            }
            (None, Framing::Plain) => {}
        }
        Ok(None)
    }

    /// Sends the first `length` bytes of the body.
    async fn send_body(&mut self, answer: &Answer, length: u64, path: &str) -> io::Result<()> {
        let chunked = answer.framing != Framing::Plain;
        let mut left = length;
        if length > 0 && self.output.is_empty() {
            self.output = vec![0; BUFFER];
        }
        for part in &answer.body {
            let mut at = part.range.start;
            while left > 0 && at < part.range.end {
                let wanted = left.min(part.range.end - at).min(BUFFER as u64) as usize;
                let piece = self.permit(wanted, answer.trickle).await?;
                part.content.fill(at, &mut self.output[..piece]);
                if chunked {
                    self.stream.transport.write_all(format!("{piece:x}\r\n").as_bytes()).await?;
                }
                self.write_counted(piece, path).await?;
                if chunked {
                    self.stream.transport.write_all(b"\r\n").await?;
                }
                at += piece as u64;
                left -= piece as u64;
            }
        }
        Ok(())
    }

    /// Waits until some of `wanted` body bytes may be sent.
    async fn permit(&mut self, wanted: usize, trickle: Option<Duration>) -> io::Result<usize> {
        if let Some(every) = trickle {
            self.pause(every).await?;
            return Ok(1);
        }
        loop {
            match self.pacer.allow(wanted, Instant::now()) {
                Ok(piece) => return Ok(piece),
                Err(wait) => self.pause(wait).await?,
            }
        }
    }

    /// Writes the first bytes of the output buffer, and counts them as the kernel takes them.
    async fn write_counted(&mut self, length: usize, path: &str) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let written = self.stream.transport.write(&self.output[done..length]).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            done += written;
            self.pacer.sent(written as u64);
            self.shared.tally.body(path, written as u64);
        }
        Ok(())
    }

    /// Waits, unless the client leaves.
    async fn pause(&mut self, time: Duration) -> io::Result<()> {
        let tcp = self.stream.transport.tcp();
        let client_left = async {
            // An end behind pipelined input cannot be seen.
            if let Ok(1..) = tcp.peek(&mut [0]).await {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = client_left => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}
