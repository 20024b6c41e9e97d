//! Reads links, routes and addresses over rtnetlink and follows their changes.

use std::collections::BTreeSet;
use std::future;
use std::io;
use std::net::IpAddr;

use anyhow::Context;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::decode::{self, Hint, Notification};
use super::table::Table;
use super::{DeviceSelector, InterfaceEvent, NodeAddresses};

/// What is followed.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// Room for notifications while the agent is busy, in bytes. The kernel caps it at
/// `net.core.rmem_max`; when it is full, everything is read anew.
const NOTIFICATION_BUFFER: usize = 1 << 20;

/// Events in flight to the reader; beyond it the watcher waits.
const EVENTS_IN_FLIGHT: usize = 64;

type Connection = rtnetlink::proto::Connection<RouteNetlinkMessage>;

/// Follows the interfaces of the network namespace in which it was started.
pub struct InterfaceWatcher {
    // Two sockets: an answer must not be lost among notifications.
    notifying: Connection,
    answering: Connection,
    follower: Follower,
}

/// The part that decides what to do with what the connections deliver.
struct Follower {
    notifications: UnboundedReceiver<(Notification, SocketAddr)>,
    kernel: Handle,
    table: Table,
    /// What the Node object names, see [`NodeAddresses`].
    named: watch::Receiver<Option<Vec<IpAddr>>>,
    events: mpsc::Sender<InterfaceEvent>,
    has_settled: bool,
}

/// What a batch of notifications asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
struct Stale {
    everything: bool,
    default_routes: bool,
    addresses: bool,
}

impl InterfaceWatcher {
    /// Opens the sockets. Must be called within a Tokio runtime; the network namespace of the
    /// calling thread is the one watched, wherever [`InterfaceWatcher::run`] is polled.
    pub fn start(
        selector: DeviceSelector,
        node: NodeAddresses,
    ) -> io::Result<(Self, mpsc::Receiver<InterfaceEvent>)> {
        Self::start_with_buffer(selector, node, NOTIFICATION_BUFFER)
    }

    fn start_with_buffer(
        selector: DeviceSelector,
        node: NodeAddresses,
        notification_buffer: usize,
    ) -> io::Result<(Self, mpsc::Receiver<InterfaceEvent>)> {
        // Subscribed before the first reading, so that no change falls between the two.
        let (mut notifying, _, notifications) = rtnetlink::new_multicast_connection(&GROUPS)?;
        notifying
            .socket_mut()
            .socket_ref()
            .set_rx_buf_sz(notification_buffer)?;
        let (answering, kernel, _) = rtnetlink::new_connection()?;
        let (events, receiver) = mpsc::channel(EVENTS_IN_FLIGHT);
        let follower = Follower {
            notifications,
            kernel,
            table: Table::new(selector, node.adopted),
            named: node.named,
            events,
            has_settled: false,
        };
        Ok((
            Self {
                notifying,
                answering,
                follower,
            },
            receiver,
        ))
    }

    /// Reads the present state and follows it until `token` is cancelled or the reader is gone.
    pub async fn run(self, token: CancellationToken) -> anyhow::Result<()> {
        let Self {
            notifying,
            answering,
            follower,
        } = self;
        tokio::select! {
            () = notifying => anyhow::bail!("the kernel closed the socket for notifications"),
            () = answering => anyhow::bail!("the kernel closed the netlink socket"),
            followed = follower.follow() => followed,
            () = token.cancelled() => Ok(()),
        }
    }
}

impl Follower {
    async fn follow(mut self) -> anyhow::Result<()> {
        self.read(Stale {
            everything: true,
            ..Stale::default()
        })
        .await?;
        self.take_node_addresses();
        let mut events = self.table.catch_up();
        events.push(InterfaceEvent::SnapshotComplete);
        events.extend(self.settle());
        while self.tell(events).await {
            let stale = self.next_batch().await?;
            self.read(stale).await?;
            self.take_node_addresses();
            events = self.table.catch_up();
            events.extend(self.settle());
        }
        Ok(())
    }

    /// Waits until something happens and notes all that has.
    async fn next_batch(&mut self) -> anyhow::Result<Stale> {
        let mut stale = Stale::default();
        tokio::select! {
            first = self.notifications.next() => {
                let Some((first, _)) = first else {
                    anyhow::bail!("no more notifications about interfaces");
                };
                self.note(&first, &mut stale);
            }
            () = changed(&mut self.named) => {}
        }
        // All that waits is one batch: a hundred routes in a row are one reading.
        while let Some(Some((next, _))) = self.notifications.next().now_or_never() {
            self.note(&next, &mut stale);
        }
        Ok(stale)
    }

    fn take_node_addresses(&mut self) {
        if let Some(addresses) = self.named.borrow_and_update().as_ref() {
            self.table.replace_node_addresses(addresses.clone());
        }
    }

    /// To be told after all else that is known, the first time that this is all.
    fn settle(&mut self) -> Option<InterfaceEvent> {
        let settles = !self.has_settled && self.table.is_settled();
        self.has_settled |= settles;
        settles.then_some(InterfaceEvent::Settled)
    }

    /// Whether the reader is still there.
    async fn tell(&self, events: Vec<InterfaceEvent>) -> bool {
        for event in events {
            tracing::debug!(?event, "interfaces");
            if self.events.send(event).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Takes links from the notification itself; for the rest, notes what to read again.
    fn note(&mut self, notification: &Notification, stale: &mut Stale) {
        match decode::hint_of(notification) {
            Hint::Lost => {
                tracing::warn!("lost notifications about interfaces; reading all of them again");
                stale.everything = true;
            }
            Hint::Link(link) => self.table.set_link(link),
            Hint::Gone(ifindex) => self.table.remove_link(ifindex),
            Hint::DefaultRoutes => stale.default_routes = true,
            Hint::Addresses => stale.addresses = true,
            Hint::Nothing => {}
        }
    }

    async fn read(&mut self, stale: Stale) -> anyhow::Result<()> {
        if stale.everything {
            let links: Vec<LinkMessage> = self
                .kernel
                .link()
                .get()
                .execute()
                .try_collect()
                .await
                .context("list links")?;
            self.table
                .replace_links(links.iter().filter_map(decode::link_of).collect());
        }
        if stale.everything || stale.default_routes {
            let mut links = BTreeSet::new();
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let mut request = RouteMessage::default();
                request.header.address_family = family;
                let mut routes = self.kernel.route().get(request).execute();
                while let Some(route) = routes.try_next().await.context("list routes")? {
                    if decode::is_default(&route) {
                        links.extend(decode::links_of(&route));
                    }
                }
            }
            self.table.replace_default_routes(links);
        }
        if stale.everything || stale.addresses {
            let addresses: Vec<AddressMessage> = self
                .kernel
                .address()
                .get()
                .execute()
                .try_collect()
                .await
                .context("list addresses")?;
            self.table
                .replace_addresses(addresses.iter().filter_map(decode::address_of).collect());
        }
        Ok(())
    }
}

/// Waits for another value; for ever when there will be none.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
