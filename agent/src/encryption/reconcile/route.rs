//! Rules and routes, from what they were set to before: with a thousand nodes the kernel's answer
//! to what they are has hundreds of kilobytes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::encryption::desired::Desired;
use crate::encryption::device::DeviceState;
use crate::encryption::routing::{self, RouteTarget, Routing, RoutingError};

use super::Encryption;

/// How long packets may wait in the device to be encrypted.
const ON_THE_WAY: Duration = Duration::from_millis(100);

impl<A> Encryption<A> {
    /// Brings rules and routes in step.
    pub(super) async fn route(&mut self, wanted: Routing) -> Result<(), RoutingError> {
        // Unknown until all is done: what failed half-way is read the next time.
        match self.routed.take() {
            Some(known) if !self.routes_may_differ => {
                routing::follow(&self.netlink, self.table, &known, &wanted).await?;
            }
            _ => {
                routing::apply(&self.netlink, self.table, &wanted).await?;
            }
        }
        self.routed = Some(wanted);
        self.routes_may_differ = false;
        Ok(())
    }

    /// Leads nothing to nodes that are no peers any more, before the device forgets them: without strict
    /// mode packets to them have another way.
    pub(super) async fn leave(
        &mut self,
        desired: &Desired,
        device: &DeviceState,
    ) -> Result<(), RoutingError> {
        let mut present = device.peers.keys();
        let forgets = present.any(|key| !desired.peers.contains_key(key));
        if self.config.strict_mode.enabled || !forgets {
            return Ok(());
        }
        let reached = desired.peers.values().flat_map(|peer| &peer.allowed_ips);
        let reached: BTreeSet<_> = reached.collect();
        let Some(known) = &self.routed else {
            return Ok(());
        };
        let mut left = known.clone();
        left.routes.retain(|_, route| {
            !matches!(route.target, RouteTarget::Device(_)) || reached.contains(&route.to)
        });
        if left.routes.len() == known.routes.len() {
            return Ok(());
        }
        self.route(left).await?;
        tokio::time::sleep(ON_THE_WAY).await;
        Ok(())
    }
}
