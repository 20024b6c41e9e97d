//! Wires the parts of the agent together: no logic of its own.
//!
//! Order at start: look at the kernel, load (adopting what is pinned), translate sockets, follow
//! interfaces, read the source, and only when it was read once bring the services in step.
//! Stopping undoes nothing: the data plane works on without an agent.

mod balancing;
mod interfaces;
mod own_node;
mod refused;
mod source;
mod status;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::api::socket::ApiSocket;
use crate::api::{Api, Health};
use crate::config::{Config, Loaded};
use crate::datapath::attach::Attacher;
use crate::datapath::carry_over::CarryOver;
use crate::datapath::interfaces::{DeviceSelector, InterfaceWatcher, NodeAddresses};
use crate::datapath::load;
use crate::datapath::pins::Pins;
use crate::datapath::probe::{self, Probe};
use crate::datapath::remove;
use crate::datapath::settings::Settings;
use crate::encryption::guarded;
use crate::encryption::reconcile::{self as encryption, Encryption};
use crate::flows::enrich::{Enricher, KernelInterfaceNames};
use crate::flows::reader::FlowReader;
use crate::flows::{FlowHub, Identities};
use crate::lb::desired::ThisNode;
use crate::lb::reconcile::{self, Balanced, Reconciler};
use crate::lifecycle::{Readiness, Signals, TaskSet};
use crate::metrics::server::Complaint;
use crate::metrics::{self, Sources};
use crate::state::SharedState;

use self::interfaces::AttachTask;
use self::own_node::OwnNode;
use self::source::Source;
use self::status::Status;

