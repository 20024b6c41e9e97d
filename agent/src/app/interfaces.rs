//! Attaches to interfaces as they come and detaches as they go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use tokio::sync::{mpsc, watch};

use crate::datapath::attach::{Attacher, Leftovers};
use crate::datapath::carry_over::CarryOver;
use crate::datapath::interfaces::{InterfaceEvent, UplinkAddresses};
use crate::datapath::settings::Settings;
use crate::encryption::link::IfIndex;
use crate::encryption::reconcile::AttachDevice;
use crate::lifecycle::ReadyGuard;

/// The attacher, shared with status.
#[derive(Clone)]
pub struct SharedAttacher {
    attacher: Arc<Mutex<Attacher>>,
    /// Interfaces by index that should have programs and have none, with the reason.
    refused: Arc<Mutex<BTreeMap<u32, String>>>,
}

impl SharedAttacher {
    /// Locks it; short, but for system calls.
    pub fn lock(&self) -> MutexGuard<'_, Attacher> {
        self.attacher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Interfaces that should have programs and have none: `NAME: REASON`.
    pub fn refused(&self) -> Vec<String> {
        self.lock_refused().values().cloned().collect()
    }

    fn lock_refused(&self) -> MutexGuard<'_, BTreeMap<u32, String>> {
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
}

impl AttachTask {
    /// The addresses of the uplinks go into the settings and to whoever holds the receiver. What is
    /// carried over from another version ends when all interfaces have this one's programs.
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
            },
            settings,
            addresses,
            carry_over,
        }
    }

    /// What is attached, for status.
    pub fn attached(&self) -> SharedAttacher {
        self.attacher.clone()
    }

    /// Runs until the watcher ends. One interface that cannot be attached to does not keep the
    /// others from it; it is logged and told in status.
    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<InterfaceEvent>,
        ready: ReadyGuard,
    ) -> anyhow::Result<()> {
        let mut ready = Some(ready);
        while let Some(event) = events.recv().await {
            match event {
                InterfaceEvent::Added(interface) => {
                    if let Err(error) = self.attacher.lock().interface(&interface) {
                        let reason = crate::error_chain(&error);
                        tracing::error!(interface = interface.name, reason, "not attached");
                        let text = format!("{}: {reason}", interface.name);
                        self.attacher.lock_refused().insert(interface.ifindex, text);
                    }
                }
                InterfaceEvent::Changed(interface) => self.attacher.lock().rename(&interface),
                InterfaceEvent::Removed(interface) => {
                    tracing::info!(interface = interface.name, "detached");
                    self.attacher.lock_refused().remove(&interface.ifindex);
                    self.attacher.lock().detach(&interface);
                }
                InterfaceEvent::Addresses(addresses) => self.set_addresses(addresses)?,
                InterfaceEvent::SnapshotComplete => {
                    self.detach_leftovers(Leftovers::Replaced)?;
                    self.end_carrying_over()?;
                    ready.take();
                }
                InterfaceEvent::Settled => self.detach_leftovers(Leftovers::All)?,
            }
        }
        Ok(())
    }

    fn detach_leftovers(&self, leftovers: Leftovers) -> anyhow::Result<()> {
        let mut attacher = self.attacher.lock();
        attacher
            .detach_leftovers(leftovers)
            .context("reading pinned links")
    }

    fn end_carrying_over(&mut self) -> anyhow::Result<()> {
        let Some(carry_over) = self.carry_over.take() else {
            return Ok(());
        };
        carry_over.add_rest()?;
        self.settings
            .end_carrying_over()
            .context("writing the settings")?;
        Ok(carry_over.forget()?)
    }

    fn set_addresses(&self, addresses: UplinkAddresses) -> anyhow::Result<()> {
        tracing::info!(v4 = ?addresses.v4, v6 = ?addresses.v6, "addresses of this node");
        self.settings
            .set_addresses(addresses)
            .context("writing the settings")?;
        let all = addresses
            .v4
            .map(IpAddr::from)
            .into_iter()
            .chain(addresses.v6.map(IpAddr::from));
        self.addresses.send_replace(all.collect());
        Ok(())
    }
}
