//! A node without an agent: the programs loaded, the maps written by the test.

mod ability;
mod run;

use std::collections::BTreeMap;
use std::env;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aya::Ebpf;
use aya::programs::Program;
use ebpf_abi::{Addr4, Addr6, BackendId, Counter, FlowEvent, IpcacheValue, NodeId, ServiceId};
use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::time::{ClockId, clock_getres};
use weir_agent::config::Config;
use weir_agent::datapath::encryption_maps::EncryptionMaps;
use weir_agent::datapath::interfaces::UplinkAddresses;
use weir_agent::datapath::maps::BalancerMaps;
use weir_agent::datapath::program_log::ProgramLog;
use weir_agent::datapath::settings::Settings;
use weir_agent::datapath::{LoadError, Loaded, load};
use weir_agent::encryption::Prefix;
use weir_agent::encryption::desired::ranges::Ranges;
use weir_agent::lb::apply::LbMaps;
use weir_agent::lb::{BackendAddress, FrontendAddress, FrontendEntry, FrontendReach};
use weir_agent::state::L4Protocol;

use crate::network::{self, Wire, families, ifindex};
use crate::packet::Packet;
use crate::tables::{self, Entry};
use crate::test_run::{self, Interfaces};

pub use ability::Need;
pub use run::{Hook, Verdict};

/// Runs all tests as kernels before 5.14 force them to: XDP on the loopback interface.
const LOOPBACK_VARIABLE: &str = "WEIR_PACKETS_OVER_LOOPBACK";
/// Number of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;
/// Any frame that no program has to do with.
const PROBE: &[u8] = &[0; 64];
/// The other node, where one is known.
pub const OTHER_NODE: NodeId = NodeId(9);

/// The data plane of one node in the thread's network namespace.
pub struct Node {
    loaded: Loaded,
    /// The uplink.
    pub wire: Wire,
    pods: u32,
    /// The kernel can be told by which interface an XDP frame came in (5.14).
    names_xdp_interface: bool,
    /// The kernel can be told by which interface a buffer came in.
    names_ingress: bool,
    counted: BTreeMap<&'static str, u64>,
}

/// Small tables, so that a node is quickly made.
pub fn small_config() -> Config {
    let mut config = Config::default();
    config.load_balancer.connections_v4 = weir_agent::config::Count::new(4_096);
    config.load_balancer.connections_v6 = weir_agent::config::Count::new(4_096);
    config
}

/// Likewise with encryption on.
pub fn encrypting(strict: bool) -> Config {
    let mut config = small_config();
    config.encryption.enabled = true;
    config.encryption.strict_mode.enabled = strict;
    config
}

/// The data plane that most tests use one after the other: loading it takes longer than most of
/// them, and minutes where a machine is emulated.
static SHARED: Mutex<Option<Loaded>> = Mutex::new(None);

/// Runs a test on a configured node with nothing to balance.
pub fn on_node(test: impl FnOnce(&mut Node) + Send) {
    on_node_with(&small_config(), test);
}

/// Likewise with this configuration, capacities of maps left aside.
pub fn on_node_with(config: &Config, test: impl FnOnce(&mut Node) + Send) {
    network::isolated(|| {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = shared.take().unwrap_or_else(|| load(&small_config()));
        let mut node = Node::over(loaded);
        node.clear();
        node.settings().set_config(config).expect("CONFIG");
        node.configure();
        test(&mut node);
        // Not reached by a test that fails, whose maps nobody wants.
        *shared = Some(node.loaded);
    });
}

/// Runs a test on a node of its own that has not been configured.
pub fn on_new_node(config: &Config, test: impl FnOnce(&mut Node) + Send) {
    network::isolated(|| test(&mut Node::over(load(config))));
}

/// Likewise on a configured one whose programs are those of another object.
pub fn on_node_of(object: &[u8], config: &Config, test: impl FnOnce(&mut Node) + Send) {
    network::isolated(|| {
        let loaded =
            load::load_object(object, config, None).unwrap_or_else(|error| refused(&error));
        let mut node = Node::over(loaded);
        node.configure();
        test(&mut node);
    });
}

