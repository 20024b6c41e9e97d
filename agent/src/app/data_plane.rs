//! The data plane at the start of the agent: loaded, in place of an earlier agent's, and attached to
//! sockets. Interfaces follow as they are found.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::balancing;
use crate::config::Config;
use crate::datapath::attach::Attacher;
use crate::datapath::carry_over::CarryOver;
use crate::datapath::load;
use crate::datapath::maps::Maps;
use crate::datapath::pins::Pins;
use crate::datapath::probe::{self, Probe};
use crate::datapath::settings::Settings;
use crate::encryption::guarded;
use crate::lifecycle::TaskSet;

/// What was loaded.
pub(super) struct DataPlane {
    /// Typed handles on the maps.
    pub(super) maps: Maps,
    /// Attaches the programs.
    pub(super) attacher: Attacher,
    /// What is left to carry over from another version.
    pub(super) carry_over: Option<CarryOver>,
    /// Maps of an earlier agent were adopted.
    pub(super) adopted: bool,
    /// Why sockets are not translated at connect, if they are not.
    pub(super) untranslated: Option<String>,
}

/// Loads the programs, and has them run in place of an earlier agent's wherever those are attached.
pub(super) fn load(
    config: &Config,
    probe: &Probe,
    tasks: &mut TaskSet,
) -> anyhow::Result<DataPlane> {
    let pins = Pins::new(&config.paths.bpffs);
    let loaded = load::load(config, Some(&pins)).context("loading the data plane")?;
    tracing::info!(adopted = loaded.adopted, "data plane loaded");
    if let Some(log) = loaded.log {
        tracing::warn!("the programs were built for debugging: they log, and take longer");
        tasks.spawn("program log", log.run(tasks.token()));
    }
    let mut maps = loaded.maps;
    // Before anything is attached: a packet that meets a program meets its guard.
    if config.encryption.enabled
        && let Err(error) = guarded::restore(&mut maps.encryption, config)
    {
        tracing::error!(
            reason = format!("{error:#}"),
            "not all ranges are guarded yet"
        );
    }
    let mut carry_over = loaded.carry_over;
    if carry_over.as_ref().is_some_and(CarryOver::was_cut_off) {
        // Some of the programs may be new, while what is known is not all in their tables.
        maps.settings.begin_carrying_over(CARRY_OVER_MAX)
    } else {
        maps.settings.end_carrying_over()
    }
    .context("writing the settings")?;
    if let Some(carry_over) = &mut carry_over {
        carry_over.move_links(&pins)?;
    }
    pins.mark_used().context("pinning")?;
    balancing::release_sockets(config, &pins).context("detaching from sockets")?;
    let mut attacher = Attacher::new(
        loaded.programs,
        pins,
        config.devices.xdp_mode,
        probe.tcx.is_yes(),
    );
    if let Some(carry_over) = &mut carry_over {
        take_over(&mut attacher, carry_over, &maps.settings, config)?;
    }
    let untranslated = balancing::attach_sockets(config, &mut attacher, probe);
    Ok(DataPlane {
        maps,
        attacher,
        carry_over,
        adopted: loaded.adopted,
        untranslated,
    })
}

/// Probes and refuses to go on where the data plane cannot work.
pub(super) fn look_at_the_kernel(config: &Config) -> anyhow::Result<Probe> {
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
