//! A network namespace for one test: the routes and neighbours that the programs ask the kernel for.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::packet::Mac;

/// The ends of connections in one family. Clients are behind the router, pods without a note on the
/// other node; only the node itself and its neighbours exist as interfaces.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// This node; the port means nothing.
    pub node: SocketAddr,
    /// A client and its port.
    pub client: SocketAddr,
    /// Frontends.
    pub vip: SocketAddr,
    pub vip2: SocketAddr,
    /// A frontend for the inside.
    pub cluster_ip: SocketAddr,
    /// Pods of this node.
    pub local: SocketAddr,
    pub local2: SocketAddr,
    /// Pods of the other node.
    pub remote: SocketAddr,
    pub remote2: SocketAddr,
    /// A pod behind a neighbour that is not resolved.
    pub unresolved: SocketAddr,
    /// A pod reached by the interface `other`.
    pub elsewhere: SocketAddr,
    /// A pod that no route leads to.
    pub unroutable: SocketAddr,
}

/// Ports of the above, in their order.
const PORTS: [u16; 12] = [
    0, 40_000, 80, 80, 443, 8080, 8081, 8080, 8081, 8080, 8080, 8080,
];

fn addresses(of: [&str; 12]) -> Addresses {
    let mut ends = of.iter().zip(PORTS).map(|(text, port)| {
        let ip = text.parse().expect("an address");
        SocketAddr::new(ip, port)
    });
    let mut next = || ends.next().expect("as many as the fields below");
    Addresses {
        node: next(),
        client: next(),
        vip: next(),
        vip2: next(),
        cluster_ip: next(),
        local: next(),
        local2: next(),
        remote: next(),
        remote2: next(),
        unresolved: next(),
        elsewhere: next(),
        unroutable: next(),
    }
}

/// The same address with another port.
pub fn at(address: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.ip(), port)
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

const ROUTES4: &str = "
address add 192.0.2.1/24 dev {uplink}
address add 198.18.0.1/24 dev other
neighbour replace 192.0.2.254 lladdr {router} dev {uplink}
neighbour replace 192.0.2.2 lladdr {peer} dev {uplink}
neighbour replace 198.18.0.2 lladdr 02:00:00:00:01:02 dev other
route add 203.0.113.0/24 via 192.0.2.254 dev {uplink}
route add 10.1.1.0/24 dev pods
route add 10.1.2.0/24 via 192.0.2.2 dev {uplink}
route add 10.1.3.0/24 via 192.0.2.3 dev {uplink}
route add 10.1.4.0/24 via 198.18.0.2 dev other
route add 10.1.8.0/24 dev {uplink}
";

const ROUTES6: &str = "
address add 2001:db8:1::1/64 dev {uplink} nodad
address add 2001:db8:18::1/64 dev other nodad
neighbour replace 2001:db8:1::fe lladdr {router} dev {uplink}
neighbour replace 2001:db8:1::2 lladdr {peer} dev {uplink}
neighbour replace 2001:db8:18::2 lladdr 02:00:00:00:01:02 dev other
route add 2001:db8:2::/64 via 2001:db8:1::fe dev {uplink}
route add 2001:db8:a:1::/64 dev pods
route add 2001:db8:a:2::/64 via 2001:db8:1::2 dev {uplink}
route add 2001:db8:a:3::/64 via 2001:db8:1::3 dev {uplink}
route add 2001:db8:a:4::/64 via 2001:db8:18::2 dev other
route add 2001:db8:a:8::/64 dev {uplink}
";

/// The uplink and its neighbours.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    pub ifindex: u32,
    pub uplink: Mac,
    /// Router that clients are behind.
    pub router: Mac,
    /// The other node.
    pub peer: Mac,
}

const OVER_VETH: Wire = Wire {
    ifindex: 0,
    uplink: [0x02, 0, 0, 0, 0, 0x01],
    router: [0x02, 0, 0, 0, 0, 0xfe],
    peer: [0x02, 0, 0, 0, 0, 0x02],
};

/// A loopback interface has one neighbour only.
const OVER_LOOPBACK: Wire = Wire {
    peer: OVER_VETH.router,
    ..OVER_VETH
};

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

/// Makes interfaces, addresses, routes and neighbours. The uplink is the loopback interface if the
/// kernel cannot be told that a packet came in by another.
pub fn build(loopback: bool) -> Wire {
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        let path = format!("/proc/sys/net/{setting}");
        fs::write(&path, "1").unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    ip(LINKS);
    if loopback {
        ip(&format!(
            "link set lo address {}",
            mac(OVER_LOOPBACK.uplink)
        ));
    }
    let (name, wire) = if loopback {
        ("lo", OVER_LOOPBACK)
    } else {
        ("uplink", OVER_VETH)
    };
    let families = if loopback {
        // The kernel makes IPv6 routes by the loopback interface ones that reject.
        &[ROUTES4][..]
    } else {
        &[ROUTES4, ROUTES6]
    };
    for routes in families {
        let routes = routes
            .replace("{uplink}", name)
            .replace("{router}", &mac(wire.router))
            .replace("{peer}", &mac(wire.peer));
        ip(&routes);
    }
    if !loopback {
        await_local_route(ipv6().node.ip());
    }
    Wire {
        ifindex: ifindex(name),
        ..wire
    }
}

/// Waits until the kernel takes an IPv6 address for its own: it does so some time after the address
/// was added.
fn await_local_route(address: IpAddr) {
    const ROUTES: &str = "/proc/thread-self/net/ipv6_route";
    const PATIENCE: Duration = Duration::from_secs(10);
    let IpAddr::V6(address) = address else {
        panic!("{address} is no IPv6 address")
    };
    // Each line starts with a destination and the length of its prefix, in hexadecimal digits.
    let wanted = format!("{:032x} 80 ", address.to_bits());
    let started = Instant::now();
    loop {
        let routes = fs::read_to_string(ROUTES).unwrap_or_else(|error| panic!("{ROUTES}: {error}"));
        if routes.lines().any(|line| line.starts_with(&wanted)) {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "no route to {address}:\n{routes}"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

fn mac(address: Mac) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
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
