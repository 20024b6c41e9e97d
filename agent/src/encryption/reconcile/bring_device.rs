//! The device: made or adopted, with its key, its peers, its MTU and its programs.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use netlink_packet_route::address::AddressScope;

use super::own_keys::OwnKeys;
use super::{AttachDevice, Encryption, MTU_WITHOUT_PEERS};
use crate::config::Implementation;
use crate::datapath::settings::EncryptingDevice;
use crate::encryption::desired::Desired;
use crate::encryption::desired::nodes::Member;
use crate::encryption::device::{Backend, Device, DeviceError, DeviceState, Presence};
use crate::encryption::link::{IfIndex, InterfaceAddress};
use crate::encryption::path_mtu::Tunnels;
use crate::encryption::peers;
use crate::encryption::routing;

/// An address that means nothing, and that nothing is sent from.
const NO_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 87, 82);
/// How often it is looked whether the device is there: without it nothing of the pods passes.
const DEVICE_INTERVAL: Duration = Duration::from_millis(100);

impl<A: AttachDevice> Encryption<A> {
    /// Makes or adopts the device, gives it its MTU, and attaches the programs.
    pub(super) async fn bring_device(&mut self, tunnels: &Tunnels) -> anyhow::Result<()> {
        self.settings.mtu = self.mtu(tunnels.device());
        if self.device.is_none() {
            let found = self.netlink.link(&self.settings.name).await;
            let was_off = found
                .context("looking at the device")?
                .is_some_and(|link| !link.up);
            let created = self.create().await;
            // Another one than an earlier agent had, or none.
            let index = created.as_ref().ok().map(|device| device.index().0);
            self.datapath
                .keep_encrypting_device(index)
                .context("writing the settings")?;
            let device = created?;
            self.sessions_ended |= was_off;
            // One that was kept while encryption ended: its peers have forgotten this node since.
            if !routing::is_there(&self.netlink).await? {
                device.forget_peers().await?;
            }
            self.prepared_with = None;
            tracing::info!(device = %self.settings.name, backend = %device.backend(), "device");
            self.device = Some(device);
        }
        self.prepare_device().await?;
        let device = self.device.as_ref().context("the device was just made")?;
        device.set_mtu(&self.netlink, self.settings.mtu).await?;
        self.datapath
            .set_encrypted_mtu(self.settings.mtu)
            .context("writing the settings")?;
        self.attach
            .attach(self.settings.name.as_str(), device.index())
    }

