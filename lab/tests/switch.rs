//! Real sockets of the system over the switch: what it delays, cuts and translates is seen by programs that know nothing of it.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use lab::switch::{
    Port, Switch,
    link::Line,
    namespace::Namespace,
    nat::{Kind, Nat},
};

const ONE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
const HOME: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 2);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);
/// A packet that has not come by then does not come: the lines here have no delay, or 50 ms.
const PATIENCE: Duration = Duration::from_secs(2);

/// A switch, or the reason why there is none, which is printed for the count of what was skipped.
fn switch() -> Option<Switch> {
    let mut switch = Switch::new().unwrap();
    match switch.attach(Ipv4Addr::new(198, 18, 255, 1), Line::CLEAR, None) {
        Ok(_) => Some(switch),
        Err(error) => {
            println!("skipped: the switch (no network namespace can be made: {error})");
            None
        }
    }
}

fn bind(namespace: &Namespace, address: Ipv4Addr) -> UdpSocket {
    namespace
        .run(move || {
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
        .unwrap()
}

fn heard(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 100];
    let (length, from) = socket.recv_from(&mut buffer).ok()?;
    Some((buffer[..length].to_vec(), from))
}

fn pair(switch: &mut Switch, line: Line) -> ((Port, UdpSocket), (Port, UdpSocket)) {
    let (one, first) = switch.attach(ONE, line, None).unwrap();
    let (two, second) = switch.attach(TWO, line, None).unwrap();
    ((one, bind(&first, ONE)), (two, bind(&second, TWO)))
}

#[test]
fn a_packet_goes_both_lines_and_no_sooner() {
    let Some(mut switch) = switch() else { return };
    let delay = Duration::from_millis(25);
    let ((one, first), (_, second)) = pair(
        &mut switch,
        Line {
            delay,
            ..Line::CLEAR
        },
    );
    let sent = Instant::now();
    first
        .send_to(b"hello", second.local_addr().unwrap())
        .unwrap();
    assert_eq!(
        heard(&second),
        Some((b"hello".to_vec(), first.local_addr().unwrap()))
    );
    assert!(sent.elapsed() >= 2 * delay, "sooner than light");
    // 20 bytes of IPv4 and 8 of UDP before the five.
    assert_eq!(switch.bytes(one).0, 33);
}

#[test]
fn a_cut_line_and_a_parting_pass_nothing() {
    let Some(mut switch) = switch() else { return };
    let ((one, first), (two, second)) = pair(&mut switch, Line::CLEAR);
    let to = second.local_addr().unwrap();
    switch.cut(one, true);
    first.send_to(b"lost", to).unwrap();
    assert_eq!(heard(&second), None);
    switch.cut(one, false);
    switch.part(one, two, true);
    first.send_to(b"lost too", to).unwrap();
    assert_eq!(heard(&second), None);
    switch.part(one, two, false);
    first.send_to(b"there", to).unwrap();
    assert_eq!(heard(&second).unwrap().0, b"there");
}

#[test]
fn a_home_is_seen_at_its_router_and_reached_as_the_router_allows() {
    let Some(mut switch) = switch() else { return };
    let ((_, first), (_, second)) = pair(&mut switch, Line::CLEAR);
    for (number, (kind, others)) in [
        (Kind::FullCone, true),
        (Kind::PortRestricted, false),
        (Kind::Symmetric, false),
    ]
    .into_iter()
    .enumerate()
    {
        let outside = Ipv4Addr::from(u32::from(ROUTER) + number as u32);
        let nat = Nat::new(kind, outside);
        let (port, home) = switch.attach(HOME, Line::CLEAR, Some(nat)).unwrap();
        let inside = bind(&home, HOME);
        inside.send_to(b"hi", first.local_addr().unwrap()).unwrap();
        let (_, seen) = heard(&first).unwrap();
        assert_eq!(seen.ip(), outside);
        first.send_to(b"back", seen).unwrap();
        assert_eq!(heard(&inside).unwrap().0, b"back", "{kind:?}");
        second.send_to(b"stranger", seen).unwrap();
        assert_eq!(heard(&inside).is_some(), others, "{kind:?}");
        switch.rebind(port);
        inside.send_to(b"hi", first.local_addr().unwrap()).unwrap();
        assert_ne!(heard(&first).unwrap().1, seen, "{kind:?} after a rebind");
    }
}

#[test]
fn tcp_carries_a_megabyte_through_a_router_and_a_lossy_line() {
    let Some(mut switch) = switch() else { return };
    let lossy = Line {
        delay: Duration::from_millis(1),
        loss: 0.01,
        ..Line::CLEAR
    };
    let (_, server) = switch.attach(ONE, lossy, None).unwrap();
    let nat = Nat::new(Kind::Symmetric, ROUTER);
    let (_, client) = switch.attach(HOME, Line::CLEAR, Some(nat)).unwrap();
    let listener = server.run(|| TcpListener::bind((ONE, 7)).unwrap()).unwrap();
    let sender = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.write_all(&vec![7; 1 << 20]).unwrap();
        from
    });
    let mut stream = client
        .run(|| TcpStream::connect((ONE, 7)).unwrap())
        .unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert!(got.len() == 1 << 20 && got.iter().all(|byte| *byte == 7));
    assert_eq!(sender.join().unwrap().ip(), ROUTER);
}
