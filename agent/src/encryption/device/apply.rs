//! Reads and changes a device by `wireguard-control`, which speaks netlink to the kernel's and text
//! to that of a process. Its calls block for microseconds to milliseconds, so they have a thread.
//!
//! It cannot take a prefix from a peer without naming all others anew. So the prefix is given to a
//! peer made for it, and that one is removed: no session and no other prefix is touched.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use wireguard_control::{
    Device as Control, DeviceUpdate, InterfaceName as ControlName, Key, PeerConfigBuilder, PeerInfo,
};

use super::{Backend, DeviceState};
use crate::encryption::key::{PresharedKey, PrivateKey, PublicKey};
use crate::encryption::link::IfIndex;
use crate::encryption::peers::{PeerChange, PeerConfig, PeerTraffic};
use crate::encryption::userspace::serve::control_socket;
use crate::encryption::{FirewallMark, InterfaceName, Port, Prefix};

/// Prefixes of one peer in one netlink attribute: 40 bytes each, and a message has 8 KiB.
const PREFIXES_AT_ONCE: usize = 128;

/// The device that is to be changed. Its name alone does not say so: another one may have it by now.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: InterfaceName,
    /// Its number.
    pub index: IfIndex,
    /// Who encrypts.
    pub backend: Backend,
}

/// What the device is.
pub async fn read(name: &InterfaceName, backend: Backend) -> io::Result<DeviceState> {
    let name = name.clone();
    blocking(move || {
        let device = Control::get(&control_name(&name), backend.control())?;
        Ok(state_of(&device))
    })
    .await
}

/// Sets the private key, and makes changes of peers in the same request.
pub async fn set_private_key(
    target: &Target,
    key: &PrivateKey,
    changes: &[PeerChange],
) -> io::Result<()> {
    let peers: Vec<_> = changes.iter().flat_map(builders).collect();
    let key = DeviceUpdate::new().set_private_key(Key(*key.expose()));
    update(target, key.add_peers(&peers)).await
}

/// Sets the mark of encrypted packets.
pub async fn set_mark(target: &Target, mark: FirewallMark) -> io::Result<()> {
    update(target, DeviceUpdate::new().set_fwmark(mark.get())).await
}

/// Sets the port for encrypted packets.
///
/// # Errors
/// `EADDRINUSE` if the device is up and someone else has the port.
pub async fn set_port(target: &Target, port: Port) -> io::Result<()> {
    let set = update(target, DeviceUpdate::new().set_listen_port(port.get())).await;
    match set {
        // The answer's number is lost on the way, and the request can have no other fault.
        Err(error)
            if target.backend == Backend::Userspace
                && error.kind() == io::ErrorKind::InvalidInput =>
        {
            Err(io::Error::from_raw_os_error(libc::EADDRINUSE))
        }
        set => set,
    }
}

/// Makes changes of peers, in their order.
pub async fn apply(target: &Target, changes: &[PeerChange]) -> io::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let peers: Vec<_> = changes.iter().flat_map(builders).collect();
    update(target, DeviceUpdate::new().add_peers(&peers)).await
}

async fn update(target: &Target, update: DeviceUpdate) -> io::Result<()> {
    let Target {
        name,
        index,
        backend,
    } = target.clone();
    blocking(move || {
        match backend {
            // Otherwise it would make a device that was deleted just now, and nobody would know that
            // one as ours.
            Backend::Kernel => check_number(&name, index)?,
            // Otherwise it would look for a program of another maker and start that.
            Backend::Userspace => drop(UnixStream::connect(control_socket(&name))?),
        }
        update.apply(&control_name(&name), backend.control())
    })
    .await
}

/// Fails with [`io::ErrorKind::NotFound`] unless the interface of this name has this number.
fn check_number(name: &InterfaceName, index: IfIndex) -> io::Result<()> {
    match if_nametoindex(name.as_str()) {
        Ok(number) if number == index.0 => Ok(()),
        Ok(_) | Err(Errno::ENODEV) => Err(io::ErrorKind::NotFound.into()),
        Err(error) => Err(error.into()),
    }
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(call).await;
    done.map_err(io::Error::other)?
}

fn control_name(name: &InterfaceName) -> ControlName {
    name.as_str().parse().expect("its rules are among ours")
}

