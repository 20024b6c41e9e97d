//! Rules and routes, from what they were set to before: with a thousand nodes the kernel's answer
//! to what they are has hundreds of kilobytes.

use crate::encryption::routing::{self, Routing, RoutingError};

use super::Encryption;

impl<A> Encryption<A> {
    /// Brings rules and routes in step.
    pub(super) async fn route(&mut self, wanted: Routing) -> Result<(), RoutingError> {
        // Unknown until all is done: what failed half-way is read the next time.
        match self.routed.take() {
            Some(known) => {
                routing::follow(&self.netlink, self.table, &known, &wanted).await?;
            }
            None => {
                routing::apply(&self.netlink, self.table, &wanted).await?;
            }
        }
        self.routed = Some(wanted);
        Ok(())
    }
}
