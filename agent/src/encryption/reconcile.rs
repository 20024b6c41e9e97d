//! Keeps keys, device, peers, routes and guarded ranges in step with the cluster's objects.
//!
//! One step does everything and can be repeated at any time; it writes differences only. Its order
//! keeps the invariant that nothing leaves in clear text: ranges are guarded before anything else is
//! done, and are said to have a peer only once the peer and the routes to it are there.

mod announced;
mod answered;
mod bring_device;
mod findings;
mod guard;
mod outcome;
mod own_keys;
mod publish;
mod remove;
mod route;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::desired::ranges::{NodeIds, Ranges, without_routes};
use super::desired::{self, Inputs, routes};
use super::device::{Device, DeviceSettings, ProcessPaths};
use super::guarded::GuardedRanges;
use super::key::{ClusterSecret, KeyStore, PublicKey};
use super::link::{IfIndex, Netlink};
use super::path_mtu::PathWatch;
use super::published::Publication;
use super::routing::{Routing, RuleWatch};
use super::settings::HostSettings;
use super::snapshot::Snapshot;
use super::snapshot::handle::{EncryptionHandle, Reporter};
use super::snapshot::handshake::HandshakeWatch;
use super::{FirewallMark, InterfaceName, Port, RouteTable};
use crate::config::{self, Config};
use crate::datapath::encryption_maps::EncryptionMaps;
use crate::datapath::settings::Settings;
use crate::lifecycle::{InStep, Pace, ReadyGuard};
use crate::state::{Problem, SharedState};

use announced::awaited_keys;
use answered::{Answered, keys_in_use};
use findings::{fragmented_problem, not_replaced_problem, record_problem, silent_problems};
use guard::Vanished;
use outcome::Outcome;
use own_keys::{Announcement, OwnKeys};
use publish::KnownAccount;

pub use remove::{Ending, remove};

/// Reporter of problems, as `ClusterState::set_problems` knows it.
const REPORTER: &str = "encryption";

/// How often the device is looked at when nothing else happens.
const INTERVAL: Duration = Duration::from_secs(2);
/// Likewise after a step that failed: what it waits for may be there by then.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_millis(250);

/// How long rules that somebody removed stay away at least.
const RULES_PAUSE: Duration = Duration::from_millis(50);

/// All steps together take one part in so many of a processor at most.
const SHARE: u32 = 10;
/// No change waits longer, however long steps take.
const REST_MAX: Duration = Duration::from_secs(5);

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
    host: HostSettings,
    table: RouteTable,
    keys: KeyStore,
    secret: Option<ClusterSecret>,
    published: Publication,
    announcement: Announcement,
    process: ProcessPaths,
    netlink: Netlink,
    device: Option<Device>,
    /// The device was switched off, and peers go on with sessions that it may not know any more.
    sessions_ended: bool,
    maps: EncryptionMaps,
    guarded: GuardedRanges,
    vanished: Vanished,
    paths: PathWatch,
    ids: Option<NodeIds>,
    /// What the maps hold; absent if that is to be read.
    present: Option<Ranges>,
    /// The rules and routes that were set last.
    routed: Option<Routing>,
    /// Somebody may have changed them since.
    routes_may_differ: bool,
    /// The node's IPv4 address, or the unspecified one, when the device got its settings; `None` if these
    /// may differ by now.
    prepared_with: Option<Ipv4Addr>,
    datapath: Settings,
    attach: A,
    handshakes: HandshakeWatch,
    answered: Answered,
    account: KnownAccount,
}

/// What a step has come to.
struct Step {
    /// Announced keys that no node has used yet.
    awaited: BTreeSet<PublicKey>,
    problems: Vec<Problem>,
    snapshot: Snapshot,
}

