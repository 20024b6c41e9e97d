//! The settings that the programs read, and the generation that makes them look again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::net::IpAddr;
use std::time::Duration;

use aya::maps::{Array, MapData, MapError};
use ebpf_abi::{Addr4, Addr6, Be16, DatapathConfig};

use super::interfaces::UplinkAddresses;
use crate::clock;
use crate::config::{Config, HostRouting};

/// Writes the element of `CONFIG`. Clones write the same one.
#[derive(Clone)]
pub struct Settings {
    shared: Arc<Mutex<Shared>>,
}

/// The WireGuard device, as the programs know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptingDevice {
    /// Number of its interface.
    pub ifindex: u32,
    /// Largest packet that it can send to every peer, counted from the network header on.
    pub mtu_least_bytes: u32,
}

struct Shared {
    map: Array<MapData, DatapathConfig>,
    current: DatapathConfig,
}

impl Settings {
    /// Takes over the map. A generation that an earlier agent wrote is continued, so that no entry
    /// of the connection table looks current by accident.
    pub fn new(map: Array<MapData, DatapathConfig>, config: &Config) -> Result<Self, MapError> {
        let earlier = map.get(&0, 0)?;
        let current = continued(&earlier, config);
        Ok(Self {
            shared: Arc::new(Mutex::new(Shared { map, current })),
        })
    }

    /// Tells the programs that what they do not find in the connection table may be on its way there
    /// from that of another version. After `at_most` they no longer believe it, should the agent end
    /// before it says so.
    pub fn begin_carrying_over(&self, at_most: Duration) -> Result<(), MapError> {
        let until_ns = clock::monotonic_ns().map_or(0, |now| now + at_most.as_nanos() as u64);
        self.set_carrying_over_until(until_ns)
    }

    /// Tells the programs that all connections of another version, if there was one, are in the table.
    pub fn end_carrying_over(&self) -> Result<(), MapError> {
        self.set_carrying_over_until(0)
    }

    /// Writes the settings as they are, valid or not: what must not leave in clear text is known
    /// before the addresses of the node are.
    fn set_carrying_over_until(&self, until_ns: u64) -> Result<(), MapError> {
        let mut shared = self.lock();
        shared.current.carrying_over_until_ns = until_ns;
        let current = shared.current;
        shared.map.set(0, current, 0)
    }

    /// Makes the settings valid: from the first call on the programs balance.
    pub fn set_addresses(&self, addresses: UplinkAddresses) -> Result<(), MapError> {
        self.change(|current| {
            current.node4 = addresses.v4.map(Addr4::from).unwrap_or_default();
            current.node6 = addresses.v6.map(Addr6::from).unwrap_or_default();
        })
    }

    /// Goes over to another configuration, as an agent does that adopts the map. The addresses stay;
    /// before they are known nothing becomes valid.
    pub fn set_config(&self, config: &Config) -> Result<(), MapError> {
        let update = |current: &mut DatapathConfig| *current = continued(current, config);
        if self.generation() == 0 {
            update(&mut self.lock().current);
            return Ok(());
        }
        self.change(update)
    }

    /// Tells the programs how large a packet the device that encrypts takes, in bytes.
    pub fn set_encrypted_mtu(&self, mtu_bytes: u32) -> Result<(), MapError> {
        if self.lock().current.encrypted_mtu == mtu_bytes {
            return Ok(());
        }
        self.lock().current.encrypted_mtu = mtu_bytes;
        self.raise_generation()
    }

    /// Tells the programs whither packets may go past the stack to be encrypted.
    pub fn set_encrypting_device(&self, device: Option<EncryptingDevice>) -> Result<(), MapError> {
        let mut shared = self.lock();
        let mut changed = shared.current;
        changed.encrypted_ifindex = device.map_or(0, |device| device.ifindex);
        changed.encrypted_mtu_least = device.map_or(0, |device| device.mtu_least_bytes);
        if changed == shared.current {
            return Ok(());
        }
        shared.map.set(0, changed, 0)?;
        shared.current = changed;
        Ok(())
    }

