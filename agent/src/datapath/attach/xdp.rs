//! XDP on an uplink: in the driver where it can, in the network stack where that is asked for.
//!
//! Not elsewhere by itself: it saves little there, and what comes from a machine on the same host may
//! bear a checksum that is not finished yet, which a program cannot tell (a buffer of TC says so). The same
//! holds for veths, whose driver has XDP: besides, what is sent from there is lost unless the other end
//! polls for it (`veth_xdp_xmit` in `drivers/net/veth.c`), which nobody can see from this one.

use std::fs;

use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};

use super::{AttachError, AttachedXdp, Attacher, pin_link, program_mut, refused};
use crate::config;
use crate::datapath::interfaces::Interface;

pub(super) const XDP_PROGRAM: &str = "xdp_uplink";

impl AttachedXdp {
    fn pin_name(self) -> &'static str {
        match self {
            Self::Native => "xdp_native",
            Self::Generic => "xdp_generic",
            Self::Off => "xdp_off",
        }
    }
}

impl Attacher {
    /// The mode is part of the pin's name: the kernel does not tell it of a link.
    pub(super) fn xdp(&mut self, interface: &Interface) -> Result<AttachedXdp, AttachError> {
        let mode = match self.xdp_mode {
            config::XdpMode::Off => return Ok(AttachedXdp::Off),
            config::XdpMode::Auto if interface.is_veth => {
                // An earlier agent may have been told otherwise.
                self.remove_xdp(interface.ifindex);
                return Ok(AttachedXdp::Off);
            }
            config::XdpMode::Native | config::XdpMode::Auto => AttachedXdp::Native,
            config::XdpMode::Generic => AttachedXdp::Generic,
        };
        let pin = self.pins.interface_link(mode.pin_name(), interface.ifindex);
        if self.adopt(XDP_PROGRAM, &interface.name, &pin)? {
            return Ok(mode);
        }
        self.remove_xdp(interface.ifindex);
        match self.xdp_in_mode(interface, mode) {
            Ok(()) => Ok(mode),
            Err(error) if self.xdp_mode == config::XdpMode::Auto => {
                let reason = crate::error_chain(&error);
                tracing::info!(interface = interface.name, reason, "no XDP in the driver");
                Ok(AttachedXdp::Off)
            }
            Err(error) => Err(error),
        }
    }

    fn xdp_in_mode(&mut self, interface: &Interface, mode: AttachedXdp) -> Result<(), AttachError> {
        let flags = if mode == AttachedXdp::Native {
            XdpMode::Driver
        } else {
            XdpMode::Skb
        };
        let attach = |program: &mut Xdp| -> Result<FdLink, ProgramError> {
            let id = program.attach_to_if_index(interface.ifindex, flags)?;
            Ok(program
                .take_link(id)?
                .try_into()
                .expect("kernels from 5.9 on give links"))
        };
        let link = program_mut(&mut self.programs, XDP_PROGRAM)
            .and_then(attach)
            .map_err(|source| refused(XDP_PROGRAM, &interface.name, source))?;
        let pin = self.pins.interface_link(mode.pin_name(), interface.ifindex);
        pin_link(link, &pin).map_err(|source| AttachError::Io {
            program: XDP_PROGRAM,
            to: interface.name.clone(),
            source,
        })
    }

    /// Removes XDP in whatever mode an earlier agent attached it.
    pub(super) fn remove_xdp(&self, ifindex: u32) {
        for mode in [AttachedXdp::Native, AttachedXdp::Generic] {
            let _ = fs::remove_file(self.pins.interface_link(mode.pin_name(), ifindex));
        }
    }
}
