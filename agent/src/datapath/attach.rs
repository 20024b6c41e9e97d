//! Programs to interfaces and to the cgroup.
//!
//! A link that an earlier agent pinned gets the new program in place of the old one; only where
//! there is none a program is attached anew. All links are pinned, so they outlive this process.
//! Where TC has no links (before 6.6) a filter with a fixed priority and handle takes their place,
//! replaced as atomically.

mod cgroup;
mod tc;
mod xdp;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{Program, ProgramError, TcAttachType};

use super::interfaces::{Interface, MacAddr, Role};
use super::link;
use super::pins::{Pins, parse_interface_link};
use super::syscall;
use crate::config;

pub use cgroup::CGROUP_PROGRAMS;

/// A program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refused.
    #[error("cannot attach {program} to {to}")]
    Refused {
        /// The program.
        program: &'static str,
        /// Interface or cgroup.
        to: String,
        /// Why.
        source: Box<ProgramError>,
    },
    /// A file operation on a pin or the cgroup failed.
    #[error("cannot attach {program} to {to}")]
    Io {
        /// The program.
        program: &'static str,
        /// Interface or cgroup.
        to: String,
        /// Why.
        source: io::Error,
    },
}

/// How XDP runs on an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachedXdp {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// Not at all; TC does its work.
    Off,
}

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachedTc {
    /// By a link.
    Tcx,
    /// By a filter on a `clsact` qdisc.
    Clsact,
}

/// What is attached to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface.
    pub interface: Interface,
    /// XDP, for uplinks.
    pub xdp: Option<AttachedXdp>,
    /// TC.
    pub tc: AttachedTc,
}

/// Which of an earlier agent's programs are detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leftovers {
    /// Those in place of which others are attached now.
    Replaced,
    /// As well those at interfaces that nothing is attached to.
    All,
}

/// Attaches the loaded programs and remembers where.
pub struct Attacher {
    programs: Ebpf,
    pins: Pins,
    xdp_mode: config::XdpMode,
    tc: AttachedTc,
    attached: BTreeMap<u32, Attached>,
    cgroup: Option<String>,
    /// Number of the device that encrypts, once attached to.
    encrypting: Option<u32>,
}

impl Attacher {
    /// Nothing is attached yet.
    pub fn new(programs: Ebpf, pins: Pins, xdp_mode: config::XdpMode, tcx: bool) -> Self {
        let tc = if tcx {
            AttachedTc::Tcx
        } else {
            AttachedTc::Clsact
        };
        Self {
            programs,
            pins,
            xdp_mode,
            tc,
            attached: BTreeMap::new(),
            cgroup: None,
            encrypting: None,
        }
    }

    /// Puts the new programs behind all links that another version pinned, now moved here: packets
    /// meet old programs at one hook and new ones at another for as short a time as can be.
    ///
    /// Links whose program this version has not are removed. Filters of kernels without links are
    /// replaced one interface at a time, by [`Self::interface`].
    pub fn take_over(&mut self) -> Result<(), AttachError> {
        let links = self.pins.links();
        let io = |source| AttachError::Io {
            program: "programs of another version",
            to: links.display().to_string(),
            source,
        };
        for file in fs::read_dir(&links).map_err(io)? {
            let pin = file.map_err(io)?.path();
            let name = pin.file_name().unwrap_or_default().to_string_lossy();
            match program_of_link(&name) {
                Some(program) => {
                    self.adopt(program, &name, &pin)?;
                }
                None => fs::remove_file(&pin).map_err(io)?,
            }
        }
        Ok(())
    }

    /// True if TC programs are attached by filters, which [`Self::take_over`] does not replace.
    pub fn has_filters(&self) -> bool {
        self.tc == AttachedTc::Clsact
    }

    /// What is attached to interfaces, in the order of their numbers.
    pub fn attached(&self) -> impl Iterator<Item = &Attached> {
        self.attached.values()
    }

    /// The cgroup whose sockets are translated.
    pub fn cgroup(&self) -> Option<&str> {
        self.cgroup.as_deref()
    }

    /// Attaches everything that an interface needs. On an error what could be attached stays.
    pub fn interface(&mut self, interface: &Interface) -> Result<(), AttachError> {
        let (from, to) = match interface.role {
            Role::Uplink => ("tc_uplink_in", "tc_uplink_out"),
            Role::Pod => ("tc_pod_from", "tc_pod_to"),
        };
        self.tc(from, interface, TcAttachType::Ingress)?;
        self.tc(to, interface, TcAttachType::Egress)?;
        let mut attached = Attached {
            interface: interface.clone(),
            xdp: None,
            tc: self.tc,
        };
        // Before XDP is tried: TC serves without it, and is a leftover otherwise.
        self.attached.insert(interface.ifindex, attached.clone());
        if interface.role == Role::Uplink {
            attached.xdp = Some(self.xdp(interface)?);
        }
        tracing::info!(interface = interface.name, role = ?interface.role, xdp = ?attached.xdp,
            tc = ?attached.tc, "attached");
        self.attached.insert(interface.ifindex, attached);
        Ok(())
    }

