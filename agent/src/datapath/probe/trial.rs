//! Attempts that load and attach programs which change nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported};
use aya_obj::generated::{
    BPF_F_INNER_MAP, XDP_FLAGS_SKB_MODE, bpf_attach_type, bpf_map_type, bpf_prog_type,
};
use nix::sched::{CloneFlags, unshare};

use super::bpf::{self, MapSpec, Target};
use super::host::is_cgroup2;
use super::{Found, Helper};

/// What an XDP program returns for a packet it has no interest in.
pub(super) const XDP_PASS: i32 = 2;

/// Lets the next program, or the stack, decide.
const TC_NEXT: i32 = -1;

/// Lets the system call go on.
const SOCKET_ALLOW: i32 = 1;

/// Whether the programs of the data plane can be loaded at all.
pub fn programs() -> Found {
    let kinds = [
        bpf_prog_type::BPF_PROG_TYPE_XDP,
        bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS,
    ];
    let load = |kind| bpf::load_program(kind, None, &bpf::returning(XDP_PASS));
    Found::by(kinds.into_iter().try_for_each(|kind| load(kind).map(drop)))
}

/// Whether maps of this type can be made.
pub fn map(kind: MapType) -> Found {
    match is_map_supported(kind) {
        Ok(true) => Found::yes(),
        Ok(false) => Found::No("this kernel has no such maps".into()),
        Err(error) => Found::by::<()>(Err(error.io_error)),
    }
}

/// Whether the array maps in a map may differ in size.
pub fn inner_map_of_any_size() -> io::Result<()> {
    let array = MapSpec {
        kind: bpf_map_type::BPF_MAP_TYPE_ARRAY,
        key_bytes: 4,
        value_bytes: 256,
        entries: 1,
        flags: BPF_F_INNER_MAP,
    };
    let outer = MapSpec {
        kind: bpf_map_type::BPF_MAP_TYPE_HASH_OF_MAPS,
        key_bytes: 4,
        value_bytes: 4,
        entries: 1,
        flags: 0,
    };
    let template = bpf::create_map(&array, None)?;
    bpf::create_map(&outer, Some(template.as_fd())).map(drop)
}

/// What can be attached to a device by a link.
pub struct Attachments {
    pub xdp_link: Found,
    pub tcx: Found,
}

/// Tries links on loopback, in a network namespace of its own. Where making one is not permitted
/// (it takes more than the data plane needs), on the loopback that is there: for an instant and
/// with programs that change nothing.
pub fn on_loopback() -> Attachments {
    let thread = std::thread::spawn(|| {
        let _ = unshare(CloneFlags::CLONE_NEWNET);
        Attachments {
            xdp_link: Found::by(xdp_link()),
            tcx: Found::by(tcx_link()),
        }
    });
    thread.join().expect("the attempts do not panic")
}

fn xdp_link() -> io::Result<()> {
    let kind = bpf_prog_type::BPF_PROG_TYPE_XDP;
    let program = bpf::load_program(kind, None, &bpf::returning(XDP_PASS))?;
    let target = Target::Interface(loopback()?);
    bpf::create_link(
        program.as_fd(),
        &target,
        bpf_attach_type::BPF_XDP,
        XDP_FLAGS_SKB_MODE,
    )
    .map(drop)
}

fn tcx_link() -> io::Result<()> {
    let kind = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS;
    let program = bpf::load_program(kind, None, &bpf::returning(TC_NEXT))?;
    let target = Target::Interface(loopback()?);
    bpf::create_link(
        program.as_fd(),
        &target,
        bpf_attach_type::BPF_TCX_INGRESS,
        0,
    )
    .map(drop)
}

fn loopback() -> io::Result<u32> {
    Ok(nix::net::if_::if_nametoindex("lo")?)
}

/// Hooks the data plane attaches to a cgroup.
const CGROUP_HOOKS: [bpf_attach_type; 8] = [
    bpf_attach_type::BPF_CGROUP_INET4_CONNECT,
    bpf_attach_type::BPF_CGROUP_INET6_CONNECT,
    bpf_attach_type::BPF_CGROUP_UDP4_SENDMSG,
    bpf_attach_type::BPF_CGROUP_UDP6_SENDMSG,
    bpf_attach_type::BPF_CGROUP_UDP4_RECVMSG,
    bpf_attach_type::BPF_CGROUP_UDP6_RECVMSG,
    bpf_attach_type::BPF_CGROUP_INET4_GETPEERNAME,
    bpf_attach_type::BPF_CGROUP_INET6_GETPEERNAME,
];

/// Whether all hooks can be attached to `cgroup`.
pub fn cgroup_hooks(cgroup: Option<&Path>) -> Found {
    let Some(cgroup) = cgroup else {
        return Found::No("cgroup v2 is not mounted".into());
    };
    if cgroup.exists() && !is_cgroup2(cgroup) {
        return Found::No(format!("{} is not of cgroup v2", cgroup.display()));
    }
    let attempt = || {
        let directory = File::open(cgroup)?;
        for hook in CGROUP_HOOKS {
            let kind = bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
            let program = bpf::load_program(kind, Some(hook), &bpf::returning(SOCKET_ALLOW))?;
            bpf::create_link(program.as_fd(), &Target::Cgroup(directory.as_fd()), hook, 0)?;
        }
        Ok(())
    };
    match Found::by(attempt()) {
        Found::Yes(_) => Found::Yes(cgroup.display().to_string()),
        other => other,
    }
}

/// Helper functions that the programs call and that not every kernel has for them.
pub fn helpers() -> Vec<Helper> {
    use BpfHelper as Call;
    let xdp = ("xdp", ProgramType::Xdp);
    let tc = ("tc", ProgramType::SchedClassifier);
    let socket = ("cgroup", ProgramType::CgroupSockAddr);
    let wanted = [
        (xdp, "fib_lookup", Call::BPF_FUNC_fib_lookup),
        (xdp, "jiffies64", Call::BPF_FUNC_jiffies64),
        (tc, "redirect_neigh", Call::BPF_FUNC_redirect_neigh),
        (
            socket,
            "get_socket_cookie",
            Call::BPF_FUNC_get_socket_cookie,
        ),
        (
            socket,
            "get_current_cgroup_id",
            Call::BPF_FUNC_get_current_cgroup_id,
        ),
    ];
    let helper = |((program, kind), name, call)| {
        let found = match is_helper_supported(kind, call) {
            Ok(true) => Found::yes(),
            Ok(false) => Found::No("this kernel has no such helper".into()),
            Err(aya::programs::ProgramError::SyscallError(error)) => {
                Found::by::<()>(Err(error.io_error))
            }
            Err(error) => Found::No(error.to_string()),
        };
        Helper {
            program,
            name,
            found,
        }
    };
    wanted.into_iter().map(helper).collect()
}
