//! Links: a program attached to something, alive as long as its pin.
//!
//! aya attaches and pins; what it lacks is putting another program behind the link of any program
//! type, which is what lets a new agent take over without a gap.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya_obj::generated::bpf_cmd;

use super::syscall::{attributes, bpf};

/// Puts another program behind a link. Packets see either the old or the new one.
///
/// # Errors
/// `ENOLINK` if what the link was attached to is gone.
pub fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = attributes();
    attributes.link_update.link_fd = link.as_raw_fd().cast_unsigned();
    attributes.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attributes).map(drop)
}
