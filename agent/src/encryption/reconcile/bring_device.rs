//! The device: made or adopted, with its key, its MTU and its programs.

use std::net::IpAddr;

use anyhow::Context;

use super::own_keys::OwnKeys;
use super::{AttachDevice, Encryption, MTU_WITHOUT_PEERS};
use crate::config::Implementation;
use crate::encryption::desired::Desired;
use crate::encryption::desired::nodes::Standing;
use crate::encryption::device::{Backend, Device, DeviceError};
use crate::encryption::settings::HostSettings;
use crate::encryption::{mtu, routing};

impl<A: AttachDevice> Encryption<A> {
    /// Makes or adopts the device, gives it its key and MTU, and attaches the programs.
    pub(super) async fn bring_device(
        &mut self,
        desired: &Desired,
        own: &OwnKeys,
    ) -> anyhow::Result<()> {
        self.settings.mtu = self.mtu(desired).await?;
        if self.device.is_none() {
            let device = self.create().await?;
            HostSettings::default()
                .prepare_device(&self.settings.name)
                .context("settings of the device")?;
            tracing::info!(device = %self.settings.name, backend = %device.backend(), "device");
            self.device = Some(device);
        }
        let device = self.device.as_ref().context("the device was just made")?;
        device.set_mtu(&self.netlink, self.settings.mtu).await?;
        device.set_private_key(&own.active.key).await?;
        self.datapath
            .set_encrypted_mtu(self.settings.mtu)
            .context("writing the settings")?;
        self.attach
            .attach(self.settings.name.as_str(), device.index())
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

    /// The MTU asked for, or what the way to the peers leaves: one peer of each family is asked for.
    async fn mtu(&self, desired: &Desired) -> anyhow::Result<u32> {
        let configured = self.config.wireguard.mtu.get();
        if configured != 0 {
            return Ok(configured);
        }
        let endpoints = desired
            .peer_nodes()
            .filter_map(|member| match &member.standing {
                Standing::Peer { endpoint, .. } => Some(endpoint.ip()),
                _ => None,
            });
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = endpoints.partition(IpAddr::is_ipv4);
        let mut smallest = None;
        for (family, endpoint) in [
            (routing::Family::V4, v4.first()),
            (routing::Family::V6, v6.first()),
        ] {
            let Some(endpoint) = endpoint else { continue };
            let way = mtu::underlay(&self.netlink, *endpoint, self.settings.mark).await?;
            if let Some(way) = way {
                let bytes = mtu::tunnel(way.mtu, family, true).bytes;
                smallest = Some(smallest.map_or(bytes, |other: u32| other.min(bytes)));
            }
        }
        Ok(smallest.unwrap_or(MTU_WITHOUT_PEERS))
    }
}
