//! Fields about addresses.

use std::net::IpAddr;

use ebpf_abi::Family;
use ipnet::IpNet;
use weir_proto::flow::{FlowFilter, IpVersion};

use super::{Fields, FilterError, both};

pub(super) fn compile(filter: &FlowFilter, fields: &mut Fields) -> Result<(), FilterError> {
    let sides = both(
        ("source_ip", &filter.source_ip),
        ("destination_ip", &filter.destination_ip),
    );
    for (side, field, values) in sides {
        fields.add_text(field, values, parse, move |network, record| {
            network.contains(&record.address(side))
        })?;
    }
    let xlated = &filter.source_ip_xlated;
    fields.add_text("source_ip_xlated", xlated, parse, |network, record| {
        record
            .source_xlated()
            .is_some_and(|address| network.contains(&address))
    })?;
    fields.add_plain(&filter.ip_version, |version, record| {
        let family = match record.family() {
            Family::V4 => IpVersion::IPv4,
            Family::V6 => IpVersion::IPv6,
        };
        *version == family as i32
    });
    fields.add_plain(&filter.encrypted, |encrypted, record| {
        *encrypted == record.is_encrypted()
    });
    Ok(())
}

/// An address is the network that holds only itself.
fn parse(value: &str) -> Result<IpNet, String> {
    let network = if value.contains('/') {
        value.parse().ok()
    } else {
        value.parse::<IpAddr>().ok().map(IpNet::from)
    };
    network
        .ok_or_else(|| format!("{value:?} is neither an IP address nor a network like 10.0.0.0/8"))
}
