//! The bench measures what it says: every case's packets take the path the case is named after.
//!
//! Shown by the programs' counters, by the connection table and by the frame that comes out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use aya::maps::{HashMap, MapData};
use ebpf_abi::conntrack::ConntrackKind;
use ebpf_abi::packet::{Frame, Packet, Parsed, parse};
use ebpf_abi::{Addr4, Addr6, Address, ConntrackValue, Tuple};
use weir_tests::bench::xdp::cases::{Case, Flows, Path, Tables, Verdict, cases};
use weir_tests::bench::xdp::network::{
    self, BACKEND_PORT, BACKENDS, NODE4, NODE6, local4, remote4, remote6,
};
use weir_tests::bench::xdp::rig::Rig;

/// Packets of each case, or one for each of its flows if those are more.
const RUNS: u32 = 1 << 15;

#[test]
fn hits_find_the_entry_of_their_connection_and_open_none() {
    prove(
        |case| case.path == Path::Hit,
        |case, seen| {
            let flows = match case.flows {
                Flows::One => 1,
                Flows::Many(flows) | Flows::Scattered(flows) => flows,
                Flows::New => unreachable!("a hit knows its flow"),
            };
            let per_flow = u64::from(seen.runs / flows);
            assert!(seen.counted.is_empty(), "{}: {:?}", case.name, seen.counted);
            assert_eq!(seen.flows.len(), flows as usize, "{}", case.name);
            let even = seen
                .flows
                .iter()
                .all(|(before, after)| after - before == per_flow);
            assert!(even, "{}: not {per_flow} packets for every flow", case.name);
            assert_is_translated(case, seen);
        },
    );
}

#[test]
fn openings_each_add_a_connection_to_a_full_table() {
    prove(
        |case| case.path == Path::Open,
        |case, seen| {
            let runs = u64::from(seen.runs);
            let mut expected = BTreeMap::from([("connections_new", runs)]);
            if case.tables == Tables::Reporting {
                expected.insert("events_sent", runs);
            }
            assert_eq!(seen.counted, expected, "{}", case.name);
            let single = seen.flows.iter().all(|flow| *flow == (0, 1));
            assert!(single, "{}: some flow was met again", case.name);
            let full = seen.entries.1 > 400_000;
            assert!(full, "{}: {} entries", case.name, seen.entries.1);
            assert_is_translated(case, seen);
        },
    );
}

#[test]
fn what_no_frontend_matches_goes_through_unchanged_and_unknown() {
    prove(
        |case| matches!(case.path, Path::Unmatched | Path::NotIp),
        |case, seen| {
            assert!(seen.counted.is_empty(), "{}: {:?}", case.name, seen.counted);
            assert_eq!(seen.entries.0, seen.entries.1, "{}", case.name);
            assert_eq!(seen.frame, case.frame, "{}", case.name);
            let is_ip = parse(&Frame::from_bytes(&case.frame)).is_ok();
            assert_eq!(is_ip, case.path == Path::Unmatched, "{}", case.name);
        },
    );
}

#[test]
fn the_bare_insert_succeeds_beside_the_balancer() {
    // Its verdict says that it wrote the entry; it is checked for all cases.
    prove(
        |case| case.path == Path::Insert,
        |case, seen| {
            assert!(seen.counted.is_empty(), "{}: {:?}", case.name, seen.counted);
            assert_eq!(seen.entries, (0, 0), "{}", case.name);
        },
    );
}

/// What the packets of a case left behind.
struct Seen {
    runs: u32,
    /// Counters that changed, and by how much.
    counted: BTreeMap<&'static str, u64>,
    /// Packets towards a backend, before and after, of each flow that had any meanwhile.
    flows: Vec<(u64, u64)>,
    /// Entries of the connection table, of either direction, before and after.
    entries: (usize, usize),
    /// The last frame, as it came out.
    frame: Vec<u8>,
}

/// Runs the cases wanted and hands what they left to `check`.
fn prove(wanted: impl Fn(&Case) -> bool + Sync, check: impl Fn(&Case, &Seen) + Sync) {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: network namespaces and eBPF programs take root");
        return;
    }
    network::inside(|| {
        let cases: Vec<_> = cases().into_iter().filter(|case| wanted(case)).collect();
        for tables in Tables::ALL {
            let mut cases = cases.iter().filter(|case| case.tables == tables).peekable();
            let Some(_) = cases.peek() else { continue };
            let mut rig = Rig::new(tables)?;
            for case in cases {
                let seen = observe(&mut rig, case)?;
                check(case, &seen);
            }
        }
        Ok(())
    })
    .unwrap();
}

