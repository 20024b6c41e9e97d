//! What one network device can do with XDP.

use std::io;
use std::os::fd::AsFd;

use anyhow::Context;
use aya_obj::generated::{XDP_FLAGS_DRV_MODE, bpf_attach_type, bpf_prog_type};
use futures::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp, XdpAttached};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::bpf::{self, Target};
use super::trial::XDP_PASS;
use super::{Found, genetlink};
use crate::datapath::interfaces::{
    DeviceSelector, InterfaceEvent, InterfaceWatcher, NodeAddresses, Role,
};

/// A device and its XDP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Name of the interface.
    pub name: String,
    /// Its number; zero if there is no such interface.
    pub ifindex: u32,
    /// Driver; empty if it does not say.
    pub driver: String,
    /// Id of the XDP program attached now, ours or another's.
    pub xdp_program: Option<u32>,
    /// Whether the driver runs XDP itself. Where not, TC does all the work, unless
    /// `devices.xdpMode` says otherwise.
    pub native_xdp: Found,
    /// Largest packet in bytes.
    pub mtu: u32,
}

/// Looks at the devices of these names; if there are none, at those with a default route.
pub fn probe(names: &[String], attach: bool) -> Vec<Device> {
    // On a thread, so that it works whether or not the caller is within a Tokio runtime.
    let look = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let names = if names.is_empty() {
                uplinks().await?
            } else {
                names.to_vec()
            };
            let mut devices = Vec::new();
            for name in names {
                devices.push(match link(&name).await {
                    Ok(link) => describe(name, &link, attach),
                    Err(error) => Device {
                        name,
                        ifindex: 0,
                        driver: String::new(),
                        xdp_program: None,
                        native_xdp: Found::NotTried(format!("{error:#}")),
                        mtu: 0,
                    },
                });
            }
            anyhow::Ok(devices)
        })
    };
    let found = std::thread::scope(|scope| scope.spawn(look).join()).expect("no panic in it");
    found.unwrap_or_else(|error| {
        tracing::warn!("cannot look at devices: {error:#}");
        Vec::new()
    })
}

/// Names of the interfaces with a default route.
async fn uplinks() -> anyhow::Result<Vec<String>> {
    let (watcher, mut events) =
        InterfaceWatcher::start(DeviceSelector::default(), NodeAddresses::unknown())?;
    let token = CancellationToken::new();
    let _stop = token.clone().drop_guard();
    let watching = tokio::spawn(watcher.run(token));
    let mut names = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            InterfaceEvent::Added(found) if found.role == Role::Uplink => names.push(found.name),
            InterfaceEvent::SnapshotComplete => return Ok(names),
            _ => {}
        }
    }
    watching.await??;
    Ok(names)
}

async fn link(name: &str) -> anyhow::Result<LinkMessage> {
    let (connection, kernel, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let mut links = kernel.link().get().match_name(name).execute();
    links.try_next().await?.context("no such interface")
}

fn describe(name: String, link: &LinkMessage, attach: bool) -> Device {
    let ifindex = link.header.index;
    let mut device = Device {
        driver: driver(&name).unwrap_or_default(),
        name,
        ifindex,
        xdp_program: None,
        native_xdp: Found::NotTried(String::new()),
        mtu: 0,
    };
    let mut in_driver = false;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => device.mtu = *mtu,
            LinkAttribute::Xdp(xdp) => {
                device.xdp_program = xdp.iter().find_map(program_id);
                in_driver = xdp.contains(&LinkXdp::Attached(XdpAttached::Driver));
            }
            _ => {}
        }
    }
    device.native_xdp = match device.xdp_program {
        Some(id) if in_driver => Found::Yes(format!("program {id} runs in the driver")),
        None if attach => Found::by(attach_in_driver(ifindex)),
        _ => declared(ifindex),
    };
    device
}

fn program_id(attribute: &LinkXdp) -> Option<u32> {
    match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    }
}

/// What the driver says of itself.
fn declared(ifindex: u32) -> Found {
    match genetlink::xdp_features(ifindex) {
        Ok(Some(features)) if features & genetlink::XDP_BASIC == 0 => {
            Found::No("the driver has no XDP".into())
        }
        Ok(Some(features)) if features & genetlink::XDP_REDIRECT == 0 => {
            Found::Yes("the driver says so; without redirect".into())
        }
        Ok(Some(_)) => Found::Yes("the driver says so".into()),
        Ok(None) => Found::NotTried("this kernel does not tell; --attach tries".into()),
        Err(error) => Found::NotTried(error.to_string()),
    }
}

/// Attaches a program that passes every packet, and detaches it.
fn attach_in_driver(ifindex: u32) -> io::Result<()> {
    let kind = bpf_prog_type::BPF_PROG_TYPE_XDP;
    let program = bpf::load_program(kind, None, &bpf::returning(XDP_PASS))?;
    let target = Target::Interface(ifindex);
    bpf::create_link(
        program.as_fd(),
        &target,
        bpf_attach_type::BPF_XDP,
        XDP_FLAGS_DRV_MODE,
    )
    .map(drop)
}

/// `ETHTOOL_GDRVINFO` and the structure it fills (`linux/ethtool.h`).
const GET_DRIVER_INFO: u32 = 3;

#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// Name of the driver.
fn driver(name: &str) -> io::Result<String> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let mut info = DriverInfo {
        command: GET_DRIVER_INFO,
        driver: [0; 32],
        rest: [0; 160],
    };
    // SAFETY: the structure holds integers and pointers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1; // the last byte stays zero
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut info).cast();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the kernel reads the name, which is closed by a zero, and writes at most the size of
    // `ethtool_drvinfo`, which `DriverInfo` has, to the pointer; both outlive the call.
    if unsafe { libc::ioctl(fd, libc::SIOCETHTOOL as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let end = info
        .driver
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(info.driver.len());
    Ok(String::from_utf8_lossy(&info.driver[..end]).into_owned())
}

/// Size of `struct ethtool_drvinfo`.
const _: () = assert!(std::mem::size_of::<DriverInfo>() == 196);
