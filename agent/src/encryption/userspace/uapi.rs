//! The socket on which every WireGuard tool reads and changes a userspace device: text lines
//! `key=value`, an empty line at the end ([cross-platform interface][1]).
//!
//! [1]: https://www.wireguard.com/xplatform/#configuration-protocol

mod request;

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::num::NonZeroU16;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use self::request::{PeerSetting, Request, Setting};
use super::table::Table;
use super::{Tunnel, receive, timers};
use crate::encryption::InterfaceName;
use crate::encryption::key::KEY_BYTES;

/// Folder where tools look for the sockets of devices.
pub const FOLDER: &str = "/var/run/wireguard";

/// Time a client has for its request; the next one waits meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest request: 10,000 peers of some prefixes each.
const MAX_REQUEST: u64 = 16 << 20;

/// The socket of the device of this name.
pub fn path_of(name: &InterfaceName) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.sock"))
}

/// The socket, before anyone is served.
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl Listener {
    /// Makes the socket; only root can use it. One that was left over goes.
    pub fn bind(name: &InterfaceName) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(FOLDER)?;
        let path = path_of(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixListener::bind(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let inode = fs::metadata(&path)?.ino();
        Ok(Self {
            socket,
            path,
            inode,
        })
    }

    /// Whether the socket still has its name. To remove the name is the usual way to end a device.
    pub fn is_reachable(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode)
    }

    /// Removes the name, if it is still ours.
    pub fn remove(&self) {
        if self.is_reachable() {
            let _gone_already = fs::remove_file(&self.path);
        }
    }

    /// Serves one client after the other.
    pub fn run(&self, tunnel: &Arc<Tunnel>) -> io::Error {
        loop {
            match self.socket.accept() {
                // A client that goes away early has nobody left to be told.
                Ok((client, _)) => drop(serve(tunnel, &client)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error,
            }
        }
    }
}

fn serve(tunnel: &Arc<Tunnel>, client: &UnixStream) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client.take(MAX_REQUEST));
    let mut text = Zeroizing::new(String::new());
    // With room from the start: growing would leave copies of keys behind in freed memory.
    text.reserve(1 << 16);
    while reader.read_line(&mut text)? > 1 {}
    let answer = match request::parse(&text) {
        Ok(Request::Get) => describe(&tunnel.table()),
        Ok(Request::Set(settings)) => outcome(apply(tunnel, &settings)),
        Err(error) => outcome(Err(error)),
    };
    let mut client = client;
    client.write_all(answer.as_bytes())
}

fn outcome(result: io::Result<()>) -> Zeroizing<String> {
    let errno = result
        .err()
        .map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    Zeroizing::new(format!("errno={errno}\n\n"))
}

fn apply(tunnel: &Arc<Tunnel>, settings: &[Setting]) -> io::Result<()> {
    let mut table = tunnel.table_mut();
    for setting in settings {
        match setting {
            Setting::PrivateKey(key) => table.set_private_key(key),
            Setting::Port(port) => {
                if let Some(sockets) = table.set_port(*port, tunnel.queues.len())? {
                    for at in 0..sockets.count() {
                        let (tunnel, sockets) = (Arc::clone(tunnel), Arc::clone(&sockets));
                        std::thread::spawn(move || receive::run(&tunnel, &sockets, at));
                    }
                }
            }
            Setting::Mark(mark) => table.set_mark(*mark)?,
            Setting::ReplacePeers => {
                let keys: Vec<_> = table.peers().map(|peer| peer.key).collect();
                for key in keys {
                    table.remove_peer(key);
                }
            }
            Setting::Peer(key, settings) => {
                if settings.contains(&PeerSetting::Remove) {
                    table.remove_peer(*key);
                } else if table.peer(*key).is_some() || !settings.contains(&PeerSetting::UpdateOnly)
                {
                    apply_peer(&mut table, *key, settings)?;
                }
            }
        }
    }
    Ok(())
}

fn apply_peer(
    table: &mut Table,
    key: crate::encryption::key::PublicKey,
    settings: &[PeerSetting],
) -> io::Result<()> {
    let identity = table.identity().cloned();
    let (Some(identity), Some(peer)) = (identity, table.peer_or_new(key)) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    for setting in settings {
        match setting {
            PeerSetting::PresharedKey(key) => peer.set_preshared_key(key.clone(), &identity),
            PeerSetting::Endpoint(endpoint) => peer.set_endpoint(*endpoint),
            // As the kernel's device does.
            PeerSetting::Keepalive(seconds) => {
                if peer.protocol().set_keepalive(*seconds) {
                    timers::break_silence(table, &peer);
                }
            }
            PeerSetting::ReplaceAllowedIps => table.take_all_prefixes(&peer),
            PeerSetting::AddAllowedIp(prefix) => table.give_prefix(*prefix, &peer),
            PeerSetting::RemoveAllowedIp(prefix) => table.take_prefix(*prefix, &peer),
            PeerSetting::Remove | PeerSetting::UpdateOnly => {}
        }
    }
    Ok(())
}

/// The answer to `get=1`.
fn describe(table: &Table) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(4096 + 1024 * table.peers().count()));
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key}={value}").expect("a string takes everything");
    };
    if let Some(key) = table.private_key() {
        line("private_key", &Hex(key.expose()));
    }
    if let Some(sockets) = table.sockets() {
        line("listen_port", &sockets.port);
    }
    if let Some(mark) = table.mark() {
        line("fwmark", &mark.get());
    }
    let mut prefixes = table.prefixes();
    for peer in table.peers() {
        let report = peer.report();
        line("public_key", &Hex(peer.key.as_bytes()));
        if let Some(key) = &report.preshared_key {
            line("preshared_key", &Hex(key.expose()));
        }
        if let Some(endpoint) = report.endpoint {
            line("endpoint", &endpoint);
        }
        let keepalive = report.keepalive.map_or(0, NonZeroU16::get);
        line("persistent_keepalive_interval", &keepalive);
        for prefix in prefixes.remove(&peer.key).unwrap_or_default() {
            line("allowed_ip", &prefix);
        }
        let handshake = report
            .last_handshake
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .unwrap_or_default();
        line("last_handshake_time_sec", &handshake.as_secs());
        line("last_handshake_time_nsec", &handshake.subsec_nanos());
        line("rx_bytes", &report.received_bytes);
        line("tx_bytes", &report.sent_bytes);
    }
    line("errno", &0);
    text.push('\n');
    text
}

/// Bytes of a key as the protocol writes them.
struct Hex<'a>(&'a [u8; KEY_BYTES]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
