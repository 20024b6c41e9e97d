//! `BPF_PROG_TEST_RUN`: one run of a program over one packet, the interfaces named by the context.
//!
//! Called directly because aya's wrapper has no way to set the flag for checksums.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `BPF_PROG_TEST_RUN` (include/uapi/linux/bpf.h), a command of bpf(2).
const TEST_RUN: libc::c_long = 10;
/// `BPF_F_TEST_SKB_CHECKSUM_COMPLETE` (6.17): the buffer comes with a sum over the packet, and the
/// kernel answers `EBADMSG` if it is wrong afterwards.
const CHECKSUM_COMPLETE: u32 = 1 << 2;
/// Larger than any frame that the kernel accepts for a run.
const FRAME_MAX: usize = 8192;

/// The member `test` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: i32,
    code: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    _pad: u32,
}

/// What a program made of a packet.
#[derive(Debug)]
pub struct Answer {
    /// Its return value.
    pub code: u32,
    /// The frame afterwards.
    pub frame: Vec<u8>,
}

/// Runs an XDP program on a frame that came in by an interface; by the loopback interface if none is
/// named.
pub fn xdp(program: BorrowedFd<'_>, frame: &[u8], ifindex: Option<u32>) -> io::Result<Answer> {
    let Some(ifindex) = ifindex else {
        return run(program, frame, &[], 0);
    };
    // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    run(
        program,
        frame,
        &[0, frame.len() as u32, 0, ifindex, 0, 0],
        0,
    )
}

/// Interfaces of a socket buffer.
#[derive(Clone, Copy)]
pub struct Interfaces {
    /// Interface of the hook.
    pub ifindex: u32,
    /// Interface the packet came in by; zero for packets that the node made.
    pub ingress: u32,
    /// Mark of the buffer.
    pub mark: u32,
    /// Payload of each packet that the buffer stands for; zero for a single one.
    pub segment: u32,
}

/// Runs a TC program on a buffer. With `summed` it carries a sum that the program has to keep right.
pub fn tc(
    program: BorrowedFd<'_>,
    frame: &[u8],
    interfaces: Interfaces,
    summed: bool,
) -> io::Result<Answer> {
    // The beginning of `struct __sk_buff`, up to gso_size if there is one, else up to ingress_ifindex
    // and ifindex; the kernel fills up with zeros.
    const GSO_SIZE: usize = 44;
    let mut context = [0; GSO_SIZE + 1];
    context[2] = interfaces.mark;
    context[9] = interfaces.ingress;
    context[10] = interfaces.ifindex;
    context[GSO_SIZE] = interfaces.segment;
    let flags = if summed { CHECKSUM_COMPLETE } else { 0 };
    let len = if interfaces.segment == 0 {
        11
    } else {
        GSO_SIZE + 1
    };
    run(program, frame, &context[..len], flags)
}

fn run(program: BorrowedFd<'_>, frame: &[u8], context: &[u32], flags: u32) -> io::Result<Answer> {
    let mut out = vec![0; FRAME_MAX];
    let mut attributes = Attributes {
        program: program.as_raw_fd(),
        data_size_in: frame.len() as u32,
        data_size_out: out.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        context_size_in: size_of_val(context) as u32,
        context_in: if context.is_empty() {
            0
        } else {
            context.as_ptr() as u64
        },
        flags,
        ..Attributes::default()
    };
    // SAFETY: the attributes are those of the command, and every pointer in them leads to memory of
    // the size beside it that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            TEST_RUN,
            &raw mut attributes,
            size_of::<Attributes>(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    out.truncate(attributes.data_size_out as usize);
    Ok(Answer {
        code: attributes.code,
        frame: out,
    })
}
