//! Queues of the TUN device.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::offload::join::MAX_PIECES;
use super::offload::{HEADER_BYTES, Work};
use crate::encryption::InterfaceName;

nix::ioctl_write_ptr_bad!(set_interface, libc::TUNSETIFF, libc::ifreq);
nix::ioctl_write_int_bad!(set_offload, libc::TUNSETOFFLOAD);

/// What the kernel may leave to us: checksums, and cutting TCP streams; what not all kernels know,
/// from 6.2 on, is cutting large UDP sends.
const OFFLOADS: [libc::c_uint; 2] = [
    TCP_OFFLOADS | libc::TUN_F_USO4 | libc::TUN_F_USO6,
    TCP_OFFLOADS,
];
const TCP_OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;

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
    let all: Vec<_> = std::iter::once(Ok(first))
        .chain(others)
        .collect::<io::Result<_>>()?;
    // Of the device, not of the queue. Without it the kernel does the work, as before.
    let _without = OFFLOADS.iter().any(|offloads| {
        // SAFETY: the descriptor is open and of a TUN device; the argument is a number.
        unsafe { set_offload(all[0].0.as_raw_fd(), offloads.cast_signed()) }.is_ok()
    });
    Ok(all)
}

impl Queue {
    fn open(name: &InterfaceName, flags: libc::c_int) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/net/tun")?;
        let flags =
            flags | libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE | libc::IFF_VNET_HDR;
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

    /// Waits until [`Self::read`] has something to say.
    pub fn wait(&self) -> io::Result<()> {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a packet that the kernel sends by this device: its length, and what is left to do on
    /// it. `None` if there is none now.
    ///
    /// # Errors
    /// The device is gone.
    pub fn read(&self, packet: &mut [u8]) -> io::Result<Option<(Work, usize)>> {
        let mut header = [0; HEADER_BYTES];
        loop {
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(packet)];
            let length = match (&self.0).read_vectored(&mut parts) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            if let (Some(work), Some(length)) =
                (Work::from_bytes(header), length.checked_sub(HEADER_BYTES))
            {
                return Ok(Some((work, length)));
            }
        }
    }

    /// Hands the kernel a packet that came in. One it does not take is lost, as on any wire: the
    /// device may be down.
    pub fn write(&self, work: Work, packet: &mut dyn Iterator<Item = &[u8]>) {
        let header = work.to_bytes();
        let mut parts = [IoSlice::new(&[]); 1 + MAX_PIECES];
        parts[0] = IoSlice::new(&header);
        let mut count = 1;
        for (part, piece) in parts[1..].iter_mut().zip(packet) {
            *part = IoSlice::new(piece);
            count += 1;
        }
        let _lost = (&self.0).write_vectored(&parts[..count]);
    }
}
