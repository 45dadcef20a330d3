#![allow(clippy::disallowed_methods, reason = "a test has a clock")]

use std::{
    net::{TcpListener as StdListener, TcpStream as StdStream},
    time::Instant,
};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

use super::*;

#[test]
fn an_ipv6_host_is_told_apart_from_its_port() {
    assert_eq!(HostPort("::1", 28915).to_string(), "[::1]:28915");
    assert_eq!(HostPort("127.0.0.1", 28915).to_string(), "127.0.0.1:28915");
    assert_eq!(HostPort("pool.example", 1).to_string(), "pool.example:1");
}

/// An address that swallows SYNs: its queue of connections is full, and nobody takes one out.
struct Swallower {
    socket: Socket,
    _queued: Vec<StdStream>,
}

impl Swallower {
    fn at(addr: &str) -> Self {
        let addr: SocketAddr = addr.parse().unwrap();
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.bind(&addr.into()).unwrap();
        socket.listen(0).unwrap();
        let addr = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queued = Vec::new();
        // The system makes the queue a little longer than it was told to.
        while let Ok(stream) = StdStream::connect_timeout(&addr, Duration::from_millis(200)) {
            queued.push(stream);
            assert!(queued.len() < 64, "{addr} takes all that comes");
        }
        Self { socket, _queued: queued }
    }

    fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap().as_socket().unwrap()
    }
}

/// An address that refuses.
fn closed() -> SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn an_address_that_swallows_syns_does_not_hide_one_that_answers() {
    let dead = Swallower::at("[::1]:0");
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = open.local_addr().unwrap();
    let started = Instant::now();
    let stream = race([dead.addr(), good].into_iter()).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), good);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    // The one that answers comes after all of the dead family.
    let also_dead = [Swallower::at("[::1]:0"), Swallower::at("[::1]:0")];
    let addrs = [dead.addr(), also_dead[0].addr(), also_dead[1].addr(), good];
    let started = Instant::now();
    assert_eq!(race(addrs.into_iter()).await.unwrap().peer_addr().unwrap(), good);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_address_that_refuses_gives_way_at_once() {
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = open.local_addr().unwrap();
    let started = Instant::now();
    let stream = race([closed(), closed(), closed(), closed(), good].into_iter()).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), good);
    assert!(started.elapsed() < STAGGER, "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_every_address_said_is_told() {
    let (one, two) = (closed(), closed());
    let error = race([one, two].into_iter()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    let text = error.to_string();
    assert!(text.contains(&format!("{one}: ")) && text.contains(&format!("{two}: ")), "{text}");
    let alone = race([one].into_iter()).await.unwrap_err();
    assert!(!alone.to_string().contains(&one.to_string()), "{alone}");
    assert!(race([].into_iter()).await.unwrap_err().to_string().contains("no address"));
}

#[test]
fn families_take_turns() {
    let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
    let all = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1", "[::1]:1"].map(parse);
    let turns = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(parse);
    assert_eq!(in_turn(all.into_iter()), turns);
    let all = ["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"].map(parse);
    let turns = ["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"].map(parse);
    assert_eq!(in_turn(all.into_iter()), turns);
}