impl<A: AttachDevice> Encryption<A> {
    /// Reads keys and settings; makes nothing yet. To be called within a Tokio runtime.
    pub fn new(
        config: &Config,
        kernel_can: bool,
        maps: EncryptionMaps,
        datapath: Settings,
        attach: A,
        published: Publication,
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
            guarded: GuardedRanges::below(&config.paths.state),
            host: HostSettings::below(&config.paths.sysctl),
            vanished: Vanished::default(),
            paths: PathWatch::default(),
            secret: secret.transpose()?,
            published,
            announcement: Announcement::default(),
            process: process_paths(config)?,
            netlink: Netlink::connect().context("opening rtnetlink")?,
            device: None,
            sessions_ended: false,
            ids: None,
            present: None,
            routed: None,
            routes_may_differ: true,
            prepared_with: None,
            config: encryption,
            kernel_can,
            settings,
            maps,
            datapath,
            attach,
            handshakes: HandshakeWatch::default(),
            answered: Answered::default(),
            account: KnownAccount::default(),
        })
    }

    /// What others ask, and what [`run`] answers with.
    pub fn reporter(&self) -> (EncryptionHandle, Reporter) {
        let account = Arc::new(self.maps.account.clone());
        EncryptionHandle::new(self.first_snapshot(), account)
    }

    /// Lets the next step read what is there instead of trusting what was written before.
    fn look_again(&mut self) {
        self.device.iter().for_each(Device::forget);
        self.present = None;
        self.routes_may_differ = true;
        self.prepared_with = None;
    }

    /// Brings everything in step.
    async fn step(&mut self, state: &SharedState) -> anyhow::Result<Step> {
        let begun = Instant::now();
        // What is guarded does not depend on keys of this node, so whatever is wrong with them waits.
        let own = self.own_keys();
        let keys = own.as_ref().ok();
        let (records, wrong) = self.published.read();
        let mut problems: Vec<_> = wrong.into_iter().map(record_problem).collect();
        let before = self.device_state().await;
        let in_use = keys_in_use(&before);
        self.read_ranges()?;
        let inputs = Inputs {
            node_name: &self.node_name,
            own_key: keys.map(|own| own.active.key.public()),
            own_next_key: keys.and_then(OwnKeys::next_key),
            in_use: &in_use,
            secret: self.secret.as_ref(),
            records: &records,
            config: &self.config,
        };
        let (desired, mut ranges) = {
            let state = state.read();
            let desired = desired::desired(&state, &inputs);
            let ranges = self.ranges(&state, &desired)?;
            (desired, ranges)
        };
        problems.extend(desired.problems.iter().cloned());
        self.guard(&ranges)?;
        let own = own.context("the keys of this node")?;
        self.make_known(&own, state)?;
        problems.extend(own.not_replaced.as_ref().map(not_replaced_problem));
        let tunnels = self.tunnels(&desired).await?;
        self.bring_device(&tunnels).await?;
        self.leave(&desired, &before).await?;
        // The last one but the device's own, which changes with what is written and is not copied then.
        drop(before);
        let (device_state, changes) = self.bring_peers(&desired, &own).await?;
        self.lead_past_stack(&tunnels)?;
        let waited_for = self.wait_for_answers(&desired, &own, &device_state).await?;
        let device = self.device.as_ref().context("the device was just made")?;
        let to_device = routes::Device {
            index: device.index(),
            source: self.datapath.addresses(),
            tunnels: &tunnels,
            has_ipv6: self.host.has_ipv6(),
            waited_for: &waited_for,
        };
        let wanted = routes::routing(&desired, to_device, &self.config)?;
        self.route(wanted).await?;
        let ids = self.ids.as_ref().context("nodes have numbers")?;
        without_routes(&mut ranges, ids, &waited_for);
        self.set_ranges(ranges)?;
        problems.extend(self.findings(&desired)?);
        problems.extend(tunnels.fragmented().map(fragmented_problem));
        let snapshot = self.snapshot(&own, &desired, &device_state, &waited_for);
        problems.extend(silent_problems(&snapshot, &waited_for));
        tracing::debug!(
            changes,
            peers = desired.peers.len(),
            step_microseconds = begun.elapsed().as_micros() as u64,
            "in step"
        );
        Ok(Step {
            awaited: awaited_keys(&desired, &in_use),
            problems,
            snapshot,
        })
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
        separate: config.encryption.wireguard.process == config::Process::Separate,
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
    /// Where to tell what was done, and where requests come from.
    pub reporter: Reporter,
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
    let mut rules = RuleWatch::start().context("following the rules")?;
    let mut revision = trigger.state.subscribe();
    let Reporter {
        snapshots,
        mut requests,
    } = trigger.reporter;
    let mut outcome = Outcome::new(InStep::from(trigger.ready), snapshots);
    let mut answer = None;
    let mut pace = Pace::at_most(SHARE, REST_MAX);
    let mut looked = Instant::now();
    loop {
        revision.mark_unchanged();
        trigger.addresses.mark_unchanged();
        let begun = Instant::now();
        let (problems, awaited) = match encryption.step(&trigger.state).await {
            Ok(step) => {
                outcome.succeeded(step.snapshot);
                (step.problems, step.awaited)
            }
            Err(error) => {
                encryption.look_again();
                (vec![outcome.failed(&error)], BTreeSet::new())
            }
        };
        // What came during the step may have come too late for it.
        let changed_meanwhile = revision.has_changed()?;
        trigger
            .state
            .update(|state| state.set_problems(REPORTER, problems));
        if let Some((asked, rotation)) = answer.take() {
            // Now that the new key is published. Whoever asked may be gone.
            let _ = oneshot::Sender::send(asked, rotation);
        }
        // That was our own change.
        revision.mark_unchanged();
        pace.took(begun.elapsed());
        let pause = if outcome.is_failure() {
            INTERVAL_AFTER_FAILURE
        } else {
            INTERVAL
        };
        tokio::select! {
            // Whoever tells of changes may end first on a shutdown.
            biased;
            () = stop.cancelled() => return Ok(()),
            // Before changes, which may leave no quiet.
            Some(request) = requests.recv() => {
                answer = Some((request.answer, encryption.begin_rotation()));
            }
            () = std::future::ready(()), if changed_meanwhile => {}
            changed = revision.changed() => changed?,
            changed = trigger.addresses.changed() => changed?,
            () = encryption.device_lost() => continue,
            () = encryption.key_comes_into_use(&awaited) => continue,
            // Packets that it led into the device may have another way now.
            () = rules.lost(encryption.routed.as_ref()) => {
                // More go with it, and whoever removes them may go on.
                tokio::time::sleep(RULES_PAUSE).await;
                rules.forget();
                encryption.look_again();
                continue;
            }
            () = tokio::time::sleep(pause) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = pace.rest() => {}
        }
        // Also while changes leave no quiet.
        if looked.elapsed() >= pause {
            encryption.look_again();
            looked = Instant::now();
        } else if !awaited.is_empty() {
            encryption.device.iter().for_each(Device::forget);
        }
    }
}