impl Node {
    fn over(loaded: Loaded) -> Self {
        let names_xdp_interface = env::var_os(LOOPBACK_VARIABLE).is_none()
            && test_run::xdp(fd(&loaded.programs, "xdp_uplink"), PROBE, Some(LOOPBACK)).is_ok();
        let interfaces = Interfaces {
            ifindex: LOOPBACK,
            ingress: LOOPBACK,
            mark: 0,
            segment: 0,
        };
        let tc = fd(&loaded.programs, "tc_uplink_in");
        let names_ingress = test_run::tc(tc, PROBE, interfaces, false).is_ok();
        let wire = network::build(!names_xdp_interface);
        Self {
            loaded,
            wire,
            pods: ifindex("pods"),
            names_xdp_interface,
            names_ingress,
            counted: BTreeMap::new(),
        }
    }

    /// Removes what an earlier test left.
    fn clear(&mut self) {
        let maps = &mut self.loaded.maps.balancer;
        for (frontend, _) in maps.frontends().expect("FRONTENDS") {
            maps.remove_frontend(&frontend).expect("FRONTENDS");
        }
        for service in maps.tables().expect("MAGLEV") {
            maps.remove_table(service).expect("MAGLEV");
        }
        for (id, backend) in maps.backends().expect("BACKENDS") {
            maps.remove_backend(id, &backend).expect("BACKENDS");
        }
        tables::clear::<Addr4>(&mut self.loaded.programs);
        tables::clear::<Addr6>(&mut self.loaded.programs);
        let encryption = &mut self.loaded.maps.encryption;
        encryption.set_ranges(&Ranges::new()).expect("IPCACHE");
        for (node, _) in encryption.account.read().expect("TRAFFIC").into_keys() {
            encryption.account.forget(node).expect("TRAFFIC");
        }
        self.events();
        self.counted();
    }

    /// Lets the programs balance, as the agent does once it knows the uplink's addresses.
    pub fn configure(&mut self) {
        self.set_addresses(families().map(|of| of.node.ip()));
    }

    /// Sets the node's IPv4 and IPv6 address.
    pub fn set_addresses(&mut self, addresses: [IpAddr; 2]) {
        let [IpAddr::V4(v4), IpAddr::V6(v6)] = addresses else {
            panic!("not one of each family: {addresses:?}")
        };
        let addresses = UplinkAddresses {
            v4: Some(v4),
            v6: Some(v6),
        };
        self.settings().set_addresses(addresses).expect("CONFIG");
    }

