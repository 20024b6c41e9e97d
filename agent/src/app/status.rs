//! What the agent tells of itself to the admin API.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ebpf_abi::{ABI_VERSION, BackendId, Counter};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::interfaces::{ATTACHING, SharedAttacher};
use crate::api::admin::{
    AgentStatus, Backend, BackendState, BalancerStatus, DatapathStatus, EndpointInterface,
    Frontend, Interface, InterfaceRole, MapLevel, Scope, Service, ServicePort, SourceStatus,
    StatusSource, TcMode, XdpMode,
};
use crate::datapath::attach::{Attached, AttachedTc, AttachedXdp, Attacher, CGROUP_PROGRAMS};
use crate::datapath::counters::Counters;
use crate::datapath::interfaces::{Role, route};
use crate::datapath::settings::Settings;
use crate::lb::desired::{self, DesiredService};
use crate::lb::plan::Actual;
use crate::lb::reconcile::Balanced;
use crate::lb::{BackendAddress, FrontendKind, ServiceKey};
use crate::lifecycle::Readiness;
use crate::metrics::server::Complaint;
use crate::state::{Pod, SharedState};

/// Handles on everything that is asked about.
pub struct Status {
    /// Counters of the programs.
    pub counters: Arc<Counters>,
    /// Settings of the programs.
    pub settings: Settings,
    /// What is attached.
    pub attached: SharedAttacher,
    /// What is balanced.
    pub balanced: Arc<ArcSwap<Balanced>>,
    /// The desired state.
    pub state: SharedState,
    /// What the agent still waits for.
    pub readiness: Readiness,
    /// Entries that the load balancer's maps can hold.
    pub capacities: Vec<(&'static str, u32)>,
    /// Maps of an earlier agent were adopted.
    pub adopted: bool,
    /// Name of this node.
    pub node_name: String,
    /// Kind and place of the source.
    pub source: (&'static str, String),
    /// The source has been read once.
    pub synced: watch::Receiver<bool>,
    /// Why sockets are not translated at connect, if they are not.
    pub untranslated: Option<String>,
    /// Why metrics are not served, if they are not.
    pub unmeasured: Complaint,
}

impl StatusSource for Status {
    fn counter(&self, counter: Counter) -> anyhow::Result<u64> {
        Ok(self.counters.get(counter)?)
    }

    fn status(&self) -> anyhow::Result<AgentStatus> {
        let attacher = self.attached.lock();
        let cgroup = attacher.cgroup().unwrap_or_default().to_owned();
        let hooks: &[&str] = if cgroup.is_empty() {
            &[]
        } else {
            &CGROUP_PROGRAMS
        };
        let mut waiting_for = self.readiness.pending();
        if self.readiness.has_started() {
            // It fails, and is among the failures.
            waiting_for.clear();
        }
        let has_looked = self.attached.has_looked();
        if has_looked {
            // Likewise.
            waiting_for.retain(|part| *part != ATTACHING);
        }
        let counters = self.counters.all()?;
        Ok(AgentStatus {
            failures: self.failures(&attacher, has_looked),
            waiting_for: waiting_for.into_iter().map(str::to_owned).collect(),
            datapath: DatapathStatus {
                abi_version: ABI_VERSION,
                interfaces: attacher.attached().map(interface).collect(),
                cgroup_hooks: hooks.iter().map(|hook| hook.replace("cg_", "")).collect(),
                cgroup,
                adopted: self.adopted,
                generation: self.settings.generation(),
            },
            counters: counters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            maps: self.map_levels(),
            balancer: self.balancer(),
            source: SourceStatus {
                kind: self.source.0.to_owned(),
                location: self.source.1.clone(),
                revision: *self.state.subscribe().borrow(),
                synced: *self.synced.borrow(),
            },
        })
    }

    fn services(&self) -> anyhow::Result<Vec<Service>> {
        let balanced = self.balanced.load();
        let numbers = numbers(&balanced.actual);
        let mut services: Vec<Service> = Vec::new();
        for (key, service) in &balanced.desired.services {
            let port = self.service_port(&balanced.actual, &numbers, key, service);
            match services.last_mut().filter(|last| last.name == key.name) {
                Some(last) => last.ports.push(port),
                None => services.push(Service {
                    name: key.name.clone(),
                    ports: vec![port],
                }),
            }
        }
        Ok(services)
    }

    fn endpoint_interfaces(&self) -> anyhow::Result<Vec<EndpointInterface>> {
        let addresses: Vec<IpAddr> = {
            let state = self.state.read();
            let here = |pod: &&Pod| {
                pod.node_name.as_deref() == Some(&self.node_name)
                    && !pod.host_network
                    && !pod.finished
            };
            state
                .pods()
                .filter(here)
                .flat_map(|pod| pod.ips.iter().copied())
                .collect()
        };
        let found = Handle::current().block_on(route::interfaces_towards(addresses))?;
        let attacher = self.attached.lock();
        let attached = |ifindex: u32| attacher.attached().find(|a| a.interface.ifindex == ifindex);
        Ok(found
            .into_iter()
            .filter_map(|(address, ifindex)| {
                let interface = interface(attached(ifindex)?);
                Some(EndpointInterface {
                    address,
                    name: interface.name,
                    index: ifindex,
                    tc_mode: interface.tc_mode,
                })
            })
            .collect())
    }
}

impl Status {
    /// What should work and does not. While the agent starts, nothing is missing yet.
    fn failures(&self, attacher: &Attacher, has_looked: bool) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(failure) = &self.balanced.load().failure {
            failures.push(format!(
                "services are not as they should be, trying again: {failure}"
            ));
        }
        let refused = self.attached.refused();
        let has_uplink = attacher
            .attached()
            .any(|attached| attached.interface.role == Role::Uplink);
        if has_looked && refused.is_empty() && !has_uplink {
            failures.push(
                "no interface is an uplink, so nothing from outside is balanced: set \
                 devices.uplinks"
                    .to_owned(),
            );
        }
        if has_looked && has_uplink && self.settings.generation() == 0 {
            failures.push(
                "no uplink has an address, so nothing is balanced and no flow is seen: give one \
                 to it, or name another interface in devices.uplinks"
                    .to_owned(),
            );
        }
        failures.extend(refused.iter().map(|text| format!("not attached to {text}")));
        if let Some(reason) = &self.untranslated {
            failures.push(format!(
                "sockets are not translated at connect, pods' packets are: {reason}"
            ));
        }
        let unmeasured = self.unmeasured.load();
        if !unmeasured.is_empty() {
            failures.push(String::clone(&unmeasured));
        }
        failures
    }

    fn balancer(&self) -> BalancerStatus {
        let balanced = self.balanced.load();
        BalancerStatus {
            services: balanced.desired.services.len(),
            frontends: balanced.actual.frontends.len(),
            backends: balanced.actual.backends.len(),
        }
    }

    /// How full the maps are that the agent alone writes. The tables of connections and flows make
    /// room by themselves.
    fn map_levels(&self) -> Vec<MapLevel> {
        let balanced = self.balanced.load();
        let actual = &balanced.actual;
        let in_family = |ip: &IpAddr, name: &str| ip.is_ipv4() == name.ends_with('4');
        self.capacities
            .iter()
            .map(|(name, capacity)| MapLevel {
                name: (*name).to_owned(),
                entries: match *name {
                    "MAGLEV" => actual.tables.len(),
                    "BACKENDS4" | "BACKENDS6" => actual
                        .backends
                        .values()
                        .filter(|b| in_family(&b.ip, name))
                        .count(),
                    _ => actual
                        .frontends
                        .keys()
                        .filter(|f| in_family(&f.ip, name))
                        .count(),
                } as u64,
                capacity: u64::from(*capacity),
            })
            .collect()
    }

    fn service_port(
        &self,
        actual: &Actual,
        numbers: &HashMap<BackendAddress, BackendId>,
        key: &ServiceKey,
        service: &DesiredService,
    ) -> ServicePort {
        let in_map = service
            .frontends
            .keys()
            .find_map(|frontend| actual.frontends.get(frontend));
        let id = in_map.map(|entry| entry.service).unwrap_or_default();
        let table_size = actual.table(id).map_or(0, |table| table.slots);
        let shares = actual.shares.get(&id);
        let backends = service.backends.iter().map(|(address, state)| {
            let number = numbers.get(address).copied().unwrap_or_default();
            Backend {
                id: number.0,
                address: (address.ip, address.port).into(),
                local: address.local,
                state: match state {
                    desired::BackendState::Ready => BackendState::Ready,
                    desired::BackendState::Terminating => BackendState::Terminating,
                },
                slots: shares
                    .and_then(|shares| shares.get(&number))
                    .copied()
                    .unwrap_or(0),
            }
        });
        ServicePort {
            name: self.port_name(key),
            id: id.0,
            protocol: key.protocol,
            frontends: service
                .frontends
                .iter()
                .map(|(frontend, kind)| Frontend {
                    address: (frontend.ip, frontend.port).into(),
                    scope: scope(*kind),
                })
                .collect(),
            backends: backends.collect(),
            table_size,
        }
    }

    fn port_name(&self, key: &ServiceKey) -> String {
        let state = self.state.read();
        let ports = state
            .service(&key.name)
            .map(|service| service.ports.as_slice());
        let port = ports
            .unwrap_or_default()
            .iter()
            .find(|port| port.port == key.port && port.protocol == key.protocol);
        port.map(|port| port.name.clone()).unwrap_or_default()
    }
}

/// The numbers of backends: there may be 100,000, too many to look for each among all. Of two numbers
/// of one address, which an earlier agent may have left, the first is in use.
fn numbers(actual: &Actual) -> HashMap<BackendAddress, BackendId> {
    let backends = actual.backends.iter().rev();
    backends
        .map(|(number, address)| (*address, *number))
        .collect()
}

fn interface(attached: &Attached) -> Interface {
    Interface {
        name: attached.interface.name.clone(),
        index: attached.interface.ifindex,
        role: match attached.interface.role {
            Role::Uplink => InterfaceRole::Uplink,
            Role::Pod => InterfaceRole::Pod,
        },
        xdp_mode: match attached.xdp {
            Some(AttachedXdp::Native) => Some(XdpMode::Native),
            Some(AttachedXdp::Generic) => Some(XdpMode::Generic),
            Some(AttachedXdp::Off) | None => None,
        },
        tc_mode: Some(match attached.tc {
            AttachedTc::Tcx => TcMode::Tcx,
            AttachedTc::Clsact => TcMode::Clsact,
        }),
    }
}

fn scope(kind: FrontendKind) -> Scope {
    match kind {
        FrontendKind::ClusterIp => Scope::ClusterIp,
        FrontendKind::ExternalIp => Scope::ExternalIp,
        FrontendKind::LoadBalancer => Scope::LoadBalancer,
        FrontendKind::NodePort => Scope::NodePort,
    }
}
