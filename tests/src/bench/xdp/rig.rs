//! The balancer with services in its maps, the programs that feed it, and one measurement.

use std::net::IpAddr;

use anyhow::Context;
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use bytemuck::{Pod, Zeroable, bytes_of};
use ebpf_abi::bench::{BenchInput, FRAME_LEN};
use ebpf_abi::{BackendId, ServiceId};
use maglev::{Backend, table_size};
use weir_agent::config::{ByteSize, Config, Count};
use weir_agent::datapath::interfaces::UplinkAddresses;
use weir_agent::datapath::load::{Loaded, load};
use weir_agent::lb::apply::LbMaps;
use weir_agent::lb::{BackendAddress, FrontendAddress, FrontendEntry, FrontendReach};
use weir_agent::state::L4Protocol;

use super::cases::{CLIENT_PORT, Case, Flows, Path, Tables};
use super::network::{
    BACKEND_PORT, BACKENDS, FRONTEND_PORT, LOCAL4, NODE4, NODE6, OTHER_FRONTENDS, REMOTE4, REMOTE6,
    UPLINK, local4, other4, other6, remote4, remote6,
};

/// Programs that can be fed, numbered as in the map `CALLEES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callee {
    /// Empty, returns `XDP_PASS`.
    Pass = 0,
    /// Empty, returns `XDP_TX`.
    Transmit = 1,
    /// `xdp_uplink` of the data plane.
    Balancer = 2,
    /// Writes one entry into a table like that of the connections, and nothing else.
    Insert = 3,
}

impl Callee {
    /// The program that feeds it.
    fn feeder(self) -> &'static str {
        match self {
            Self::Pass => "feed_pass",
            Self::Transmit => "feed_tx",
            Self::Balancer => "feed_balancer",
            Self::Insert => "feed_insert",
        }
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What the last run returned.
    pub verdict: u32,
    /// Mean time of a run, of which the kernel tells whole nanoseconds.
    pub nanoseconds: u32,
    /// The frame that the last run left behind.
    pub frame: [u8; FRAME_LEN],
}

/// Programs and maps, apart from those of any other rig.
pub struct Rig {
    /// The data plane, with the maps that the agent does not need.
    pub loaded: Loaded,
    bench: Ebpf,
    input: Array<MapData, BenchInput>,
    /// Number of the next run of a balancer case whose flows are ever new.
    next: u32,
    uplink: u32,
}

/// Step between the flows of a case that visits them in an order of no pattern.
const SCATTER: u32 = 0x9e37_79b1;

/// Runs that bring the entry of a single flow up to date.
const WARM_RUNS: u32 = 64;

/// Connections that a table can hold, so that opening one more evicts one.
const DEFAULT_CONNECTIONS: u32 = 262_144;
const WIDE_CONNECTIONS: u32 = 1 << 20;

/// Room for the events of a round.
const EVENTS_ROOM: ByteSize = ByteSize::from_mib(32);

impl Rig {
    /// Loads everything; the calling thread is in a namespace of [`super::network`].
    pub fn new(tables: Tables) -> anyhow::Result<Self> {
        let mut loaded = load(&config(tables), None)?;
        fill_services(&mut loaded)?;
        let mut bench = EbpfLoader::new().load(ebpf_object::bench()?)?;
        for (_, program) in bench.programs_mut() {
            <&mut Xdp>::try_from(program)?.load()?;
        }
        let pass = xdp(&bench, "xdp_pass")?.fd()?.try_clone()?;
        let transmit = xdp(&bench, "xdp_tx")?.fd()?.try_clone()?;
        let insert = xdp(&bench, "lru_insert")?.fd()?.try_clone()?;
        let map = bench.map_mut("CALLEES").context("map CALLEES")?;
        let mut callees = ProgramArray::try_from(map)?;
        for (callee, program) in [
            (Callee::Pass, &pass),
            (Callee::Transmit, &transmit),
            (Callee::Insert, &insert),
            (Callee::Balancer, xdp(&loaded.programs, "xdp_uplink")?.fd()?),
        ] {
            callees.set(callee as u32, program, 0)?;
        }
        let input = bench.take_map("INPUT").context("map INPUT")?.try_into()?;
        Ok(Self {
            loaded,
            bench,
            input,
            next: 0,
            uplink: nix::net::if_::if_nametoindex(UPLINK)?,
        })
    }

