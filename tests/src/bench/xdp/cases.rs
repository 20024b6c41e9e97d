//! What is measured.

use std::net::Ipv4Addr;

use ebpf_abi::tcp::{ACK, SYN};

use super::frame::{Frame, Segment, arp, ipv4, ipv6};
use super::network::{CLIENT6, LOCAL4, REMOTE4, REMOTE6, UNKNOWN4, UNKNOWN6};
use super::rig::Callee;

/// First source port of the clients.
pub const CLIENT_PORT: u16 = 16_384;

/// One row of the report.
#[derive(Clone, Debug)]
pub struct Case {
    /// Key of the row.
    pub name: &'static str,
    /// What the packets are.
    pub title: &'static str,
    /// First client; each case has clients of its own.
    pub client: Ipv4Addr,
    /// Packet of the first flow.
    pub frame: Frame,
    /// How many flows there are.
    pub flows: Flows,
    /// The path that every packet takes.
    pub path: Path,
    /// What becomes of every packet.
    pub verdict: Verdict,
    /// Which tables it meets.
    pub tables: Tables,
}

/// Flows of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    /// One.
    One,
    /// So many, a power of two, always in the order in which they were opened: their entries lie
    /// side by side, which suits caches.
    Many(u32),
    /// So many, but in an order of no pattern, as traffic comes.
    Scattered(u32),
    /// Every packet opens one.
    New,
}

/// What the balancer does with the packets of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The connection is known.
    Hit,
    /// The connection is opened.
    Open,
    /// No frontend: not changed.
    Unmatched,
    /// Not looked up.
    NotIp,
    /// None: in the balancer's place a program does nothing but write one entry into a full table.
    Insert,
}

impl Path {
    /// The program that is measured.
    pub fn callee(self) -> Callee {
        match self {
            Self::Hit | Self::Open | Self::Unmatched | Self::NotIp => Callee::Balancer,
            Self::Insert => Callee::Insert,
        }
    }
}

/// Return codes of XDP (`enum xdp_action`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on to the stack.
    Pass = 2,
    /// Goes back out.
    Transmit = 3,
}

impl Verdict {
    /// The empty program with this verdict.
    pub fn empty(self) -> Callee {
        match self {
            Self::Pass => Callee::Pass,
            Self::Transmit => Callee::Transmit,
        }
    }
}

/// Sets of maps, so that the cases do not evict each other's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// As configured by default, without flow events.
    Default,
    /// Likewise, for the cases of many flows.
    Spread,
    /// Room for a million connections.
    Wide,
    /// By default, with flow events.
    Reporting,
}

impl Tables {
    /// In order of their numbers.
    pub const ALL: [Self; 4] = [Self::Default, Self::Spread, Self::Wide, Self::Reporting];
}

fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, number, 0, 0)
}

fn case4(number: u8, destination: Ipv4Addr, segment: &Segment) -> Case {
    Case {
        name: "",
        title: "",
        client: client(number),
        frame: ipv4((client(number), CLIENT_PORT), destination, segment),
        flows: Flows::One,
        path: Path::Hit,
        verdict: Verdict::Transmit,
        tables: Tables::Default,
    }
}

/// All cases, in the order of the report.
pub fn cases() -> Vec<Case> {
    let mut all = hits();
    all.extend(spread_hits());
    all.extend(openings());
    all.extend(left_alone());
    all
}

fn hits() -> Vec<Case> {
    vec![
        Case {
            name: "tcp_hit",
            title: "established TCP",
            ..case4(0, REMOTE4, &Segment::Tcp(ACK))
        },
        Case {
            name: "tcp_hit_local",
            title: "established TCP, backend on this node",
            verdict: Verdict::Pass,
            ..case4(1, LOCAL4, &Segment::Tcp(ACK))
        },
        Case {
            name: "udp_hit",
            title: "known UDP",
            ..case4(3, REMOTE4, &Segment::Udp)
        },
        Case {
            name: "tcp6_hit",
            title: "established TCP, IPv6",
            frame: ipv6((CLIENT6, CLIENT_PORT), REMOTE6, &Segment::Tcp(ACK)),
            ..case4(4, REMOTE4, &Segment::Tcp(ACK))
        },
        Case {
            name: "syn_same",
            title: "TCP SYN, the same flow",
            ..case4(5, REMOTE4, &Segment::Tcp(SYN))
        },
    ]
}

fn spread_hits() -> Vec<Case> {
    let spread = |flows, tables| Case {
        flows,
        tables,
        ..case4(16, REMOTE4, &Segment::Tcp(ACK))
    };
    vec![
        Case {
            name: "tcp_hit_64k",
            title: "established TCP, 64 Ki flows in order",
            ..spread(Flows::Many(1 << 16), Tables::Spread)
        },
        Case {
            name: "tcp_hit_64k_scattered",
            title: "established TCP, 64 Ki flows scattered",
            ..spread(Flows::Scattered(1 << 16), Tables::Spread)
        },
        Case {
            name: "tcp_hit_512k",
            title: "established TCP, 512 Ki flows in order",
            ..spread(Flows::Many(1 << 19), Tables::Wide)
        },
        Case {
            name: "tcp_hit_512k_scattered",
            title: "established TCP, 512 Ki flows scattered",
            ..spread(Flows::Scattered(1 << 19), Tables::Wide)
        },
    ]
}

fn openings() -> Vec<Case> {
    let opening = |number, destination, flags| Case {
        flows: Flows::New,
        path: Path::Open,
        ..case4(number, destination, &Segment::Tcp(flags))
    };
    vec![
        Case {
            name: "lru_insert",
            title: "(one bare insert into an LRU table)",
            path: Path::Insert,
            ..opening(160, REMOTE4, SYN)
        },
        Case {
            name: "syn_new",
            title: "TCP SYN, ever new flows",
            ..opening(32, REMOTE4, SYN)
        },
        Case {
            name: "syn_new_local",
            title: "TCP SYN, ever new, backend on this node",
            verdict: Verdict::Pass,
            ..opening(64, LOCAL4, SYN)
        },
        Case {
            name: "miss_new",
            title: "table miss, ever new flows",
            ..opening(96, REMOTE4, ACK)
        },
        Case {
            name: "syn_new_events",
            title: "TCP SYN, ever new, with flow events",
            tables: Tables::Reporting,
            ..opening(128, REMOTE4, SYN)
        },
    ]
}

fn left_alone() -> Vec<Case> {
    let pass = |number, destination, segment| Case {
        verdict: Verdict::Pass,
        path: Path::Unmatched,
        ..case4(number, destination, &segment)
    };
    vec![
        Case {
            name: "no_frontend",
            title: "no frontend",
            ..pass(6, UNKNOWN4, Segment::Tcp(ACK))
        },
        Case {
            name: "no_frontend6",
            title: "no frontend, IPv6",
            frame: ipv6((CLIENT6, CLIENT_PORT), UNKNOWN6, &Segment::Tcp(ACK)),
            ..pass(7, UNKNOWN4, Segment::Tcp(ACK))
        },
        Case {
            name: "arp",
            title: "ARP",
            frame: arp(),
            path: Path::NotIp,
            ..pass(8, UNKNOWN4, Segment::Tcp(ACK))
        },
    ]
}
