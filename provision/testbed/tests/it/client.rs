//! A client without checks: it returns the bytes from the wire and their ending.

use std::net::SocketAddr;

use provision_testbed::{Content, Fault, Origin, OriginConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The path of the tests' file.
pub(crate) const PATH: &str = "/a/file.bin";
pub(crate) const SIZE: u64 = 1000;

pub(crate) fn content() -> Content {
    Content::generated(7, SIZE)
}

pub(crate) async fn origin() -> Origin {
    let origin = Origin::start(OriginConfig::default()).await.unwrap();
    origin.put(PATH, content());
    origin
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As many bytes as `Content-Length` declares; the connection is still open.
    Complete,
    Fin,
    Reset,
}

#[derive(Debug)]
pub(crate) struct Reply {
    /// 0 if the head is incomplete.
    pub(crate) status: u16,
    /// The head, as far as it came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The bodies of the chunks, and true if the last chunk came.
    pub(crate) fn unchunk(&self) -> (Vec<u8>, bool) {
        let (mut rest, mut out) = (self.body.as_slice(), Vec::new());
        while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
            let length = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
            if length == 0 {
                return (out, true);
            }
            out.extend_from_slice(&rest[at + 2..at + 2 + length]);
            rest = &rest[at + 2 + length + 2..];
        }
        (out, false)
    }
}

pub(crate) async fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.unwrap()
}

pub(crate) async fn ask(stream: &mut TcpStream, method: &str, target: &str, headers: &str) {
    let request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads one answer: to its `Content-Length`, or to the end of the connection.
pub(crate) async fn read(stream: &mut TcpStream, to_the_end: bool) -> Reply {
    let mut bytes = Vec::new();
    let mut end = None;
    loop {
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        let mut reply = Reply {
            status: 0,
            head: String::from_utf8_lossy(&bytes[..head.unwrap_or(bytes.len())]).into_owned(),
            body: bytes[head.unwrap_or(bytes.len())..].to_vec(),
            end: End::Complete,
        };
        if head.is_some() {
            reply.status = reply.head.split(' ').nth(1).unwrap().parse().unwrap();
        }
        if let Some(end) = end {
            reply.end = end;
            return reply;
        }
        // The header of an incomplete head may be cut.
        let length = reply.header("content-length").filter(|_| head.is_some());
        let claimed: Option<usize> = length.map(|length| length.parse().unwrap());
        if !to_the_end && claimed == Some(reply.body.len()) {
            return reply;
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) => end = Some(End::Fin),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => end = Some(End::Reset),
            Err(error) => panic!("{error}"),
        }
    }
}

/// One request on a connection of its own, which ends with the answer.
pub(crate) async fn get(origin: &Origin, target: &str, headers: &str) -> Reply {
    let mut stream = connect(origin.addr()).await;
    ask(&mut stream, "GET", target, &format!("{headers}Connection: close\r\n")).await;
    read(&mut stream, true).await
}

/// The answer to a range of [`PATH`] from an origin with this fault.
pub(crate) async fn faulty(fault: Fault, first: u64, last: u64) -> Reply {
    let origin = origin().await;
    origin.inject(PATH, fault);
    get(&origin, PATH, &format!("Range: bytes={first}-{last}\r\n")).await
}

/// Bytes of [`content`].
pub(crate) fn bytes(first: u64, last: u64) -> Vec<u8> {
    content().slice(first..last + 1)
}
