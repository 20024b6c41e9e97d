//! The process that serves the device where the kernel has no WireGuard: started, found again and
//! stopped. What it does is in [`crate::encryption::userspace`].

mod record;

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use self::record::Record;
use super::error::failed;
use super::{ALIAS, DeviceError, DeviceSettings, ProcessPaths};
use crate::encryption::InterfaceName;
use crate::encryption::link::{IfIndex, Netlink};
use crate::encryption::userspace::serve::{PORT_TAKEN, READY, ServeArguments, control_socket};

/// Time the process has to come up, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Subcommand of the agent that is the process.
const SUBCOMMAND: &str = "wireguard-device";

/// Starts the process and switches its device on.
pub async fn create(
    netlink: &Netlink,
    settings: &DeviceSettings,
    paths: &ProcessPaths,
) -> Result<IfIndex, DeviceError> {
    let name = &settings.name;
    if paths.separate {
        return Err(DeviceError::NotServed { name: name.clone() });
    }
    // One without a device: its device was deleted, and it is about to end.
    stop(name, &paths.folder).await?;
    start(settings, paths).await?;
    match configure(netlink, settings).await {
        Ok(index) => Ok(index),
        Err(error) => {
            stop(name, &paths.folder).await?;
            Err(error)
        }
    }
}

/// Whether the process of this device runs.
pub fn is_running(name: &InterfaceName, folder: &Path) -> bool {
    matches!(Record::read(name, folder), Ok(Some(record)) if record.is_running())
}

/// Ends the process, if it runs, and with it the device; removes its record and socket.
pub async fn stop(name: &InterfaceName, folder: &Path) -> Result<(), DeviceError> {
    let record = Record::read(name, folder).map_err(failed("read the record of", name))?;
    let Some(record) = record else {
        return Ok(());
    };
    let stopped = tokio::task::spawn_blocking(move || record.stop(PATIENCE)).await;
    stopped
        .map_err(io::Error::other)
        .and_then(|stopped| stopped)
        .map_err(failed("end the process of", name))?;
    let socket = control_socket(name);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove the socket of", name)(error));
        }
        _ => {}
    }
    Record::remove(name, folder).map_err(failed("remove the record of", name))
}

async fn start(settings: &DeviceSettings, paths: &ProcessPaths) -> Result<(), DeviceError> {
    let name = &settings.name;
    let arguments = ServeArguments {
        name: name.clone(),
        port: settings.port,
        mark: settings.mark,
    };
    let log = record::open_log(name, &paths.folder).map_err(failed("open the log of", name))?;
    let mut child = Command::new(&paths.program)
        .arg(SUBCOMMAND)
        .args(arguments.to_words())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(failed("start the process of", name))?;
    let pid = child.id().expect("it was not waited for");
    // Before it is asked for anything: from here on it is found again.
    Record::of(pid)
        .and_then(|record| record.write(name, &paths.folder))
        .map_err(failed("write the record of", name))?;
    let output = child.stdout.take().expect("piped");
    let mut line = String::new();
    let mut output = BufReader::new(output);
    let told = timeout(PATIENCE, output.read_line(&mut line)).await;
    let reason = match (told, line.trim()) {
        (Ok(Ok(_)), READY) => return Ok(()),
        (Ok(Ok(_)), PORT_TAKEN) => {
            stop(name, &paths.folder).await?;
            return Err(DeviceError::PortTaken {
                port: settings.port,
            });
        }
        (Ok(Ok(0)), _) => "it ended without a word".to_owned(),
        (Ok(Ok(_)), reason) => reason.to_owned(),
        (Ok(Err(error)), _) => error.to_string(),
        (Err(_), _) => format!("it said nothing for {} seconds", PATIENCE.as_secs()),
    };
    stop(name, &paths.folder).await?;
    Err(DeviceError::Process {
        name: name.clone(),
        reason,
    })
}

async fn configure(netlink: &Netlink, settings: &DeviceSettings) -> Result<IfIndex, DeviceError> {
    let name = &settings.name;
    let failed = |doing| failed(doing, name);
    let link = netlink.link(name).await.map_err(failed("look at"))?;
    let gone = || io::Error::from_raw_os_error(libc::ENODEV);
    let index = link.ok_or_else(gone).map_err(failed("look at"))?.index;
    netlink
        .set_alias(index, ALIAS)
        .await
        .map_err(failed("mark as Weir's"))?;
    netlink
        .set_mtu(index, settings.mtu)
        .await
        .map_err(failed("set the MTU of"))?;
    netlink.set_up(index).await.map_err(failed("switch on"))?;
    Ok(index)
}
