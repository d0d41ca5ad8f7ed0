//! A TCP relay before a server: it counts bytes, keeps request heads, and slows, holds or cuts the traffic.
//!
//! Real servers have no switch for "slow", "silent" or "stop after so many bytes". A run that is killed at a byte count
//! of the relay needs no luck with time.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// The most bytes that move at once: with a rate, connections take turns of this size.
const PIECE: usize = 32 << 10;

/// A running relay. Its drop closes every connection.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

/// The traffic since the start or the last [`Relay::reset`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    pub(crate) connections: u64,
    /// Bytes to the server, with heads.
    pub(crate) up: u64,
    /// Bytes from the server, with heads.
    pub(crate) down: u64,
    /// The head of each request, in order.
    pub(crate) heads: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    traffic: Traffic,
    /// Bytes per second in each direction, for all connections together.
    rate: Option<u64>,
    /// When the bytes that passed so far have used up the rate, from the server and to it.
    due: [Option<Instant>; 2],
    /// Pass no more bytes to the server than this.
    hold: Option<u64>,
    /// Both ends of every connection so far; a cut takes them.
    streams: Vec<TcpStream>,
    /// Counts the cuts: a pump of an earlier cut ends.
    cuts: u64,
}

impl Relay {
    /// Starts a relay on a free port, to the server at `target` on 127.0.0.1.
    pub(crate) fn start(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { target, state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::downgrade(&shared);
        thread::spawn(move || {
            for client in listener.incoming() {
                // After the relay's drop the first client ends the listener.
                let Some(accepting) = accepting.upgrade() else { return };
                // A client that has left, or a server that is down: the client sees a closed connection.
                let _ = client.and_then(|client| accepting.connect(client));
            }
        });
        Ok(Self { port, shared })
    }

    /// The traffic so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.shared.lock().traffic.clone()
    }

    /// Begins to count at zero.
    pub(crate) fn reset(&self) {
        self.shared.lock().traffic = Traffic::default();
    }

    /// Limits each direction to `rate` bytes per second, for all connections together.
    pub(crate) fn set_rate(&self, rate: Option<u64>) {
        self.shared.lock().rate = rate;
    }

    /// Stops passing bytes to the server once it got `bytes`; with 0 the server never hears a request.
    pub(crate) fn hold_after(&self, bytes: u64) {
        self.shared.lock().hold = Some(bytes);
    }

    /// Waits until `reached` holds for the traffic.
    pub(crate) fn wait_for(&self, what: &str, reached: impl Fn(&Traffic) -> bool) -> Result<()> {
        let limit = Duration::from_mins(1);
        let state = self.shared.lock();
        let waiting = |state: &mut State| !reached(&state.traffic);
        let waited = self.shared.changed.wait_timeout_while(state, limit, waiting);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        ensure!(!waited.timed_out(), "timed out waiting for {what} at the relay: {:?}", state.traffic);
        Ok(())
    }

    /// Closes every connection without the bytes that are held, and holds no more.
    pub(crate) fn cut(&self) {
        let mut state = self.shared.lock();
        state.cuts += 1;
        state.hold = None;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Traffic {
    /// The requests with one of these methods, as `METHOD TARGET`.
    pub(crate) fn requests(&self, methods: &[&str]) -> Vec<&str> {
        let lines = self.heads.iter().filter_map(|head| head.lines().next()?.rsplit_once(' '));
        let is_one = |line: &&str| methods.contains(&line.split(' ').next().unwrap_or_default());
        lines.map(|(line, _)| line).filter(is_one).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        self.lock().traffic.connections += 1;
        self.changed.notify_all();
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, self.target))?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let cuts = {
            let mut state = self.lock();
            state.streams.extend([client.try_clone()?, server.try_clone()?]);
            state.cuts
        };
        let ends = [(true, client.try_clone()?, server.try_clone()?), (false, server, client)];
        for (is_up, from, to) in ends {
            let shared = Arc::clone(self);
            thread::spawn(move || {
                let _ = shared.pump(is_up, cuts, &from, &to);
                // The other direction goes on: an end of a request is not the end of its answer.
                let _ = to.shutdown(Shutdown::Write);
            });
        }
        Ok(())
    }

