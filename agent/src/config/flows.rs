//! Settings of flow capture.

use super::problem::Finding;
use super::section::section;
use super::value::{ByteSize, Count, Seconds};

section! {
    /// Capture of flows.
    pub struct Flows {
        settings {
            /// Whether the programs report flows at all.
            "enabled" enabled: bool = true,
            /// Room for events on their way from the kernel to the agent, shared by all CPUs. A
            /// power of two. Events that find it full are lost and counted. A change takes effect
            /// when the node is rebooted, or after `weir-agent uninstall`.
            "ringBufferBytes" ring_buffer_bytes: ByteSize = ByteSize::from_mib(4),
            /// Flows the agent keeps for those who ask later. The oldest make room.
            "capacity" capacity: Count<16, 16_777_216> = Count::new(65_536),
            /// How often a flow that goes on is reported again.
            "reportInterval" report_interval: Seconds<1, 3_600> = Seconds::new(5),
        }
    }
}

/// Smallest and largest ring: the kernel wants whole pages (64 KiB on some machines), and an
/// unsigned 32-bit size.
const RING_BUFFER: (ByteSize, ByteSize) =
    (ByteSize::from_bytes(64 << 10), ByteSize::from_mib(1 << 10));

impl Flows {
    pub(super) fn check(&self, findings: &mut Vec<Finding>) {
        let size = self.ring_buffer_bytes;
        if !size.bytes().is_power_of_two() || size < RING_BUFFER.0 || size > RING_BUFFER.1 {
            findings.push(Finding::new(
                "flows.ringBufferBytes",
                "is not a size the kernel accepts",
                "choose a power of two from 64KiB to 1GiB, such as 4MiB",
            ));
        }
    }
}
