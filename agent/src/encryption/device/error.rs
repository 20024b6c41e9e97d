//! Why the device is not as it should be, told to whoever configured it.

use std::io;

use crate::encryption::{InterfaceName, Port};

/// Why the device is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Someone else's interface has the name.
    #[error(
        "an interface {name} exists already and is not Weir's ({}): give Weir's device another \
         name, or remove that one",
        describe(kind, alias.as_deref())
    )]
    NameTaken {
        /// The name.
        name: InterfaceName,
        /// What drives the interface.
        kind: String,
        /// What it says it is for.
        alias: Option<String>,
    },
    /// Someone else receives on the port.
    #[error(
        "UDP port {port} is in use by someone else: give Weir's encryption another port on all \
         nodes, or free it (`ss -ulpn 'sport = :{port}'` shows who has it)"
    )]
    PortTaken {
        /// The port.
        port: Port,
    },
    /// The kernel has no WireGuard.
    #[error("the kernel has no WireGuard; the module is called `wireguard`")]
    NotSupported,
    /// The process of a userspace device did not come up.
    #[error("the process of the userspace device {name} did not start: {reason}")]
    Process {
        /// Name of the device.
        name: InterfaceName,
        /// What it said.
        reason: String,
    },
    /// The device was deleted, or its process ended.
    #[error("the interface {name} is gone")]
    Gone {
        /// Name of the device.
        name: InterfaceName,
    },
    /// The process of a userspace device is a service of its own, and is not there.
    #[error(
        "there is no device {name}: the service `weir-agent wireguard`, which makes it, does not \
         run on this node (encryption.wireguard.process is separate)"
    )]
    NotServed {
        /// Name of the device.
        name: InterfaceName,
    },
    /// The same, and it cannot be talked to.
    #[error(
        "the service that serves {name} does not answer: its folder {} must be the same for it and \
         for the agent",
        crate::encryption::userspace::serve::control_folder().display()
    )]
    NotReachable {
        /// Name of the device.
        name: InterfaceName,
    },
    /// The system refused.
    #[error("{doing} {name}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Name of the device.
        name: InterfaceName,
        /// What came of it.
        source: io::Error,
    },
}

fn describe(kind: &str, alias: Option<&str>) -> String {
    let kind = if kind.is_empty() { "hardware" } else { kind };
    alias.map_or_else(|| kind.to_owned(), |alias| format!("{kind}, {alias:?}"))
}

/// Turns what the system said about a device into an error.
pub(super) fn failed(
    doing: &'static str,
    name: &InterfaceName,
) -> impl FnOnce(io::Error) -> DeviceError + use<> {
    let name = name.clone();
    move |source| DeviceError::Io {
        doing,
        name,
        source,
    }
}

/// The same, where a port that is in use has an error of its own.
pub(super) fn port_or_io(
    doing: &'static str,
    name: &InterfaceName,
    port: Port,
    source: io::Error,
) -> DeviceError {
    if source.kind() == io::ErrorKind::AddrInUse {
        return DeviceError::PortTaken { port };
    }
    failed(doing, name)(source)
}
