//! Queries to one name server: over UDP, and over TCP if the answer is truncated (RFC 1035, RFC 7766).
//!
//! Each query has its own socket, port and ID, and the kernel gives a connected socket only the server's datagrams. A
//! forged answer would have to guess all three.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// The answer of one server, or of all, about a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name's addresses: IPv6 first (RFC 6724), never empty.
    Addresses(Vec<IpAddr>),
    /// The name does not exist, or has no address.
    Absent,
    /// No answer, or an error such as SERVFAIL.
    Failed,
}

/// A name server, and the way to query it.
#[derive(Debug)]
pub(super) struct NameServer {
    pub(super) address: SocketAddr,
    /// The time limit for an answer, for UDP and TCP each.
    pub(super) timeout: Duration,
    /// Queries never go over UDP.
    pub(super) tcp_only: bool,
}

impl NameServer {
    /// Queries the IPv6 and IPv4 addresses of a name at the same time.
    pub(super) async fn query(&self, name: &str) -> Answer {
        // A name that DNS cannot express does not exist in it.
        let Ok(name) = Name::from_ascii(name) else { return Answer::Absent };
        let (v6, v4) = tokio::join!(
            self.addresses(Query::query(name.clone(), RecordType::AAAA)),
            self.addresses(Query::query(name, RecordType::A)),
        );
        let all_answered = [&v6, &v4].iter().all(|addresses| addresses.is_some());
        let addresses: Vec<IpAddr> = [v6, v4].into_iter().flatten().flatten().collect();
        match (addresses.is_empty(), all_answered) {
            (false, _) => Answer::Addresses(addresses),
            (true, true) => Answer::Absent,
            (true, false) => Answer::Failed,
        }
    }

    /// The addresses of one family; `None` if the server does not answer, or with an error.
    async fn addresses(&self, query: Query) -> Option<Vec<IpAddr>> {
        let mut question = Message::new(random_id()?, MessageType::Query, OpCode::Query);
        question.metadata.recursion_desired = true;
        question.add_query(query);
        let answer = self.exchange(&question).await.ok()?;
        if !matches!(answer.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return None;
        }
        let asked = &question.queries.first()?.name;
        Some(addresses_of(asked, &answer.answers))
    }

    /// Sends a query, and returns its answer. A truncated one is ignored (RFC 2181 section 9): TCP has all of it.
    async fn exchange(&self, question: &Message) -> io::Result<Message> {
        let packet = question.to_vec().map_err(io::Error::other)?;
        if !self.tcp_only {
            let answer = tokio::time::timeout(self.timeout, self.over_udp(question, &packet)).await??;
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
        tokio::time::timeout(self.timeout, self.over_tcp(question, &packet)).await?
    }

    /// The answer; `None` if it is truncated.
    async fn over_udp(&self, question: &Message, packet: &[u8]) -> io::Result<Option<Message>> {
        let any: IpAddr =
            if self.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(self.address).await?;
        socket.send(packet).await?;
        // Larger than any answer without EDNS, which the query does not offer (RFC 1035 section 4.2.1).
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // A truncated answer may end within a record, so it may be no message.
            if is_truncated_answer(question, &buffer[..length]) {
                return Ok(None);
            }
            // Other datagrams may be forged; the real answer may follow.
            if let Some(answer) = answer_to(question, &buffer[..length]) {
                return Ok(Some(answer));
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

/// A random query ID from the TLS library, which asks the kernel. hickory's generator finds no `getrandom` to link with
/// in a static binary, opens /dev/urandom instead, and panics in a root without it.
fn random_id() -> Option<u16> {
    let mut bytes = [0; 2];
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok()?;
    Some(u16::from_le_bytes(bytes))
}

/// The message in `packet`, if it answers `question`.
fn answer_to(question: &Message, packet: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(packet).ok()?;
    is_answer(question, &answer.metadata, &answer.queries).then_some(answer)
}

fn is_answer(question: &Message, answer: &Metadata, queries: &[Query]) -> bool {
    answer.message_type == MessageType::Response
        && answer.id == question.metadata.id
        && queries == question.queries
}

/// True for a truncated answer to `question`. Only its header and its queries are read.
fn is_truncated_answer(question: &Message, packet: &[u8]) -> bool {
    let mut decoder = BinDecoder::new(packet);
    let Ok(header) = Header::read(&mut decoder) else { return false };
    let queries = Message::read_queries(&mut decoder, header.counts.queries.into());
    header.metadata.truncation && queries.is_ok_and(|queries| is_answer(question, &header.metadata, &queries))
}

/// The addresses of `name`, or of the name at the end of its chain of aliases, which a recursive server sends too.
/// Records of other names do not count: the answer is about one name (RFC 1034 section 4.3.2, RFC 2181 section 5.4.1).
fn addresses_of(name: &Name, records: &[Record]) -> Vec<IpAddr> {
    let mut name = name;
    // Each alias takes a record, so a circle ends.
    for _ in 0..records.len() {
        let alias = records.iter().find_map(|record| match &record.data {
            RData::CNAME(alias) if record.name == *name => Some(&alias.0),
            _ => None,
        });
        let Some(alias) = alias else { break };
        name = alias;
    }
    let own = records.iter().filter(|record| record.name == *name && record.dns_class == DNSClass::IN);
    own.filter_map(|record| record.data.ip_addr()).collect()
}
