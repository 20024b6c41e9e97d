//! Removing every trace: links, filters, maps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::programs::TcAttachType;
use aya::programs::tc::qdisc_detach_program;
use futures::TryStreamExt;

use netlink_packet_route::tc::TcHandle;

use super::pins::Pins;

/// TC programs by hook, as they are named on filters.
pub(super) const TC_PROGRAMS: [(&str, TcAttachType); 6] = [
    ("tc_uplink_in", TcAttachType::Ingress),
    ("tc_uplink_out", TcAttachType::Egress),
    ("tc_pod_from", TcAttachType::Ingress),
    ("tc_pod_to", TcAttachType::Egress),
    ("tc_wireguard_in", TcAttachType::Ingress),
    ("tc_wireguard_out", TcAttachType::Egress),
];

/// What was removed, for the operator.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links that were pinned.
    pub links: usize,
    /// Maps that were pinned.
    pub maps: usize,
    /// TC filters on interfaces.
    pub filters: usize,
}

/// Detaches all programs and removes all maps, of this and of every other version.
///
/// Packets of known connections are no longer translated from here on. Links go first: no program
/// runs without its maps.
pub async fn all(pins: &Pins) -> io::Result<Removed> {
    let mut removed = Removed::default();
    for version in entries(pins.root())? {
        removed.links += remove_files(&version.join("links"))?;
    }
    for (interface, ifindex) in interfaces()? {
        let filters = tc_filters(&interface);
        if filters > 0 {
            removed.filters += filters;
            remove_unused_clsact(ifindex)
                .await
                .map_err(io::Error::other)?;
        }
    }
    for version in entries(pins.root())? {
        removed.maps += remove_files(&version.join("maps"))?;
        for folder in entries(&version)? {
            fs::remove_dir(folder)?;
        }
        fs::remove_dir(version)?;
    }
    match fs::remove_dir(pins.root()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(removed),
    }
}

/// Removes our filters from an interface and returns how many there were.
pub fn tc_filters(interface: &str) -> usize {
    filters(interface, |_| true)
}

/// Likewise, but for those of the device that encrypts, which go with it.
pub(super) fn tc_filters_but_of_device(interface: &str) -> usize {
    filters(interface, |program| !program.starts_with("tc_wireguard"))
}

fn filters(interface: &str, is_meant: impl Fn(&str) -> bool) -> usize {
    TC_PROGRAMS
        .iter()
        .filter(|(program, _)| is_meant(program))
        .filter(|(program, hook)| qdisc_detach_program(interface, *hook, program).is_ok())
        .count()
}

/// Removes the `clsact` qdisc that our filters needed, unless others have filters on it.
async fn remove_unused_clsact(ifindex: i32) -> anyhow::Result<()> {
    let (connection, kernel, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let mut filters = kernel.traffic_filter(ifindex);
    let ingress = filters.get().ingress().execute().try_next().await?;
    let egress = filters.get().egress().execute().try_next().await?;
    if ingress.is_none() && egress.is_none() {
        let mut request = kernel.qdisc().del(ifindex);
        request.message_mut().header.parent = TcHandle::CLSACT;
        request.execute().await?;
    }
    connection.abort();
    Ok(())
}

/// All interfaces of this network namespace, and their numbers.
pub(super) fn interfaces() -> io::Result<Vec<(String, i32)>> {
    let interfaces = nix::net::if_::if_nameindex()?;
    Ok(interfaces
        .iter()
        .map(|interface| {
            let name = interface.name().to_string_lossy().into_owned();
            (name, interface.index().cast_signed())
        })
        .collect())
}

/// The paths in a folder; none if the folder is not there.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remove_files(folder: &Path) -> io::Result<usize> {
    let files = entries(folder)?;
    for file in &files {
        fs::remove_file(file)?;
    }
    Ok(files.len())
}