    /// All programs with their names.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &Program)> {
        self.loaded.programs.programs()
    }

    /// The maps that the load balancer writes.
    pub fn balancer(&mut self) -> &mut BalancerMaps {
        &mut self.loaded.maps.balancer
    }

    /// Makes an address of the other node known with these flags, and no other one.
    pub fn know(&mut self, address: IpAddr, flags: u32) {
        self.know_all(&[(address, flags)]);
    }

    /// Likewise for several addresses.
    pub fn know_all(&mut self, addresses: &[(IpAddr, u32)]) {
        let value = |flags| IpcacheValue {
            node: OTHER_NODE,
            flags,
        };
        let ranges = addresses
            .iter()
            .map(|(address, flags)| (Prefix::from(*address), value(*flags)));
        let ranges: Ranges = ranges.collect();
        self.encryption().set_ranges(&ranges).expect("IPCACHE");
    }

    /// The maps of encryption.
    pub fn encryption(&mut self) -> &mut EncryptionMaps {
        &mut self.loaded.maps.encryption
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.loaded.maps.settings
    }

    /// What the programs say; only those built for debugging do, and it can be taken once.
    pub fn take_log(&mut self) -> ProgramLog {
        self.loaded.log.take().expect("programs with log lines")
    }

    /// A TCP and a UDP frontend for clients anywhere.
    pub fn frontend(&mut self, address: SocketAddr, service: u32) {
        self.add_frontend(address, service, FrontendReach::Everybody);
    }

    /// Likewise for the inside only.
    pub fn internal_frontend(&mut self, address: SocketAddr, service: u32) {
        self.add_frontend(address, service, FrontendReach::Cluster);
    }

    /// A NodePort at this node.
    pub fn node_port(&mut self, address: SocketAddr, service: u32) {
        self.add_frontend(address, service, FrontendReach::NodePort);
    }

    fn add_frontend(&mut self, address: SocketAddr, service: u32, reach: FrontendReach) {
        for protocol in [L4Protocol::Tcp, L4Protocol::Udp] {
            let frontend = FrontendAddress {
                ip: address.ip(),
                port: address.port(),
                protocol,
            };
            let entry = FrontendEntry {
                service: ServiceId(service),
                reach,
            };
            self.balancer()
                .insert_frontend(&frontend, entry)
                .expect("FRONTENDS");
        }
    }

    /// A service's only backend, with the service's number.
    pub fn backend(&mut self, service: u32, address: SocketAddr, local: bool) {
        let id = BackendId(service);
        let backend = BackendAddress {
            ip: address.ip(),
            port: address.port(),
            local,
        };
        self.balancer()
            .insert_backend(id, &backend)
            .expect("BACKENDS");
        self.balancer()
            .swap_table(ServiceId(service), &[id; 251])
            .expect("MAGLEV");
    }

    /// A frontend with one backend.
    pub fn service(&mut self, id: u32, frontend: SocketAddr, backend: SocketAddr, local: bool) {
        self.backend(id, backend, local);
        self.frontend(frontend, id);
    }

    /// What was counted since the last call, by name; what stayed is left out.
    pub fn counted(&mut self) -> BTreeMap<&'static str, u64> {
        let now: BTreeMap<_, _> = self
            .loaded
            .maps
            .counters
            .all()
            .expect("COUNTERS")
            .into_iter()
            .collect();
        let before = std::mem::replace(&mut self.counted, now.clone());
        now.into_iter()
            .map(|(name, value)| (name, value - before.get(name).unwrap_or(&0)))
            .filter(|(_, grown)| *grown != 0)
            .collect()
    }

    /// Asserts what was counted since the last look, events that were sent left aside.
    #[track_caller]
    pub fn expect_counted(&mut self, expected: &[(Counter, u64)]) {
        let mut counted = self.counted();
        counted.remove(name_of(Counter::EventsSent));
        let expected: BTreeMap<_, _> = expected
            .iter()
            .map(|(counter, value)| (name_of(*counter), *value))
            .collect();
        assert_eq!(counted, expected);
    }

    /// The events written since the last call.
    pub fn events(&mut self) -> Vec<FlowEvent> {
        let mut events = Vec::new();
        self.loaded.maps.events.drain(usize::MAX, |record| {
            events.push(*bytemuck::from_bytes(record));
        });
        events
    }

    /// The connection table's entry for packets with these ends.
    pub fn entry(&self, packet: &Packet) -> Option<Entry> {
        if packet.source.is_ipv4() {
            tables::entry::<Addr4>(&self.loaded.programs, packet)
        } else {
            tables::entry::<Addr6>(&self.loaded.programs, packet)
        }
    }

    /// Removes it, as the kernel does when the table is full.
    pub fn remove_entry(&mut self, packet: &Packet) {
        if packet.source.is_ipv4() {
            tables::remove::<Addr4>(&mut self.loaded.programs, packet);
        } else {
            tables::remove::<Addr6>(&mut self.loaded.programs, packet);
        }
    }

    /// Number of entries in both connection tables.
    pub fn entries(&self) -> usize {
        tables::entries::<Addr4>(&self.loaded.programs)
            + tables::entries::<Addr6>(&self.loaded.programs)
    }

    /// Makes all connections and flows look as if this time had gone by since their last packet.
    pub fn let_pass(&mut self, seconds: f64) {
        let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
        let tick = Duration::from(resolution).as_nanos();
        let ticks = Duration::from_secs_f64(seconds).as_nanos() / tick;
        let ticks = u32::try_from(ticks).expect("less than the ticks wrap after");
        tables::age::<Addr4>(&mut self.loaded.programs, ticks);
        tables::age::<Addr6>(&mut self.loaded.programs, ticks);
    }

    /// Name of the uplink.
    pub fn uplink_name(&self) -> &'static str {
        if self.names_xdp_interface {
            "uplink"
        } else {
            "lo"
        }
    }
}

fn load(config: &Config) -> Loaded {
    // Kernels before 5.11 count maps as locked memory. Where it may not be raised it need not.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, rlim_t::MAX, rlim_t::MAX);
    load::load(config, None).unwrap_or_else(|error| refused(&error))
}

fn refused(error: &LoadError) -> ! {
    let source = std::error::Error::source(error);
    panic!("the programs do not load: {error}: {source:?}")
}

fn fd<'a>(programs: &'a Ebpf, name: &str) -> BorrowedFd<'a> {
    let program = programs.program(name).expect("one of the object's");
    program.fd().expect("loaded").as_fd()
}

fn name_of(counter: Counter) -> &'static str {
    Counter::ALL[counter as usize].1
}
