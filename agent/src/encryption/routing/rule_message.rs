//! Rules as netlink messages, there and back. Pure.

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_route::route::{RouteHeader, RouteProtocol};
use netlink_packet_route::rule::{
    RuleAction as ActionMessage, RuleAttribute, RuleFlags, RuleMessage, RulePortRange,
};
use netlink_packet_route::{AddressFamily, IpProtocol};

use super::{Family, PROTOCOL, PortProtocol, Rule, RuleAction, Selector};
use crate::encryption::values::{FirewallMark, Port, Prefix, RouteTable, RulePriority};

/// The message that asks for a rule.
pub fn of_rule(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = rule.family.address_family();
    if rule.selector.not {
        message.header.flags |= RuleFlags::Invert;
    }
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority.get()));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    message.header.action = match rule.action {
        RuleAction::Table(table) => {
            attributes.push(RuleAttribute::Table(table.get()));
            ActionMessage::ToTable
        }
        RuleAction::Main => {
            let main = RouteHeader::RT_TABLE_MAIN;
            attributes.push(RuleAttribute::Table(main.into()));
            ActionMessage::ToTable
        }
        RuleAction::Prohibit => ActionMessage::Prohibit,
    };
    let selector = &rule.selector;
    if let Some((mark, mask)) = selector.mark {
        attributes.push(RuleAttribute::FwMark(mark.get()));
        attributes.push(RuleAttribute::FwMask(mask));
    }
    if let Some(from) = selector.from {
        message.header.src_len = from.length();
        attributes.push(RuleAttribute::Source(from.address()));
    }
    if let Some(to) = selector.to {
        message.header.dst_len = to.length();
        attributes.push(RuleAttribute::Destination(to.address()));
    }
    if let Some((protocol, _)) = selector.port.or(selector.source_port) {
        let protocol = IpProtocol::from(i32::from(protocol.number()));
        attributes.push(RuleAttribute::IpProtocol(protocol));
    }
    if let Some(protocol) = selector.protocol {
        let protocol = IpProtocol::from(i32::from(protocol));
        attributes.push(RuleAttribute::IpProtocol(protocol));
    }
    let range = |port: Port| RulePortRange {
        start: port.get(),
        end: port.get(),
    };
    if let Some((_, port)) = selector.port {
        attributes.push(RuleAttribute::DestinationPortRange(range(port)));
    }
    if let Some((_, port)) = selector.source_port {
        attributes.push(RuleAttribute::SourcePortRange(range(port)));
    }
    message
}

/// The rule of a message; `None` if it says more than a rule of ours can.
pub fn to_rule(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    let mut selector = Selector {
        not: header.flags.contains(RuleFlags::Invert),
        ..Selector::default()
    };
    let (mut mark, mut mask) = (None, u32::MAX);
    let (mut protocol, mut port, mut source_port) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::FwMark(value) if *value != 0 => mark = Some(FirewallMark::try_from(*value).ok()?),
            RuleAttribute::FwMask(value) => mask = *value,
            RuleAttribute::Source(address) => {
                selector.from = Some(Prefix::new(*address, header.src_len).ok()?);
            }
            RuleAttribute::Destination(address) => {
                selector.to = Some(Prefix::new(*address, header.dst_len).ok()?);
            }
            RuleAttribute::IpProtocol(number) => protocol = u8::try_from(i32::from(*number)).ok(),
            RuleAttribute::DestinationPortRange(range) if range.start == range.end => {
                port = Some(Port::try_from(range.start).ok()?);
            }
            RuleAttribute::SourcePortRange(range) if range.start == range.end => {
                source_port = Some(Port::try_from(range.start).ok()?);
            }
            RuleAttribute::FwMark(_)
            | RuleAttribute::Priority(_)
            | RuleAttribute::Protocol(_)
            | RuleAttribute::Table(_)
            // "Suppress nothing", which the kernel always says.
            | RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::Other(other) if is_whole_port(other) => {}
            _ => return None,
        }
    }
    selector.mark = mark.map(|mark| (mark, mask));
    if port.is_some() || source_port.is_some() {
        let protocol = PortProtocol::of(protocol?)?;
        selector.port = port.map(|port| (protocol, port));
        selector.source_port = source_port.map(|port| (protocol, port));
    } else {
        selector.protocol = protocol;
    }
    let action = match (header.action, table_of_rule(message)) {
        (ActionMessage::ToTable, table) if table == u32::from(RouteHeader::RT_TABLE_MAIN) => {
            RuleAction::Main
        }
        (ActionMessage::ToTable, table) => RuleAction::Table(RouteTable::try_from(table).ok()?),
        (ActionMessage::Prohibit, _) => RuleAction::Prohibit,
        _ => return None,
    };
    (header.tos == 0).then_some(Rule {
        family: match header.family {
            AddressFamily::Inet => Family::V4,
            _ => Family::V6,
        },
        priority: RulePriority::try_from(priority_of_rule(message)).ok()?,
        selector,
        action,
    })
}

/// Whether an attribute says that all bits of a port count, as they always did.
///
/// # Kernel
/// Told from 6.15 on, for every rule with a port.
fn is_whole_port(attribute: &DefaultNla) -> bool {
    /// `FRA_SPORT_MASK` and `FRA_DPORT_MASK` of `linux/fib_rules.h`.
    const PORT_MASKS: [u16; 2] = [28, 29];
    let mut mask = [0; 2];
    let is_mask = PORT_MASKS.contains(&attribute.kind()) && attribute.value_len() == mask.len();
    if is_mask {
        attribute.emit_value(&mut mask);
    }
    mask == [0xff; 2]
}

/// The table a rule leads to; 0 if it leads to none.
pub fn table_of_rule(message: &RuleMessage) -> u32 {
    let named = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        });
    named.unwrap_or(message.header.table.into())
}

/// A rule's place.
pub fn priority_of_rule(message: &RuleMessage) -> u32 {
    let named = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Priority(priority) => Some(*priority),
            _ => None,
        });
    named.unwrap_or(0)
}

/// Who made a rule.
pub fn protocol_of_rule(message: &RuleMessage) -> u8 {
    let named = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Protocol(protocol) => Some(u8::from(*protocol)),
            _ => None,
        });
    named.unwrap_or(0)
}

/// A rule as `ip rule` shows it, about.
pub fn show_rule(message: &RuleMessage) -> String {
    let priority = priority_of_rule(message);
    match (to_rule(message), table_of_rule(message)) {
        (Some(rule), _) => rule.to_string(),
        (None, 0) => format!("rule {priority}"),
        (None, table) => format!("rule {priority} that leads to table {table}"),
    }
}
