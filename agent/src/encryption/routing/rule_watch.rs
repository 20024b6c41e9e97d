//! Hears of it when somebody else removes a rule of ours.
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

use super::rule_message::{protocol_of_rule, to_rule};
use super::{PROTOCOL, Routing};

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

    /// Returns when a rule of those that were `set` was removed, or that may have been missed.
    pub async fn lost(&mut self, set: Option<&Routing>) {
        while let Some((notification, _)) = self.notifications.next().await {
            if set.is_some_and(|set| may_be_a_loss(&notification, set)) {
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

fn may_be_a_loss(notification: &Notification, set: &Routing) -> bool {
    match &notification.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRule(rule)) => {
            let ours = Some(rule).filter(|rule| protocol_of_rule(rule) == PROTOCOL);
            ours.and_then(to_rule)
                .is_some_and(|rule| set.rules.contains(&rule))
        }
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkHeader;
    use netlink_packet_route::route::RouteProtocol;
    use netlink_packet_route::rule::RuleAttribute;

    use super::super::rule_message::of_rule;
    use super::super::{Family, Rule, RuleAction, Selector};
    use super::*;
    use crate::encryption::RulePriority;

    #[test]
    fn only_rules_that_were_set_and_go_count() {
        let rule = |priority: u32| Rule {
            family: Family::V4,
            priority: RulePriority::try_from(priority).unwrap(),
            selector: Selector::default(),
            action: RuleAction::Main,
        };
        let set = Routing {
            rules: [rule(60)].into(),
            ..Routing::default()
        };
        let mut of_others = of_rule(&rule(60));
        of_others
            .attributes
            .retain(|it| !matches!(it, RuleAttribute::Protocol(_)));
        let protocol = RuleAttribute::Protocol(RouteProtocol::from(3));
        of_others.attributes.push(protocol);
        for (message, expected) in [
            (RouteNetlinkMessage::DelRule(of_rule(&rule(60))), true),
            (RouteNetlinkMessage::NewRule(of_rule(&rule(60))), false),
            (RouteNetlinkMessage::DelRule(of_rule(&rule(61))), false),
            (RouteNetlinkMessage::DelRule(of_others), false),
        ] {
            let payload = NetlinkPayload::InnerMessage(message);
            let notification = NetlinkMessage::new(NetlinkHeader::default(), payload);
            let found = may_be_a_loss(&notification, &set);
            assert_eq!(found, expected, "{notification:?}");
        }
    }
}
