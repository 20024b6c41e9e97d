//! What the kernel knows of a TCP connection: the only witness of a packet lost and sent again.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Segments that this end sent again since the connection began.
///
/// # Errors
///
/// When the kernel does not say.
pub fn retransmits(stream: &TcpStream) -> io::Result<u32> {
    // SAFETY: `tcp_info` is plain data, for which all zeros is a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has that many.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(info.tcpi_total_retrans)
    }
}
