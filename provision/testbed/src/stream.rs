//! The byte stream under a connection: TCP, or TLS over it.
//!
//! TLS comes in as a [`Handshake`], so that no other file depends on the feature `tls`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A stream that can be read and written, and its TCP connection.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {
    fn tcp(&mut self) -> &mut TcpStream;
}

impl Transport for TcpStream {
    fn tcp(&mut self) -> &mut TcpStream {
        self
    }
}

/// A connection's stream.
pub(crate) struct Stream {
    pub(crate) transport: Box<dyn Transport>,
    /// Close the transport and not only its TCP connection: TLS then sends `close_notify`.
    pub(crate) close_notify: bool,
}

impl Stream {
    /// Sends everything written so far, and then the end of the stream.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.transport.flush().await?;
        if self.close_notify {
            self.transport.shutdown().await
        } else {
            self.transport.tcp().shutdown().await
        }
    }
}

/// Makes a stream of an accepted TCP connection.
pub(crate) type Handshake = Arc<dyn Fn(TcpStream) -> Accepting + Send + Sync>;
pub(crate) type Accepting = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

/// The handshake of HTTP in the clear: none.
pub(crate) fn plain() -> Handshake {
    Arc::new(|tcp| Box::pin(async { Ok(Stream { transport: Box::new(tcp), close_notify: true }) }))
}
