//! Keeps keys, device, peers, routes and guarded ranges in step with the cluster's objects.
//!
//! One step does everything and can be repeated at any time; it writes differences only. Its order
//! keeps the invariant that nothing leaves in clear text: ranges are guarded before anything else is
//! done, and are said to have a peer only once the peer and the routes to it are there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use ebpf_abi::IpcacheValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::desired::nodes::Standing;
use super::desired::ranges::{self, NodeIds, Ranges};
use super::desired::{self, Desired, Inputs, routes};
use super::device::{Backend, Device, DeviceError, DeviceSettings, DeviceState, ProcessPaths};
use super::key::{ClusterSecret, KeyStore, PublicKey, StoredKey};
use super::link::{IfIndex, Netlink};
use super::published::Published;
use super::settings::{HostSettings, Needs};
use super::{FirewallMark, InterfaceName, Port, RouteTable, mtu, peers, routing};
use crate::config::{self, Config, Implementation};
use crate::datapath::encryption_maps::EncryptionMaps;
use crate::datapath::settings::Settings;
use crate::lifecycle::ReadyGuard;
use crate::state::{ClusterState, Problem, Severity, SharedState};

/// Reporter of problems, as `ClusterState::set_problems` knows it.
const REPORTER: &str = "encryption";

/// How often the device is looked at when nothing else happens.
const INTERVAL: Duration = Duration::from_secs(2);
/// Likewise while a node changes its key: its traffic waits for us.
const INTERVAL_DURING_ROTATION: Duration = Duration::from_millis(100);

/// MTU of the device while there is no peer: that of Ethernet less what IPv6 and WireGuard take.
const MTU_WITHOUT_PEERS: u32 = 1_420;

/// Attaches the programs of the device that encrypts.
pub trait AttachDevice: Send + 'static {
    /// Attaches, or does nothing if that was done.
    fn attach(&mut self, name: &str, index: IfIndex) -> anyhow::Result<()>;
}

/// What is worked on.
pub struct Encryption<A> {
    config: config::Encryption,
    /// The kernel has WireGuard.
    kernel_can: bool,
    node_name: String,
    settings: DeviceSettings,
    table: RouteTable,
    keys: KeyStore,
    secret: Option<ClusterSecret>,
    published: Published,
    process: ProcessPaths,
    netlink: Netlink,
    device: Option<Device>,
    maps: EncryptionMaps,
    ids: Option<NodeIds>,
    datapath: Settings,
    attach: A,
}

/// The keys of this node.
struct OwnKeys {
    /// That of the device.
    active: StoredKey,
    /// Made known and not used yet.
    next: Option<StoredKey>,
}

impl<A: AttachDevice> Encryption<A> {
    /// Reads keys and settings; makes nothing yet. To be called within a Tokio runtime.
    pub fn new(
        config: &Config,
        kernel_can: bool,
        maps: EncryptionMaps,
        datapath: Settings,
        attach: A,
    ) -> anyhow::Result<Self> {
        let encryption = config.encryption.clone();
        let wireguard = &encryption.wireguard;
        let port = u16::try_from(wireguard.port.get()).context("encryption.wireguard.port")?;
        let settings = DeviceSettings {
            name: device_name(&encryption)?,
            port: Port::try_from(port)?,
            mark: FirewallMark::try_from(wireguard.firewall_mark.get())?,
            mtu: MTU_WITHOUT_PEERS,
        };
        let secret = wireguard.preshared_secret_file.as_ref().map(|path| {
            let text = std::fs::read(path).with_context(|| {
                format!(
                    "encryption.wireguard.presharedSecretFile: reading {}",
                    path.display()
                )
            })?;
            anyhow::Ok(ClusterSecret::new(text.trim_ascii())?)
        });
        Ok(Self {
            table: RouteTable::try_from(wireguard.route_table.get())?,
            node_name: config.node_name.clone(),
            keys: KeyStore::open(&config.paths.state)?,
            secret: secret.transpose()?,
            published: Published::below(&config.source.manifests.directory),
            process: process_paths(config)?,
            netlink: Netlink::connect().context("opening rtnetlink")?,
            device: None,
            ids: None,
            config: encryption,
            kernel_can,
            settings,
            maps,
            datapath,
            attach,
        })
    }