    /// Brings the tables into the state in which a case is measured: its flows known, or the table
    /// full if they are new.
    pub fn fill(&mut self, case: &Case) -> anyhow::Result<()> {
        if case.path == Path::Insert {
            return self
                .feed(case, Callee::Insert, 1, DEFAULT_CONNECTIONS * 5 / 2)
                .map(drop);
        }
        let runs = match case.flows {
            Flows::One => 1,
            Flows::Many(flows) | Flows::Scattered(flows) => flows,
            Flows::New => DEFAULT_CONNECTIONS * 5 / 4,
        };
        self.feed(case, Callee::Balancer, 1, runs).map(drop)
    }

    /// Visits all known flows, as traffic does every second, so that none is due for a check.
    pub fn warm(&mut self, case: &Case) -> anyhow::Result<()> {
        let runs = match case.flows {
            Flows::One => WARM_RUNS,
            Flows::Many(flows) | Flows::Scattered(flows) => flows,
            Flows::New => {
                self.make_room_for_events();
                return Ok(());
            }
        };
        self.feed(case, Callee::Balancer, 1, runs).map(drop)
    }

    /// Feeds a program with the packets of a case.
    pub fn run(&mut self, case: &Case, callee: Callee, runs: u32) -> anyhow::Result<Outcome> {
        let stride = match case.flows {
            Flows::Scattered(_) => SCATTER,
            Flows::One | Flows::Many(_) | Flows::New => 1,
        };
        self.feed(case, callee, stride, runs)
    }

    fn feed(
        &mut self,
        case: &Case,
        callee: Callee,
        flow_stride: u32,
        runs: u32,
    ) -> anyhow::Result<Outcome> {
        let mut input = BenchInput {
            client: case.client.into(),
            port: CLIENT_PORT.into(),
            next: self.next,
            flow_stride,
            flow_mask: match case.flows {
                Flows::Many(flows) | Flows::Scattered(flows) => flows - 1,
                Flows::One | Flows::New => u32::MAX,
            },
            rotate: u32::from(case.flows != Flows::One),
            ..BenchInput::default()
        };
        bytemuck::bytes_of_mut(&mut input.frame).copy_from_slice(&case.frame);
        self.input.set(0, input, 0)?;
        if matches!(callee, Callee::Balancer | Callee::Insert) {
            self.next = self.next.wrapping_add(runs);
        }
        self.test_run(callee.feeder(), runs)
    }

    /// Runs an empty program by itself.
    pub fn run_alone(&mut self, callee: Callee, runs: u32) -> anyhow::Result<Outcome> {
        let program = match callee {
            Callee::Pass => "xdp_pass",
            Callee::Transmit => "xdp_tx",
            Callee::Balancer | Callee::Insert => {
                anyhow::bail!("{callee:?} is to be fed, or it sees one flow for ever")
            }
        };
        self.test_run(program, runs)
    }

    fn test_run(&self, program: &str, runs: u32) -> anyhow::Result<Outcome> {
        let mut frame = [0; FRAME_LEN];
        let context = XdpContext {
            data_end: FRAME_LEN as u32,
            ingress_ifindex: self.uplink,
            ..XdpContext::zeroed()
        };
        let result = xdp(&self.bench, program)?.test_run(TestRunOptions {
            data_in: Some(&[0; FRAME_LEN]),
            data_out: Some(&mut frame),
            ctx_in: Some(bytes_of(&context)),
            repeat: runs,
            ..TestRunOptions::default()
        })?;
        Ok(Outcome {
            verdict: result.return_value,
            nanoseconds: result.duration.as_nanos() as u32,
            frame,
        })
    }

