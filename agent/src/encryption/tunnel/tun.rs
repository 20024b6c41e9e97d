//! Queues of the TUN device.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use crate::encryption::InterfaceName;

nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);

/// One queue. Packets of one flow leave the kernel by one queue. When the last one is closed, the
/// device is gone.
pub(super) struct Queue(File);

/// Makes the device with this many queues.
///
/// # Errors
/// `EBUSY` if an interface of this name exists; the device is always a new one.
pub(super) fn create(name: &InterfaceName, queues: usize) -> io::Result<Vec<Queue>> {
    let first = Queue::open(name, libc::IFF_TUN_EXCL)?;
    let others = (1..queues).map(|_| Queue::open(name, 0));
    std::iter::once(Ok(first)).chain(others).collect()
}

impl Queue {
    fn open(name: &InterfaceName, flags: libc::c_int) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/net/tun")?;
        let flags = flags | libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE;
        // SAFETY: all zeros is a valid `ifreq`: numbers, and a pointer that may be null.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: the descriptor is open and of a TUN device; the request is an `ifreq` whose name
        // ends with a zero, for it is shorter than the field.
        unsafe { set_interface(file.as_raw_fd(), &raw const request) }?;
        Ok(Self(file))
    }

    /// Waits for a packet that the kernel sends by this device.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Hands the kernel a packet that came in. One it does not take is lost, as on any wire: the
    /// device may be down.
    pub fn write(&self, packet: &[u8]) {
        let _lost = (&self.0).write(packet);
    }
}
