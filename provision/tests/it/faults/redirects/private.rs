//! Redirects from a public origin into a private network (fault 47). The rule looks at the address that is connected
//! to, so the test needs a public one: it runs in a network namespace whose loopback has one.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;

use provision_http::Hosts;

use crate::both_clients::BOTH;
use crate::prelude::*;
use crate::program::end;

const PUBLIC: &str = "93.184.215.14";
const OTHER_PUBLIC: &str = "93.184.215.15";
const PRIVATE: [&str; 3] = ["10.1.2.3", "192.168.7.7", "169.254.169.254"];

#[test]
fn fault_47_a_private_address_is_refused_in_any_spelling() {
    run_in_a_network("in_a_network_of_its_own");
}

#[test]
fn fault_103_a_proxy_at_a_private_address_opens_no_way_inside() {
    run_in_a_network("behind_a_near_proxy");
}

fn run_in_a_network(test: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture"]);
    command.arg(format!("faults::redirects::private::{test}"));
    // SAFETY: the child makes system calls and allocates nothing.
    unsafe { command.pre_exec(enter_a_network) };
    match command.output() {
        Ok(output) => {
            end(output).exits(0).out_has(&["1 passed"]);
        }
        Err(error) => {
            needs(&format!("a network namespace of one's own ({error})"), false);
        }
    }
}

/// Moves to a network namespace that has only a loopback, with these addresses.
fn enter_a_network() -> std::io::Result<()> {
    let check = |result: libc::c_int| {
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
    };
    // SAFETY: each call gets arguments of its type, and what they point to lives in this function.
    unsafe {
        // Root may create one directly; where it may not, and for all other users, a user namespace is needed, too.
        if libc::geteuid() != 0 || check(libc::unshare(libc::CLONE_NEWNET)).is_err() {
            check(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET))?;
        }
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        for (number, address) in [PUBLIC, OTHER_PUBLIC].iter().chain(&PRIVATE).enumerate() {
            let mut request = interface([b'l', b'o', b':', b'0' + number as u8]);
            let ip: Ipv4Addr = address.parse().map_err(|_| std::io::ErrorKind::InvalidInput)?;
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: 0,
                sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
                sin_zero: [0; 8],
            };
            request.ifr_ifru.ifru_addr = std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address);
            check(libc::ioctl(socket, libc::SIOCSIFADDR as _, &raw const request))?;
        }
        let mut request = interface(*b"lo\0\0");
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        check(libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request))?;
    }
    Ok(())
}

#[allow(clippy::cast_possible_wrap, reason = "letters; and the type has a sign on some machines only")]
fn interface(name: [u8; 4]) -> libc::ifreq {
    // SAFETY: all its variants are numbers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from as libc::c_char;
    }
    request
}

/// A fixture whose model `x` is at a public origin.
fn fixture(public: &BlockingOrigin, content: &Content) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.model("x", content, &[public.url("/x")]);
    fixture
}

/// Names with private addresses, in part or only.
fn hosts() -> Hosts {
    let ips = |text: &[&str]| text.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>();
    [
        ("inside.example", ips(&["127.0.0.1"])),
        ("mapped.example", ips(&["::ffff:127.0.0.1"])),
        ("neighbour.example", ips(&[PRIVATE[0]])),
        ("both.example", ips(&[PRIVATE[0], OTHER_PUBLIC])),
    ]
    .into_iter()
    .collect()
}