/// Time the tasks get to end in.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the agent until it is told to stop.
pub async fn run(loaded: Loaded) -> anyhow::Result<()> {
    let config = loaded.config;
    let signals = Signals::new()?;
    let readiness = Readiness::new();
    let mut tasks = TaskSet::new();
    // First, because it tells whether another agent runs.
    let socket = ApiSocket::bind(&config.paths.socket)?;

    let probe = look_at_the_kernel(&config)?;
    let pins = Pins::new(&config.paths.bpffs);
    let datapath = load::load(&config, Some(&pins)).context("loading the data plane")?;
    tracing::info!(adopted = datapath.adopted, "data plane loaded");
    if let Some(log) = datapath.log {
        tracing::warn!("the programs were built for debugging: they log, and take longer");
        tasks.spawn("program log", log.run(tasks.token()));
    }
    let mut maps = datapath.maps;
    // Before anything is attached: a packet that meets a program meets its guard.
    if config.encryption.enabled
        && let Err(error) = guarded::restore(&mut maps.encryption, &config)
    {
        tracing::error!(
            reason = format!("{error:#}"),
            "not all ranges are guarded yet"
        );
    }
    let mut carry_over = datapath.carry_over;
    if carry_over.as_ref().is_some_and(CarryOver::was_cut_off) {
        // Some of the programs may be new, while what is known is not all in their tables.
        maps.settings.begin_carrying_over(CARRY_OVER_MAX)
    } else {
        maps.settings.end_carrying_over()
    }
    .context("writing the settings")?;
    let counters = Arc::new(maps.counters);

    let xdp_mode = config.devices.xdp_mode;
    if let Some(carry_over) = &mut carry_over {
        carry_over.move_links(&pins)?;
    }
    balancing::release_sockets(&config, &pins).context("detaching from sockets")?;
    let mut attacher = Attacher::new(datapath.programs, pins, xdp_mode, probe.tcx.is_yes());
    if let Some(carry_over) = &mut carry_over {
        take_over(&mut attacher, carry_over, &maps.settings, &config)?;
    }
    let untranslated = balancing::attach_sockets(&config, &mut attacher, &probe);

    let state = SharedState::new();
    // Until the interfaces were looked at, those that the data path has: node ports stay.
    let adopted: Vec<IpAddr> = maps.settings.addresses().into_iter().flatten().collect();
    let (addresses_sender, addresses) = watch::channel(adopted.iter().copied().collect());
    let (named_sender, named) = watch::channel(None);
    let (watcher, interface_events) = InterfaceWatcher::start(
        DeviceSelector::from(&config.devices),
        NodeAddresses { adopted, named },
    )?;
    let attach = AttachTask::new(
        attacher,
        maps.settings.clone(),
        addresses_sender,
        carry_over,
    );
    let (attached, settled) = (attach.attached(), attach.settled());
    tasks.spawn("interfaces", watcher.run(tasks.token()));
    tasks.spawn(
        "attach",
        attach.run(interface_events, readiness.guard("attach to interfaces")),
    );

    let (synced_sender, synced) = watch::channel(false);
    let own_node = OwnNode {
        name: config.node_name.clone(),
        state: state.clone(),
        synced: synced.clone(),
        named: named_sender,
    };
    tasks.spawn("own node", own_node.run(tasks.token()));
    let source = Source::new(&config);
    let encryption = if config.encryption.enabled {
        let work = Encryption::new(
            &config,
            probe.wireguard.is_yes(),
            maps.encryption,
            maps.settings.clone(),
            attached.clone(),
            source.publication(&config),
        )
        .context("encryption")?;
        let (handle, reporter) = work.reporter();
        let trigger = encryption::Trigger {
            state: state.clone(),
            addresses: addresses.clone(),
            synced: synced.clone(),
            ready: readiness.guard("encrypt"),
            reporter,
        };
        tasks.spawn("encryption", encryption::run(work, trigger, tasks.token()));
        Some(handle)
    } else {
        let ending = encryption::Ending {
            maps: maps.encryption,
            datapath: maps.settings.clone(),
            attach: attached.clone(),
            state: state.clone(),
            synced: synced.clone(),
        };
        tasks.spawn("end of encryption", {
            let (config, stop) = (config.clone(), tasks.token());
            async move {
                ending.run(&config, &stop).await;
                stop.cancelled().await;
                Ok(())
            }
        });
        None
    };

    let balanced = Arc::new(ArcSwap::from_pointee(Balanced::default()));
    let load_factor = config.load_balancer.maglev.load_factor.get() as usize;
    let reconciler =
        Reconciler::new(maps.balancer, load_factor).context("reading back what the maps hold")?;
    let inputs = reconcile::Inputs {
        state: balancing::balanced_state(&config, &state),
        addresses,
        node: ThisNode {
            name: config.node_name.clone(),
            addresses: BTreeSet::new(),
            external_cluster_ip: config.load_balancer.external_cluster_ip,
        },
        balanced: Arc::clone(&balanced),
    };
    let services_applied = readiness.guard("apply services");
    let services = reconcile::run(
        reconciler,
        inputs,
        synced.clone(),
        services_applied,
        tasks.token(),
    );
    tasks.spawn(
        "services",
        balancing::once_settled(settled, tasks.token(), services),
    );

    let hub = Arc::new(FlowHub::new(flow_capacity(&config)));
    let identities = Arc::new(Identities::default());
    let enricher = Enricher::new(
        &config.node_name,
        Arc::clone(&identities),
        Box::new(KernelInterfaceNames),
    );
    let events = Box::new(
        maps.events
            .with_losses(Arc::clone(&counters), maps.events_lost_told),
    );
    let reader = FlowReader::start(
        events,
        enricher,
        state.clone(),
        synced.clone(),
        Arc::clone(&hub),
        tasks.token(),
    )?;
    tasks.spawn("flows", reader.join());

    source.start(&config, &state, synced_sender, &readiness, &mut tasks);

    let status = Arc::new(Status {
        counters,
        settings: maps.settings,
        attached,
        balanced,
        state: state.clone(),
        readiness: readiness.clone(),
        capacities: maps.capacities,
        adopted: datapath.adopted,
        node_name: config.node_name.clone(),
        source: source::describe(&config),
        synced,
        untranslated,
        unmeasured: Complaint::default(),
    });
    if config.metrics.enabled {
        let sources = Sources {
            node_name: config.node_name.clone(),
            readiness: readiness.clone(),
            status: Arc::<Status>::clone(&status),
            hub: Arc::clone(&hub),
            state: state.clone(),
            encryption: encryption.clone(),
        };
        let complaint = Arc::clone(&status.unmeasured);
        let serve = metrics::server::run(config.metrics.listen, sources, complaint, tasks.token());
        tasks.spawn("metrics", serve);
    }
    let api = Api {
        node_name: config.node_name.clone(),
        hub,
        identities,
        state,
        status,
        encryption,
    };
    let health = Health::starting().await;
    let stop = tasks.token();
    tasks.spawn("health", {
        let health = health.clone();
        let stop = stop.clone();
        async move {
            readiness.wait().await;
            tracing::info!("ready");
            let mut pending = readiness.subscribe();
            loop {
                let is_ready = pending.borrow_and_update().is_empty();
                health.set_ready(is_ready).await;
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    changed = pending.changed() => changed?,
                }
            }
        }
    });
    tasks.spawn("api", async move { api.serve(socket, &health, stop).await });
    tasks.run(signals.requests(), GRACE).await.into_result()
}