/// What to send for a change. One peer may appear several times: what is said adds up.
fn builders(change: &PeerChange) -> Vec<PeerConfigBuilder> {
    let peer = PeerConfigBuilder::new(&Key(*change.peer().as_bytes()));
    match change {
        PeerChange::Add(_, config) => {
            let mut first = peer.clone();
            if let Some(endpoint) = config.endpoint {
                first = first.set_endpoint(endpoint);
            }
            if config.preshared_key.is_some() {
                first = first.set_preshared_key(preshared(config.preshared_key.as_ref()));
            }
            if let Some(seconds) = config.keepalive_seconds {
                first = first.set_persistent_keepalive_interval(seconds.get());
            }
            let mut all = vec![first];
            all.extend(with_prefixes(&peer, &config.allowed_ips));
            all
        }
        PeerChange::SetEndpoint(_, endpoint) => vec![peer.set_endpoint(*endpoint)],
        PeerChange::SetPresharedKey(_, key) => {
            vec![peer.set_preshared_key(preshared(key.as_ref()))]
        }
        PeerChange::SetKeepalive(_, seconds) => {
            let seconds = seconds.map_or(0, NonZeroU16::get);
            vec![peer.set_persistent_keepalive_interval(seconds)]
        }
        PeerChange::AddAllowedIps(_, prefixes) => with_prefixes(&peer, prefixes).collect(),
        PeerChange::RemoveAllowedIps(_, prefixes) => {
            let taker = PeerConfigBuilder::new(&Key(*PrivateKey::generate().public().as_bytes()));
            let mut all: Vec<_> = with_prefixes(&taker, prefixes).collect();
            all.push(taker.remove());
            all
        }
        PeerChange::Remove(_) => vec![peer.remove()],
    }
}

fn with_prefixes<'a>(
    peer: &'a PeerConfigBuilder,
    prefixes: &BTreeSet<Prefix>,
) -> impl Iterator<Item = PeerConfigBuilder> + use<'a> {
    let prefixes: Vec<_> = prefixes.iter().copied().collect();
    let chunks: Vec<Vec<Prefix>> = prefixes
        .chunks(PREFIXES_AT_ONCE)
        .map(<[Prefix]>::to_vec)
        .collect();
    chunks.into_iter().map(|chunk| {
        chunk.into_iter().fold(peer.clone(), |peer, prefix| {
            peer.add_allowed_ip(prefix.address(), prefix.length())
        })
    })
}

fn preshared(key: Option<&PresharedKey>) -> Key {
    Key(key.map_or([0; 32], |key| *key.expose()))
}

fn state_of(device: &Control) -> DeviceState {
    let private = device.private_key.as_ref();
    let mut state = DeviceState {
        // The kernel tells a key of zeros while it has none.
        public_key: private
            .filter(|key| **key != Key::zero())
            .map(|key| PrivateKey::from(key.0).public()),
        port: device
            .listen_port
            .and_then(|port| Port::try_from(port).ok()),
        mark: device
            .fwmark
            .and_then(|mark| FirewallMark::try_from(mark).ok()),
        ..DeviceState::default()
    };
    for peer in &device.peers {
        let Ok(key) = PublicKey::new(peer.config.public_key.0) else {
            continue;
        };
        // The kernel tells of a peer with many prefixes in several parts; only the first one has
        // more than prefixes.
        let prefixes = peer.config.allowed_ips.iter();
        let prefixes = prefixes.filter_map(|ip| Prefix::new(ip.address, ip.cidr).ok());
        let config = state.peers.entry(key).or_insert_with(|| config_of(peer));
        config.allowed_ips.extend(prefixes);
        state.traffic.entry(key).or_insert(PeerTraffic {
            last_handshake: peer.stats.last_handshake_time,
            received_bytes: peer.stats.rx_bytes,
            sent_bytes: peer.stats.tx_bytes,
        });
    }
    state
}

/// All but the prefixes.
fn config_of(peer: &PeerInfo) -> PeerConfig {
    let config = &peer.config;
    PeerConfig {
        endpoint: config.endpoint.map(|mut endpoint| {
            endpoint.set_ip(canonical(endpoint.ip()));
            endpoint
        }),
        allowed_ips: BTreeSet::new(),
        preshared_key: config
            .preshared_key
            .as_ref()
            .and_then(|key| PresharedKey::new(key.0)),
        keepalive_seconds: config
            .persistent_keepalive_interval
            .and_then(NonZeroU16::new),
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_known_by_name_and_number() {
        let [loopback, none]: [InterfaceName; 2] =
            ["lo", "weir-no-such"].map(|name| name.parse().expect("valid"));
        let number = if_nametoindex("lo").expect("every namespace has one");
        check_number(&loopback, IfIndex(number)).expect("it is that one");
        for (name, number) in [(&loopback, number + 1), (&none, number)] {
            let error = check_number(name, IfIndex(number)).expect_err("not that one");
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name}");
        }
    }
}
