//! The kernel's side of network interfaces: looking at them, making, changing and removing them.
//! A thin shell over rtnetlink without any decision.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::{Handle, LinkGetRequest, LinkUnspec, LinkWireguard};
use tokio::task::JoinHandle;

use super::InterfaceName;

/// Number of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

/// An interface as the kernel tells about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Its number.
    pub index: IfIndex,
    /// Text that says what it is for.
    pub alias: Option<String>,
    /// What drives it, as `ip -details link` shows it: `wireguard`, `tun`, `veth`; empty for
    /// hardware.
    pub kind: String,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Whether it was switched on.
    pub up: bool,
}

/// An IPv4 address of an interface.
#[derive(Clone, Debug)]
pub struct InterfaceAddress {
    /// The interface.
    pub index: IfIndex,
    /// The address.
    pub address: Ipv4Addr,
    /// Who may be told of it.
    pub scope: AddressScope,
    message: AddressMessage,
}

impl InterfaceAddress {
    /// What the kernel would tell of it, as far as we ask.
    #[cfg(test)]
    pub fn new(index: IfIndex, address: Ipv4Addr, scope: AddressScope) -> Self {
        Self {
            index,
            address,
            scope,
            message: AddressMessage::default(),
        }
    }
}

/// A connection to rtnetlink, in the network namespace of the thread that made it.
#[derive(Debug)]
pub struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Netlink {
    /// Opens the connection. Must be called within a Tokio runtime.
    pub fn connect() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        Ok(Self { handle, connection })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The interface of this name.
    pub async fn link(&self, name: &InterfaceName) -> io::Result<Option<LinkState>> {
        let request = self.handle.link().get().match_name(name.to_string());
        Self::one(request).await
    }

    /// The interface of this number.
    pub async fn link_at(&self, index: IfIndex) -> io::Result<Option<LinkState>> {
        Self::one(self.handle.link().get().match_index(index.0)).await
    }

    async fn one(request: LinkGetRequest) -> io::Result<Option<LinkState>> {
        let mut links = request.execute();
        match links.try_next().await.map_err(io_error) {
            Ok(link) => Ok(link.as_ref().map(state_of)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a WireGuard interface.
    pub async fn add_wireguard(&self, name: &InterfaceName) -> io::Result<()> {
        let message = LinkWireguard::new(name.as_str()).build();
        let request = self.handle.link().add(message);
        request.execute().await.map_err(io_error)
    }

    /// Renames an interface that is not up.
    pub async fn rename(&self, index: IfIndex, name: &InterfaceName) -> io::Result<()> {
        self.set(
            LinkUnspec::new_with_index(index.0)
                .name(name.to_string())
                .build(),
        )
        .await
    }

    /// Says what an interface is for.
    pub async fn set_alias(&self, index: IfIndex, alias: &str) -> io::Result<()> {
        let alias = LinkAttribute::IfAlias(alias.to_owned());
        let message = LinkUnspec::new_with_index(index.0).append_extra_attribute(alias);
        self.set(message.build()).await
    }

    /// Sets the largest packet, in bytes.
    pub async fn set_mtu(&self, index: IfIndex, mtu: u32) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index.0).mtu(mtu).build())
            .await
    }

    /// Switches an interface on.
    pub async fn set_up(&self, index: IfIndex) -> io::Result<()> {
        self.set(LinkUnspec::new_with_index(index.0).up().build())
            .await
    }

    /// All IPv4 addresses of all interfaces, in the kernel's order.
    pub async fn addresses(&self) -> io::Result<Vec<InterfaceAddress>> {
        let mut all = self.handle.address().get().execute();
        let mut found = Vec::new();
        while let Some(message) = all.try_next().await.map_err(io_error)? {
            let local = message.attributes.iter().find_map(|it| match it {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            });
            found.extend(local.map(|address| InterfaceAddress {
                index: IfIndex(message.header.index),
                address,
                scope: message.header.scope,
                message,
            }));
        }
        Ok(found)
    }

    /// Gives an interface an IPv4 address without a subnet, in place of those that it has.
    pub async fn replace_addresses(
        &self,
        index: IfIndex,
        present: Vec<InterfaceAddress>,
        address: Ipv4Addr,
        scope: AddressScope,
    ) -> io::Result<()> {
        let present = present.into_iter().filter(|it| it.index == index);
        let (same, others): (Vec<_>, Vec<_>) =
            present.partition(|it| it.address == address && it.scope == scope);
        // With the last address all routes go.
        if same.is_empty() {
            let mut request = self.handle.address().add(index.0, address.into(), 32);
            request.message_mut().header.scope = scope;
            request.execute().await.map_err(io_error)?;
        }
        for other in others {
            let removed = self.handle.address().del(other.message).execute().await;
            removed.map_err(io_error)?;
        }
        Ok(())
    }

    /// Removes an interface; that it is gone already is fine.
    pub async fn delete(&self, index: IfIndex) -> io::Result<()> {
        match self
            .handle
            .link()
            .del(index.0)
            .execute()
            .await
            .map_err(io_error)
        {
            Err(error) if error.raw_os_error() != Some(libc::ENODEV) => Err(error),
            _ => Ok(()),
        }
    }

    async fn set(&self, message: LinkMessage) -> io::Result<()> {
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(io_error)
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The kernel's answer, as the error that the same system call would give.
pub(super) fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn state_of(message: &LinkMessage) -> LinkState {
    let mut state = LinkState {
        index: IfIndex(message.header.index),
        alias: None,
        kind: String::new(),
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfAlias(alias) => state.alias = Some(alias.clone()),
            LinkAttribute::Mtu(mtu) => state.mtu = *mtu,
            LinkAttribute::LinkInfo(infos) => {
                let kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                state.kind = kind.unwrap_or_default();
            }
            _ => {}
        }
    }
    state
}
