//! One name server: a question over UDP, again over TCP where the answer does not fit (RFC 1035, RFC 7766).
//!
//! Each question has a socket, a port and a number of its own, and the kernel lets only the server's datagrams into a
//! connected socket: an answer from elsewhere has to guess all three.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// What a server, or all of them, had to say about a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Where it leads: IPv6 first (RFC 6724), never none.
    Addresses(Vec<IpAddr>),
    /// Nowhere.
    Absent,
    /// Nothing, or that it cannot tell.
    None,
}

/// Where it is, and how it is asked.
#[derive(Debug)]
pub(super) struct NameServer {
    pub(super) address: SocketAddr,
    /// For an answer, over UDP and TCP each.
    pub(super) timeout: Duration,
    /// Never over UDP.
    pub(super) tcp_only: bool,
}

impl NameServer {
    /// Asks for both kinds of addresses at the same time.
    pub(super) async fn ask(&self, name: &str) -> Answer {
        // What DNS cannot express is not in it.
        let Ok(name) = Name::from_ascii(name) else { return Answer::Absent };
        let (v6, v4) = tokio::join!(
            self.addresses(Query::query(name.clone(), RecordType::AAAA)),
            self.addresses(Query::query(name, RecordType::A)),
        );
        let denied = [&v6, &v4].iter().all(|addresses| addresses.is_some());
        let addresses: Vec<IpAddr> = [v6, v4].into_iter().flatten().flatten().collect();
        match (addresses.is_empty(), denied) {
            (false, _) => Answer::Addresses(addresses),
            (true, true) => Answer::Absent,
            (true, false) => Answer::None,
        }
    }

    /// `None` where the server does not answer, or not with yes or no.
    async fn addresses(&self, query: Query) -> Option<Vec<IpAddr>> {
        let mut question = Message::new(number()?, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(query);
        let answer = self.exchange(&question).await.ok()?;
        if !matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return None;
        }
        // Also those at the end of a chain of aliases, which a server that is asked to recurse sends along.
        Some(answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect())
    }

    async fn exchange(&self, question: &Message) -> io::Result<Message> {
        let packet = question.to_vec().map_err(io::Error::other)?;
        if !self.tcp_only {
            let answer = tokio::time::timeout(self.timeout, self.over_udp(question, &packet)).await??;
            if !answer.metadata.truncation {
                return Ok(answer);
            }
        }
        tokio::time::timeout(self.timeout, self.over_tcp(question, &packet)).await?
    }

    async fn over_udp(&self, question: &Message, packet: &[u8]) -> io::Result<Message> {
        let any: IpAddr =
            if self.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.address).await?;
        socket.send(packet).await?;
        // More than any answer may have without an extension that is not asked for (RFC 1035 section 4.2.1).
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // What is no answer to this question may be somebody's guess; the right one may follow.
            if let Some(answer) = answer_to(question, &buffer[..length]) {
                return Ok(answer);
            }
        }
    }

    async fn over_tcp(&self, question: &Message, packet: &[u8]) -> io::Result<Message> {
        let mut stream = TcpStream::connect(self.address).await?;
        let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), packet].concat()).await?;
        let mut buffer = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut buffer).await?;
        answer_to(question, &buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// From the TLS library, which asks the kernel. hickory's own asks a random number crate that, in a static binary,
/// finds no `getrandom` to link with, opens /dev/urandom instead, and panics in a root without one.
fn number() -> Option<u16> {
    let mut bytes = [0; 2];
    rustls::crypto::aws_lc_rs::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(u16::from_le_bytes(bytes))
}

fn answer_to(question: &Message, packet: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(packet).ok()?;
    let is_for_it = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries;
    is_for_it.then_some(answer)
}
