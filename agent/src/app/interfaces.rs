//! Attaches to interfaces as they come and detaches as they go.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use super::Parts;
use super::own_node::OwnNode;
use super::refused::Refused;
use crate::datapath::attach::{Attacher, Leftovers};
use crate::datapath::carry_over::CarryOver;
use crate::datapath::interfaces::{
    DeviceSelector, Interface, InterfaceEvent, InterfaceWatcher, NodeAddresses, OwnAddresses, Role,
    UplinkAddresses,
};
use crate::datapath::settings::Settings;
use crate::encryption::link::IfIndex;
use crate::encryption::reconcile::AttachDevice;
use crate::lifecycle::{InStep, ReadyGuard};

/// What readiness waits for.
pub(super) const ATTACHING: &str = "attach to interfaces";

/// How often it is looked at again whether the uplinks serve, while they do not.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What other parts learn of the interfaces.
pub(super) struct Interfaces {
    /// What is attached.
    pub(super) attached: SharedAttacher,
    /// Addresses of the uplinks.
    pub(super) addresses: watch::Receiver<BTreeSet<IpAddr>>,
    /// Whether all of those have been told, see [`InterfaceEvent::Settled`].
    pub(super) settled: watch::Receiver<bool>,
}

/// Starts to follow the interfaces, and what the Node object makes of them.
pub(super) fn follow(
    attacher: Attacher,
    carry_over: Option<CarryOver>,
    settings: &Settings,
    parts: &mut Parts,
) -> anyhow::Result<Interfaces> {
    // Until the interfaces were looked at, those that the data path has: node ports stay.
    let adopted: Vec<IpAddr> = settings.addresses().into_iter().flatten().collect();
    let (addresses_sender, addresses) = watch::channel(adopted.iter().copied().collect());
    let (named_sender, named) = watch::channel(None);
    let (watcher, events) = InterfaceWatcher::start(
        DeviceSelector::from(&parts.config.devices),
        NodeAddresses { adopted, named },
    )?;
    let attach = AttachTask::new(attacher, settings.clone(), addresses_sender, carry_over);
    let interfaces = Interfaces {
        attached: attach.attached(),
        addresses,
        settled: attach.settled(),
    };
    let own_node = OwnNode {
        name: parts.config.node_name.clone(),
        state: parts.state.clone(),
        synced: parts.synced.clone(),
        named: named_sender,
    };
    let ready = parts.readiness.guard(ATTACHING);
    let tasks = &mut parts.tasks;
    tasks.spawn("interfaces", watcher.run(tasks.token()));
    tasks.spawn("attach", attach.run(events, ready));
    tasks.spawn("own node", own_node.run(tasks.token()));
    Ok(interfaces)
}

/// The attacher, shared with status.
#[derive(Clone)]
pub struct SharedAttacher {
    attacher: Arc<Mutex<Attacher>>,
    /// Locked after the attacher by whoever locks both.
    refused: Arc<Mutex<Refused>>,
    /// All interfaces of the node were looked at once.
    has_looked: Arc<AtomicBool>,
}

impl SharedAttacher {
    /// Locks it; short, but for system calls.
    pub fn lock(&self) -> MutexGuard<'_, Attacher> {
        self.attacher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interfaces that should have programs and have none: `NAME: REASON`.
    pub fn refused(&self) -> Vec<String> {
        self.lock_refused().texts()
    }

    /// Whether all interfaces of the node were looked at once: what is missing now is missing.
    pub fn has_looked(&self) -> bool {
        self.has_looked.load(Ordering::Relaxed)
    }

    /// Whether there is an uplink, and all that there are have their programs.
    fn has_its_uplinks(&self) -> bool {
        let attacher = self.lock();
        let mut attached = attacher.attached();
        attached.any(|it| it.interface.role == Role::Uplink) && !self.lock_refused().has_uplink()
    }

    fn lock_refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AttachDevice for SharedAttacher {
    fn attach(&mut self, name: &str, index: IfIndex) -> anyhow::Result<()> {
        Ok(self.lock().encrypting_device(name, index.0)?)
    }
}

/// Carries out what the interface watcher tells.
pub struct AttachTask {
    attacher: SharedAttacher,
    settings: Settings,
    addresses: watch::Sender<BTreeSet<IpAddr>>,
    carry_over: Option<CarryOver>,
    /// What the settings hold, once it was told.
    source: Option<UplinkAddresses>,
    settled: watch::Sender<bool>,
}

impl AttachTask {
    /// Where connections start goes into the settings, and the addresses of the uplinks to whoever holds
    /// the receiver. What is carried over from another version ends when all interfaces have this one's
    /// programs.
    pub fn new(
        attacher: Attacher,
        settings: Settings,
        addresses: watch::Sender<BTreeSet<IpAddr>>,
        carry_over: Option<CarryOver>,
    ) -> Self {
        Self {
            attacher: SharedAttacher {
                attacher: Arc::new(Mutex::new(attacher)),
                refused: Arc::default(),
                has_looked: Arc::default(),
            },
            settings,
            addresses,
            carry_over,
            source: None,
            settled: watch::Sender::new(false),
        }
    }

