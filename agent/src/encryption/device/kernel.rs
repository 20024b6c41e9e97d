//! The kernel's WireGuard device.

use std::io;

use super::error::{failed, port_or_io};
use super::{ALIAS, Backend, DeviceError, DeviceSettings, apply};
use crate::encryption::InterfaceName;
use crate::encryption::link::{IfIndex, Netlink};

/// Name of a device that is not marked as ours yet. A start that was cut off leaves one, without
/// port, key and peers; the next one removes it.
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
    let failed = |doing| failed(doing, name);
    let unfinished: InterfaceName = UNFINISHED.parse().expect("15 bytes");
    if let Some(link) = netlink
        .link(&unfinished)
        .await
        .map_err(failed("look for"))?
    {
        netlink
            .delete(link.index)
            .await
            .map_err(failed("begin again with"))?;
    }
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

async fn configure(
    netlink: &Netlink,
    settings: &DeviceSettings,
    index: IfIndex,
) -> Result<(), DeviceError> {
    let name = &settings.name;
    apply::set_mark(name, Backend::Kernel, settings.mark)
        .await
        .map_err(failed("set the mark of", name))?;
    apply::set_port(name, Backend::Kernel, settings.port)
        .await
        .map_err(failed("set the port of", name))?;
    let set = netlink.set_mtu(index, settings.mtu).await;
    set.map_err(failed("set the MTU of", name))?;
    // Here the kernel takes the port.
    let up = netlink.set_up(index).await;
    up.map_err(|source| port_or_io("switch on", name, settings.port, source))
}
