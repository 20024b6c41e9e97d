//! The two kinds of devices.

use std::fmt;

use wireguard_control::Backend as ControlBackend;

use super::apply;
use crate::encryption::values::InterfaceName;

/// Who encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's own WireGuard.
    Kernel,
    /// A process of ours behind a TUN device.
    Userspace,
}

impl Backend {
    /// As the kind of a link ([`crate::encryption::link::LinkState::kind`]).
    pub(super) fn link_kind(self) -> &'static str {
        match self {
            Self::Kernel => "wireguard",
            Self::Userspace => "tun",
        }
    }

    pub(super) fn control(self) -> ControlBackend {
        match self {
            Self::Kernel => ControlBackend::Kernel,
            Self::Userspace => ControlBackend::Userspace,
        }
    }

    /// Whether the device behind a link that exists can be talked to.
    pub(super) async fn answers(self, name: &InterfaceName) -> bool {
        match self {
            Self::Kernel => true,
            Self::Userspace => apply::read(name, self).await.is_ok(),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Userspace => "userspace",
        })
    }
}
