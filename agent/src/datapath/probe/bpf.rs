//! The few commands of bpf(2) that the attempts need and aya does not offer by themselves.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{
    BPF_EXIT, BPF_JMP, BPF_K, BPF_MOV, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_map_type,
    bpf_prog_type,
};

/// Immediate of `r0 = …` with sign extension: `BPF_ALU64`.
const ALU64: u32 = 7;

/// Size and kind of a map.
pub struct MapSpec {
    pub kind: bpf_map_type,
    pub key_bytes: u32,
    pub value_bytes: u32,
    pub entries: u32,
    pub flags: u32,
}

/// Where a link attaches.
pub enum Target<'a> {
    Interface(u32),
    Cgroup(BorrowedFd<'a>),
}

/// Makes a map; `template` is the inner map of a map of maps.
pub fn create_map(spec: &MapSpec, template: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: the whole union was zeroed, which is a valid value of each of its members.
    let map = unsafe { &mut attr.__bindgen_anon_1 };
    map.map_type = spec.kind as u32;
    map.key_size = spec.key_bytes;
    map.value_size = spec.value_bytes;
    map.max_entries = spec.entries;
    map.map_flags = spec.flags;
    map.inner_map_fd = template.map_or(0, |fd| fd.as_raw_fd().cast_unsigned());
    new_fd(bpf_cmd::BPF_MAP_CREATE, &mut attr)
}

/// Loads a program.
pub fn load_program(
    kind: bpf_prog_type,
    attach: Option<bpf_attach_type>,
    instructions: &[bpf_insn],
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: as in `create_map`.
    let program = unsafe { &mut attr.__bindgen_anon_3 };
    program.prog_type = kind as u32;
    program.insns = instructions.as_ptr().addr() as u64;
    program.insn_cnt = u32::try_from(instructions.len()).expect("a handful of instructions");
    program.license = c"GPL".as_ptr().addr() as u64;
    program.expected_attach_type = attach.map_or(0, |attach| attach as u32);
    new_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Attaches a program by a link, which lasts as long as the descriptor.
pub fn create_link(
    program: BorrowedFd<'_>,
    target: &Target<'_>,
    attach: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed_attr();
    // SAFETY: as in `create_map`.
    let link = unsafe { &mut attr.link_create };
    link.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
    match target {
        Target::Interface(ifindex) => link.__bindgen_anon_2.target_ifindex = *ifindex,
        Target::Cgroup(fd) => link.__bindgen_anon_2.target_fd = fd.as_raw_fd().cast_unsigned(),
    }
    link.attach_type = attach as u32;
    link.flags = flags;
    new_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// The program that only returns `value`.
pub fn returning(value: i32) -> [bpf_insn; 2] {
    [
        instruction(ALU64 | BPF_MOV | BPF_K, value),
        instruction(BPF_JMP | BPF_EXIT, 0),
    ]
}

fn instruction(code: u32, immediate: i32) -> bpf_insn {
    bpf_insn {
        code: code as u8,
        _bitfield_align_1: [],
        _bitfield_1: bpf_insn::new_bitfield_1(0, 0), // destination r0
        off: 0,
        imm: immediate,
    }
}

fn zeroed_attr() -> bpf_attr {
    // SAFETY: the union holds integers only, for which zero is valid, and the kernel wants unused
    // bytes to be zero, padding included.
    unsafe { mem::zeroed() }
}

fn new_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    let fd = i32::try_from(fd).expect("descriptors are ints");
    // SAFETY: the kernel just returned this descriptor to us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: `attr` is a whole `bpf_attr`, every pointer in it is to memory that the caller
    // borrows for the duration of the call, and the size is that of the union.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            std::ptr::from_mut(attr),
            mem::size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
