//! What is sent through the devices, each kind in a shape that other measurements use too.
//!
//! TCP is a bulk stream in writes of 128 KiB, as `iperf3` sends it. UDP has at most [`WINDOW`]
//! datagrams on the way: as many arrive as the devices can carry, and none are sent to be lost.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::Place;

/// A node and its pod's address.
pub type Host<'a> = (&'a Place, Ipv4Addr);

/// Bytes of one write to a stream.
const WRITE: usize = 128 << 10;

/// Most datagrams on the way, less than a TUN device's queue holds; how many each acknowledgement is
/// for; and room for all of them where they arrive, in bytes.
const WINDOW: u64 = 256;
const ACKNOWLEDGED: u64 = 32;
const ROOM: usize = 4 << 20;

/// Datagrams of this length fill the device's MTU of 1,420 bytes.
const FULL: usize = 1_420 - 28;
const SMALL: usize = 64;

/// Time after which what is on the way is taken for lost.
const PATIENCE: Duration = Duration::from_millis(100);

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One stream.
    Tcp,
    /// Four streams.
    TcpFour,
    /// One stream in each direction.
    TcpBoth,
    /// Datagrams as long as they can be.
    UdpFull,
    /// Short datagrams.
    UdpSmall,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Bytes of payload that arrived.
    pub bytes: u64,
    /// From the first byte to the last.
    pub seconds: f64,
    /// Of the devices.
    pub cpu_seconds: f64,
}

impl Measured {
    /// Payload, in bits per second.
    pub fn bits_per_second(self) -> f64 {
        self.bytes as f64 * 8.0 / self.seconds
    }

    /// Of the devices at both ends, for 10^9 bytes of payload.
    pub fn cpu_seconds_per_gigabyte(self) -> f64 {
        self.cpu_seconds / (self.bytes as f64 / 1e9)
    }
}

impl Load {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Tcp,
        Self::TcpFour,
        Self::TcpBoth,
        Self::UdpFull,
        Self::UdpSmall,
    ];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tcp => "TCP, 1 stream",
            Self::TcpFour => "TCP, 4 streams",
            Self::TcpBoth => "TCP, both directions",
            Self::UdpFull => "UDP, 1,392 bytes",
            Self::UdpSmall => "UDP, 64 bytes",
        }
    }

    /// Sends it from one host to the other for some time.
    ///
    /// # Errors
    ///
    /// When nothing arrives.
    pub fn send(self, from: Host<'_>, to: Host<'_>, length: Duration) -> Result<Measured> {
        let measured = match self {
            Self::Tcp => tcp(&[(from, to)], length),
            Self::TcpFour => tcp(&[(from, to); 4], length),
            Self::TcpBoth => tcp(&[(from, to), (to, from)], length),
            Self::UdpFull => udp(from, to, FULL, length),
            Self::UdpSmall => udp(from, to, SMALL, length),
        }?;
        ensure!(measured.bytes > 0, "{}: nothing arrived", self.title());
        Ok(measured)
    }
}

/// Runs streams side by side.
fn tcp(streams: &[(Host<'_>, Host<'_>)], length: Duration) -> Result<Measured> {
    let mut open = Vec::new();
    for (from, to) in streams {
        let listener = to.0.run(|| TcpListener::bind((to.1, 0)))?;
        let listener = listener.with_context(|| format!("listen on {}", to.1))?;
        let address = listener.local_addr()?;
        let client = from.0.run(|| connect(address))??;
        let (server, _) = listener.accept().context("accept the stream")?;
        open.push((client, server));
    }
    let begun = Instant::now();
    let bytes: Result<u64> = thread::scope(|scope| {
        let readers: Vec<_> = open
            .into_iter()
            .map(|(client, server)| {
                scope.spawn(move || write(client, begun + length));
                scope.spawn(move || read(server))
            })
            .collect();
        let read = readers.into_iter().map(|reader| {
            reader
                .join()
                .map_err(|_| anyhow!("the reader panicked"))
                .flatten()
        });
        read.sum()
    });
    Ok(Measured {
        bytes: bytes?,
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: 0.0,
    })
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&to, Duration::from_secs(5))
        .with_context(|| format!("connect to {to}"))
}

/// Ends early if the other end does.
fn write(mut stream: TcpStream, until: Instant) {
    let bytes = vec![0x5a; WRITE];
    while Instant::now() < until && stream.write_all(&bytes).is_ok() {}
}

fn read(mut stream: TcpStream) -> Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; WRITE], 0);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    loop {
        match stream.read(&mut buffer).context("read the stream")? {
            0 => return Ok(bytes),
            more => bytes += more as u64,
        }
    }
}

fn udp(from: Host<'_>, to: Host<'_>, size: usize, length: Duration) -> Result<Measured> {
    let open = |host: Host<'_>| {
        let socket = host.0.run(|| UdpSocket::bind((host.1, 0)))?;
        socket.with_context(|| format!("open a socket at {}", host.1))
    };
    let (client, server) = (open(from)?, open(to)?);
    setsockopt(&server, sockopt::RcvBufForce, &ROOM).context("make room for datagrams")?;
    client.connect(server.local_addr()?)?;
    server.connect(client.local_addr()?)?;
    client.set_read_timeout(Some(PATIENCE))?;
    server.set_read_timeout(Some(4 * PATIENCE))?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let counter = scope.spawn(|| count(&server));
        send_windowed(&client, size, begun + length)?;
        let (datagrams, last) = counter
            .join()
            .map_err(|_| anyhow!("the counter panicked"))??;
        Ok(Measured {
            bytes: datagrams * size as u64,
            seconds: last.duration_since(begun).as_secs_f64(),
            cpu_seconds: 0.0,
        })
    })
}

fn send_windowed(socket: &UdpSocket, size: usize, until: Instant) -> Result<()> {
    let datagram = vec![0x5a; size];
    let (mut sent, mut arrived, mut lost) = (0_u64, 0_u64, 0_u64);
    let mut acknowledgement = [0; 8];
    while Instant::now() < until {
        while sent.saturating_sub(arrived + lost) < WINDOW {
            socket.send(&datagram).context("send")?;
            sent += 1;
        }
        match socket.recv(&mut acknowledgement) {
            Ok(_) => arrived = arrived.max(u64::from_be_bytes(acknowledgement)),
            Err(_) => lost = sent.saturating_sub(arrived),
        }
    }
    Ok(())
}

/// Counts what arrives until nothing more does; also when the last one did.
fn count(socket: &UdpSocket) -> Result<(u64, Instant)> {
    let mut buffer = [0; 2048];
    let (mut datagrams, mut last) = (0_u64, Instant::now());
    while socket.recv(&mut buffer).is_ok() {
        datagrams += 1;
        if datagrams.is_multiple_of(ACKNOWLEDGED) {
            last = Instant::now();
            socket
                .send(&datagrams.to_be_bytes())
                .context("acknowledge")?;
        }
    }
    Ok((datagrams, last))
}
