//! Rules and routes that lead packets into the device, in a table of our own.
//!
//! Whatever routes the CNI has stay as they are: a rule of ours, asked before those of the main
//! table, sends what is to be encrypted to our table. Ours is what carries our number as its
//! protocol ([`PROTOCOL`]); anything else in our table or at our priorities is someone else's and
//! ends in an error that names it, before anything is changed.

mod plan;
mod route_message;
mod rule_message;
mod rule_watch;

use std::fmt;
use std::io;
use std::net::IpAddr;

use futures::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;
use rtnetlink::IpVersion;

use super::link::{IfIndex, Netlink, io_error};
use super::values::{FirewallMark, Port, Prefix, RouteTable, RulePriority};

pub use plan::{RoutingChange, plan};
pub use rule_watch::RuleWatch;

/// Number by which rules and routes are known as ours (`ip route` shows it as `proto 119`).
pub const PROTOCOL: u8 = 119;

/// Family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of a prefix.
    pub fn of(prefix: Prefix) -> Self {
        if prefix.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn address_family(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

/// Protocol whose ports a rule can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl PortProtocol {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp]
            .into_iter()
            .find(|it| it.number() == number)
    }
}

/// Which packets a rule is about: those that match everything it names.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    /// Mark, and the bits of it that count.
    pub mark: Option<(FirewallMark, u32)>,
    /// Source.
    pub from: Option<Prefix>,
    /// Destination.
    pub to: Option<Prefix>,
    /// Destination port.
    pub port: Option<(PortProtocol, Port)>,
    /// Source port; with a destination port both have the same protocol.
    pub source_port: Option<(PortProtocol, Port)>,
    /// Protocol by its number, where no port is named.
    pub protocol: Option<u8>,
    /// Turns the whole around: packets that do not match.
    pub not: bool,
}

/// What a rule does with its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleAction {
    /// Routes them by this table; if that has no route, the next rule is asked.
    Table(RouteTable),
    /// Routes them by the main table.
    Main,
    /// Drops them and tells the sender that the way is closed.
    Prohibit,
}

/// A rule of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// For packets of this family.
    pub family: Family,
    /// Its place among all rules.
    pub priority: RulePriority,
    /// Which packets.
    pub selector: Selector,
    /// What happens to them.
    pub action: RuleAction,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteTarget {
    /// Into this interface.
    Device(IfIndex),
    /// Nowhere; the sender is told nothing.
    Blackhole,
    /// Nowhere; the sender is told "prohibited".
    Prohibit,
}

/// What tells routes of ours apart: no two have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// For packets to here.
    pub to: Prefix,
    /// Whether the route counts only where none into a device does.
    pub is_last: bool,
}

/// A route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// For packets to here.
    pub to: Prefix,
    /// Where they go.
    pub target: RouteTarget,
    /// Source address of packets that the node sends itself.
    pub source: Option<IpAddr>,
    /// Largest packet, in bytes; `None` for that of the device.
    pub mtu: Option<u32>,
}

impl Route {
    /// What tells it from the others.
    pub fn key(&self) -> RouteKey {
        RouteKey {
            to: self.to,
            is_last: self.target.is_last(),
        }
    }
}

impl RouteTarget {
    /// A route that leads nowhere stands behind one into a device to the same prefix. The kernel drops
    /// the latter with its device, and then takes the former.
    fn is_last(self) -> bool {
        !matches!(self, Self::Device(_))
    }
}

/// All rules and routes of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The rules.
    pub rules: std::collections::BTreeSet<Rule>,
    /// The routes: to a prefix one into a device and one that leads nowhere.
    pub routes: std::collections::BTreeMap<RouteKey, Route>,
}

/// Something that someone else put where ours is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What, as `ip rule` or `ip route` would show it.
    pub what: String,
    /// Number of the one who made it (`proto` in `ip`).
    pub protocol: u8,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (proto {})", self.what, self.protocol)
    }
}

/// Why rules and routes are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum RoutingError {
    /// The table is used by someone else.
    #[error(
        "routing table {table} is used by someone else: {foreign}. Give Weir's encryption another \
         table"
    )]
    TableTaken {
        /// The table.
        table: RouteTable,
        /// What was found first.
        foreign: Foreign,
    },
    /// A rule of someone else has one of our priorities.
    #[error(
        "rule priority {priority} is used by someone else: {foreign}. Give Weir's encryption \
         another priority"
    )]
    PriorityTaken {
        /// The priority.
        priority: RulePriority,
        /// The rule.
        foreign: Foreign,
    },
    /// A rule of someone else, which is asked before ours, is about packets with our mark.
    #[error(
        "firewall mark {mark} is used by someone else: {foreign}. Give Weir's encryption another mark"
    )]
    MarkTaken {
        /// The mark.
        mark: FirewallMark,
        /// The rule.
        foreign: Foreign,
    },
    /// The kernel refused.
    #[error("{doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// What came of it.
        source: io::Error,
    },
}

