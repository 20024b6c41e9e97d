//! Making, adopting, changing and removing devices.

use std::net::UdpSocket;
use std::path::Path;

use weir_agent::encryption::device::{Backend, Device, DeviceError, DeviceSettings};
use weir_agent::encryption::key::PrivateKey;
use weir_agent::encryption::peers::{PeerChange, PeerConfig};
use weir_agent::encryption::settings::{HostSettings, Needs};
use weir_agent::encryption::userspace::serve::control_socket;
use weir_agent::encryption::{InterfaceName, Port};

use crate::node::{Node, PORT, backend, eventually, has_process, is_root};

fn create(node: &Node, settings: DeviceSettings) -> Result<Device, DeviceError> {
    let paths = node.paths();
    node.block_on(async move |netlink| Device::create(&netlink, &settings, backend(), &paths).await)
}

fn runs(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}/fd/0")).exists()
}

#[test]
fn an_interface_of_someone_else_is_named_and_left_alone() {
    if !is_root() {
        return;
    }
    let node = Node::new("name", 1);
    let settings = node.settings();
    node.ip(&format!(
        "link add {} type veth peer name other",
        settings.name
    ));
    let error = create(&node, settings.clone())
        .expect_err("taken")
        .to_string();
    assert!(
        error.contains(&format!("interface {} exists", settings.name)),
        "{error}"
    );
    assert!(error.contains("(veth)"), "{error}");
    let (paths, name) = (node.paths(), settings.name.clone());
    let deleted =
        node.block_on(async move |netlink| Device::delete_by_name(&netlink, &name, &paths).await);
    assert!(
        matches!(deleted, Err(DeviceError::NameTaken { .. })),
        "{deleted:?}"
    );
    assert!(
        node.output("ip link show").contains(settings.name.as_str()),
        "left alone"
    );
    node.ip("link delete other");
    create(&node, settings).expect("free now");
}

#[test]
fn a_port_of_someone_else_is_named_and_nothing_is_left_behind() {
    if !is_root() {
        return;
    }
    let node = Node::new("port", 1);
    for address in ["0.0.0.0", "::", "127.0.0.1"] {
        // The kernel gives the ports of a device that is gone free a moment later.
        let mut other = None;
        eventually("the port to be free", || {
            other = node.run(move || UdpSocket::bind((address, PORT))).ok();
            other.is_some()
        });
        let error = create(&node, node.settings())
            .expect_err(address)
            .to_string();
        assert!(
            error.contains(&format!("UDP port {PORT} is in use")),
            "{error}"
        );
        drop(other);
    }
    assert!(
        !node
            .output("ip link show")
            .contains(node.settings().name.as_str())
    );
    assert_eq!(node.process(), None);
    create(&node, node.settings()).expect("free now");
}

#[test]
fn a_device_follows_its_settings_and_keeps_its_process() {
    if !is_root() || !has_process() {
        return;
    }
    let node = Node::new("set", 1);
    let device = node.create();
    let pid = node.process().expect("it runs");
    let session = nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid))).expect("it runs");
    assert_eq!(session.as_raw(), pid, "a session of its own");
    let port = Port::try_from(PORT + 1).expect("not 0");
    let other = node.run(|| UdpSocket::bind(("0.0.0.0", PORT + 1)).expect("free"));
    let moved = DeviceSettings {
        port,
        mtu: 1300,
        ..node.settings()
    };
    let refused = create(&node, moved.clone()).expect_err("in use");
    assert!(
        matches!(refused, DeviceError::PortTaken { .. }),
        "{refused}"
    );
    assert_eq!(node.state().port, Some(node.settings().port), "as before");
    drop(other);
    // A process that another test starts right now holds the socket until it runs its program.
    let mut again = None;
    eventually("the port is free", || {
        again = create(&node, moved.clone()).ok();
        again.is_some()
    });
    let again = again.expect("just made");
    assert_eq!(again.index(), device.index(), "the same device");
    assert!(node.output("ip link show").contains("mtu 1300"));
    let state = node.run(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(again.state()).expect("answers")
    });
    assert_eq!((state.port, state.mark), (Some(port), Some(moved.mark)));
    assert_eq!(state.public_key, Some(node.public_key()), "the key stays");
    assert_eq!(node.process(), Some(pid), "the same process");
}

#[test]
fn a_device_whose_process_died_is_made_anew() {
    if !is_root() || !has_process() {
        return;
    }
    let node = Node::new("dead", 1);
    node.create();
    let pid = node.process().expect("it runs");
    let signal = nix::sys::signal::Signal::SIGKILL;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("ours");
    eventually("the process is gone", || !runs(pid));
    assert!(
        control_socket(&node.settings().name).exists(),
        "nobody removed it"
    );
    node.create();
    assert_ne!(node.process(), Some(pid));
    assert_eq!(node.state().public_key, Some(node.public_key()));
}

