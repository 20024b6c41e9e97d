//! The WireGuard device of this node: the kernel's, or that of a process of ours where the kernel
//! has none. Both are used in the same way.
//!
//! A device is ours if its alias says so ([`ALIAS`]). Any other interface of the name is left alone
//! and named in an error. What is ours is adopted as it is: sessions go on across restarts of the
//! agent, and only what differs is written.

mod apply;
mod backend;
mod error;
mod handshakes;
mod kernel;
mod known;
mod userspace;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::key::{PrivateKey, PublicKey};
use super::link::{IfIndex, LinkState, Netlink};
use super::peers::{PeerChange, PeerConfig, PeerTraffic, Peers};
use super::values::{FirewallMark, InterfaceName, Port};

use apply::Target;
pub use backend::Backend;
pub use error::DeviceError;
use error::{failed, port_or_io};
use handshakes::{Awaited, call_later, calls};
use known::Known;

/// Text on an interface that says that it is ours.
pub const ALIAS: &str = "weir: encryption between nodes";

/// What the device is to be, apart from its key and peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSettings {
    /// Its name.
    pub name: InterfaceName,
    /// UDP port for encrypted packets, on all addresses of the node.
    pub port: Port,
    /// Mark of encrypted packets, by which they do not enter the device again.
    pub mark: FirewallMark,
    /// Largest packet before encryption, in bytes.
    pub mtu: u32,
}

/// What the device is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceState {
    /// Its public key; `None` before it has a private one.
    pub public_key: Option<PublicKey>,
    /// UDP port for encrypted packets.
    pub port: Option<Port>,
    /// Mark of encrypted packets.
    pub mark: Option<FirewallMark>,
    /// Its peers.
    pub peers: Peers,
    /// What went on with them.
    pub traffic: std::collections::BTreeMap<PublicKey, PeerTraffic>,
}

/// What may have become of a device of ours while nobody looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there and switched on.
    On,
    /// Someone switched it off. Routes into it are gone, and in the kernel its sessions too.
    Off,
    /// Its process ended, or someone deleted it.
    Gone,
}

/// Where the process of a userspace device comes from and leaves its record.
#[derive(Clone, Debug)]
pub struct ProcessPaths {
    /// The program: this one.
    pub program: PathBuf,
    /// Folder for the record and the log, emptied by a reboot: `/run/weir`.
    pub folder: PathBuf,
    /// It is a service of its own, see [`super::wireguard_service`]: to be waited for, not to be started.
    pub separate: bool,
}

/// A device of ours that exists.
///
/// It knows what it was told, so that a change costs no reading: with a thousand peers that is
/// hundreds of kilobytes.
#[derive(Debug)]
pub struct Device {
    target: Target,
    known: Known,
}

impl Device {
    /// Makes the device, or adopts the one that exists; afterwards it is up and has these settings.
    ///
    /// # Errors
    /// The name or the port is someone else's; nothing was changed then. A device of ours with the
    /// other backend is replaced.
    pub async fn create(
        netlink: &Netlink,
        settings: &DeviceSettings,
        backend: Backend,
        process: &ProcessPaths,
    ) -> Result<Self, DeviceError> {
        let name = &settings.name;
        if let Some(link) = find_ours(netlink, name, &process.folder).await? {
            if link.kind == backend.link_kind() && backend.answers(name).await {
                return Self::adopt(netlink, settings, backend, &link).await;
            }
            if process.separate && link.kind == Backend::Userspace.link_kind() {
                return Err(DeviceError::NotReachable { name: name.clone() });
            }
            remove(netlink, name, &link, process).await?;
        }
        let index = match backend {
            Backend::Kernel => kernel::create(netlink, settings).await?,
            Backend::Userspace => userspace::create(netlink, settings, process).await?,
        };
        Ok(Self::of(name, index, backend))
    }

    fn of(name: &InterfaceName, index: IfIndex, backend: Backend) -> Self {
        let target = Target {
            name: name.clone(),
            index,
            backend,
        };
        Self {
            target,
            known: Known::default(),
        }
    }

