//! Starts to balance services, and decides whether they are balanced at all: `loadBalancer.enabled`.
//!
//! Without balancing the maps are kept free of services by the same reconciler, from a state that
//! never has any. So switching it off takes away what an earlier agent left, in the usual order.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::Arc;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::interfaces::Interfaces;
use crate::config::Config;
use crate::datapath::attach::{Attacher, CGROUP_PROGRAMS};
use crate::datapath::maps::BalancerMaps;
use crate::datapath::pins::Pins;
use crate::datapath::probe::Probe;
use crate::lb::desired::ThisNode;
use crate::lb::reconcile::{self, Balanced, Inputs, Reconciler};
use crate::state::SharedState;

/// Starts to bring services in step. Returns what is balanced at any time.
pub(super) fn start(
    maps: BalancerMaps,
    interfaces: Interfaces,
    parts: &mut Parts,
) -> anyhow::Result<Arc<ArcSwap<Balanced>>> {
    let config = &parts.config;
    let balanced = Arc::new(ArcSwap::from_pointee(Balanced::default()));
    let load_factor = config.load_balancer.maglev.load_factor.get() as usize;
    let reconciler =
        Reconciler::new(maps, load_factor).context("reading back what the maps hold")?;
    let inputs = Inputs {
        state: balanced_state(config, &parts.state),
        addresses: interfaces.addresses,
        node: ThisNode {
            name: config.node_name.clone(),
            addresses: BTreeSet::new(),
            external_cluster_ip: config.load_balancer.external_cluster_ip,
            beside_kube_proxy: !config.load_balancer.kube_proxy_replacement,
        },
        balanced: Arc::clone(&balanced),
    };
    let (synced, stop) = (parts.synced.clone(), parts.tasks.token());
    let applied = parts.readiness.guard("apply services");
    let services = reconcile::run(reconciler, inputs, synced, applied, stop.clone());
    let services = once_settled(interfaces.settled, stop, services);
    parts.tasks.spawn("services", services);
    Ok(balanced)
}

/// The state whose services are balanced.
fn balanced_state(config: &Config, state: &SharedState) -> SharedState {
    if config.load_balancer.enabled {
        state.clone()
    } else {
        SharedState::new()
    }
}

/// Detaches what an earlier agent attached to sockets, where nothing is to be translated any more.
pub(super) fn release_sockets(config: &Config, pins: &Pins) -> io::Result<()> {
    if config.load_balancer.enabled {
        return Ok(());
    }
    for program in CGROUP_PROGRAMS {
        // A link that nobody holds is detached.
        match fs::remove_file(pins.cgroup_link(program)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Does `work` on services when the addresses of the uplinks have all been told: as long as one is
/// missing, it would take node ports away from it.
async fn once_settled(
    mut settled: watch::Receiver<bool>,
    stop: CancellationToken,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    tokio::select! {
        // Whoever tells may end first on a shutdown.
        biased;
        () = stop.cancelled() => return Ok(()),
        answer = settled.wait_for(|settled| *settled) => drop(answer?),
    }
    work.await
}

/// Attaches to the sockets of all processes. Without the socket programs, connections are translated
/// packet by packet; so this may fail. Says why it did.
pub(super) fn attach_sockets(
    config: &Config,
    attacher: &mut Attacher,
    probe: &Probe,
) -> Option<String> {
    if !config.load_balancer.enabled {
        return None;
    }
    let cgroup = probe.cgroup_path.as_deref();
    let reason = match cgroup.filter(|_| probe.cgroup_hooks.is_yes()) {
        Some(cgroup) => crate::error_chain(&attacher.sockets(cgroup).err()?),
        None => probe.cgroup_hooks.detail().to_owned(),
    };
    tracing::error!(
        reason,
        "sockets are not translated at connect; pods' packets are"
    );
    Some(reason)
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    fn config(enabled: bool) -> Config {
        let mut config = Config::default();
        config.load_balancer.enabled = enabled;
        config
    }

    #[tokio::test]
    async fn services_wait_for_the_addresses_of_the_uplinks() {
        let (sender, settled) = watch::channel(false);
        let stop = CancellationToken::new();
        let done = future::ready(Ok(()));
        let waiting = tokio::spawn(once_settled(settled.clone(), stop.clone(), done));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sender.send_replace(true);
        waiting.await.unwrap().unwrap();

        sender.send_replace(false);
        drop(sender);
        stop.cancel();
        let endless = future::pending();
        once_settled(settled, stop, endless).await.unwrap();
    }

    #[test]
    fn sockets_are_released_only_where_nothing_is_balanced() {
        let folder = tempfile::tempdir().unwrap();
        let pins = Pins::new(folder.path());
        fs::create_dir_all(pins.links()).unwrap();
        let others = pins.interface_link("tc_pod_from", 7);
        for pin in [&pins.cgroup_link(CGROUP_PROGRAMS[0]), &others] {
            fs::write(pin, "").unwrap();
        }
        let left = || fs::read_dir(pins.links()).unwrap().count();
        release_sockets(&config(true), &pins).unwrap();
        assert_eq!(left(), 2);
        release_sockets(&config(false), &pins).unwrap();
        assert!(others.exists() && left() == 1);
        release_sockets(&config(false), &pins).unwrap();
    }
}
