//! The watcher against the real kernel, in a network namespace of its own.

use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use super::super::select::tests::selector;
use super::super::{Interface, MacAddr, OwnAddresses, Role, UplinkAddresses};
use super::*;
use crate::datapath::private_namespace::{in_private_namespace, ip};

/// Longest wait for an event.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs `test` in a network namespace of its own, on a runtime of one thread.
fn watching<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    in_private_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test());
    });
}

struct Watched {
    events: mpsc::Receiver<InterfaceEvent>,
    _watcher: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Watched {
    fn start(selector: DeviceSelector) -> Self {
        Self::start_at(selector, NodeAddresses::unknown())
    }

    fn start_at(selector: DeviceSelector, node: NodeAddresses) -> Self {
        let (watcher, events) = InterfaceWatcher::start(selector, node).unwrap();
        Self {
            events,
            _watcher: tokio::spawn(watcher.run(CancellationToken::new())),
        }
    }

    async fn next(&mut self) -> InterfaceEvent {
        tokio::time::timeout(DEADLINE, self.events.recv())
            .await
            .expect("an event before the deadline")
            .expect("the watcher runs")
    }

    /// The next events up to the one for which `last` holds, it included.
    async fn until(&mut self, last: impl Fn(&InterfaceEvent) -> bool) -> Vec<InterfaceEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            let done = last(&event);
            events.push(event);
            if done {
                return events;
            }
        }
    }

    async fn snapshot(&mut self) -> Vec<InterfaceEvent> {
        self.until(|event| *event == InterfaceEvent::SnapshotComplete)
            .await
    }

    async fn added(&mut self) -> Interface {
        match self.next().await {
            InterfaceEvent::Added(interface) => interface,
            other => panic!("expected an addition, got {other:?}"),
        }
    }

    async fn removed(&mut self) -> Interface {
        match self.next().await {
            InterfaceEvent::Removed(interface) => interface,
            other => panic!("expected a removal, got {other:?}"),
        }
    }
}

#[test]
fn the_snapshot_comes_first_and_changes_follow() {
    watching(|| async {
        ip("link add veth1 type veth peer name other1");
        let mut watched = Watched::start(selector(&[], &["veth*"]));
        let snapshot = watched.snapshot().await;
        let [
            InterfaceEvent::Added(first),
            InterfaceEvent::SnapshotComplete,
        ] = &snapshot[..]
        else {
            panic!("{snapshot:?}");
        };
        assert_eq!(
            (first.name.as_str(), first.role, first.mtu),
            ("veth1", Role::Pod, 1500)
        );
        assert_ne!(first.mac, MacAddr::default());

        ip("link add veth2 type veth peer name other2");
        let second = watched.added().await;
        assert_eq!(second.name, "veth2");
        assert_ne!(second.ifindex, first.ifindex);

        ip("link set veth2 mtu 1400");
        assert_eq!(
            watched.next().await,
            InterfaceEvent::Changed(Interface {
                mtu: 1400,
                ..second.clone()
            })
        );
        ip("link set veth2 name veth3");
        let renamed = Interface {
            mtu: 1400,
            name: "veth3".into(),
            ..second
        };
        assert_eq!(
            watched.next().await,
            InterfaceEvent::Changed(renamed.clone())
        );
        ip("link set veth3 name gone3");
        assert_eq!(watched.removed().await, renamed);
        ip("link del veth1");
        assert_eq!(watched.removed().await, *first);
    });
}

#[test]
fn leaving_a_bridge_is_not_leaving_the_node() {
    watching(|| async {
        ip("link add veth1 type veth peer name other1");
        ip("link add br0 type bridge");
        ip("link set veth1 master br0");
        let mut watched = Watched::start(selector(&[], &["veth*"]));
        watched.snapshot().await;
        ip("link set veth1 nomaster");
        ip("link add veth9 type veth peer name other9");
        let events = watched
            .until(|event| matches!(event, InterfaceEvent::Added(it) if it.name == "veth9"))
            .await;
        assert!(
            !events
                .iter()
                .any(|event| matches!(event, InterfaceEvent::Removed(_))),
            "{events:?}"
        );
    });
}

#[test]
fn a_link_moved_to_another_namespace_is_removed() {
    watching(|| async {
        ip("link add veth1 type veth peer name other1");
        let mut watched = Watched::start(selector(&[], &["veth*"]));
        watched.snapshot().await;
        let mut elsewhere = Command::new("unshare")
            .args(["-n", "sleep", "60"])
            .spawn()
            .unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let begin = std::time::Instant::now();
        let its = format!("/proc/{}/ns/net", elsewhere.id());
        while std::fs::read_link(&its).is_ok_and(|namespace| namespace == own) {
            assert!(
                begin.elapsed() < DEADLINE,
                "the process has no namespace of its own yet"
            );
            std::thread::yield_now();
        }
        ip(&format!("link set veth1 netns {}", elsewhere.id()));
        assert_eq!(watched.removed().await.name, "veth1");
        elsewhere.kill().unwrap();
        elsewhere.wait().unwrap();
    });
}