    /// What is attached, for status.
    pub fn attached(&self) -> SharedAttacher {
        self.attacher.clone()
    }

    /// Whether all addresses of the uplinks have been told, see [`InterfaceEvent::Settled`].
    pub fn settled(&self) -> watch::Receiver<bool> {
        self.settled.subscribe()
    }

    /// Runs until the watcher ends. One interface that cannot be attached to does not keep the
    /// others from it; it is logged, told in status and tried again. A node whose uplinks do not serve, all
    /// of them, is not ready.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<InterfaceEvent>,
        ready: ReadyGuard,
    ) -> anyhow::Result<()> {
        let mut ready = InStep::from(ready);
        loop {
            let serves = self.serves();
            if serves {
                ready.succeeded();
            } else if self.attacher.has_looked() {
                ready.failed();
            }
            let again = if serves { Duration::MAX } else { LOOK_AGAIN };
            let pause = self.attacher.lock_refused().until_next(Instant::now());
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.act_on(event)?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(pause.min(again)) => self.try_again(),
            }
        }
    }

    /// Whether what comes in by the uplinks is balanced, and what leaves by them guarded.
    fn serves(&self) -> bool {
        self.attacher.has_looked()
            && self.settings.generation() != 0
            && self.attacher.has_its_uplinks()
    }

    fn act_on(&mut self, event: InterfaceEvent) -> anyhow::Result<()> {
        match event {
            InterfaceEvent::Added(interface) => self.attach(&interface),
            InterfaceEvent::Changed(interface) => {
                self.attacher.lock().rename(&interface);
                // What changed may be what was in the way, such as the MTU.
                if self.attacher.lock_refused().holds(interface.ifindex) {
                    self.attach(&interface);
                }
            }
            InterfaceEvent::Removed(interface) => {
                tracing::info!(interface = interface.name, "detached");
                self.attacher.lock_refused().forget(interface.ifindex);
                self.attacher.lock().detach(&interface);
            }
            InterfaceEvent::Addresses(addresses) => self.set_addresses(addresses)?,
            InterfaceEvent::SnapshotComplete => {
                self.detach_leftovers(Leftovers::Replaced)?;
                self.end_carrying_over()?;
                self.attacher.has_looked.store(true, Ordering::Relaxed);
            }
            InterfaceEvent::Settled => {
                self.detach_leftovers(Leftovers::All)?;
                self.forget_other_version()?;
                self.settled.send_replace(true);
            }
        }
        Ok(())
    }

    fn attach(&self, interface: &Interface) {
        let result = self.attacher.lock().interface(interface);
        let mut refused = self.attacher.lock_refused();
        let Err(error) = result else {
            refused.forget(interface.ifindex);
            return;
        };
        let reason = crate::error_chain(&error);
        if refused.failed(interface, &reason, Instant::now()) {
            tracing::error!(
                interface = interface.name,
                reason,
                "not attached; trying again"
            );
        }
    }

    fn try_again(&self) {
        let due = self.attacher.lock_refused().due(Instant::now());
        for interface in &due {
            self.attach(interface);
        }
    }

    fn detach_leftovers(&self, leftovers: Leftovers) -> anyhow::Result<()> {
        let mut attacher = self.attacher.lock();
        let refused = self.attacher.lock_refused();
        attacher
            .detach_leftovers(leftovers, |ifindex| refused.holds(ifindex))
            .context("reading pinned links")
    }

    fn end_carrying_over(&self) -> anyhow::Result<()> {
        let Some(carry_over) = &self.carry_over else {
            return Ok(());
        };
        carry_over.add_rest()?;
        let ended = self.settings.end_carrying_over();
        ended.context("writing the settings")
    }

    /// No program of another version runs any more.
    fn forget_other_version(&mut self) -> anyhow::Result<()> {
        let Some(carry_over) = self.carry_over.take() else {
            return Ok(());
        };
        // What was counted at interfaces that were only found to be ours now.
        carry_over.add_rest()?;
        Ok(carry_over.forget()?)
    }

    fn set_addresses(&mut self, addresses: OwnAddresses) -> anyhow::Result<()> {
        let OwnAddresses { source, served } = addresses;
        tracing::info!(v4 = ?source.v4, v6 = ?source.v6, ?served, "addresses of this node");
        // A change of the settings has all known connections checked.
        if self.source.replace(source) != Some(source) {
            self.settings
                .set_addresses(source)
                .context("writing the settings")?;
        }
        self.addresses.send_replace(served);
        Ok(())
    }
}