    /// Brings everything in step. Returns what was desired and what to tell the operator.
    async fn step(&mut self, state: &SharedState) -> anyhow::Result<(Desired, Vec<Problem>)> {
        let own = self.own_keys()?;
        let next = own.next.as_ref().map(|next| next.key.public());
        self.published
            .write(&self.node_name, own.active.key.public(), next)
            .context("publishing this node's key")?;
        let (records, wrong) = self.published.read();
        let mut problems: Vec<_> = wrong.into_iter().map(record_problem).collect();
        let device_state = match &self.device {
            Some(device) => device.state().await?,
            None => DeviceState::default(),
        };
        let in_use = keys_in_use(&device_state);
        let inputs = Inputs {
            node_name: &self.node_name,
            own_key: own.active.key.public(),
            own_next_key: next,
            in_use: &in_use,
            secret: self.secret.as_ref(),
            records: &records,
            config: &self.config,
        };
        let (desired, ranges) = {
            let state = state.read();
            let desired = desired::desired(&state, &inputs);
            let ranges = self.ranges(&state, &desired)?;
            (desired, ranges)
        };
        problems.extend(desired.problems.iter().cloned());
        self.guard(&ranges)?;
        self.bring_device(&desired, &own).await?;
        let device = self.device.as_ref().context("the device was just made")?;
        let changes = peers::plan(&desired.peers, &device.state().await?.peers);
        if !changes.is_empty() {
            tracing::info!(
                changes = changes.len(),
                peers = desired.peers.len(),
                "peers"
            );
        }
        device.apply(&changes).await?;
        let source = self.datapath.addresses();
        let index = device.index();
        let wanted = routes::routing(&desired, routes::Device { index, source }, &self.config)?;
        routing::apply(&self.netlink, self.table, &wanted).await?;
        self.maps
            .set_ranges(&ranges)
            .context("writing the ranges")?;
        problems.extend(self.findings(&desired)?);
        Ok((desired, problems))
    }

    /// The key in use and the one announced. A new key is announced for a while before it is used.
    fn own_keys(&self) -> anyhow::Result<OwnKeys> {
        let wireguard = &self.config.wireguard;
        let now = SystemTime::now();
        let age = |key: &StoredKey| now.duration_since(key.created).unwrap_or_default();
        let current = self.keys.load_or_create()?;
        if let Some(previous) = self.keys.previous()? {
            if age(&current) < wireguard.rotation_grace.duration() {
                return Ok(OwnKeys {
                    active: previous,
                    next: Some(current),
                });
            }
            self.keys.drop_previous()?;
            tracing::info!(key = %current.key.public(), "the new key is in use");
        }
        let limit = wireguard.rotate_after.duration();
        if !limit.is_zero() && age(&current) >= limit {
            let next = self.keys.rotate()?;
            tracing::info!(key = %next.key.public(), "a new key is being made known");
            return Ok(OwnKeys {
                active: current,
                next: Some(next),
            });
        }
        Ok(OwnKeys {
            active: current,
            next: None,
        })
    }

    fn ranges(&mut self, state: &ClusterState, desired: &Desired) -> anyhow::Result<Ranges> {
        if self.ids.is_none() {
            let present = self.maps.ranges().context("reading the ranges")?;
            self.ids = Some(NodeIds::recover(&present, desired));
        }
        let ids = self.ids.get_or_insert_default();
        for gone in ids.follow(desired) {
            self.maps
                .forget(gone)
                .context("forgetting a node's account")?;
        }
        Ok(ranges::ranges(
            desired,
            state,
            &self.config.strict_mode,
            ids,
        ))
    }

    /// Guards what is not guarded yet, and takes nothing for reachable that was not before.
    fn guard(&mut self, ranges: &Ranges) -> anyhow::Result<()> {
        let present = self.maps.ranges().context("reading the ranges")?;
        let mut guarded = present.clone();
        for (prefix, value) in ranges {
            let was_peer = present
                .get(prefix)
                .is_some_and(|known| known.node == value.node && known.has(IpcacheValue::PEER));
            let mut value = *value;
            if !was_peer {
                value.flags &= !IpcacheValue::PEER;
            }
            guarded.insert(*prefix, value);
        }
        self.maps
            .set_ranges(&guarded)
            .context("writing the ranges")?;
        Ok(())
    }