#[test]
fn a_device_of_the_kernel_follows_its_settings() {
    if !is_root() || backend() == Backend::Userspace {
        return;
    }
    let node = Node::new("kern", 1);
    let device = node.create();
    let moved = DeviceSettings {
        port: Port::try_from(PORT + 1).expect("not 0"),
        mtu: 1300,
        ..node.settings()
    };
    let other = node.run(|| UdpSocket::bind(("0.0.0.0", PORT + 1)).expect("free"));
    let refused = create(&node, moved.clone()).expect_err("in use");
    assert!(
        matches!(refused, DeviceError::PortTaken { .. }),
        "{refused}"
    );
    drop(other);
    let again = create(&node, moved).expect("free now");
    assert_eq!(again.index(), device.index(), "the same device");
    assert!(node.output("ip link show").contains("mtu 1300"));
    node.delete();
    assert!(
        !node
            .output("ip link show")
            .contains(node.settings().name.as_str())
    );
    node.delete();
}

/// A device deleted just now would be made again without our mark, and would then be someone else's.
#[test]
fn a_device_of_the_kernel_that_was_deleted_is_not_made_by_a_change() {
    if !is_root() || backend() == Backend::Userspace {
        return;
    }
    let node = Node::new("moment", 1);
    let device = node.create();
    let name = device.name().clone();
    node.ip(&format!("link delete {name}"));
    let peer = PrivateKey::generate().public();
    let change = PeerChange::Add(peer, PeerConfig::default());
    let changed = node.block_on(async move |_| device.apply(&[change]).await);
    changed.expect_err("it is gone");
    assert!(!node.output("ip link show").contains(name.as_str()));
    node.create();
}

#[test]
fn what_a_start_that_was_cut_off_has_left_is_removed_and_nothing_else() {
    const UNFINISHED: &str = "weir-unfinished";
    if !is_root() || backend() == Backend::Userspace {
        return;
    }
    let node = Node::new("left", 1);
    let is_there = || node.output("ip link show").contains(UNFINISHED);
    node.ip(&format!("link add {UNFINISHED} type wireguard"));
    node.create();
    assert!(!is_there());
    node.ip(&format!("link add {UNFINISHED} type wireguard"));
    node.delete();
    assert!(!is_there());
    node.ip(&format!("link add {UNFINISHED} type veth peer name other"));
    node.delete();
    let error = create(&node, node.settings()).expect_err("taken");
    let error = error.to_string();
    assert!(
        error.contains(&format!("interface {UNFINISHED} exists")),
        "{error}"
    );
    assert!(is_there(), "left alone");
}

#[test]
fn without_wireguard_in_the_kernel_the_error_says_so() {
    if !is_root() {
        return;
    }
    let node = Node::new("none", 1);
    let mut probe = std::process::Command::new("ip");
    probe.args(["link", "add", "wt-probe", "type", "wireguard"]);
    if node
        .run(move || probe.status())
        .is_ok_and(|status| status.success())
    {
        println!("SKIPPED: this kernel has WireGuard");
        return;
    }
    let (settings, paths) = (node.settings(), node.paths());
    let made = node.block_on(async move |netlink| {
        Device::create(&netlink, &settings, Backend::Kernel, &paths).await
    });
    assert!(matches!(made, Err(DeviceError::NotSupported)), "{made:?}");
}

#[test]
fn deleting_leaves_nothing() {
    if !is_root() || !has_process() {
        return;
    }
    let node = Node::new("gone", 1);
    node.create();
    let pid = node.process().expect("it runs");
    node.delete();
    assert!(!runs(pid));
    assert!(
        !node
            .output("ip link show")
            .contains(node.settings().name.as_str())
    );
    assert!(!control_socket(&node.settings().name).exists());
    let left = std::fs::read_dir(node.paths().folder)
        .expect("there")
        .count();
    assert_eq!(left, 0, "neither record nor log");
    node.delete();
}

#[test]
fn a_device_deleted_by_hand_takes_its_process_along() {
    if !is_root() || !has_process() {
        return;
    }
    let node = Node::new("hand", 1);
    node.create();
    let pid = node.process().expect("it runs");
    node.ip(&format!("link delete {}", node.settings().name));
    eventually("the process is gone", || !runs(pid));
    node.create();
}

#[test]
fn the_host_is_prepared_for_the_device() {
    if !is_root() {
        return;
    }
    let node = Node::new("host", 1);
    let name = node.create().name().clone();
    let set = |setting: &str| {
        node.output(&format!("cat /proc/sys/net/ipv4/conf/{name}/{setting}"))
            .trim()
            .to_owned()
    };
    let prepare = |name: InterfaceName| {
        node.run(move || {
            HostSettings::below(Path::new("/proc/sys"))
                .prepare_device(&name)
                .expect("writable")
        })
    };
    assert!(!prepare(name.clone()).is_empty());
    assert_eq!(
        (set("rp_filter"), set("forwarding")),
        ("2".to_owned(), "1".to_owned())
    );
    assert_eq!(prepare(name.clone()), [""; 0]);
    let needs = Needs {
        device: name.clone(),
        ipv4: true,
        ipv6: false,
    };
    let findings = node.run(move || {
        HostSettings::below(Path::new("/proc/sys"))
            .findings(&needs)
            .expect("readable")
    });
    let settings: Vec<_> = findings
        .iter()
        .map(|finding| finding.setting.as_str())
        .collect();
    assert_eq!(
        settings,
        ["net.ipv4.conf.all.forwarding"],
        "as in every new namespace"
    );
}