    /// Gives the device its settings, which whoever applies the host's anew may have changed, and an address:
    /// the filter on the reverse path, however loose, takes from a device without any only what it would send
    /// back there (`__fib_validate_source` in `net/ipv4/fib_frontend.c`), nothing from a peer that no route
    /// leads to yet.
    async fn prepare_device(&mut self) -> anyhow::Result<()> {
        let own = match self.datapath.addresses() {
            [Some(IpAddr::V4(own)), _] => own,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        if self.prepared_with == Some(own) {
            return Ok(());
        }
        self.host
            .prepare_device(&self.settings.name)
            .context("settings of the device")?;
        let index = self.device.as_ref().context("the device was just made")?;
        let index = index.index();
        let present = self
            .netlink
            .addresses()
            .await
            .context("listing addresses")?;
        let (address, scope) = address_for(index, &present, own);
        self.netlink
            .replace_addresses(index, present, address, scope)
            .await
            .context("giving the device an address")?;
        self.prepared_with = Some(own);
        Ok(())
    }

    fn mtu(&self, of_tunnels: Option<u32>) -> u32 {
        let configured = Some(self.config.wireguard.mtu.get()).filter(|mtu| *mtu != 0);
        configured.or(of_tunnels).unwrap_or(MTU_WITHOUT_PEERS)
    }

    /// Lets packets go past the stack into the device, now that it has programs and peers.
    pub(super) fn lead_past_stack(&self, tunnels: &Tunnels) -> anyhow::Result<()> {
        let device = self.device.as_ref().map(|device| EncryptingDevice {
            ifindex: device.index().0,
            mtu_least_bytes: self.mtu(tunnels.narrowest()),
        });
        let set = self.datapath.set_encrypting_device(device);
        set.context("writing the settings")
    }

    /// What the device is. One that is gone or does not answer, as it was removed or its process
    /// ended, is none: it will be made again. One that was switched off will be switched on again.
    pub(super) async fn device_state(&mut self) -> Arc<DeviceState> {
        let Some(device) = &self.device else {
            return Arc::default();
        };
        let presence = device.presence(&self.netlink).await;
        let is_off = matches!(presence, Ok(Presence::Off));
        let state = match presence {
            Ok(Presence::On | Presence::Off) => device.state().await,
            Ok(Presence::Gone) => Err(DeviceError::Gone {
                name: self.settings.name.clone(),
            }),
            Err(error) => Err(error),
        };
        match state {
            Ok(state) if is_off => {
                let device = &self.settings.name;
                tracing::warn!(%device, "the device was switched off and is switched on again");
                self.let_go();
                self.sessions_ended = true;
                state
            }
            Ok(state) => state,
            Err(error) => {
                let reason = crate::error_chain(&error);
                tracing::error!(reason, "the device is lost and will be made again");
                self.let_go();
                Arc::default()
            }
        }
    }

    /// Has [`Self::bring_device`] make the device, or adopt what is there.
    fn let_go(&mut self) {
        self.device = None;
        // What would go there past the stack is the stack's again, which reports what has no way.
        if let Err(error) = self.datapath.set_encrypting_device(None) {
            tracing::error!(reason = crate::error_chain(&error), "writing the settings");
        }
        self.look_again();
        // Routes into it went with it.
        self.routed = None;
    }

    /// Returns when the device is gone or switched off, if it is.
    pub(super) async fn device_lost(&self) {
        loop {
            tokio::time::sleep(DEVICE_INTERVAL).await;
            if let Some(device) = &self.device
                && let Ok(Presence::Gone | Presence::Off) = device.presence(&self.netlink).await
            {
                return;
            }
        }
    }

    async fn create(&self) -> Result<Device, DeviceError> {
        let kernel = match self.config.wireguard.implementation {
            Implementation::Kernel => true,
            Implementation::Userspace => false,
            Implementation::Auto => self.kernel_can,
        };
        let backend = if kernel {
            Backend::Kernel
        } else {
            Backend::Userspace
        };
        Device::create(&self.netlink, &self.settings, backend, &self.process).await
    }

    /// Gives the device its key and its peers. Returns its state, and how many changes it took.
    pub(super) async fn bring_peers(
        &mut self,
        desired: &Desired,
        own: &OwnKeys,
    ) -> anyhow::Result<(Arc<DeviceState>, usize)> {
        let device = self.device.as_ref().context("the device was just made")?;
        let before = device.state().await?;
        let changes = peers::plan(&desired.peers, &before.peers);
        let has_key = before.public_key == Some(own.active.key.public());
        drop(before);
        if !changes.is_empty() {
            tracing::info!(
                changes = changes.len(),
                peers = desired.peers.len(),
                "peers"
            );
        }
        if has_key {
            device.apply(&changes).await?;
        } else {
            device.set_private_key(&own.active.key, &changes).await?;
        }
        if !has_key || self.sessions_ended {
            // Whoever sends to us learns by this that the session, or the key, is another one; nobody
            // could reach us until then.
            device.call(&desired.peers, own.active.key.public()).await?;
            self.sessions_ended = false;
        }
        Ok((device.state().await?, changes.len()))
    }

    /// What fits into the tunnels to all peers; nothing is looked at where the MTU is configured.
    pub(super) async fn tunnels(&mut self, desired: &Desired) -> anyhow::Result<Tunnels> {
        if self.config.wireguard.mtu.get() != 0 {
            return Ok(Tunnels::default());
        }
        let endpoints = desired.peer_nodes().filter_map(Member::endpoint);
        let endpoints = endpoints.map(|endpoint| endpoint.ip()).collect();
        let tunnels = self
            .paths
            .follow(&self.netlink, &endpoints, self.settings.mark)
            .await;
        tunnels.context("looking at the paths to the peers")
    }
}

/// The address for the device at `index` of a node with its `own`, or the unspecified one.
///
/// What pods send to other nodes the CNI masquerades as an address of the device, or else as the first one of
/// whatever interface comes first (`inet_select_addr` in `net/ipv4/devinet.c`). Others know the node by its
/// own alone. It is given to the device only where it does not come first by itself: whoever looks an interface
/// up by that address, as for multicast, would find the device.
fn address_for(
    index: IfIndex,
    present: &[InterfaceAddress],
    own: Ipv4Addr,
) -> (Ipv4Addr, AddressScope) {
    let others = present.iter().filter(|it| it.index != index);
    let global = others.filter(|it| it.scope == AddressScope::Universe);
    let first = global.min_by_key(|it| it.index); // The first of equals.
    if own.is_unspecified() || first.is_some_and(|first| first.address == own) {
        (NO_ADDRESS, AddressScope::Host)
    } else {
        (own, AddressScope::Universe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_has_the_nodes_address_only_where_another_comes_first() {
        let device = IfIndex(9);
        let own: Ipv4Addr = "192.0.2.1".parse().unwrap();
        let on = |index, address: &str, scope| {
            InterfaceAddress::new(IfIndex(index), address.parse().unwrap(), scope)
        };
        let loopback = on(1, "127.0.0.1", AddressScope::Host);
        let usual = vec![
            loopback.clone(),
            on(2, "192.0.2.1", AddressScope::Universe),
            on(2, "192.0.2.7", AddressScope::Universe),
            on(3, "198.51.100.1", AddressScope::Universe),
        ];
        let none = (NO_ADDRESS, AddressScope::Host);
        let its_own = (own, AddressScope::Universe);
        assert_eq!(address_for(device, &usual, own), none);
        assert_eq!(address_for(device, &usual, Ipv4Addr::UNSPECIFIED), none);
        for first in [
            on(1, "203.0.113.1", AddressScope::Universe),
            on(2, "192.0.2.9", AddressScope::Universe),
        ] {
            let mut present = usual.clone();
            present.insert(1, first);
            assert_eq!(address_for(device, &present, own), its_own);
        }
        // What the device has itself does not count.
        let mut present = usual[..1].to_vec();
        present.push(on(9, "192.0.2.1", AddressScope::Universe));
        assert_eq!(address_for(device, &present, own), its_own);
    }
}