/// Removes every trace from this node, but for the private key if that is to be kept. The agent must
/// not be running: it would attach again.
pub async fn uninstall(loaded: Loaded, keep_key: bool) -> anyhow::Result<()> {
    let config = loaded.config;
    // Fails while an agent answers there, and says so.
    let socket = ApiSocket::bind(&config.paths.socket)?;
    let pins = Pins::new(&config.paths.bpffs);
    // First, so that no node encrypts for this one any longer than it must.
    source::withdraw(&config).await;
    let removed = remove::all(&pins)
        .await
        .context("removing the data plane")?;
    encryption::remove(&config, !keep_key)
        .await
        .context("removing encryption")?;
    drop(socket);
    let state = &config.paths.state;
    source::forget(state).with_context(|| format!("emptying {}", state.display()))?;
    for folder in config.paths.socket.parent().into_iter().chain([&**state]) {
        // Others may keep files there, and then it stays.
        let _ = std::fs::remove_dir(folder);
    }
    println!(
        "removed {} links, {} TC filters and {} maps",
        removed.links, removed.filters, removed.maps
    );
    Ok(())
}

/// Probes and refuses to go on where the data plane cannot work.
fn look_at_the_kernel(config: &Config) -> anyhow::Result<Probe> {
    let probe = Probe::run(&probe::Options {
        bpffs: config.paths.bpffs.clone(),
        cgroup: config.paths.cgroup.clone(),
        devices: Vec::new(),
        attach: false,
    });
    let obstacles: Vec<String> = probe
        .obstacles()
        .into_iter()
        .map(|(feature, found)| format!("{feature}: {}", found.detail()))
        .collect();
    if !obstacles.is_empty() {
        bail!(
            "this node cannot run the data plane: {}",
            obstacles.join("; ")
        );
    }
    let snat = config.load_balancer.snat_ports;
    if probe
        .ephemeral_ports
        .is_some_and(|ephemeral| ephemeral.overlaps(snat))
    {
        tracing::warn!(
            "loadBalancer.snatPorts overlaps net.ipv4.ip_local_port_range: a connection of this \
             node may get the ports of a balanced one; change one of the two ranges",
        );
    }
    Ok(probe)
}

/// Longer than it takes to replace the programs of a node's interfaces, and shorter than it takes for
/// connections to be given up.
const CARRY_OVER_MAX: Duration = Duration::from_secs(5);

/// Has this version's programs run in place of another one's. Where TC has no links the rest follows
/// interface by interface, and the end of it with the last.
fn take_over(
    attacher: &mut Attacher,
    carry_over: &CarryOver,
    settings: &Settings,
    config: &Config,
) -> anyhow::Result<()> {
    let writing = "writing the settings";
    settings
        .begin_carrying_over(CARRY_OVER_MAX)
        .context(writing)?;
    let replaced = replace_programs(attacher, carry_over, config);
    // Not a moment longer, whatever came of it: unknown connections wait for it.
    if replaced.is_err() || !attacher.has_filters() {
        settings.end_carrying_over().context(writing)?;
    }
    replaced
}

fn replace_programs(
    attacher: &mut Attacher,
    carry_over: &CarryOver,
    config: &Config,
) -> anyhow::Result<()> {
    let start = Instant::now();
    attacher.take_over()?;
    let device = config.encryption.wireguard.interface.as_str();
    if config.encryption.enabled
        && let Ok(ifindex) = nix::net::if_::if_nametoindex(device)
    {
        attacher.encrypting_device(device, ifindex)?;
    }
    let replaced = start.elapsed();
    let entries = carry_over.add_rest()?;
    tracing::info!(
        replaced_us = replaced.as_micros(),
        total_us = start.elapsed().as_micros(),
        entries,
        "programs of another version replaced"
    );
    Ok(())
}

fn flow_capacity(config: &Config) -> NonZeroUsize {
    NonZeroUsize::new(config.flows.capacity.get() as usize).unwrap_or(NonZeroUsize::MIN)
}