    async fn adopt(
        netlink: &Netlink,
        settings: &DeviceSettings,
        backend: Backend,
        link: &LinkState,
    ) -> Result<Self, DeviceError> {
        let device = Self::of(&settings.name, link.index, backend);
        let state = device.state().await?;
        if state.mark != Some(settings.mark) {
            device.set_mark(settings.mark).await?;
        }
        if state.port != Some(settings.port) {
            device.set_port(settings.port).await?;
        }
        if link.alias.as_deref() != Some(ALIAS) {
            let alias = netlink.set_alias(link.index, ALIAS).await;
            alias.map_err(device.failed("mark as Weir's"))?;
        }
        if link.mtu != settings.mtu {
            let set = netlink.set_mtu(link.index, settings.mtu).await;
            set.map_err(device.failed("set the MTU of"))?;
        }
        if !link.up {
            let up = netlink.set_up(link.index).await;
            up.map_err(|source| device.port_or_io("switch on", settings.port, source))?;
        }
        Ok(device)
    }

    /// Its name.
    pub fn name(&self) -> &InterfaceName {
        &self.target.name
    }

    /// Its number.
    pub fn index(&self) -> IfIndex {
        self.target.index
    }

    /// Who encrypts.
    pub fn backend(&self) -> Backend {
        self.target.backend
    }

    /// Whether it is still as it was left.
    pub async fn presence(&self, netlink: &Netlink) -> Result<Presence, DeviceError> {
        let link = netlink.link(self.name()).await;
        let link = link.map_err(self.failed("look at"))?;
        Ok(match link.filter(|link| link.index == self.index()) {
            None => Presence::Gone,
            Some(link) if link.up => Presence::On,
            Some(_) => Presence::Off,
        })
    }

    /// Follows a change of the way's MTU.
    pub async fn set_mtu(&self, netlink: &Netlink, mtu: u32) -> Result<(), DeviceError> {
        let set = netlink.set_mtu(self.index(), mtu).await;
        set.map_err(self.failed("set the MTU of"))
    }

    /// What it is, as far as this object knows: as it was read last, and with what was changed by
    /// this object since. Of [`DeviceState::traffic`] and of endpoints the device learns more by
    /// itself; see [`Self::forget`].
    pub async fn state(&self) -> Result<Arc<DeviceState>, DeviceError> {
        if let Some(state) = self.known.state() {
            return Ok(state);
        }
        let read = apply::read(self.name(), self.backend()).await;
        let state = Arc::new(read.map_err(self.failed("read the state of"))?);
        self.known.set(Arc::clone(&state));
        Ok(state)
    }

    /// Lets the next [`Self::state`] ask the device: what goes on with its peers, and what others
    /// have changed.
    pub fn forget(&self) {
        self.known.forget();
    }

    /// Sets the private key, and what changes about the peers with it: no handshake is begun with
    /// the one and without the other. The same key again changes nothing of it; another one ends
    /// every session.
    pub async fn set_private_key(
        &self,
        key: &PrivateKey,
        changes: &[PeerChange],
    ) -> Result<(), DeviceError> {
        if self.state().await?.public_key == Some(key.public()) {
            return self.apply(changes).await;
        }
        self.forget();
        apply::set_private_key(&self.target, key, changes)
            .await
            .map_err(self.failed("set the private key of"))
    }

    /// Has the device, which has just got the key `own`, make a handshake with all of these peers,
    /// whether or not there is something to send.
    ///
    /// A peer that is changing its key too may call at the same moment. Initiations that cross are
    /// both lost, and WireGuard tries again after five seconds only. So of two such nodes the one of
    /// the greater key waits for the other's call, and calls then if none came.
    pub async fn call(&self, peers: &Peers, own: PublicKey) -> Result<(), DeviceError> {
        let may_call = |(peer, config): &(&PublicKey, &PeerConfig)| {
            config.allowed_ips.is_empty() && **peer < own
        };
        let (later, now): (Vec<_>, Vec<_>) = peers.iter().partition(may_call);
        apply::apply(&self.target, &calls(&now))
            .await
            .map_err(self.failed("call the peers of"))?;
        if !later.is_empty() {
            let state = self.state().await?;
            let awaited = later
                .into_iter()
                .map(|(peer, config)| Awaited::from_now_on(*peer, config.clone(), &state));
            let awaited: Vec<_> = awaited.collect();
            tokio::spawn(call_later(self.target.clone(), awaited));
        }
        Ok(())
    }