    /// Makes or adopts the device, gives it its key and MTU, and attaches the programs.
    async fn bring_device(&mut self, desired: &Desired, own: &OwnKeys) -> anyhow::Result<()> {
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

    /// Settings of the host that are in the way.
    fn findings(&self, desired: &Desired) -> anyhow::Result<Vec<Problem>> {
        let needs = Needs {
            device: self.settings.name.clone(),
            uplinks: BTreeSet::new(),
            ipv4: desired
                .members
                .iter()
                .any(|member| member.pods.iter().any(|it| it.is_ipv4())),
            ipv6: desired
                .members
                .iter()
                .any(|member| member.pods.iter().any(|it| !it.is_ipv4())),
            nodes: self.config.node,
        };
        let findings = HostSettings::default()
            .findings(&needs)
            .context("settings of the host")?;
        Ok(findings
            .iter()
            .map(|finding| problem(String::new(), finding.to_string()))
            .collect())
    }
}

/// Keys with which a handshake was made.
fn keys_in_use(state: &DeviceState) -> BTreeSet<PublicKey> {
    let alive = state
        .traffic
        .iter()
        .filter(|(_, traffic)| traffic.last_handshake.is_some());
    alive.map(|(key, _)| *key).collect()
}

fn record_problem(what: String) -> Problem {
    problem(
        what,
        "is no record of a node's key: it is not taken".to_owned(),
    )
}

fn problem(origin: String, message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        origin,
        object: String::new(),
        field: String::new(),
        message,
    }
}

fn device_name(config: &config::Encryption) -> anyhow::Result<InterfaceName> {
    Ok(config.wireguard.interface.as_str().parse()?)
}

fn process_paths(config: &Config) -> anyhow::Result<ProcessPaths> {
    let folder = config.paths.socket.parent().map(PathBuf::from);
    Ok(ProcessPaths {
        program: std::env::current_exe().context("finding this program")?,
        folder: folder.context("paths.socket has no folder")?,
    })
}

/// What the task needs besides.
pub struct Trigger {
    /// The desired state.
    pub state: SharedState,
    /// Addresses of the uplinks.
    pub addresses: watch::Receiver<BTreeSet<IpAddr>>,
    /// Whether the source was read once.
    pub synced: watch::Receiver<bool>,
    /// Told when the first step is done.
    pub ready: ReadyGuard,
}

/// Keeps everything in step until told to stop. A step that fails is tried again; what is guarded
/// stays guarded.
pub async fn run<A: AttachDevice>(
    mut encryption: Encryption<A>,
    mut trigger: Trigger,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        synced = trigger.synced.wait_for(|synced| *synced) => { synced?; }
    }
    let mut revision = trigger.state.subscribe();
    let mut ready = Some(trigger.ready);
    let mut failure = String::new();
    loop {
        revision.mark_unchanged();
        trigger.addresses.mark_unchanged();
        let (problems, changing) = match encryption.step(&trigger.state).await {
            Ok((desired, problems)) => {
                drop(ready.take());
                failure.clear();
                (problems, is_changing_keys(&desired))
            }
            Err(error) => {
                let reason = format!("{error:#}");
                if reason != failure {
                    tracing::error!(
                        reason,
                        "encryption is not in step; what needs it is dropped"
                    );
                    failure.clone_from(&reason);
                }
                let message = format!("encryption is not in step: {reason}");
                (vec![problem(String::new(), message)], false)
            }
        };
        trigger
            .state
            .update(|state| state.set_problems(REPORTER, problems));
        // That was our own change.
        revision.mark_unchanged();
        let pause = if changing {
            INTERVAL_DURING_ROTATION
        } else {
            INTERVAL
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = revision.changed() => changed?,
            changed = trigger.addresses.changed() => changed?,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn is_changing_keys(desired: &Desired) -> bool {
    desired.members.iter().any(|member| {
        matches!(
            member.standing,
            Standing::Peer {
                next_key: Some(_),
                ..
            }
        )
    })
}

/// Removes device, process, rules and routes; the key and what was published too if `all`.
pub async fn remove(config: &Config, all: bool) -> anyhow::Result<()> {
    let netlink = Netlink::connect().context("opening rtnetlink")?;
    let table = RouteTable::try_from(config.encryption.wireguard.route_table.get())?;
    routing::remove_all(&netlink, table).await?;
    let name = device_name(&config.encryption)?;
    match Device::delete_by_name(&netlink, &name, &process_paths(config)?).await {
        // Someone else's, so none of ours is there.
        Err(DeviceError::NameTaken { .. }) => {}
        deleted => deleted?,
    }
    Published::below(&config.source.manifests.directory)
        .remove(&config.node_name)
        .context("removing what was published")?;
    if all && KeyStore::exists(&config.paths.state) {
        KeyStore::open(&config.paths.state)?.remove_all()?;
    }
    Ok(())
}