    /// Takes the flow events away as the agent does, so that writing one does not fail early.
    fn make_room_for_events(&mut self) {
        self.loaded.maps.events.drain(usize::MAX, |_| {});
    }
}

/// Context of XDP programs (`struct xdp_md`, include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct XdpContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

fn xdp<'a>(programs: &'a Ebpf, name: &str) -> anyhow::Result<&'a Xdp> {
    let program = programs
        .program(name)
        .with_context(|| format!("program {name}"))?;
    Ok(program.try_into()?)
}

fn config(tables: Tables) -> Config {
    let mut config = Config::default();
    config.load_balancer.connections_v4 = match tables {
        Tables::Default | Tables::Spread | Tables::Reporting => Count::new(DEFAULT_CONNECTIONS),
        Tables::Wide => Count::new(WIDE_CONNECTIONS),
    };
    config.flows.enabled = tables == Tables::Reporting;
    config.flows.ring_buffer_bytes = EVENTS_ROOM;
    config
}

/// A service: its frontend, and where its backends are.
struct Service {
    id: ServiceId,
    frontend: IpAddr,
    local: bool,
    backend: fn(u16) -> IpAddr,
}

const SERVICES: [Service; 3] = [
    Service {
        id: ServiceId(1),
        frontend: IpAddr::V4(REMOTE4),
        local: false,
        backend: remote4,
    },
    Service {
        id: ServiceId(2),
        frontend: IpAddr::V4(LOCAL4),
        local: true,
        backend: local4,
    },
    Service {
        id: ServiceId(3),
        frontend: IpAddr::V6(REMOTE6),
        local: false,
        backend: remote6,
    },
];

/// Writes the services into the maps, with the code and in the order that the agent uses.
fn fill_services(loaded: &mut Loaded) -> anyhow::Result<()> {
    let balancer = &mut loaded.maps.balancer;
    for service in &SERVICES {
        let first = service.id.0 * u32::from(BACKENDS);
        let mut names = Vec::new();
        for number in 1..=BACKENDS {
            let backend = BackendAddress {
                ip: (service.backend)(number),
                port: BACKEND_PORT,
                local: service.local,
            };
            balancer.insert_backend(BackendId(first + u32::from(number)), &backend)?;
            names.push(backend.ip.to_string());
        }
        let slots: Vec<BackendId> = table(&names)?
            .into_iter()
            .map(|index| BackendId(first + 1 + index))
            .collect();
        balancer.swap_table(service.id, &slots)?;
        insert_frontends(balancer, service.id, service.frontend)?;
    }
    for number in 1..=OTHER_FRONTENDS {
        for address in [other4(number), other6(number)] {
            insert_frontends(balancer, ServiceId(u32::MAX), address)?;
        }
    }
    loaded.maps.settings.set_addresses(UplinkAddresses {
        v4: Some(NODE4),
        v6: Some(NODE6),
    })?;
    Ok(())
}

fn insert_frontends(
    balancer: &mut impl LbMaps,
    service: ServiceId,
    ip: IpAddr,
) -> anyhow::Result<()> {
    for protocol in [L4Protocol::Tcp, L4Protocol::Udp] {
        let frontend = FrontendAddress {
            ip,
            port: FRONTEND_PORT,
            protocol,
        };
        let entry = FrontendEntry {
            service,
            reach: FrontendReach::Everybody,
        };
        balancer.insert_frontend(&frontend, entry)?;
    }
    Ok(())
}

/// Slots of a table of backends with these names, as indices into them.
fn table(names: &[String]) -> anyhow::Result<Vec<u32>> {
    const LOAD_FACTOR: usize = 100;
    let backends: Vec<Backend<'_>> = names
        .iter()
        .map(|name| Backend {
            name: name.as_bytes(),
            weight: 1,
        })
        .collect();
    let mut slots = Vec::new();
    maglev::build(&backends, table_size(names.len(), LOAD_FACTOR), &mut slots)?;
    Ok(slots)
}