    /// Forgets whither packets may go unless it is this interface.
    pub fn keep_encrypting_device(&self, ifindex: Option<u32>) -> Result<(), MapError> {
        if ifindex == Some(self.lock().current.encrypted_ifindex) {
            return Ok(());
        }
        self.set_encrypting_device(None)
    }

    /// Has every known connection checked at its next packet. Before the settings are valid there
    /// is none, and nothing happens.
    pub fn raise_generation(&self) -> Result<(), MapError> {
        if self.generation() == 0 {
            return Ok(());
        }
        self.change(|_| {})
    }

    /// Addresses of this node, IPv4 and IPv6.
    pub fn addresses(&self) -> [Option<IpAddr>; 2] {
        let current = self.lock().current;
        let known = |address: IpAddr| Some(address).filter(|address| !address.is_unspecified());
        [known(current.node4.into()), known(current.node6.into())]
    }

    /// The generation in force.
    pub fn generation(&self) -> u32 {
        self.lock().current.generation
    }

    fn change(&self, change: impl FnOnce(&mut DatapathConfig)) -> Result<(), MapError> {
        let mut shared = self.lock();
        change(&mut shared.current);
        // Zero stands for "not configured".
        shared.current.generation = shared.current.generation.wrapping_add(1).max(1);
        let current = shared.current;
        shared.map.set(0, current, 0)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Another configuration for a node that keeps its addresses.
fn continued(earlier: &DatapathConfig, config: &Config) -> DatapathConfig {
    DatapathConfig {
        generation: earlier.generation,
        node4: earlier.node4,
        node6: earlier.node6,
        encrypted_mtu: earlier.encrypted_mtu,
        encrypted_mtu_least: earlier.encrypted_mtu_least,
        encrypted_ifindex: earlier.encrypted_ifindex,
        carrying_over_until_ns: earlier.carrying_over_until_ns,
        ..from_config(config)
    }
}

fn from_config(config: &Config) -> DatapathConfig {
    let balancer = &config.load_balancer;
    DatapathConfig {
        jiffies_per_second: jiffies_per_second(),
        snat_port_first: balancer.snat_ports.first,
        snat_port_last: balancer.snat_ports.last,
        tcp_idle_seconds: balancer.tcp_idle_timeout.get(),
        udp_idle_seconds: balancer.udp_idle_timeout.get(),
        flow_report_seconds: config.flows.report_interval.get(),
        flags: flags(config),
        encrypted_mark: config.encryption.wireguard.firewall_mark.get(),
        encrypted_port: Be16::new(config.encryption.wireguard.port.get() as u16),
        ..DatapathConfig::default()
    }
}

/// Encryption is on from the first packet, whether or not there is a device yet: what needs one is
/// dropped until there is.
fn flags(config: &Config) -> u32 {
    let encryption = &config.encryption;
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    bit(config.flows.enabled, DatapathConfig::CAPTURE_FLOWS)
        | bit(encryption.enabled, DatapathConfig::ENCRYPT)
        | bit(
            encryption.enabled && encryption.strict_mode.enabled,
            DatapathConfig::STRICT,
        )
        | bit(
            encryption.enabled && encryption.node,
            DatapathConfig::ENCRYPT_NODES,
        )
        | bit(
            encryption.enabled && encryption.host_routing == HostRouting::Bpf,
            DatapathConfig::BPF_HOST_ROUTING,
        )
}

/// `CONFIG_HZ`, which the coarse clock shows as its resolution.
fn jiffies_per_second() -> u32 {
    const FALLBACK: u32 = 250;
    let resolution = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    resolution.ok().map_or(FALLBACK, |tick| {
        let nanoseconds = tick.tv_sec() * 1_000_000_000 + tick.tv_nsec();
        u32::try_from((1_000_000_000 + nanoseconds / 2) / nanoseconds.max(1)).unwrap_or(FALLBACK)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_is_one_that_kernels_are_built_with() {
        let hz = jiffies_per_second();
        assert!([100, 250, 300, 1000].contains(&hz), "{hz}");
    }
}
