//! Who answers probes: says over TCP (HTTP) and UDP who it is, and takes and gives bytes. Run as
//! `weir connectivity serve`.
//!
//! For tests only: it answers whoever asks.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::inventory::Server;

pub mod datagram;
mod http;
pub mod pattern;

/// What is printed when it listens.
pub const READY: &str = "ready";

/// Where to listen, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ServeArgs {
    /// Who to say that it is
    #[arg(long)]
    pub name: String,

    /// Address to listen at; all of them if none is given
    #[arg(long = "address", value_name = "IP")]
    pub addresses: Vec<IpAddr>,

    /// Port of TCP; without it TCP is not served
    #[arg(long)]
    pub tcp_port: Option<u16>,

    /// Port of UDP; without it UDP is not served
    #[arg(long)]
    pub udp_port: Option<u16>,

    /// End with the end of standard input, and so with whoever holds its other end
    #[arg(long)]
    pub while_stdin: bool,
}

/// The arguments of `weir` that start a server, to end with its standard input.
pub(crate) fn arguments(server: &Server) -> Vec<String> {
    let mut words = vec!["connectivity".to_owned(), "serve".to_owned()];
    words.extend([
        "--name".to_owned(),
        server.name.clone(),
        "--while-stdin".to_owned(),
    ]);
    for address in &server.addresses {
        words.extend(["--address".to_owned(), address.to_string()]);
    }
    let ports = [
        ("--tcp-port", server.ports.tcp),
        ("--udp-port", server.ports.udp),
    ];
    for (flag, port) in ports {
        if let Some(port) = port {
            words.extend([flag.to_owned(), port.to_string()]);
        }
    }
    words
}

/// Serves until a signal, or until the end of standard input.
pub async fn serve(args: &ServeArgs, out: &mut dyn Write) -> Result<()> {
    let mut services = JoinSet::new();
    for address in listening(args.tcp_port, &args.addresses) {
        let listener = TcpListener::bind(address);
        let listener = listener
            .await
            .with_context(|| format!("listen at TCP {address}"))?;
        services.spawn(http::serve(listener, args.name.clone()));
    }
    for address in listening(args.udp_port, &args.addresses) {
        let socket = UdpSocket::bind(address);
        let socket = socket
            .await
            .with_context(|| format!("listen at UDP {address}"))?;
        services.spawn(datagram::serve(socket, args.name.clone()));
    }
    writeln!(out, "{READY}")?;
    out.flush()?;
    let mut terminate = signal(SignalKind::terminate()).context("await a signal")?;
    tokio::select! {
        Some(ended) = services.join_next() => ended.context("a service panicked")?,
        () = end_of_stdin(), if args.while_stdin => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn listening(port: Option<u16>, addresses: &[IpAddr]) -> Vec<SocketAddr> {
    let Some(port) = port else {
        return Vec::new();
    };
    if addresses.is_empty() {
        return vec![SocketAddr::new(everywhere(), port)];
    }
    let addresses = addresses.iter();
    addresses
        .map(|address| SocketAddr::new(*address, port))
        .collect()
}

/// All addresses of both families, or those of IPv4 where the kernel has no other.
fn everywhere() -> IpAddr {
    let v6 = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    match v6 {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// A peer as its own family shows it, also if the socket serves both.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// On a thread that nobody waits for: a read that blocks must not keep the process from ending.
async fn end_of_stdin() {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // An error is an end as well.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = sender.send(());
    });
    let _ = receiver.await;
}

#[cfg(test)]
mod tests;
