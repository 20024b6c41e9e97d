use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A tree of settings like the kernel's.
struct Tree(TempDir);

impl Tree {
    fn new(settings: &[(&str, i64)]) -> Self {
        let tree = Self(tempfile::tempdir().expect("a temporary folder"));
        for (path, value) in settings {
            tree.set(path, *value);
        }
        tree
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path)
    }

    fn set(&self, path: &str, value: i64) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("ours");
        fs::write(path, format!("{value}\n")).expect("ours");
    }

    fn host(&self) -> HostSettings {
        HostSettings {
            root: self.0.path().to_owned(),
        }
    }
}

fn name(name: &str) -> InterfaceName {
    name.parse().expect("valid")
}

fn needs() -> Needs {
    Needs {
        device: name("weir0"),
        ipv4: true,
        ipv6: true,
    }
}

const ALL_GOOD: [(&str, i64); 4] = [
    ("ipv4/conf/all/forwarding", 1),
    ("ipv4/conf/all/rp_filter", 0),
    ("ipv4/conf/weir0/rp_filter", 2),
    ("ipv6/conf/all/forwarding", 1),
];

#[test]
fn what_is_in_the_way_is_found() {
    let only_ipv6 = Needs {
        ipv4: false,
        ..needs()
    };
    let with_a_dot = Needs {
        device: name("weir.7"),
        ..needs()
    };
    for (case, changes, needs, expected) in [
        ("all is well", &[][..], needs(), &[][..]),
        (
            "no forwarding",
            &[
                ("ipv4/conf/all/forwarding", 0),
                ("ipv6/conf/all/forwarding", 0),
            ],
            needs(),
            &[
                "net.ipv4.conf.all.forwarding=1",
                "net.ipv6.conf.all.forwarding=1",
            ],
        ),
        (
            "no forwarding of a family that is not needed",
            &[("ipv4/conf/all/forwarding", 0)],
            only_ipv6,
            &[],
        ),
        (
            "strict, but loosened",
            &[("ipv4/conf/all/rp_filter", 1)],
            needs(),
            &[],
        ),
        (
            "strict by the switch for all",
            &[
                ("ipv4/conf/all/rp_filter", 1),
                ("ipv4/conf/weir0/rp_filter", 0),
            ],
            needs(),
            &["net.ipv4.conf.weir0.rp_filter=2"],
        ),
        (
            "strict on a device with a dot in its name",
            &[("ipv4/conf/weir.7/rp_filter", 1)],
            with_a_dot,
            &["net.ipv4.conf.weir/7.rp_filter=2"],
        ),
    ] {
        let tree = Tree::new(&ALL_GOOD);
        for (path, value) in changes {
            tree.set(path, *value);
        }
        let findings = tree.host().findings(&needs).expect("readable");
        let advice: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(advice.len(), expected.len(), "{case}: {advice:?}");
        for (advice, expected) in advice.iter().zip(expected) {
            assert!(
                advice.contains(&format!("`sysctl -w {expected}`")),
                "{case}: {advice}"
            );
        }
    }
}

#[test]
fn only_the_own_device_is_changed_and_only_once() {
    let tree = Tree::new(&ALL_GOOD);
    tree.set("ipv4/conf/weir0/rp_filter", 0);
    tree.set("ipv4/conf/weir0/forwarding", 0);
    let changed = tree
        .host()
        .prepare_device(&name("weir0"))
        .expect("writable");
    assert_eq!(
        changed,
        [
            "net.ipv4.conf.weir0.forwarding",
            "net.ipv4.conf.weir0.rp_filter"
        ]
    );
    assert_eq!(
        tree.host()
            .prepare_device(&name("weir0"))
            .expect("readable"),
        [""; 0]
    );
    for (path, value) in ALL_GOOD {
        let found = fs::read_to_string(tree.path(path)).expect("still there");
        assert_eq!(found.trim(), value.to_string(), "{path}");
    }
}

#[test]
fn nonsense_is_told_with_the_name_of_the_setting() {
    let tree = Tree::new(&ALL_GOOD);
    fs::write(tree.path("ipv4/conf/all/forwarding"), "many").expect("ours");
    let error = tree
        .host()
        .findings(&needs())
        .expect_err("no number")
        .to_string();
    assert!(error.contains("net.ipv4.conf.all.forwarding"), "{error}");
}
