//! Hears of it when a rule of ours is removed.
//!
//! systemd-networkd removes what it has not made when it starts or a link changes, unless told otherwise
//! (`ManageForeignRoutingPolicyRules=`).

use std::io;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::SocketAddr;
use rtnetlink::MulticastGroup;
use tokio::task::JoinHandle;

use super::PROTOCOL;
use super::rule_message::protocol_of_rule;

const GROUPS: [MulticastGroup; 2] = [MulticastGroup::Ipv4Rule, MulticastGroup::Ipv6Rule];

type Notification = NetlinkMessage<RouteNetlinkMessage>;

/// Follows the rules of the network namespace of the thread that made it.
#[derive(Debug)]
pub struct RuleWatch {
    notifications: UnboundedReceiver<(Notification, SocketAddr)>,
    connection: JoinHandle<()>,
}

impl RuleWatch {
    /// Opens the socket. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses the socket.
    pub fn start() -> io::Result<Self> {
        let (connection, _, notifications) = rtnetlink::new_multicast_connection(&GROUPS)?;
        Ok(Self {
            notifications,
            connection: tokio::spawn(connection),
        })
    }

    /// Forgets what was heard so far: a step that reads all rules begins.
    pub fn forget(&mut self) {
        while self.notifications.try_recv().is_ok() {}
    }

    /// Returns when a rule of ours was removed, by whomever, or that may have been missed.
    pub async fn lost(&mut self) {
        while let Some((notification, _)) = self.notifications.next().await {
            if may_be_a_loss(&notification) {
                return;
            }
        }
        // The socket was closed. Rules are looked at from time to time all the same.
        std::future::pending::<()>().await;
    }
}

impl Drop for RuleWatch {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn may_be_a_loss(notification: &Notification) -> bool {
    match &notification.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRule(rule)) => {
            protocol_of_rule(rule) == PROTOCOL
        }
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkHeader;
    use netlink_packet_route::route::RouteProtocol;
    use netlink_packet_route::rule::{RuleAttribute, RuleMessage};

    use super::*;

    #[test]
    fn only_rules_of_ours_that_go_count() {
        let rule = |protocol: u8| {
            let mut rule = RuleMessage::default();
            let protocol = RuleAttribute::Protocol(RouteProtocol::from(protocol));
            rule.attributes.push(protocol);
            rule
        };
        for (message, expected) in [
            (RouteNetlinkMessage::DelRule(rule(PROTOCOL)), true),
            (RouteNetlinkMessage::NewRule(rule(PROTOCOL)), false),
            (RouteNetlinkMessage::DelRule(rule(3)), false),
            (RouteNetlinkMessage::DelRule(RuleMessage::default()), false),
        ] {
            let payload = NetlinkPayload::InnerMessage(message);
            let notification = NetlinkMessage::new(NetlinkHeader::default(), payload);
            assert_eq!(may_be_a_loss(&notification), expected, "{notification:?}");
        }
    }
}
