//! The kernel's WireGuard device.

use std::io;

use super::apply::Target;
use super::error::{failed, port_or_io};
use super::{ALIAS, Backend, DeviceError, DeviceSettings, apply};
use crate::encryption::InterfaceName;
use crate::encryption::link::{IfIndex, LinkState, Netlink};

/// Name of a device that is not marked as ours yet. A start that was cut off leaves one, without
/// port, key and peers; the next one removes it, as does who removes the device.
const UNFINISHED: &str = "weir-unfinished";

/// Makes the device and switches it on.
pub async fn create(netlink: &Netlink, settings: &DeviceSettings) -> Result<IfIndex, DeviceError> {
    let index = make(netlink, &settings.name).await?;
    match configure(netlink, settings, index).await {
        Ok(()) => Ok(index),
        Err(error) => {
            // The reason counts; what is left over is marked as ours and adopted by the next try.
            let _left_over = netlink.delete(index).await;
            Err(error)
        }
    }
}

/// A device has its alias only after it exists. So that no device of ours is ever taken for someone
/// else's, it gets its name last.
async fn make(netlink: &Netlink, name: &InterfaceName) -> Result<IfIndex, DeviceError> {
    remove_unfinished(netlink).await?;
    let failed = |doing| failed(doing, name);
    let unfinished = unfinished();
    match netlink.add_wireguard(&unfinished).await {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Err(DeviceError::NotSupported);
        }
        made => made.map_err(failed("create"))?,
    }
    let link = netlink.link(&unfinished).await.map_err(failed("look at"))?;
    let gone = || io::Error::from_raw_os_error(libc::ENODEV);
    let index = link.ok_or_else(gone).map_err(failed("look at"))?.index;
    netlink
        .set_alias(index, ALIAS)
        .await
        .map_err(failed("mark as Weir's"))?;
    netlink.rename(index, name).await.map_err(failed("name"))?;
    Ok(index)
}

fn unfinished() -> InterfaceName {
    UNFINISHED.parse().expect("15 bytes")
}

/// Removes what a start that was cut off has left.
///
/// # Errors
/// Also [`DeviceError::NameTaken`] if the interface of that name is someone else's; it stays.
pub async fn remove_unfinished(netlink: &Netlink) -> Result<(), DeviceError> {
    let name = unfinished();
    let link = netlink.link(&name).await;
    match link.map_err(failed("look for", &name))? {
        None => Ok(()),
        Some(link) if is_left_over(&link) => {
            let deleted = netlink.delete(link.index).await;
            deleted.map_err(failed("remove", &name))
        }
        Some(link) => Err(DeviceError::NameTaken {
            name,
            kind: link.kind,
            alias: link.alias,
        }),
    }
}

/// Whether it may be what a start of ours has left: WireGuard, and said to be nothing else.
fn is_left_over(link: &LinkState) -> bool {
    let alias = link.alias.as_deref().unwrap_or_default();
    link.kind == Backend::Kernel.link_kind() && (alias.is_empty() || alias == ALIAS)
}

async fn configure(
    netlink: &Netlink,
    settings: &DeviceSettings,
    index: IfIndex,
) -> Result<(), DeviceError> {
    let name = &settings.name;
    let target = Target {
        name: name.clone(),
        index,
        backend: Backend::Kernel,
    };
    apply::set_mark(&target, settings.mark)
        .await
        .map_err(failed("set the mark of", name))?;
    apply::set_port(&target, settings.port)
        .await
        .map_err(failed("set the port of", name))?;
    let set = netlink.set_mtu(index, settings.mtu).await;
    set.map_err(failed("set the MTU of", name))?;
    // Here the kernel takes the port.
    let up = netlink.set_up(index).await;
    up.map_err(|source| port_or_io("switch on", name, settings.port, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wireguard_that_is_said_to_be_nothing_else_is_left_over() {
        let is_left_over = |kind: &str, alias: Option<&str>| {
            is_left_over(&LinkState {
                index: IfIndex(7),
                alias: alias.map(str::to_owned),
                kind: kind.to_owned(),
                mtu: 1_420,
                up: false,
            })
        };
        assert!(is_left_over("wireguard", None));
        assert!(is_left_over("wireguard", Some("")));
        assert!(is_left_over("wireguard", Some(ALIAS)));
        assert!(!is_left_over("wireguard", Some("the office")));
        assert!(!is_left_over("veth", None));
        assert!(!is_left_over("veth", Some(ALIAS)));
    }
}
