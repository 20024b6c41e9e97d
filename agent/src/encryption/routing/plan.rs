//! What to change about rules and routes. Pure.
//!
//! Routes come before the rules that lead to them, and go after them: no packet is sent to a table
//! that is half filled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use itertools::{EitherOrBoth, Itertools};
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;

use super::route_message::{of_route, protocol_of_route, show_route, table_of_route, to_route};
use super::rule_message::{
    of_rule, priority_of_rule, protocol_of_rule, show_rule, table_of_rule, to_rule,
};
use super::{
    ActualRouting, Family, Foreign, PROTOCOL, PortProtocol, Route, RouteTarget, Routing,
    RoutingError, Rule, RuleAction, Selector,
};
use crate::encryption::values::RouteTable;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum RoutingChange {
    /// A new route, or another one in place of that with the same key.
    SetRoute(Route),
    /// A new rule.
    AddRule(Rule),
    /// A rule of ours goes. As the kernel told it, since that may be more than a [`Rule`] can say.
    RemoveRule(RuleMessage),
    /// A route of ours goes.
    RemoveRoute(RouteMessage),
}

impl fmt::Display for RoutingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetRoute(route) => write!(f, "set {route}"),
            Self::AddRule(rule) => write!(f, "add {rule}"),
            Self::RemoveRule(rule) => write!(f, "remove {}", show_rule(rule)),
            Self::RemoveRoute(route) => write!(f, "remove {}", show_route(route)),
        }
    }
}

/// The changes that make `actual` the same as `desired`, in their order; nothing if it is.
///
/// # Errors
/// Someone else uses the table, a priority or the mark.
pub fn plan(
    table: RouteTable,
    desired: &Routing,
    actual: &ActualRouting,
) -> Result<Vec<RoutingChange>, RoutingError> {
    refuse_foreign(table, desired, actual)?;
    let mut changes = Vec::new();
    let mut surplus_routes = Vec::new();
    let mut present_routes = BTreeMap::new();
    for message in our_routes(table, actual) {
        let route = to_route(message);
        let wanted = route.is_some_and(|route| {
            let first = !present_routes.contains_key(&route.key());
            first
                && table_of_route(message) == table.get()
                && desired.routes.contains_key(&route.key())
        });
        match route {
            Some(route) if wanted => drop(present_routes.insert(route.key(), route)),
            _ => surplus_routes.push(RoutingChange::RemoveRoute(message.clone())),
        }
    }
    for (key, route) in &desired.routes {
        if present_routes.get(key) != Some(route) {
            changes.push(RoutingChange::SetRoute(*route));
        }
    }
    let mut present_rules = BTreeSet::new();
    let mut surplus_rules = Vec::new();
    for message in our_rules(actual) {
        match to_rule(message) {
            // The second of two that are the same is one too many.
            Some(rule) if desired.rules.contains(&rule) && present_rules.insert(rule.clone()) => {}
            _ => surplus_rules.push(RoutingChange::RemoveRule(message.clone())),
        }
    }
    let missing = desired.rules.difference(&present_rules);
    changes.extend(missing.map(|rule| RoutingChange::AddRule(rule.clone())));
    changes.append(&mut surplus_rules);
    changes.append(&mut surplus_routes);
    Ok(changes)
}

/// The changes that lead from what is known to be there to what is desired, in their order.
pub(super) fn between(table: RouteTable, known: &Routing, desired: &Routing) -> Vec<RoutingChange> {
    let mut changes = Vec::new();
    let mut gone = Vec::new();
    let routes = known.routes.iter();
    for route in routes.merge_join_by(&desired.routes, |one, other| one.0.cmp(other.0)) {
        match route {
            EitherOrBoth::Left((_, known)) => {
                gone.push(RoutingChange::RemoveRoute(of_route(known, table)));
            }
            EitherOrBoth::Both((_, is), (_, wanted)) if is == wanted => {}
            EitherOrBoth::Both(_, (_, route)) | EitherOrBoth::Right((_, route)) => {
                changes.push(RoutingChange::SetRoute(*route));
            }
        }
    }
    let missing = desired.rules.difference(&known.rules);
    changes.extend(missing.cloned().map(RoutingChange::AddRule));
    let surplus = known.rules.difference(&desired.rules);
    changes.extend(surplus.map(|rule| RoutingChange::RemoveRule(of_rule(rule))));
    changes.append(&mut gone);
    changes
}

