//! A network namespace for one test: the routes and neighbours that the programs ask the kernel for.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, unshare};

use crate::packet::Mac;

/// Address of the node's uplink.
pub const UPLINK_MAC: Mac = [0x02, 0, 0, 0, 0, 0x01];
/// Address of the interface `other`.
pub const OTHER_MAC: Mac = [0x02, 0, 0, 0, 1, 0x01];
/// Router that clients are behind.
pub const ROUTER_MAC: Mac = [0x02, 0, 0, 0, 0, 0xfe];
/// Another node.
pub const PEER_MAC: Mac = [0x02, 0, 0, 0, 0, 0x02];

/// Addresses of one family. All but the node's own and the neighbours' are only routed.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The node.
    pub node: IpAddr,
    /// A client behind the router.
    pub client: IpAddr,
    /// Service addresses.
    pub vip: IpAddr,
    pub vip2: IpAddr,
    /// A service address for the inside.
    pub cluster_ip: IpAddr,
    /// Pods of this node.
    pub local: IpAddr,
    pub local2: IpAddr,
    /// Pods of the other node.
    pub remote: IpAddr,
    pub remote2: IpAddr,
    /// A pod behind a neighbour that is not resolved.
    pub unresolved: IpAddr,
    /// A pod reached by the interface `other`.
    pub elsewhere: IpAddr,
    /// A pod that no route leads to.
    pub unroutable: IpAddr,
}

fn addresses(of: [&str; 12]) -> Addresses {
    let of = of.map(|text| text.parse().expect("an address"));
    let [
        node,
        client,
        vip,
        vip2,
        cluster_ip,
        local,
        local2,
        remote,
        remote2,
        unresolved,
        elsewhere,
        unroutable,
    ] = of;
    Addresses {
        node,
        client,
        vip,
        vip2,
        cluster_ip,
        local,
        local2,
        remote,
        remote2,
        unresolved,
        elsewhere,
        unroutable,
    }
}

pub fn ipv4() -> Addresses {
    addresses([
        "192.0.2.1",
        "203.0.113.7",
        "198.51.100.10",
        "198.51.100.11",
        "198.51.100.20",
        "10.1.1.5",
        "10.1.1.6",
        "10.1.2.5",
        "10.1.2.6",
        "10.1.3.5",
        "10.1.4.5",
        "10.1.9.5",
    ])
}

pub fn ipv6() -> Addresses {
    addresses([
        "2001:db8:1::1",
        "2001:db8:2::7",
        "2001:db8:3::10",
        "2001:db8:3::11",
        "2001:db8:3::20",
        "2001:db8:a:1::5",
        "2001:db8:a:1::6",
        "2001:db8:a:2::5",
        "2001:db8:a:2::6",
        "2001:db8:a:3::5",
        "2001:db8:a:4::5",
        "2001:db8:a:9::5",
    ])
}

/// Both families, for tables that hold for each.
pub fn families() -> [Addresses; 2] {
    [ipv4(), ipv6()]
}

const LINKS: &str = "
link set lo up
link add uplink address 02:00:00:00:00:01 type veth peer name wire
link add other address 02:00:00:00:01:01 type veth peer name wire2
link add pods address 02:00:00:00:02:01 type veth peer name eth0
link set uplink up
link set wire up
link set other up
link set wire2 up
link set pods up
link set eth0 up
";

const ROUTES: &str = "
address add 192.0.2.1/24 dev {uplink}
address add 198.18.0.1/24 dev other
neighbour replace 192.0.2.254 lladdr 02:00:00:00:00:fe dev {uplink}
neighbour replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev {uplink}
neighbour replace 198.18.0.2 lladdr 02:00:00:00:01:02 dev other
route add 203.0.113.0/24 via 192.0.2.254 dev {uplink}
route add 10.1.1.0/24 dev pods
route add 10.1.2.0/24 via 192.0.2.2 dev {uplink}
route add 10.1.3.0/24 via 192.0.2.3 dev {uplink}
route add 10.1.4.0/24 via 198.18.0.2 dev other
address add 2001:db8:1::1/64 dev {uplink} nodad
address add 2001:db8:18::1/64 dev other nodad
neighbour replace 2001:db8:1::fe lladdr 02:00:00:00:00:fe dev {uplink}
neighbour replace 2001:db8:1::2 lladdr 02:00:00:00:00:02 dev {uplink}
neighbour replace 2001:db8:18::2 lladdr 02:00:00:00:01:02 dev other
route add 2001:db8:2::/64 via 2001:db8:1::fe dev {uplink}
route add 2001:db8:a:1::/64 dev pods
route add 2001:db8:a:2::/64 via 2001:db8:1::2 dev {uplink}
route add 2001:db8:a:3::/64 via 2001:db8:1::3 dev {uplink}
route add 2001:db8:a:4::/64 via 2001:db8:18::2 dev other
";

/// Runs a test on a thread of its own inside a new network namespace, which ends with it.
pub fn isolated(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let joined = scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace needs root");
                test();
            })
            .join();
        if let Err(panic) = joined {
            resume_unwind(panic);
        }
    });
}

/// Makes interfaces, addresses, routes and neighbours.
pub fn build() {
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        let path = format!("/proc/sys/net/{setting}");
        fs::write(&path, "1").unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    ip(LINKS);
    ip(&ROUTES.replace("{uplink}", "uplink"));
}

/// Number of an interface.
pub fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_else(|error| panic!("interface {name}: {error}"))
}

/// Runs `ip` commands. A child process is in the namespace of the thread that starts it.
pub fn ip(commands: &str) {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("`ip` of iproute2");
    let mut input = child.stdin.take().expect("piped above");
    input.write_all(commands.as_bytes()).expect("ip reads");
    drop(input);
    assert!(child.wait().expect("ip ends").success(), "ip failed");
}