    /// Attaches what the device that encrypts needs.
    pub fn encrypting_device(&mut self, name: &str, ifindex: u32) -> Result<(), AttachError> {
        if self.encrypting == Some(ifindex) {
            return Ok(());
        }
        let interface = Interface {
            ifindex,
            name: name.to_owned(),
            role: Role::Uplink,
            mtu: 0,
            mac: MacAddr::default(),
            is_veth: false,
        };
        self.tc("tc_wireguard_in", &interface, TcAttachType::Ingress)?;
        self.tc("tc_wireguard_out", &interface, TcAttachType::Egress)?;
        self.encrypting = Some(ifindex);
        Ok(())
    }

    /// Notes a new name, MTU or address.
    pub fn rename(&mut self, interface: &Interface) {
        if let Some(attached) = self.attached.get_mut(&interface.ifindex) {
            attached.interface = interface.clone();
        }
    }

    /// Detaches from an interface that is gone or no longer ours.
    pub fn detach(&mut self, interface: &Interface) {
        self.attached.remove(&interface.ifindex);
        self.remove_xdp(interface.ifindex);
        for program in ["tc_uplink_in", "tc_uplink_out", "tc_pod_from", "tc_pod_to"] {
            let _ = fs::remove_file(self.pins.interface_link(program, interface.ifindex));
        }
        if self.tc == AttachedTc::Clsact {
            super::remove::tc_filters(&interface.name);
        }
    }

    /// Detaches what an earlier agent attached and what has no place any more. Where this one could not
    /// attach yet, as `is_refused` says of an interface's number, those of the earlier one serve on.
    pub fn detach_leftovers(
        &mut self,
        leftovers: Leftovers,
        is_refused: impl Fn(u32) -> bool,
    ) -> io::Result<()> {
        for (program, ifindex) in self.pins.linked_interfaces()? {
            // Their device goes with them; see `encryption::reconcile::remove`.
            if program.starts_with("tc_wireguard") {
                let name = nix::net::if_::if_indextoname(ifindex);
                if name.is_err() {
                    fs::remove_file(self.pins.interface_link(&program, ifindex))?;
                }
                continue;
            }
            let has_no_place = match self.attached.get(&ifindex) {
                Some(attached) => {
                    (attached.interface.role == Role::Pod) != program.starts_with("tc_pod")
                }
                None => leftovers == Leftovers::All && !is_refused(ifindex),
            };
            let xdp_off = program.starts_with("xdp_") && self.xdp_mode == config::XdpMode::Off;
            if has_no_place || xdp_off {
                fs::remove_file(self.pins.interface_link(&program, ifindex))?;
            }
        }
        if self.tc == AttachedTc::Clsact && leftovers == Leftovers::All {
            self.remove_filters_elsewhere(is_refused)?;
        }
        Ok(())
    }

    /// Filters have no pins that would name their interfaces.
    fn remove_filters_elsewhere(&self, is_refused: impl Fn(u32) -> bool) -> io::Result<()> {
        for (interface, ifindex) in super::remove::interfaces()? {
            let ifindex = ifindex.cast_unsigned();
            if self.attached.contains_key(&ifindex) || is_refused(ifindex) {
                continue;
            }
            let removed = super::remove::tc_filters_but_of_device(&interface);
            if removed > 0 {
                tracing::info!(
                    interface,
                    removed,
                    "detached: no longer an interface of ours"
                );
            }
        }
        Ok(())
    }

    /// Puts the new program behind a pinned link. False if there is none that leads anywhere.
    fn adopt(&mut self, program: &'static str, to: &str, pin: &Path) -> Result<bool, AttachError> {
        let io = |source| AttachError::Io {
            program,
            to: to.to_owned(),
            source,
        };
        let link = match syscall::open(pin) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io(error)),
        };
        let fd = self
            .programs
            .program(program)
            .expect("the object holds all programs named here")
            .fd()
            .map_err(|source| refused(program, to, source))?;
        match link::replace_program(link.as_fd(), fd.as_fd()) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
                fs::remove_file(pin).map_err(io)?;
                Ok(false)
            }
            Err(error) => Err(io(error)),
        }
    }
}

/// The program behind a pinned link.
fn program_of_link(pin_name: &str) -> Option<&'static str> {
    let Some((program, _)) = parse_interface_link(pin_name) else {
        return CGROUP_PROGRAMS.into_iter().find(|it| *it == pin_name);
    };
    if program.starts_with("xdp_") {
        return Some(xdp::XDP_PROGRAM);
    }
    let tc = super::remove::TC_PROGRAMS.into_iter();
    tc.map(|(name, _)| name).find(|name| *name == program)
}

fn refused(program: &'static str, to: &str, source: ProgramError) -> AttachError {
    AttachError::Refused {
        program,
        to: to.to_owned(),
        source: Box::new(source),
    }
}

fn program_mut<'a, P>(programs: &'a mut Ebpf, name: &str) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    programs
        .program_mut(name)
        .expect("the object holds all programs named here")
        .try_into()
}

fn pin_link(link: FdLink, pin: &Path) -> io::Result<()> {
    let pinned: PinnedLink = link.pin(pin).map_err(io::Error::other)?;
    // The pin keeps the link; our descriptor may go.
    drop(pinned);
    Ok(())
}
