//! What must not leave in clear text, and the account of what does.
//!
//! Routing leads packets to other nodes' pods into the WireGuard device; nothing here encrypts. The
//! programs at the uplinks ([`uplink`]) drop what routing failed to lead there, from the first packet on
//! and also while no agent runs; in strict mode a pod's packet is dropped where it leaves the pod
//! ([`receiver`]). Those at the device itself ([`device`]) count, report, keep TCP segments small enough
//! for it, and hand the answers of remote backends to the balancer.

mod account;
pub mod device;
pub mod receiver;
pub mod uplink;

use ebpf_abi::DatapathConfig;

use crate::access::settings;

/// The settings while encryption is on.
#[inline(always)]
fn active() -> Option<&'static DatapathConfig> {
    settings().filter(|config| config.flags & DatapathConfig::ENCRYPT != 0)
}