    fn pump(&self, is_up: bool, cuts: u64, mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            let length = from.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            let mut rest = &buffer[..length];
            if is_up {
                self.keep_head(rest);
            }
            while !rest.is_empty() {
                let Some(allowed) = self.allow(is_up, cuts, rest.len()) else { return Ok(()) };
                to.write_all(&rest[..allowed])?;
                rest = &rest[allowed..];
            }
        }
    }

    /// Keeps a request's head. A client sends it after the answer to its last request, so it begins a read.
    fn keep_head(&self, bytes: &[u8]) {
        let methods = ["GET /", "HEAD /", "PUT /", "POST /", "PATCH /", "DELETE /"];
        if methods.iter().any(|method| bytes.starts_with(method.as_bytes())) {
            let text = String::from_utf8_lossy(bytes);
            let head = text.split("\r\n\r\n").next().unwrap_or_default();
            self.lock().traffic.heads.push(head.to_owned());
        }
    }

    /// Waits until bytes may pass, and counts them. `None` after a cut.
    #[expect(clippy::disallowed_methods, reason = "the rate of a link is a wait")]
    fn allow(&self, is_up: bool, cuts: u64, wanted: usize) -> Option<usize> {
        let mut state = self.lock();
        let room = |state: &State| match state.hold {
            Some(hold) if is_up => hold.saturating_sub(state.traffic.up),
            _ => u64::MAX,
        };
        let blocked = |state: &mut State| state.cuts == cuts && room(state) == 0;
        state = self.changed.wait_while(state, blocked).unwrap_or_else(PoisonError::into_inner);
        if state.cuts != cuts {
            return None;
        }
        let allowed = room(&state).min(wanted as u64);
        let Traffic { up, down, .. } = &mut state.traffic;
        *if is_up { up } else { down } += allowed;
        let now = Instant::now();
        let wait = state.rate.map(|rate| {
            let due = &mut state.due[usize::from(is_up)];
            let next = due.unwrap_or(now).max(now) + Duration::from_secs_f64(allowed as f64 / rate as f64);
            *due = Some(next);
            next - now
        });
        drop(state);
        self.changed.notify_all();
        if let Some(wait) = wait {
            thread::sleep(wait);
        }
        Some(allowed as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each connection with what it got until the end.
    fn echo() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut text = Vec::new();
                let _ = stream.read_to_end(&mut text);
                let _ = stream.write_all(&text);
            }
        });
        port
    }

    fn send(relay: &Relay, text: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).unwrap();
        stream.write_all(text).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream
    }

    fn answer(mut stream: TcpStream) -> Vec<u8> {
        let mut text = Vec::new();
        let _ = stream.read_to_end(&mut text);
        text
    }

    #[test]
    fn the_relay_counts_both_directions_and_keeps_heads() {
        let relay = Relay::start(echo()).unwrap();
        let request = b"PUT /a HTTP/1.1\r\nHost: x\r\n\r\nbody";
        assert_eq!(answer(send(&relay, request)), request);
        let traffic = relay.traffic();
        let size = request.len() as u64;
        assert_eq!((traffic.connections, traffic.up, traffic.down), (1, size, size));
        assert_eq!(traffic.requests(&["PUT"]), ["PUT /a"]);
        assert!(traffic.requests(&["GET"]).is_empty());
    }

    #[test]
    fn a_cut_drops_the_bytes_that_are_held() {
        let relay = Relay::start(echo()).unwrap();
        relay.hold_after(3);
        let stream = send(&relay, b"abcdef");
        relay.wait_for("the hold", |traffic| traffic.up == 3).unwrap();
        relay.cut();
        assert_eq!(answer(stream), b"");
        assert_eq!(relay.traffic().up, 3);
        assert_eq!(answer(send(&relay, b"xyz")), b"xyz", "later connections pass");
    }
}
