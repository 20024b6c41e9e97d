//! Which interface leads to a pod: the one its route names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use futures::TryStreamExt;
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::RouteMessageBuilder;

/// Asks the kernel for the interface towards each address. Addresses without a route are left out.
pub async fn interfaces_towards(
    addresses: impl IntoIterator<Item = IpAddr>,
) -> anyhow::Result<BTreeMap<IpAddr, u32>> {
    let (connection, kernel, _) = rtnetlink::new_connection().context("opening rtnetlink")?;
    let connection = tokio::spawn(connection);
    let mut found = BTreeMap::new();
    for address in addresses {
        let request = kernel.route().get(host_route(address));
        // An error is the kernel's way to say that there is no route.
        let answer = request.execute().try_next().await.ok().flatten();
        if let Some(ifindex) = answer.as_ref().and_then(outgoing_interface) {
            found.insert(address, ifindex);
        }
    }
    connection.abort();
    Ok(found)
}

fn host_route(address: IpAddr) -> RouteMessage {
    match address {
        IpAddr::V4(address) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
            .destination_prefix(address, 32)
            .build(),
        IpAddr::V6(address) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .destination_prefix(address, 128)
            .build(),
    }
}

fn outgoing_interface(route: &RouteMessage) -> Option<u32> {
    route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(ifindex) => Some(*ifindex),
            _ => None,
        })
}
