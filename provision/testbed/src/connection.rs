//! One connection: read a request, send the answer's script, again.
//!
//! Hand-written over TCP because wrong bytes must be possible on the wire. Bodies go out in large writes from one
//! buffer per connection; each write is counted by what the kernel took. While the connection pauses (latency, rate,
//! stall) it watches for the client to leave; a client that closes only its sending side counts as gone, too.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::answer::{Answer, Close, Ending, Framing, HeadFault};
use crate::control::Shared;
use crate::counters::PathTally;
use crate::request::{self, MAX_REQUEST_HEAD, Recorded};
use crate::shape::Pacer;
use crate::tls::Stream;

/// Large enough that system calls do not matter, small enough that 64 connections stay in the cache's reach.
const BUFFER: usize = 128 << 10;

/// How long a refused client's remaining input is read, so that closing does not destroy the refusal on its way.
const LINGER: Duration = Duration::from_millis(500);

pub(crate) struct Connection {
    stream: Stream,
    number: u64,
    shared: Arc<Shared>,
    pacer: Pacer,
    /// Input not yet used.
    input: Vec<u8>,
    /// Output being made; empty until the first body.
    output: Vec<u8>,
}

enum Head {
    Whole(Vec<u8>),
    TooLong,
    /// The client has nothing more to ask.
    End,
}

impl Connection {
    pub(crate) fn new(stream: Stream, number: u64, shared: Arc<Shared>) -> Self {
        let rate = shared.current_shape().rate_of(number);
        let pacer = Pacer::new(rate, Instant::now());
        Self { stream, number, shared, pacer, input: Vec::new(), output: Vec::new() }
    }

    /// Serves requests until either side has enough.
    pub(crate) async fn serve(mut self) -> io::Result<()> {
        loop {
            let Some(mut request) = self.next_request().await? else { return Ok(()) };
            let shape = self.shared.current_shape();
            let mut answer = self.shared.answer(&request);
            if !request.wants_more() && answer.close == Close::No {
                answer.close = Close::Announced;
            }
            request.status = answer.status;
            let is_head = request.is_head();
            let path = self.shared.tally.request(request);
            self.pacer.set_rate(shape.rate_of(self.number), Instant::now());
            if !shape.first_byte_delay.is_zero() {
                self.pause(shape.first_byte_delay).await?;
            }
            let ending = self.send(&answer, is_head, &path).await?;
            // An encrypted stream may hold back what the network did not take at once.
            self.stream.flush().await?;
            match ending {
                None if answer.close == Close::No => {}
                ending => return self.end(ending.unwrap_or(Ending::Fin)).await,
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

    /// The next request; `None` when there is none to answer.
    async fn next_request(&mut self) -> io::Result<Option<Recorded>> {
        let head = match self.read_head().await? {
            Head::Whole(head) => head,
            Head::End => return Ok(None),
            Head::TooLong => {
                self.turn_away(431, "the request's head is over 32 KiB\n").await?;
                return Ok(None);
            }
        };
        let request = request::parse(&head, self.number, self.stream.tcp().peer_addr()?);
        if request.is_none() {
            self.turn_away(400, "not HTTP/1\n").await?;
        }
        Ok(request)
    }

    async fn read_head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(length) = request::head_length(&self.input) {
                let rest = self.input.split_off(length);
                let head = std::mem::replace(&mut self.input, rest);
                return Ok(if length > MAX_REQUEST_HEAD { Head::TooLong } else { Head::Whole(head) });
            }
            if self.input.len() > MAX_REQUEST_HEAD {
                return Ok(Head::TooLong);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(Head::End);
            }
        }
    }

    async fn turn_away(&mut self, status: u16, text: &'static str) -> io::Result<()> {
        let mut answer = Answer::text(status, "text/plain", text);
        answer.close = Close::Announced;
        let bytes = [answer.head().as_slice(), text.as_bytes()].concat();
        self.stream.write_all(&bytes).await?;
        self.stream.finish().await?;
        // Closing with unread input would send a reset, and a reset may overtake the answer.
        let _ = timeout(LINGER, self.read_to_end()).await;
        Ok(())
    }

    async fn read_to_end(&mut self) {
        loop {
            self.input.clear();
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    async fn end(mut self, ending: Ending) -> io::Result<()> {
        match ending {
            Ending::Fin => self.stream.finish().await?,
            Ending::Reset => self.stream.tcp().set_zero_linger()?,
            Ending::Stall => self.read_to_end().await,
        }
        Ok(())
    }

    /// Sends an answer. `Some`: the script says how the connection ends.
    async fn send(&mut self, answer: &Answer, is_head: bool, path: &PathTally) -> io::Result<Option<Ending>> {
        let head = answer.head();
        match &answer.head_fault {
            None => self.stream.write_all(&head).await?,
            Some(HeadFault::Cut { after, ending }) => {
                let length = (*after).min(head.len() / 2);
                self.stream.write_all(&head[..length]).await?;
                return Ok(Some(*ending));
            }
            Some(HeadFault::Endless) => {
                self.stream.write_all(&head[..head.len() - 2]).await?;
                self.stream.write_all(b"X-Endless: ").await?;
                let letters = vec![b'e'; 16 << 10];
                loop {
                    self.stream.write_all(&letters).await?;
                }
            }
            Some(HeadFault::Slow { every }) => {
                for byte in &head {
                    self.pause(*every).await?;
                    self.stream.write_all(&[*byte]).await?;
                }
            }
            Some(HeadFault::Raw(bytes)) => {
                self.stream.write_all(bytes).await?;
                return Ok(Some(Ending::Fin));
            }
        }
        if is_head {
            return Ok(None);
        }
        let length = answer.body_length();
        let stop = answer.stop.filter(|(at, _)| *at <= length);
        self.send_body(answer, stop.map_or(length, |(at, _)| at), path).await?;
        if let Some((_, ending)) = stop {
            return Ok(Some(ending));
        }
        match answer.framing {
            Framing::Chunked { last_chunk: true } => self.stream.write_all(b"0\r\n\r\n").await?,
            Framing::Chunked { last_chunk: false } => return Ok(Some(Ending::Fin)),
            Framing::Plain => {}
        }
        Ok(None)
    }

    /// Sends the first `length` bytes of the body.
    async fn send_body(&mut self, answer: &Answer, length: u64, path: &PathTally) -> io::Result<()> {
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
                    self.stream.write_all(format!("{piece:x}\r\n").as_bytes()).await?;
                }
                self.write_counted(piece, path).await?;
                if chunked {
                    self.stream.write_all(b"\r\n").await?;
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

    /// Writes the first bytes of the output buffer, counting what the kernel takes as it takes it.
    async fn write_counted(&mut self, length: usize, path: &PathTally) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let written = self.stream.write(&self.output[done..length]).await?;
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
    async fn pause(&self, time: Duration) -> io::Result<()> {
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = self.client_gone() => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn client_gone(&self) {
        // Pipelined input is no reason to stop; its end would be, but cannot be seen behind it.
        if let Ok(1..) = self.stream.tcp().peek(&mut [0]).await {
            std::future::pending::<()>().await;
        }
    }
}
