//! The agent itself and its input.

use ebpf_abi::ABI_VERSION;

use super::Sources;
use super::table::{Families, Metric};
use crate::api::admin::AgentStatus;
use crate::state::Severity;

const BUILD_INFO: Metric = Metric::gauge("weir_build_info", "Always 1; the labels tell the build")
    .labels(&["version", "abi_version", "node"]);
const READY: Metric = Metric::gauge(
    "weir_agent_ready",
    "1 once the agent has finished what it has to do first",
);
const UPTIME: Metric =
    Metric::gauge("weir_agent_uptime", "Time since the agent started").unit("seconds");
const FAILURES: Metric = Metric::gauge(
    "weir_agent_failures",
    "Parts of the agent's work that fail, as `weir status` lists them",
);
const SYNCED: Metric = Metric::gauge("weir_source_synced", "1 once the source was read once");
const REVISION: Metric = Metric::gauge(
    "weir_source_revision",
    "Number of the last change that was taken over from the source",
);
const PROBLEMS: Metric = Metric::gauge(
    "weir_source_problems",
    "Problems of the input and of what is made of it, as `weir status` lists them",
)
.labels(&["severity"]);
const SERVICES: Metric = Metric::gauge(
    "weir_balancer_services",
    "Sets of backends that are balanced: one per port and address family of a Service",
);
const FRONTENDS: Metric = Metric::gauge("weir_balancer_frontends", "Addresses that clients dial");
const BACKENDS: Metric = Metric::gauge("weir_balancer_backends", "Backends in the maps");

/// All of this part.
pub const METRICS: &[&Metric] = &[
    &BUILD_INFO,
    &READY,
    &UPTIME,
    &FAILURES,
    &SYNCED,
    &REVISION,
    &PROBLEMS,
    &SERVICES,
    &FRONTENDS,
    &BACKENDS,
];

/// Adds their samples.
pub fn add(families: &mut Families<'_>, sources: &Sources, status: &AgentStatus) {
    let version = env!("CARGO_PKG_VERSION");
    let abi = ABI_VERSION.to_string();
    families.gauges(&BUILD_INFO, [([version, &abi, &sources.node_name], 1.0)]);
    families.flag(&READY, sources.readiness.is_ready());
    families.gauge(&UPTIME, sources.hub.stats().uptime.as_secs_f64());
    families.gauge(&FAILURES, status.failures.len() as f64);
    families.flag(&SYNCED, status.source.synced);
    families.gauge(&REVISION, status.source.revision as f64);
    let (mut errors, mut warnings) = (0_u32, 0_u32);
    for problem in sources.state.read().problems() {
        match problem.severity {
            Severity::Error => errors += 1,
            Severity::Warning => warnings += 1,
        }
    }
    families.gauges(
        &PROBLEMS,
        [
            (["error"], f64::from(errors)),
            (["warning"], f64::from(warnings)),
        ],
    );
    families.gauge(&SERVICES, status.balancer.services as f64);
    families.gauge(&FRONTENDS, status.balancer.frontends as f64);
    families.gauge(&BACKENDS, status.balancer.backends as f64);
}
