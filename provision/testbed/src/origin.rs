//! Start, accept, stop.
//!
//! One task accepts and owns all connection tasks in a `JoinSet`: when it goes, they go, and with them every socket.
//! Dropping an [`Origin`] aborts that task, so a test that panics leaves nothing behind.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::connection::Connection;
use crate::control::{Control, Shared};
use crate::shape::{OverLimit, Shape};
use crate::tls::{self, Stream, Tls};

/// Where and how an origin starts.
#[derive(Clone, Copy, Debug)]
pub struct OriginConfig {
    /// Where to listen; port 0 takes a free one. The default is `127.0.0.1:0`.
    pub addr: SocketAddr,
    /// How to serve at first.
    pub shape: Shape,
    /// How many threads a [`BlockingOrigin`](crate::BlockingOrigin) serves with; an [`Origin`] uses its caller's.
    pub threads: usize,
    /// TLS, and how good the certificate is; `None` for requests in the clear.
    pub tls: Option<Tls>,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self { addr: (Ipv4Addr::LOCALHOST, 0).into(), shape: Shape::default(), threads: 1, tls: None }
    }
}

/// An HTTP origin on tokio tasks of the runtime that it was started on. All that can be done with it is in
/// [`Control`]. It stops when it is dropped.
#[derive(Debug)]
pub struct Origin {
    control: Control,
    task: JoinHandle<()>,
}

impl Origin {
    /// Binds and begins to serve. Fails when the address cannot be bound.
    pub async fn start(config: OriginConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.addr).await?;
        let addr = listener.local_addr()?;
        let doorman = config.tls.map(|tls| Doorman::new(tls, addr)).transpose()?;
        let control = Control::new(addr, doorman.is_some(), config.shape);
        let task = tokio::spawn(accept(listener, doorman, Arc::clone(control.shared())));
        Ok(Self { control, task })
    }

    /// Stops: when this returns, nobody listens and every connection is closed.
    pub async fn stop(mut self) {
        self.task.abort();
        // The task is cancelled, that is the point.
        let _ = (&mut self.task).await;
        self.control.wait_for(|counters| counters.connections_open == 0).await;
    }

    /// A handle for other threads and callbacks.
    pub fn control(&self) -> Control {
        self.control.clone()
    }
}

impl Deref for Origin {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Who makes an encrypted stream of a connection.
#[derive(Clone)]
struct Doorman {
    acceptor: TlsAcceptor,
    says_goodbye: bool,
}

impl Doorman {
    fn new(tls: Tls, addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { acceptor: tls::acceptor(tls, addr.ip())?, says_goodbye: tls.close_notify })
    }

    async fn admit(self, stream: TcpStream) -> io::Result<Stream> {
        let tls = Box::new(self.acceptor.accept(stream).await?);
        Ok(Stream::Encrypted { tls, says_goodbye: self.says_goodbye })
    }
}

async fn accept(listener: TcpListener, doorman: Option<Doorman>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(stream, doorman.clone(), &shared, &mut connections),
                // Out of file descriptors, or a client that left in the queue: neither is the end.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn serve(stream: TcpStream, doorman: Option<Doorman>, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let number = shared.tally.accepted();
    let shape = shared.current_shape();
    let _ = stream.set_nodelay(true);
    let is_over = shape.max_connections.is_some_and(|limit| shared.tally.open_now() >= limit as u64);
    if is_over {
        shared.tally.refused();
        if shape.over_limit == OverLimit::Refuse {
            let _ = stream.set_zero_linger();
            return;
        }
    }
    // Declared first, dropped last: the socket is closed when the connection stops counting as open.
    let guard = (!is_over).then(|| shared.tally.open());
    let shared = Arc::clone(shared);
    connections.spawn(async move {
        let _guard = guard;
        let stream = match doorman {
            Some(doorman) => doorman.admit(stream).await,
            None => Ok(Stream::Plain(stream)),
        };
        // Errors are clients that left, or that do not believe a certificate.
        let Ok(stream) = stream else { return };
        let connection = Connection::new(stream, number, shared);
        let _ = if is_over { connection.refuse().await } else { connection.serve().await };
    });
}