/// Rules and routes as the kernel has them.
#[derive(Clone, Debug, Default)]
pub struct ActualRouting {
    rules: Vec<RuleMessage>,
    routes: Vec<RouteMessage>,
}

/// Brings the kernel's rules and routes in step with what is desired, writing only the difference.
/// Returns how many changes were made.
///
/// # Errors
/// If someone else uses the table or a priority, nothing is changed.
pub async fn apply(
    netlink: &Netlink,
    table: RouteTable,
    desired: &Routing,
) -> Result<usize, RoutingError> {
    let actual = read(netlink).await?;
    let changes = plan(table, desired, &actual)?;
    for change in &changes {
        make(netlink, table, change).await?;
    }
    Ok(changes.len())
}

/// Likewise, where it is known what the rules and routes of ours are: nothing is read. What others
/// did meanwhile is not seen.
pub async fn follow(
    netlink: &Netlink,
    table: RouteTable,
    known: &Routing,
    desired: &Routing,
) -> Result<usize, RoutingError> {
    let changes = plan::between(table, known, desired);
    for change in &changes {
        make(netlink, table, change).await?;
    }
    Ok(changes.len())
}

/// Removes every rule of ours, and every route of ours from the table and from those that rules of
/// ours led to. What others put there stays.
pub async fn remove_all(netlink: &Netlink, table: RouteTable) -> Result<usize, RoutingError> {
    let actual = read(netlink).await?;
    let changes = plan::removal(table, &actual);
    for change in &changes {
        make(netlink, table, change).await?;
    }
    Ok(changes.len())
}

/// True if there are rules of ours, as there are wherever encryption is on.
pub async fn is_there(netlink: &Netlink) -> Result<bool, RoutingError> {
    let actual = read(netlink).await?;
    let mut rules = actual.rules.iter();
    Ok(rules.any(|rule| rule_message::protocol_of_rule(rule) == PROTOCOL))
}

async fn read(netlink: &Netlink) -> Result<ActualRouting, RoutingError> {
    let mut actual = ActualRouting::default();
    let handle = netlink.handle();
    for (version, family) in [(IpVersion::V4, Family::V4), (IpVersion::V6, Family::V6)] {
        let family = family.address_family();
        let rules: Vec<RuleMessage> = handle
            .rule()
            .get(version)
            .execute()
            .try_collect()
            .await
            .map_err(failed(|| "list rules".to_owned()))?;
        // A kernel without IPv6 answers for all families.
        let rules = rules.into_iter();
        actual
            .rules
            .extend(rules.filter(|rule| rule.header.family == family));
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let mut routes = handle.route().get(request).execute();
        loop {
            let next = routes.try_next().await;
            let Some(route) = next.map_err(failed(|| "list routes".to_owned()))? else {
                break;
            };
            if route.header.address_family == family && route_message::is_relevant(&route) {
                actual.routes.push(route);
            }
        }
    }
    Ok(actual)
}

async fn make(
    netlink: &Netlink,
    table: RouteTable,
    change: &RoutingChange,
) -> Result<(), RoutingError> {
    let handle = netlink.handle();
    let done = match change {
        RoutingChange::SetRoute(route) => {
            let message = route_message::of_route(route, table);
            handle.route().add(message).replace().execute().await
        }
        RoutingChange::AddRule(rule) => {
            let mut request = handle.rule().add();
            *request.message_mut() = rule_message::of_rule(rule);
            request.execute().await
        }
        RoutingChange::RemoveRule(rule) => handle.rule().del(rule.clone()).execute().await,
        RoutingChange::RemoveRoute(route) => handle.route().del(route.clone()).execute().await,
    };
    let error = match done.map_err(io_error) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    // Gone with its interface, or removed by hand in between: as it was to be.
    let is_removal = matches!(
        change,
        RoutingChange::RemoveRule(_) | RoutingChange::RemoveRoute(_)
    );
    match error.raw_os_error() {
        Some(libc::ESRCH | libc::ENOENT) if is_removal => Ok(()),
        _ => Err(RoutingError::Io {
            doing: change.to_string(),
            source: error,
        }),
    }
}

fn failed(doing: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> RoutingError {
    |error| RoutingError::Io {
        doing: doing(),
        source: io_error(error),
    }
}

#[cfg(test)]
mod tests;