    /// Removes all peers, and their sessions with them.
    pub async fn forget_peers(&self) -> Result<(), DeviceError> {
        let state = self.state().await?;
        let peers = state.peers.keys();
        let changes: Vec<_> = peers.map(|key| PeerChange::Remove(*key)).collect();
        self.apply(&changes).await
    }

    /// Makes the changes in their order, see [`super::peers::plan`]. Peers not named are untouched,
    /// as are the sessions of those that only gain or lose prefixes.
    pub async fn apply(&self, changes: &[PeerChange]) -> Result<(), DeviceError> {
        let applied = apply::apply(&self.target, changes).await;
        match applied {
            Ok(()) => self.known.follow(changes),
            // Some of them may have been made.
            Err(_) => self.forget(),
        }
        applied.map_err(self.failed("change the peers of"))
    }

    /// Removes the device and, if it has one, its process.
    pub async fn delete(
        self,
        netlink: &Netlink,
        process: &ProcessPaths,
    ) -> Result<(), DeviceError> {
        Self::delete_by_name(netlink, self.name(), process).await
    }

    /// True if there is a device of this name and it is ours.
    pub async fn is_left(
        netlink: &Netlink,
        name: &InterfaceName,
        process: &ProcessPaths,
    ) -> Result<bool, DeviceError> {
        match find_ours(netlink, name, &process.folder).await {
            Err(DeviceError::NameTaken { .. }) => Ok(false),
            found => Ok(found?.is_some()),
        }
    }

    /// Removes the device of this name if it is ours, whichever backend it has, and what a start that
    /// was cut off has left of one.
    ///
    /// # Errors
    /// Also [`DeviceError::NameTaken`] if an interface has the name and is not ours.
    pub async fn delete_by_name(
        netlink: &Netlink,
        name: &InterfaceName,
        process: &ProcessPaths,
    ) -> Result<(), DeviceError> {
        match kernel::remove_unfinished(netlink).await {
            // Someone else's.
            Err(DeviceError::NameTaken { .. }) => {}
            removed => removed?,
        }
        match find_ours(netlink, name, &process.folder).await? {
            Some(link) => remove(netlink, name, &link, process).await,
            None => userspace::stop(name, &process.folder).await,
        }
    }

    async fn set_mark(&self, mark: FirewallMark) -> Result<(), DeviceError> {
        self.forget();
        apply::set_mark(&self.target, mark)
            .await
            .map_err(self.failed("set the mark of"))
    }

    async fn set_port(&self, port: Port) -> Result<(), DeviceError> {
        self.forget();
        let set = apply::set_port(&self.target, port).await;
        match set {
            Ok(()) => Ok(()),
            Err(source) => Err(self.port_or_io("set the port of", port, source)),
        }
    }

    fn port_or_io(&self, doing: &'static str, port: Port, source: io::Error) -> DeviceError {
        port_or_io(doing, self.name(), port, source)
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> DeviceError + use<> {
        failed(doing, self.name())
    }
}

/// The interface of this name, if there is one and it is ours.
async fn find_ours(
    netlink: &Netlink,
    name: &InterfaceName,
    folder: &Path,
) -> Result<Option<LinkState>, DeviceError> {
    let link = netlink.link(name).await.map_err(failed("look at", name))?;
    match link {
        None => Ok(None),
        Some(link) if link.alias.as_deref() == Some(ALIAS) => Ok(Some(link)),
        // The agent may have been stopped between the start of the process and the alias.
        Some(link)
            if link.kind == Backend::Userspace.link_kind()
                && userspace::is_running(name, folder) =>
        {
            Ok(Some(link))
        }
        Some(link) => Err(DeviceError::NameTaken {
            name: name.clone(),
            kind: link.kind,
            alias: link.alias,
        }),
    }
}

async fn remove(
    netlink: &Netlink,
    name: &InterfaceName,
    link: &LinkState,
    process: &ProcessPaths,
) -> Result<(), DeviceError> {
    userspace::stop(name, &process.folder).await?;
    let deleted = netlink.delete(link.index).await;
    deleted.map_err(failed("remove", name))
}
