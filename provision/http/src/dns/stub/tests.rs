//! The stub resolver against scripted name servers on loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket as TokioUdpSocket};

use super::*;

/// The behaviour of a server.
#[derive(Debug, Clone, Copy)]
enum Behaviour {
    /// It has one name with one address, and denies every other.
    Knows(&'static str, &'static str),
    /// The same over TCP; over UDP the answer is truncated.
    Truncated(&'static str, &'static str),
    /// Truncated within the record, as some servers cut.
    Cut(&'static str, &'static str),
    /// It answers with the address for another name, and an alias of the asked name.
    Foreign(&'static str, &'static str),
    /// The asked name is an alias of this name, whose address it sends along.
    Alias(&'static str, &'static str),
    /// It answers SERVFAIL.
    Fails,
    /// It does not answer.
    Silent,
}

/// A name server; it stops with its runtime.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        // One port for both protocols.
        let (udp, tcp) = loop {
            let udp = TokioUdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut packet).await {
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer(&packet[..length], behaviour, false) {
                    udp.send_to(&answer, from).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut packet = vec![0; length.into()];
                        stream.read_exact(&mut packet).await.unwrap();
                        if let Some(answer) = answer(&packet, behaviour, true) {
                            stream.write_u16(answer.len() as u16).await.unwrap();
                            stream.write_all(&answer).await.unwrap();
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(packet: &[u8], behaviour: Behaviour, tcp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(packet).unwrap();
    let query = request.queries[0].clone();
    let mut answer = request.into_response();
    match behaviour {
        Behaviour::Silent => return None,
        Behaviour::Fails => answer.metadata.response_code = ResponseCode::ServFail,
        Behaviour::Truncated(..) if !tcp => answer.metadata.truncation = true,
        Behaviour::Foreign(name, address) | Behaviour::Alias(name, address) => {
            let name: Name = name.parse().unwrap();
            let other: Name = "other.example.".parse().unwrap();
            let target = if matches!(behaviour, Behaviour::Alias(..)) { &name } else { &other };
            let alias = RData::CNAME(CNAME(target.clone()));
            // In either order.
            answer.answers.push(Record::from_rdata(
                name.clone(),
                60,
                RData::from(address.parse::<IpAddr>().unwrap()),
            ));
            answer.answers.push(Record::from_rdata(query.name().clone(), 60, alias));
        }
        Behaviour::Knows(name, address)
        | Behaviour::Truncated(name, address)
        | Behaviour::Cut(name, address) => {
            let address: IpAddr = address.parse().unwrap();
            let kind = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
            if !query.name().to_ascii().eq_ignore_ascii_case(name) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            } else if query.query_type() == kind {
                answer.answers.push(Record::from_rdata(query.name().clone(), 60, RData::from(address)));
            }
        }
    }
    let is_cut = matches!(behaviour, Behaviour::Cut(..)) && !tcp && !answer.answers.is_empty();
    answer.metadata.truncation |= is_cut;
    let mut bytes = answer.to_vec().unwrap();
    if is_cut {
        bytes.truncate(bytes.len() - 3);
    }
    Some(bytes)
}

/// A resolver with these servers and these lines in resolv.conf and hosts.
fn names(servers: &[&Server], resolv: &str, hosts: &str) -> Names {
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let resolv = ResolvConf::parse(&format!("{resolv}\noptions timeout:1 attempts:1\n"), "host");
    let configuration = Configuration::new(Hosts::parse(hosts), resolv, &addresses);
    Names { limit: Duration::from_secs(10), configuration: configuration.into() }
}

async fn look_up(names: &Names, host: &str) -> Result<Vec<String>, LookupError> {
    names.lookup(host).await.map(|addresses| addresses.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn names_have_the_addresses_that_files_and_servers_give() {
    let (host, dotted, home) = ("models.example", "models.example.", "127.0.0.7");
    let knows = Behaviour::Knows(dotted, home);
    let searched = Behaviour::Knows("models.b.example.", home);
    let search = "search a.example b.example";
    for (behaviour, resolv, hosts, name, address, is_asked) in [
        (knows, "", "", host, Some(home), true),
        (knows, "", "", "Models.Example.", Some(home), true),
        (knows, "", "", "other.example", None, true),
        // The empty IPv4 answer is not a failure.
        (Behaviour::Knows(dotted, "::1"), "", "", host, Some("::1"), true),
        // The hosts file comes first.
        (knows, "", "127.0.0.8 models.example\n", host, Some("127.0.0.8"), false),
        (searched, search, "", "models", Some(home), true),
        (searched, search, "", "models.", None, true),
        // A truncated answer is fetched over TCP, also where it is cut within a record.
        (Behaviour::Truncated(dotted, home), "", "", host, Some(home), true),
        (Behaviour::Cut(dotted, home), "", "", host, Some(home), true),
        // Only the asked name and its aliases give addresses.
        (Behaviour::Foreign("evil.example.", home), "", "", host, None, true),
        (Behaviour::Alias("cdn.example.", home), "", "", host, Some(home), true),
        // Nothing is sent over UDP.
        (knows, "options use-vc", "", host, Some(home), false),
    ] {
        let server = Server::start(behaviour).await;
        let mut found = look_up(&names(&[&server], resolv, hosts), name).await;
        if matches!(behaviour, Behaviour::Alias(..)) {
            // It is followed in the answers for both families.
            found.iter_mut().for_each(Vec::dedup);
        }
        let expected = address.map(|address| vec![address.to_owned()]).ok_or(LookupError::Absent);
        assert_eq!(found, expected, "{behaviour:?}, {resolv}, {hosts}: {name}");
        assert_eq!(server.asked() > 0, is_asked, "{behaviour:?}, {resolv}, {hosts}: {name}");
    }
}

#[tokio::test]
async fn the_next_server_is_asked_after_a_failed_or_silent_one() {
    let good = Server::start(Behaviour::Knows("models.example.", "127.0.0.7")).await;
    for behaviour in [Behaviour::Fails, Behaviour::Silent] {
        let bad = Server::start(behaviour).await;
        let names = names(&[&bad, &good], "", "");
        assert_eq!(look_up(&names, "models.example").await.unwrap(), ["127.0.0.7"], "{behaviour:?}");
        assert!(bad.asked() > 0, "servers are asked in their order");
    }
}

#[tokio::test]
async fn the_first_answer_counts_even_if_it_is_absent() {
    let first = Server::start(Behaviour::Knows("a.example.", "127.0.0.7")).await;
    let second = Server::start(Behaviour::Knows("b.example.", "127.0.0.8")).await;
    let names = names(&[&first, &second], "", "");
    assert_eq!(look_up(&names, "b.example").await, Err(LookupError::Absent));
    assert_eq!(second.asked(), 0);
}

#[tokio::test]
async fn silent_servers_take_bounded_time_and_are_unanswered() {
    let silent = Server::start(Behaviour::Silent).await;
    let domains = "search a.example b.example c.example d.example e.example f.example";
    let mut names = names(&[&silent, &silent, &silent], domains, "");
    names.limit = Duration::from_secs(2);
    let started = Instant::now();
    assert_eq!(look_up(&names, "models").await, Err(LookupError::Unanswered));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_does_not_exist_fails_at_once() {
    let gone = TokioUdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Server { address: gone, asked: Arc::default() };
    let names = names(&[&server], "", "");
    assert_eq!(look_up(&names, "models.example").await, Err(LookupError::Unanswered));
    assert_eq!(
        look_up(&names, "localhost").await.unwrap().last().unwrap(),
        "127.0.0.1",
        "no server is asked"
    );
}

#[tokio::test]
async fn the_files_of_this_machine_can_be_read() {
    let found = lookups(Duration::from_secs(1)).lookup("localhost").await.unwrap();
    assert!(found.contains(&Ipv4Addr::LOCALHOST.into()), "{found:?}");
}
