//! Which endpoints of a port get connections, and which keep those that they have.

use std::collections::BTreeMap;

use ebpf_abi::Family;

use super::{Asked, BackendState, DesiredService, ThisNode};
use crate::lb::{BackendAddress, family_of};
use crate::state::{ClusterState, Endpoint, EndpointSlice, L4Protocol, Service, ServicePort};

/// All endpoints of a port in a family.
pub(super) struct Endpoints {
    all: BTreeMap<BackendAddress, Conditions>,
    protocol: L4Protocol,
}

/// What slices say of an endpoint.
#[derive(Clone, Copy)]
struct Conditions {
    ready: bool,
    serving: bool,
    terminating: bool,
}

impl Endpoints {
    pub(super) fn of(
        state: &ClusterState,
        node: &ThisNode,
        port: &ServicePort,
        slices: &[&EndpointSlice],
        family: Family,
        asked: &mut Asked,
    ) -> Self {
        let mut all: BTreeMap<BackendAddress, Conditions> = BTreeMap::new();
        for slice in slices {
            let mut ports = slice.ports.iter();
            let is_port = |it: &&_| is_same_port(it, port);
            let Some(matching) = ports.find(is_port) else {
                continue;
            };
            let endpoints = slice.endpoints.iter();
            for endpoint in endpoints.filter(|it| family_of(it.address) == family) {
                let address = BackendAddress {
                    ip: endpoint.address,
                    port: matching.port,
                    local: is_local(state, node, endpoint, asked),
                };
                let conditions = Conditions {
                    ready: endpoint.ready,
                    serving: endpoint.serving,
                    terminating: endpoint.terminating,
                };
                note(&mut all, address, conditions);
            }
        }
        Self {
            all,
            protocol: port.protocol,
        }
    }

    /// New connections go to the ready ones or, if there are none, to those that are terminating but
    /// still serve (KEP-1672). All others that are listed keep what they have.
    pub(super) fn serving(self, service: &Service) -> DesiredService {
        let is_ready = |it: &Conditions| it.ready || service.publish_not_ready;
        let any_ready = self.all.values().any(is_ready);
        let mut desired = DesiredService::default();
        for (address, conditions) in self.all {
            if is_ready(&conditions) {
                desired.backends.insert(address, BackendState::Ready);
            } else if !any_ready && conditions.serving && conditions.terminating {
                desired.backends.insert(address, BackendState::Terminating);
            } else if self.protocol == L4Protocol::Tcp {
                desired.draining.insert(address);
            }
        }
        desired
    }
}

fn is_same_port(slice: &crate::state::EndpointPort, service: &ServicePort) -> bool {
    slice.name == service.name && slice.protocol == service.protocol
}

/// Slices may repeat an endpoint while it moves between them: the better word counts, and of two as
/// good ones the first.
fn note(
    all: &mut BTreeMap<BackendAddress, Conditions>,
    address: BackendAddress,
    conditions: Conditions,
) {
    let elsewhere = BackendAddress {
        local: !address.local,
        ..address
    };
    let rank = |it: &Conditions| (it.ready, it.serving && it.terminating);
    let known = [address, elsewhere]
        .into_iter()
        .find_map(|it| Some((it, rank(all.get(&it)?))));
    if let Some((known, known_rank)) = known {
        if known_rank >= rank(&conditions) {
            return;
        }
        all.remove(&known);
    }
    all.insert(address, conditions);
}

/// Is on this node, as the slice says or, if it does not, as the address does.
fn is_local(state: &ClusterState, node: &ThisNode, endpoint: &Endpoint, asked: &mut Asked) -> bool {
    match endpoint.node_name.as_deref() {
        Some(name) => name == node.name,
        None => asked.is_here(state, node, endpoint.address),
    }
}
