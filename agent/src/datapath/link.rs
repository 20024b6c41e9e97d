//! Links: a program attached to something, alive as long as its pin.
//!
//! aya attaches and pins; what it lacks is putting another program behind the link of any program
//! type, which is what lets a new agent take over without a gap.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// Opens a pinned object.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid value of this union of plain integers.
    let mut attributes = unsafe { std::mem::zeroed::<bpf_attr>() };
    attributes.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let fd = bpf(bpf_cmd::BPF_OBJ_GET, &mut attributes)?;
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program behind a link. Packets see either the old or the new one.
///
/// # Errors
/// `ENOLINK` if what the link was attached to is gone.
pub fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this union of plain integers.
    let mut attributes = unsafe { std::mem::zeroed::<bpf_attr>() };
    attributes.link_update.link_fd = link.as_raw_fd().cast_unsigned();
    attributes.link_update.__bindgen_anon_1.new_prog_fd = program.as_raw_fd().cast_unsigned();
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attributes).map(drop)
}

fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<RawFd> {
    // SAFETY: the attributes are valid for the command, whose fields the callers set, and their
    // size is passed along.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attributes),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as RawFd)
    }
}
