//! Against name servers on loopback that answer as they are told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket as TokioUdpSocket};

use super::*;

/// What a server does.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// Knows this one name, by this address; denies every other.
    Knows(&'static str, &'static str),
    /// The same, over TCP; over UDP only that it does not fit.
    Truncated(&'static str, &'static str),
    /// Cannot tell.
    Fails,
    /// Nothing.
    Nothing,
}

/// A name server, until its runtime ends.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(says: Says) -> Self {
        // The same port for both, as a name server has it.
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
                if let Some(answer) = answer(&packet[..length], says, false) {
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
                        if let Some(answer) = answer(&packet, says, true) {
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

fn answer(packet: &[u8], says: Says, tcp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(packet).unwrap();
    let query = request.queries[0].clone();
    let mut answer = request.into_response();
    match says {
        Says::Nothing => return None,
        Says::Fails => answer.metadata.response_code = ResponseCode::ServFail,
        Says::Truncated(..) if !tcp => answer.metadata.truncation = true,
        Says::Knows(name, address) | Says::Truncated(name, address) => {
            let address: IpAddr = address.parse().unwrap();
            let kind = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
            if !query.name().to_ascii().eq_ignore_ascii_case(name) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            } else if query.query_type() == kind {
                answer.answers.push(Record::from_rdata(query.name().clone(), 60, RData::from(address)));
            }
        }
    }
    Some(answer.to_vec().unwrap())
}

/// Names by these servers, with these lines in resolv.conf and in hosts.
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
async fn a_server_is_asked_and_believed() {
    let server = Server::start(Says::Knows("models.example.", "127.0.0.7")).await;
    let names = names(&[&server], "", "");
    assert_eq!(look_up(&names, "models.example").await.unwrap(), ["127.0.0.7"]);
    assert_eq!(look_up(&names, "Models.Example.").await.unwrap(), ["127.0.0.7"]);
    assert_eq!(look_up(&names, "other.example").await, Err(LookupError::Absent));
}

#[tokio::test]
async fn a_name_that_exists_without_an_address_is_absent() {
    let server = Server::start(Says::Knows("models.example.", "::1")).await;
    let names = names(&[&server], "", "");
    // IPv6 only: the answer for IPv4 is empty, and that is no failure.
    assert_eq!(look_up(&names, "models.example").await.unwrap(), ["::1"]);
}

#[tokio::test]
async fn hosts_come_first_and_nobody_is_asked() {
    let server = Server::start(Says::Knows("models.example.", "127.0.0.7")).await;
    let names = names(&[&server], "", "127.0.0.8 models.example\n");
    assert_eq!(look_up(&names, "models.example").await.unwrap(), ["127.0.0.8"]);
    assert_eq!(look_up(&names, "localhost").await.unwrap().last().unwrap(), "127.0.0.1");
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn search_domains_complete_a_name() {
    let server = Server::start(Says::Knows("models.b.example.", "127.0.0.7")).await;
    let names = names(&[&server], "search a.example b.example", "");
    assert_eq!(look_up(&names, "models").await.unwrap(), ["127.0.0.7"]);
    assert_eq!(look_up(&names, "models.").await, Err(LookupError::Absent));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails_or_is_silent() {
    let good = Server::start(Says::Knows("models.example.", "127.0.0.7")).await;
    for says in [Says::Fails, Says::Nothing] {
        let bad = Server::start(says).await;
        let names = names(&[&bad, &good], "", "");
        assert_eq!(look_up(&names, "models.example").await.unwrap(), ["127.0.0.7"], "{says:?}");
        assert!(bad.asked() > 0, "servers are asked in their order");
    }
}

#[tokio::test]
async fn the_first_answer_counts_also_when_it_is_no() {
    let first = Server::start(Says::Knows("a.example.", "127.0.0.7")).await;
    let second = Server::start(Says::Knows("b.example.", "127.0.0.8")).await;
    let names = names(&[&first, &second], "", "");
    assert_eq!(look_up(&names, "b.example").await, Err(LookupError::Absent));
    assert_eq!(second.asked(), 0);
}

#[tokio::test]
async fn an_answer_that_does_not_fit_comes_over_tcp() {
    let server = Server::start(Says::Truncated("models.example.", "127.0.0.7")).await;
    assert_eq!(look_up(&names(&[&server], "", ""), "models.example").await.unwrap(), ["127.0.0.7"]);
}

#[tokio::test]
async fn with_use_vc_nothing_goes_over_udp() {
    let server = Server::start(Says::Knows("models.example.", "127.0.0.7")).await;
    let names = names(&[&server], "options use-vc", "");
    assert_eq!(look_up(&names, "models.example").await.unwrap(), ["127.0.0.7"]);
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn servers_that_say_nothing_are_not_a_name_that_does_not_exist_and_take_bounded_time() {
    let silent = Server::start(Says::Nothing).await;
    let domains = "search a.example b.example c.example d.example e.example f.example";
    let mut names = names(&[&silent, &silent, &silent], domains, "");
    names.limit = Duration::from_secs(2);
    let started = Instant::now();
    assert_eq!(look_up(&names, "models").await, Err(LookupError::Unanswered));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_no_answer_at_once() {
    let gone = TokioUdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Server { address: gone, asked: Arc::default() };
    assert_eq!(look_up(&names(&[&server], "", ""), "models.example").await, Err(LookupError::Unanswered));
}

#[tokio::test]
async fn the_systems_files_can_be_read_whatever_they_say() {
    let names = Names::new(Duration::from_secs(1));
    assert!(look_up(&names, "localhost").await.unwrap().contains(&"127.0.0.1".to_owned()));
}
