//! A program that passes everything, on the underlay's ends of the uplinks.
//!
//! A veth takes frames that XDP sends (`XDP_TX`, redirect) only if a program sits on its other
//! end; a network card has no such rule. So the underlay's ends get the empty `xdp_pass`.

use std::path::Path;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};
use nix::mount::{MsFlags, mount};

use crate::namespace;

/// Name of the program in the benchmark object.
const PROGRAM: &str = "xdp_pass";

/// Attaches `xdp_pass` to `interfaces` of the network namespace file `network`.
///
/// The links are pinned in a bpffs mounted on the directory `pins`, so that they last exactly as
/// long as the run, whoever made it.
///
/// # Errors
///
/// When this build carries no kernel programs (the text says how to get them), or the kernel
/// refuses the program or an attachment.
pub fn attach(network: &Path, interfaces: &[String], pins: &Path) -> Result<()> {
    let object = ebpf_object::bench().context("xdp_pass for the underlay's veths")?;
    std::fs::create_dir(pins).with_context(|| format!("create {}", pins.display()))?;
    mount(
        Some("bpf"),
        pins,
        Some("bpf"),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mount bpffs on {}", pins.display()))?;
    let mut programs = Ebpf::load(object).context("load the benchmark object")?;
    let program = programs
        .program_mut(PROGRAM)
        .with_context(|| format!("the benchmark object has no program {PROGRAM}"))?;
    let program: &mut Xdp = program.try_into().context("it is no XDP program")?;
    program.load().with_context(|| format!("load {PROGRAM}"))?;
    namespace::run_inside(network, None, || {
        interfaces
            .iter()
            .try_for_each(|interface| attach_one(program, interface, pins))
    })?
}

fn attach_one(program: &mut Xdp, interface: &str, pins: &Path) -> Result<()> {
    let context = || format!("attach {PROGRAM} to {interface}");
    let id = program
        .attach(interface, XdpMode::Driver)
        .with_context(context)?;
    let link = program.take_link(id).with_context(context)?;
    // Kernels before 5.9 attach without a link; such an attachment lasts as long as its device.
    if let Ok(link) = FdLink::try_from(link) {
        link.pin(pins.join(interface))
            .with_context(|| format!("pin the link on {interface}"))?;
    }
    Ok(())
}