#[test]
#[ignore = "needs a network of its own; the test above makes one and runs this"]
fn in_a_network_of_its_own() {
    let content = Content::generated(1, 300_000);
    let public = start_origin(PUBLIC);
    let public_proxy = start_proxy(OTHER_PUBLIC);
    let neighbours = PRIVATE.map(start_origin);
    let here = start_origin("127.0.0.1");
    for origin in neighbours.iter().chain([&here]) {
        origin.put("/y", content.clone());
    }
    let port = here.addr().port();
    let spellings = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7F.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::1]",
        "[::]",
        "0.0.0.0",
        "0",
        "localhost",
        "inside.example",
        "mapped.example",
    ];
    let mut locations: Vec<String> = spellings.iter().map(|host| format!("http://{host}:{port}/y")).collect();
    locations.extend(neighbours.iter().map(|origin| origin.url("/y")));
    locations.push(format!("//127.0.0.1:{port}/y"));
    let not_connected = || {
        for origin in neighbours.iter().chain([&here]) {
            assert_eq!(origin.counters().connections_accepted, 0, "{}", origin.addr());
        }
    };
    for location in &locations {
        public.replace_faults("/x", Fault::redirect(location.clone()));
        let mut fixture = fixture(&public, &content);
        fixture.http.hosts = hosts();
        let error = fixture.fetch_refused().to_string();
        assert!(error.contains("a public host redirects to a private address"), "{location}: {error}");
        let http = ClientConfig { hosts: hosts(), ..ClientConfig::default() };
        let mut behind_a_proxy = http.clone();
        let value = format!("http://{}", public_proxy.addr());
        behind_a_proxy.proxies.http = Some(ProxyVariable { name: "http_proxy", value });
        public_proxy.replace_faults("/x", Fault::redirect(location.clone()));
        let is_name =
            ["localhost", "inside.example", "mapped.example"].iter().any(|name| location.contains(name));
        for over in BOTH {
            let error = over.get(&http, &public.url("/x")).unwrap_err().to_string();
            assert!(
                error.contains("a public host redirects to a private address"),
                "{over:?} {location}: {error}"
            );
            // A proxy resolves names itself.
            if !is_name {
                let error = over.get(&behind_a_proxy, "http://models.example/x").unwrap_err().to_string();
                assert!(error.contains("a private address"), "{over:?}, by a proxy, {location}: {error}");
            }
        }
        not_connected();
    }

    // By way of another public host.
    let other = start_origin(OTHER_PUBLIC);
    public.replace_faults("/x", Fault::redirect(other.url("/hop")));
    other.inject("/hop", Fault::redirect(here.url("/y")));
    fixture(&public, &content).fetch_refused_with(&["private"]);
    not_connected();

    // A name with an address of either kind leads to the public one.
    let beside = format!("http://both.example:{}/y", neighbours[0].addr().port());
    public.replace_faults("/x", Fault::redirect(beside));
    let mut mixed = fixture(&public, &content);
    mixed.http.hosts = hosts();
    mixed.config.transfer.retry.retries = 1;
    mixed.fetch_refused();
    not_connected();

    // A public host may lead to another; with `private_redirects` it may lead anywhere.
    other.put("/y", content.clone());
    public.replace_faults("/x", Fault::redirect(other.url("/y")));
    fixture(&public, &content).fetch_all();
    public.replace_faults("/x", Fault::redirect(neighbours[0].url("/y")));
    let mut allowed = fixture(&public, &content);
    allowed.http.private_redirects = true;
    allowed.fetch_all();

    // A lock with private URLs may stay in its network.
    here.inject("/x", Fault::redirect(neighbours[1].url("/y")));
    let mut within = Fixture::new();
    within.model("x", &content, &[here.url("/x")]);
    within.fetch_all();
}

#[test]
#[ignore = "needs a network of its own; a test above makes one and runs this"]
fn behind_a_near_proxy() {
    let neighbours = PRIVATE.map(start_origin);
    let here = start_origin("127.0.0.1");
    let port = here.addr().port();
    // A proxy at a private address says nothing about the host behind it.
    let near_proxy = start_proxy("127.0.0.1");
    let mut behind_it = ClientConfig::default();
    let value = format!("http://{}", near_proxy.addr());
    behind_it.proxies.http = Some(ProxyVariable { name: "http_proxy", value });
    behind_it.proxies.except = Some("10.0.0.0/8,inside.example".to_owned());
    behind_it.hosts = hosts();
    for location in
        [neighbours[0].url("/y"), neighbours[1].url("/y"), format!("http://inside.example:{port}/y")]
    {
        near_proxy.replace_faults("/x", Fault::redirect(location.clone()));
        for over in BOTH {
            let error = over.get(&behind_it, "http://models.example/x").unwrap_err().to_string();
            assert!(error.contains("a private address"), "{over:?}, {location}: {error}");
        }
    }
    for origin in neighbours.iter().chain([&here]) {
        assert_eq!(origin.counters().connections_accepted, 0, "{}", origin.addr());
    }
}
