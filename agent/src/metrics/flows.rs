//! The flow store.

use super::table::{Families, Metric};
use crate::flows::hub::HubStats;

const SEEN: Metric = Metric::counter("weir_flows_seen", "Flow events taken into the store");
const LOST: Metric = Metric::counter(
    "weir_flows_lost",
    "Flow events lost: in the kernel's ring buffer, by the decoder, by readers that were too slow",
)
.labels(&["place"]);
const STORED: Metric = Metric::gauge("weir_flows_stored", "Flow events in the store");
const CAPACITY: Metric = Metric::gauge(
    "weir_flows_capacity",
    "Flow events the store can hold; the oldest go first",
);

/// All of this part.
pub const METRICS: &[&Metric] = &[&SEEN, &LOST, &STORED, &CAPACITY];

/// Adds their samples.
pub fn add(families: &mut Families<'_>, stats: &HubStats) {
    families.counter(&SEEN, stats.seen);
    let lost = stats.lost.by_place();
    families.counters(&LOST, lost.map(|(place, value)| ([place], value)));
    families.gauge(&STORED, stats.stored as f64);
    families.gauge(&CAPACITY, stats.capacity as f64);
}