fn observe(rig: &mut Rig, case: &Case) -> anyhow::Result<Seen> {
    rig.fill(case)?;
    rig.warm(case)?;
    let counters = rig.loaded.maps.counters.all()?;
    let before = table(rig, case)?;
    let runs = match case.flows {
        Flows::Many(flows) | Flows::Scattered(flows) => RUNS.max(flows),
        Flows::One | Flows::New => RUNS,
    };
    rig.run(case, case.verdict.empty(), runs)?;
    let outcome = rig.run(case, case.path.callee(), runs)?;
    assert_eq!(outcome.verdict, case.verdict as u32, "{}", case.name);
    let after = table(rig, case)?;
    let counted = counters
        .into_iter()
        .zip(rig.loaded.maps.counters.all()?)
        .map(|((name, before), (_, after))| (name, after - before))
        .filter(|(_, change)| *change > 0);
    let earlier = |flow| before.get(flow).map_or(0, |entry| entry.packets);
    let requests = after
        .iter()
        .filter(|(_, entry)| {
            [ConntrackKind::TO_LOCAL, ConntrackKind::TO_REMOTE].contains(&entry.kind)
        })
        .map(|(flow, entry)| (earlier(flow), entry.packets));
    Ok(Seen {
        runs,
        counted: counted.collect(),
        flows: requests.filter(|(before, after)| before != after).collect(),
        entries: (before.len(), after.len()),
        frame: outcome.frame.to_vec(),
    })
}

struct Entry {
    kind: ConntrackKind,
    packets: u64,
}

/// The connection table that a case's packets meet, by the bytes of its keys.
fn table(rig: &Rig, case: &Case) -> anyhow::Result<BTreeMap<Vec<u8>, Entry>> {
    match parse(&Frame::from_bytes(&case.frame)) {
        Ok(Parsed::V6(_)) => read::<Addr6>(rig, "CONNTRACK6"),
        _ => read::<Addr4>(rig, "CONNTRACK4"),
    }
}

fn read<A: Address>(rig: &Rig, name: &str) -> anyhow::Result<BTreeMap<Vec<u8>, Entry>>
where
    Tuple<A>: aya::Pod,
    ConntrackValue<A>: aya::Pod,
{
    let map = rig
        .loaded
        .programs
        .map(name)
        .context("the map is in the object")?;
    let map: HashMap<&MapData, Tuple<A>, ConntrackValue<A>> = map.try_into()?;
    map.iter()
        .map(|entry| {
            let (key, value) = entry?;
            let (kind, packets) = (value.kind, value.packets);
            Ok((bytemuck::bytes_of(&key).to_vec(), Entry { kind, packets }))
        })
        .collect()
}

/// The frame goes to a backend of the case's service; if it was sent on, from the node, one hop
/// older, to the backend's neighbour address.
fn assert_is_translated(case: &Case, seen: &Seen) {
    let (before, after) = (endpoints(&case.frame), endpoints(&seen.frame));
    let sent_on = case.verdict == Verdict::Transmit;
    let backend: fn(u16) -> IpAddr = match after.destination {
        (IpAddr::V6(_), _) => remote6,
        (IpAddr::V4(_), _) if sent_on => remote4,
        (IpAddr::V4(_), _) => local4,
    };
    let number =
        (1..=BACKENDS).find(|number| after.destination == (backend(*number), BACKEND_PORT));
    let number = number.unwrap_or_else(|| panic!("{}: to {:?}", case.name, after.destination));
    if sent_on {
        assert!(
            [IpAddr::from(NODE4), NODE6.into()].contains(&after.source),
            "{}",
            case.name
        );
        assert_eq!(after.ttl, before.ttl - 1, "{}", case.name);
        let [high, low] = number.to_be_bytes();
        assert_eq!(seen.frame[..6], [2, 0, 0, 0, high, low], "{}", case.name);
    } else {
        assert_ne!(after.source, IpAddr::from(NODE4), "{}", case.name);
        assert_eq!(after.ttl, before.ttl, "{}", case.name);
        assert_eq!(seen.frame[..12], case.frame[..12], "{}", case.name);
    }
}

struct Endpoints {
    source: IpAddr,
    destination: (IpAddr, u16),
    ttl: u8,
}

fn endpoints(frame: &[u8]) -> Endpoints {
    fn of<A: Address + Into<IpAddr>>(packet: &Packet<A>) -> Endpoints {
        let tuple = &packet.tuple;
        Endpoints {
            source: tuple.source.into(),
            destination: (tuple.destination.into(), tuple.destination_port.get()),
            ttl: packet.ttl,
        }
    }
    match parse(&Frame::from_bytes(frame)).expect("the bench feeds whole packets") {
        Parsed::V4(packet) => of(&packet),
        Parsed::V6(packet) => of(&packet),
    }
}
