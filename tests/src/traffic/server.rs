//! A pod's servers: HTTP, a TCP echo for streams, and UDP.
//!
//! Each says who it is and whom it sees, so that a client can tell which backend it reached and
//! what address it came from.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::numbered::make_room;
use super::{Answer, Job, Stop, canonical};

/// Line on standard output that says all sockets are open.
pub const READY: &str = "ready";
/// Port of the HTTP server.
pub const HTTP_PORT: u16 = 8080;
/// Port of the TCP echo server.
pub const ECHO_PORT: u16 = 9000;
/// Port of the UDP server.
pub const UDP_PORT: u16 = 9001;

/// Connections beyond this are closed at once.
const MOST_CONNECTIONS: usize = 4096;
/// A connection that is silent for so long is closed.
const IDLE: Duration = Duration::from_mins(2);
/// Longest request head.
const MOST_HEAD_BYTES: u64 = 16 * 1024;

/// All servers of one pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Name they answer with.
    pub name: String,
    /// Addresses of the UDP sockets (the TCP sockets take every address).
    pub addresses: Vec<IpAddr>,
}

impl Job for Server {
    type Report = ();
    const KIND: &'static str = "serve";

    fn longest(&self) -> Duration {
        Duration::MAX
    }

    fn perform(&self, _stop: &Stop) -> Result<()> {
        let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        let http = listen(SocketAddr::new(any, HTTP_PORT))?;
        let echo = listen(SocketAddr::new(any, ECHO_PORT))?;
        for address in &self.addresses {
            let local = SocketAddr::new(*address, UDP_PORT);
            let socket = UdpSocket::bind(local).with_context(|| format!("bind UDP {local}"))?;
            make_room(&socket)?;
            let name = self.name.clone();
            thread::spawn(move || answer_datagrams(&name, &socket));
        }
        let name = self.name.clone();
        thread::spawn(move || accept(&echo, &name, echo_stream));
        println!("{READY}");
        match accept(&http, &self.name, answer_http)? {}
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).with_context(|| format!("listen on TCP {address}"))
}

/// Serves every connection on a thread of its own, as long as there are not too many.
fn accept(
    listener: &TcpListener,
    name: &str,
    serve: fn(&str, TcpStream) -> Result<()>,
) -> Result<Infallible> {
    let name: Arc<str> = name.into();
    let active = Arc::new(AtomicUsize::new(0));
    loop {
        // A connection that was reset before it was accepted is no trouble of the server's.
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        if active.fetch_add(1, Ordering::SeqCst) >= MOST_CONNECTIONS {
            active.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (name, active) = (Arc::clone(&name), Arc::clone(&active));
        thread::spawn(move || {
            // The client sees and counts what goes wrong.
            let _ = serve(&name, stream);
            active.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn introduce(name: &str, stream: &TcpStream) -> Result<String> {
    let local = canonical(stream.local_addr()?);
    let answer = Answer {
        name: name.to_owned(),
        local,
        peer: canonical(stream.peer_addr()?),
    };
    Ok(serde_json::to_string(&answer)? + "\n")
}

/// HTTP/1.1, requests without a body, kept alive unless the client asks otherwise.
fn answer_http(name: &str, stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let body = introduce(name, &stream)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        let mut limited = reader.by_ref().take(MOST_HEAD_BYTES);
        while limited.read_line(&mut head)? > 2 {}
        if !head.ends_with("\r\n\r\n") {
            return Ok(());
        }
        let close = head
            .to_ascii_lowercase()
            .contains("\r\nconnection: close\r\n");
        let connection = if close { "close" } else { "keep-alive" };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\r\n{body}"
        );
        writer.write_all(answer.as_bytes())?;
        if close {
            return Ok(());
        }
    }
}

/// Introduces itself on a line, then sends back what comes.
fn echo_stream(name: &str, mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    stream.write_all(introduce(name, &stream)?.as_bytes())?;
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

/// Answers each datagram with an introduction and the datagram itself.
fn answer_datagrams(name: &str, socket: &UdpSocket) -> Result<Infallible> {
    let local = socket.local_addr()?;
    let mut buffer = vec![0; 65_535];
    loop {
        // An ICMP error for an earlier answer shows up here and concerns nobody.
        let Ok((count, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let answer = Answer {
            name: name.to_owned(),
            local,
            peer,
        };
        let mut bytes = serde_json::to_vec(&answer)?;
        bytes.push(b'\n');
        bytes.extend_from_slice(&buffer[..count]);
        let _ = socket.send_to(&bytes, peer);
    }
}
