//! The life of an origin: start, accept, stop.
//!
//! One task accepts and owns all connection tasks in a `JoinSet`: when it ends, they end, and with them every socket.
//! Dropping an [`Origin`] aborts that task, so a test that panics leaves nothing behind.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::connection::Connection;
use crate::control::{Control, Shared};
use crate::shape::{OverLimit, Shape};
use crate::stream::{self, Handshake};
#[cfg(feature = "tls")]
use crate::tls::{self, Tls};

/// The setup of an origin.
#[derive(Clone, Copy, Debug)]
pub struct OriginConfig {
    /// The address to listen on; port 0 takes a free one. The default is `127.0.0.1:0`.
    pub addr: SocketAddr,
    /// The first shape.
    pub shape: Shape,
    /// The number of threads of a [`BlockingOrigin`](crate::BlockingOrigin); an [`Origin`] uses its caller's.
    pub threads: usize,
    /// The TLS setup; `None` for HTTP in the clear.
    #[cfg(feature = "tls")]
    pub tls: Option<Tls>,
}

impl Default for OriginConfig {
    fn default() -> Self {
        Self {
            addr: (Ipv4Addr::LOCALHOST, 0).into(),
            shape: Shape::default(),
            threads: 1,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// An HTTP origin on tasks of the tokio runtime that it was started on. It derefs to [`Control`], and stops when it is
/// dropped.
#[derive(Debug)]
pub struct Origin {
    control: Control,
    task: JoinHandle<()>,
}

impl Origin {
    /// Binds the address and begins to serve. Fails if the address cannot be bound.
    pub async fn start(config: OriginConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.addr).await?;
        let addr = listener.local_addr()?;
        #[cfg(feature = "tls")]
        let (scheme, handshake) = match config.tls {
            Some(tls) => ("https", tls::handshake(tls, addr.ip())?),
            None => ("http", stream::plain()),
        };
        #[cfg(not(feature = "tls"))]
        let (scheme, handshake) = ("http", stream::plain());
        let control = Control::new(addr, scheme, config.shape);
        let task = tokio::spawn(accept(listener, handshake, Arc::clone(control.shared())));
        Ok(Self { control, task })
    }

    /// Stops. When this returns, the port is free and every connection is closed.
    pub async fn stop(mut self) {
        self.task.abort();
        // The result says that the task was cancelled.
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

async fn accept(listener: TcpListener, handshake: Handshake, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => serve(tcp, Arc::clone(&handshake), &shared, &mut connections),
                // Out of file descriptors, or a client that left the queue. Neither ends the origin.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

fn serve(tcp: TcpStream, handshake: Handshake, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let shape = shared.current_shape();
    let _ = tcp.set_nodelay(true);
    let (number, guard) = shared.tally.accept(shape.max_connections);
    if guard.is_none() && shape.over_limit == OverLimit::Refuse {
        let _ = tcp.set_zero_linger();
        return;
    }
    let shared = Arc::clone(shared);
    connections.spawn(async move {
        // Dropped last, so that the socket is closed when the connection stops counting as open.
        let guard = guard;
        // An error here or below is a client that left, or that rejected the certificate.
        let Ok(stream) = handshake(tcp).await else { return };
        let connection = Connection::new(stream, number, shared);
        let _ = if guard.is_some() { connection.serve().await } else { connection.refuse().await };
    });
}
