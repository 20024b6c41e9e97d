//! The programs in the kernel and their maps.

use super::table::{Families, Metric};
use crate::api::admin::{AgentStatus, InterfaceRole, XdpMode};

/// Counters whose names start like this are of dropped packets; the rest of the name is the reason.
const DROP: &str = "drop_";

const DROPPED: Metric = Metric::counter(
    "weir_datapath_dropped",
    "Packets that the programs dropped, by reason",
)
.unit("packets")
.labels(&["reason"]);
const EVENTS: Metric = Metric::counter(
    "weir_datapath_events",
    "What else the programs count, see the reference of counters; a sum over `event` means nothing",
)
.labels(&["event"]);
const INTERFACES: Metric = Metric::gauge(
    "weir_datapath_interfaces",
    "Interfaces with programs, by what they lead to and how XDP runs on them",
)
.labels(&["role", "xdp"]);
const SOCKET_HOOKS: Metric = Metric::gauge(
    "weir_datapath_socket_hooks",
    "Hooks that translate sockets at connect; 0 if none does",
);
const MAP_ENTRIES: Metric = Metric::gauge(
    "weir_datapath_map_entries",
    "Entries of the maps that can run full",
)
.labels(&["map"]);
const MAP_CAPACITY: Metric = Metric::gauge(
    "weir_datapath_map_capacity",
    "Entries that these maps can hold",
)
.labels(&["map"]);
const GENERATION: Metric = Metric::gauge(
    "weir_datapath_generation",
    "Raised when known connections must look again",
);
const ADOPTED: Metric = Metric::gauge(
    "weir_datapath_maps_adopted",
    "1 if the maps of an earlier agent were adopted",
);

/// All of this part.
pub const METRICS: &[&Metric] = &[
    &DROPPED,
    &EVENTS,
    &INTERFACES,
    &SOCKET_HOOKS,
    &MAP_ENTRIES,
    &MAP_CAPACITY,
    &GENERATION,
    &ADOPTED,
];

/// Adds their samples.
pub fn add(families: &mut Families<'_>, status: &AgentStatus) {
    let counters = || {
        status
            .counters
            .iter()
            .map(|(name, value)| (&**name, *value))
    };
    let drops = counters().filter_map(|(name, value)| Some(([name.strip_prefix(DROP)?], value)));
    families.counters(&DROPPED, drops);
    let others = counters().filter(|(name, _)| !name.starts_with(DROP));
    families.counters(&EVENTS, others.map(|(name, value)| ([name], value)));
    let datapath = &status.datapath;
    let interfaces = datapath.interfaces.iter().map(|interface| {
        let role = match interface.role {
            InterfaceRole::Uplink => "uplink",
            InterfaceRole::Pod => "pod",
        };
        let xdp = match interface.xdp_mode {
            Some(XdpMode::Native) => "native",
            Some(XdpMode::Generic) => "generic",
            None => "none",
        };
        ([role, xdp], 1.0)
    });
    families.gauges(&INTERFACES, interfaces);
    families.gauge(&SOCKET_HOOKS, datapath.cgroup_hooks.len() as f64);
    let maps = || status.maps.iter();
    families.gauges(
        &MAP_ENTRIES,
        maps().map(|map| ([&*map.name], map.entries as f64)),
    );
    families.gauges(
        &MAP_CAPACITY,
        maps().map(|map| ([&*map.name], map.capacity as f64)),
    );
    families.gauge(&GENERATION, f64::from(datapath.generation));
    families.flag(&ADOPTED, datapath.adopted);
}
