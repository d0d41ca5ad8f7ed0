//! Name servers on the loopback, for a program that reads a resolv.conf of its own.

use std::net::{Ipv4Addr, UdpSocket};

use crate::prelude::*;

/// A name server on port 53; `None` if the test is skipped.
pub(super) fn bind(address: &str) -> Option<UdpSocket> {
    if !needs_root() {
        return None;
    }
    let bound = UdpSocket::bind((address, 53)).ok();
    needs("port 53", bound.is_some()).then_some(bound?)
}

/// Answers every query until the test ends: the name has this IPv4 address, no other name exists.
pub(super) fn serve(socket: UdpSocket, name: &'static str, address: Ipv4Addr) {
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let _ = socket.send_to(&answer(&packet[..length], name, address), from);
        }
    });
}

/// The answer to a query without EDNS (RFC 1035, section 4.1).
fn answer(query: &[u8], name: &str, address: Ipv4Addr) -> Vec<u8> {
    let end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
    let labels: Vec<u8> =
        name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect();
    let exists = query[12..end] == labels;
    let has_address = exists && query[end + 1..end + 3] == [0, 1];
    let mut answer = query[..end + 5].to_vec();
    answer[2..4].copy_from_slice(&[0x81, if exists { 0x80 } else { 0x83 }]);
    answer[4..12].copy_from_slice(&[0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    if has_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

/// `command` with this resolv.conf, in a mount namespace of its own.
pub(super) fn with_resolv_conf(fixture: &Fixture, command: &Command, text: &str) -> Command {
    let path = fixture.beside("resolv.conf");
    std::fs::write(&path, text).unwrap();
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "--propagation", "private", "sh", "-c"]);
    inside.arg("mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"").arg("sh").arg(path);
    inside.arg(command.get_program()).args(command.get_args());
    inside.env_clear().envs(environment(command));
    inside
}