/// The changes after which nothing of ours is left.
pub fn removal(table: RouteTable, actual: &ActualRouting) -> Vec<RoutingChange> {
    let rules = our_rules(actual).cloned().map(RoutingChange::RemoveRule);
    let routes = our_routes(table, actual).cloned();
    rules
        .chain(routes.map(RoutingChange::RemoveRoute))
        .collect()
}

fn our_rules(actual: &ActualRouting) -> impl Iterator<Item = &RuleMessage> {
    let rules = actual.rules.iter();
    rules.filter(|rule| protocol_of_rule(rule) == PROTOCOL)
}

/// Those of the table, and of a table that an earlier configuration named: rules of ours lead there.
fn our_routes(table: RouteTable, actual: &ActualRouting) -> impl Iterator<Item = &RouteMessage> {
    let led_to = our_rules(actual)
        .map(table_of_rule)
        .filter(|table| RouteTable::try_from(*table).is_ok());
    let tables: BTreeSet<u32> = led_to.chain([table.get()]).collect();
    actual.routes.iter().filter(move |route| {
        protocol_of_route(route) == PROTOCOL && tables.contains(&table_of_route(route))
    })
}

fn refuse_foreign(
    table: RouteTable,
    desired: &Routing,
    actual: &ActualRouting,
) -> Result<(), RoutingError> {
    for message in &actual.routes {
        let protocol = protocol_of_route(message);
        if table_of_route(message) == table.get() && protocol != PROTOCOL {
            let what = show_route(message);
            let foreign = Foreign { what, protocol };
            return Err(RoutingError::TableTaken { table, foreign });
        }
    }
    for message in &actual.rules {
        let protocol = protocol_of_rule(message);
        if protocol == PROTOCOL {
            continue;
        }
        let what = show_rule(message);
        let foreign = Foreign { what, protocol };
        if table_of_rule(message) == table.get() {
            return Err(RoutingError::TableTaken { table, foreign });
        }
        let priority = priority_of_rule(message);
        let same_place = desired
            .rules
            .iter()
            .find(|rule| rule.priority.get() == priority);
        if let Some(rule) = same_place {
            let priority = rule.priority;
            return Err(RoutingError::PriorityTaken { priority, foreign });
        }
        // One behind ours is never asked about our packets.
        let theirs = to_rule(message).and_then(|rule| rule.selector.mark);
        let is_before =
            |rule: &&Rule| rule.selector.mark == theirs && priority < rule.priority.get();
        if let Some((mark, _)) = theirs.filter(|_| desired.rules.iter().any(|it| is_before(&it))) {
            return Err(RoutingError::MarkTaken { mark, foreign });
        }
    }
    Ok(())
}

impl fmt::Display for Route {
    /// As `ip route` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target {
            RouteTarget::Device(index) => write!(f, "route {} dev #{}", self.to, index.0)?,
            RouteTarget::Blackhole => write!(f, "route blackhole {}", self.to)?,
            RouteTarget::Prohibit => write!(f, "route prohibit {}", self.to)?,
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    /// As `ip rule` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            Family::V4 => "",
            Family::V6 => "IPv6 ",
        };
        write!(f, "{family}rule {}:{}", self.priority, self.selector)?;
        match self.action {
            RuleAction::Table(table) => write!(f, " lookup {table}"),
            RuleAction::Main => f.write_str(" lookup main"),
            RuleAction::Prohibit => f.write_str(" prohibit"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.not {
            f.write_str(" not")?;
        }
        match self.from {
            Some(from) => write!(f, " from {from}")?,
            None => f.write_str(" from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some((mark, mask)) = self.mark {
            write!(f, " fwmark {mark}/{mask:#x}")?;
        }
        match self.port.or(self.source_port) {
            Some((PortProtocol::Tcp, _)) => f.write_str(" ipproto tcp")?,
            Some((PortProtocol::Udp, _)) => f.write_str(" ipproto udp")?,
            None => {}
        }
        if let Some(protocol) = self.protocol {
            write!(f, " ipproto {protocol}")?;
        }
        if let Some((_, port)) = self.source_port {
            write!(f, " sport {port}")?;
        }
        if let Some((_, port)) = self.port {
            write!(f, " dport {port}")?;
        }
        Ok(())
    }
}