#[test]
fn uplinks_and_their_addresses_follow_the_default_route() {
    watching(|| async {
        for (name, subnet) in [("up0", 0), ("up1", 1)] {
            ip(&format!("link add {name} type veth peer name peer-{name}"));
            ip(&format!("link set {name} up"));
            ip(&format!("link set peer-{name} up"));
            ip(&format!("addr add 198.51.{subnet}.1/24 dev {name}"));
            ip(&format!("addr add 198.51.{subnet}.2/24 dev {name}"));
            ip(&format!(
                "addr add 2001:db8:{subnet}::1/64 dev {name} nodad"
            ));
        }
        let mut watched = Watched::start(selector(&[], &["veth*"]));
        assert_eq!(watched.snapshot().await, [InterfaceEvent::SnapshotComplete]);

        ip("route add default via 198.51.0.254");
        assert_eq!(watched.added().await.name, "up0");
        let of = |subnet| UplinkAddresses {
            v4: Some(Ipv4Addr::new(198, 51, subnet, 1)),
            v6: Some(Ipv6Addr::new(0x2001, 0xdb8, subnet.into(), 0, 0, 0, 0, 1)),
        };
        let told = |source: UplinkAddresses, uplinks: &[UplinkAddresses]| {
            let served = uplinks.iter().flat_map(|uplink| uplink.all()).collect();
            InterfaceEvent::Addresses(OwnAddresses { source, served })
        };
        assert_eq!(watched.next().await, told(of(0), &[of(0)]));

        ip("-6 route add default via 2001:db8:1::fe dev up1");
        assert_eq!(watched.added().await.name, "up1");
        let both = told(of(0), &[of(0), of(1)]);
        assert_eq!(watched.next().await, both);
        ip("route del default");
        assert_eq!(watched.removed().await.name, "up0");
        assert_eq!(watched.next().await, told(of(1), &[of(1)]));

        ip("addr del 198.51.1.1/24 dev up1");
        let event = watched
            .until(|it| matches!(it, InterfaceEvent::Addresses(_)))
            .await;
        let without = UplinkAddresses { v4: None, ..of(1) };
        assert_eq!(
            event,
            [told(without, &[without])],
            "the second goes with the first"
        );
    });
}

#[test]
fn both_links_of_a_multipath_default_route_are_uplinks() {
    watching(|| async {
        for (name, subnet) in [("up0", 0), ("up1", 1)] {
            ip(&format!("link add {name} type veth peer name peer-{name}"));
            ip(&format!("link set {name} up"));
            ip(&format!("addr add 198.51.{subnet}.1/24 dev {name}"));
        }
        ip("route add default nexthop via 198.51.0.254 nexthop via 198.51.1.254");
        let mut watched = Watched::start(selector(&[], &[]));
        let snapshot = watched.snapshot().await;
        let uplinks: Vec<_> = snapshot
            .iter()
            .filter_map(|event| match event {
                InterfaceEvent::Added(it) => Some((it.name.as_str(), it.role)),
                _ => None,
            })
            .collect();
        assert_eq!(uplinks, [("up0", Role::Uplink), ("up1", Role::Uplink)]);
    });
}

#[test]
fn uplinks_follow_the_node_object() {
    watching(|| async {
        for (name, subnet) in [("up0", 0), ("up1", 1)] {
            ip(&format!("link add {name} type veth peer name peer-{name}"));
            ip(&format!("link set {name} up"));
            ip(&format!("link set peer-{name} up"));
            ip(&format!("addr add 198.51.{subnet}.1/24 dev {name}"));
        }
        ip("route add default via 198.51.0.254");
        let (sender, named) = watch::channel(None);
        let node = NodeAddresses {
            adopted: Vec::new(),
            named,
        };
        let mut watched = Watched::start_at(selector(&[], &["veth*"]), node);
        let names = |events: &[InterfaceEvent]| -> Vec<String> {
            let added = events.iter().filter_map(|event| match event {
                InterfaceEvent::Added(it) => Some(it.name.clone()),
                _ => None,
            });
            added.collect()
        };
        assert_eq!(names(&watched.snapshot().await), ["up0"]);

        sender.send_replace(Some(vec![Ipv4Addr::new(198, 51, 1, 1).into()]));
        let events = watched
            .until(|event| *event == InterfaceEvent::Settled)
            .await;
        assert_eq!(names(&events), ["up1"]);
        // Nobody knows any more, and nobody ever will.
        sender.send_replace(None);
        drop(sender);
        ip("link set up0 mtu 1400");
        let changed = watched.next().await;
        assert!(
            matches!(&changed, InterfaceEvent::Changed(it) if it.name == "up0"),
            "{changed:?}"
        );
        ip("addr del 198.51.1.1/24 dev up1");
        let events = watched
            .until(|event| matches!(event, InterfaceEvent::Removed(_)))
            .await;
        assert!(
            matches!(events.last(), Some(InterfaceEvent::Removed(it)) if it.name == "up1"),
            "{events:?}"
        );
    });
}

#[test]
fn lost_notifications_are_made_up_for() {
    watching(|| async {
        ip("link add veth1 type veth peer name other1");
        // As little room as the kernel allows: a few notifications.
        let (selector, node) = (selector(&[], &["veth*"]), NodeAddresses::unknown());
        let (small, events) = InterfaceWatcher::start_with_buffer(selector, node, 1).unwrap();
        let mut watched = Watched {
            events,
            _watcher: tokio::spawn(small.run(CancellationToken::new())),
        };
        watched.snapshot().await;
        // The runtime has this one thread, so nothing reads the socket meanwhile.
        for round in 0..100 {
            ip(&format!("link set other1 mtu {}", 1000 + round));
        }
        ip("link del veth1");
        ip("link add veth2 type veth peer name other2");
        assert_eq!(watched.removed().await.name, "veth1");
        assert_eq!(watched.added().await.name, "veth2");
    });
}

#[test]
fn cancelling_ends_the_watcher() {
    watching(|| async {
        let node = NodeAddresses::unknown();
        let (watcher, _events) = InterfaceWatcher::start(selector(&[], &[]), node).unwrap();
        let token = CancellationToken::new();
        let running = tokio::spawn(watcher.run(token.clone()));
        token.cancel();
        tokio::time::timeout(DEADLINE, running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    });
}
