//! Real probes of this kernel. What a kernel has differs, so the tests look at what must hold on
//! any that is supported, and at devices made for the purpose.

use std::process::Command;

use super::*;
use crate::datapath::private_namespace::{in_private_namespace, ip, is_root};

#[test]
fn every_supported_kernel_has_what_is_required() {
    if !is_root() {
        return;
    }
    let probe = Probe::run(&Options::default());
    let without_mounts: Vec<_> = probe
        .obstacles()
        .into_iter()
        .filter(|(feature, _)| feature != "bpffs")
        .collect();
    assert!(without_mounts.is_empty(), "{without_mounts:?}");
    assert!(probe.missing_capabilities.is_empty());
    assert!(probe.memlock.is_yes(), "{:?}", probe.memlock);
    assert!(
        probe.helpers.iter().all(|helper| helper.found.is_yes()),
        "{:?}",
        probe.helpers
    );
}

#[test]
fn nothing_stays_behind_on_loopback() {
    in_private_namespace(|| {
        let _ = trial::on_loopback();
        let shown = Command::new("ip")
            .args(["-d", "link", "show", "lo"])
            .output()
            .unwrap();
        assert!(!String::from_utf8_lossy(&shown.stdout).contains("xdp"));
    });
}

#[test]
fn a_helper_that_a_type_of_program_lacks_is_told_apart() {
    use aya::programs::ProgramType;
    use aya::sys::{BpfHelper, is_helper_supported};
    if !is_root() {
        return;
    }
    let neigh = BpfHelper::BPF_FUNC_redirect_neigh;
    assert!(is_helper_supported(ProgramType::SchedClassifier, neigh).unwrap());
    assert!(!is_helper_supported(ProgramType::Xdp, neigh).unwrap());
}

#[test]
fn devices_tell_their_driver_and_their_xdp() {
    in_private_namespace(|| {
        ip("link add veth1 type veth peer name veth2");
        ip("link set veth1 mtu 1400");
        let names = ["veth1", "lo", "gone0"].map(str::to_owned);
        let [veth, lo, gone] = &device::probe(&names, true)[..] else {
            panic!("three answers")
        };
        assert_eq!((veth.driver.as_str(), veth.mtu), ("veth", 1400));
        assert_eq!(veth.native_xdp, Found::yes(), "attached and detached");
        assert!(matches!(lo.native_xdp, Found::No(_)), "{:?}", lo.native_xdp);
        assert!(
            matches!(gone.native_xdp, Found::NotTried(_)),
            "{:?}",
            gone.native_xdp
        );
        assert_eq!(gone.ifindex, 0);
        let again = device::probe(&names[..1], false);
        assert_eq!(again[0].xdp_program, None, "nothing stays attached");
    });
}

#[test]
fn a_device_with_a_program_is_not_touched() {
    use std::os::fd::AsFd;

    use aya_obj::generated::{XDP_FLAGS_DRV_MODE, bpf_attach_type, bpf_prog_type};
    in_private_namespace(|| {
        ip("link add veth1 type veth peer name veth2");
        let instructions = bpf::returning(trial::XDP_PASS);
        let program =
            bpf::load_program(bpf_prog_type::BPF_PROG_TYPE_XDP, None, &instructions).unwrap();
        let target = bpf::Target::Interface(nix::net::if_::if_nametoindex("veth1").unwrap());
        let hook = bpf_attach_type::BPF_XDP;
        let _link = bpf::create_link(program.as_fd(), &target, hook, XDP_FLAGS_DRV_MODE).unwrap();
        let found = device::probe(&["veth1".to_owned()], true);
        let id = found[0].xdp_program.expect("the program is seen");
        assert_eq!(
            found[0].native_xdp,
            Found::Yes(format!("program {id} runs in the driver"))
        );
    });
}

#[test]
fn without_names_the_devices_with_a_default_route_are_looked_at() {
    in_private_namespace(|| {
        assert!(device::probe(&[], false).is_empty());
        ip("link add veth1 type veth peer name veth2");
        ip("link set veth1 up");
        ip("addr add 192.0.2.1/24 dev veth1");
        ip("route add default via 192.0.2.254");
        let names: Vec<_> = device::probe(&[], false)
            .into_iter()
            .map(|it| it.name)
            .collect();
        assert_eq!(names, ["veth1"]);
    });
}

#[test]
fn a_missing_bpffs_is_an_obstacle() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        bpffs: directory.path().into(),
        ..Options::default()
    };
    let probe = Probe::run(&options);
    assert!(
        probe
            .obstacles()
            .iter()
            .any(|(feature, _)| feature == "bpffs")
    );
    let table = Report::new(&probe).table();
    assert!(table.contains("is another file system"), "{table}");
    assert!(
        table.contains("Weir cannot run here for want of"),
        "{table}"
    );
}

#[test]
fn the_json_has_a_word_for_every_feature() {
    let report = serde_json::to_value(Report::new(&Probe::run(&Options::default()))).unwrap();
    let words = ["yes", "no", "not-permitted", "not-tried"];
    for row in report["features"].as_array().unwrap() {
        assert!(words.contains(&row["found"].as_str().unwrap()), "{row}");
        assert!(
            row["feature"].is_string() && row["used"].is_string(),
            "{row}"
        );
    }
    assert!(report["able"].is_boolean());
}
