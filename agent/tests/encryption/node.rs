//! A node: a thread in a network namespace of its own, with a device of ours in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use weir_agent::encryption::device::{Backend, Device, DeviceSettings, DeviceState, ProcessPaths};
use weir_agent::encryption::key::{PrivateKey, PublicKey};
use weir_agent::encryption::link::Netlink;
use weir_agent::encryption::peers::{self, PeerConfig, Peers};
use weir_agent::encryption::routing::{
    self, Family, Route, RouteTarget, Routing, Rule, RuleAction, Selector,
};
use weir_agent::encryption::{FirewallMark, Port, Prefix, RouteTable, RulePriority};

/// UDP port of every device.
pub const PORT: u16 = 51871;

/// Whether this is root; if not, says that the test is skipped.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: network namespaces and devices take root");
    }
    root
}

/// Who encrypts in these tests: a process, unless `WEIR_TEST_WIREGUARD` says `kernel`.
pub fn backend() -> Backend {
    match std::env::var("WEIR_TEST_WIREGUARD").as_deref() {
        Ok("kernel") => Backend::Kernel,
        _ => Backend::Userspace,
    }
}

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Waits until something is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patiently(DEADLINE);
    while !so() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Longer on machines that say that they are slow, as emulated ones do (`WEIR_PATIENCE`).
pub fn patiently(usual: Duration) -> Duration {
    let factor = std::env::var("WEIR_PATIENCE").ok();
    usual * factor.and_then(|it| it.parse().ok()).unwrap_or(1)
}

/// Whether devices have a process; if not, says that the test is skipped.
pub fn has_process() -> bool {
    let process = backend() == Backend::Userspace;
    if !process {
        println!("SKIPPED: the kernel's device has no process");
    }
    process
}

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace and what runs in it.
pub struct Node {
    /// 1 or 2: part of every address.
    pub number: u8,
    pub key: PrivateKey,
    /// Of the test, so that devices of other tests have other names: their sockets are in one
    /// folder.
    name: String,
    folder: tempfile::TempDir,
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
    pub tid: i32,
}

impl Node {
    pub fn new(test: &str, number: u8) -> Self {
        let (work, queue) = mpsc::channel::<Work>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
            tell.send(nix::unistd::gettid().as_raw())
                .expect("someone waits");
            for work in queue {
                work();
            }
        });
        let node = Self {
            number,
            key: PrivateKey::generate(),
            name: format!("wt-{test}{number}"),
            folder: tempfile::tempdir().expect("a temporary folder"),
            work: Some(work),
            thread: Some(thread),
            tid: told.recv().expect("the thread runs"),
        };
        node.ip("link set lo up");
        node.ip(&format!("address add {}/32 dev lo", node.pod(Family::V4)));
        node.ip(&format!(
            "address add {}/128 dev lo nodad",
            node.pod(Family::V6)
        ));
        node
    }

    /// Two nodes with a wire between them.
    pub fn pair(test: &str) -> (Self, Self) {
        let (one, two) = (Self::new(test, 1), Self::new(test, 2));
        one.ip(&format!(
            "link add wire type veth peer name wire netns {}",
            two.tid
        ));
        for node in [&one, &two] {
            let number = node.number;
            node.ip(&format!("address add 192.0.2.{number}/24 dev wire"));
            node.ip(&format!("address add 2001:db8::{number}/64 dev wire nodad"));
            node.ip("link set wire up");
        }
        (one, two)
    }

    /// Runs something in the namespace.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let work = Box::new(move || drop(tell.send(work())));
        self.work
            .as_ref()
            .expect("until dropped")
            .send(work)
            .expect("the thread runs");
        told.recv()
            .expect("the work in the namespace did not panic")
    }

    /// Runs something asynchronous in the namespace.
    pub fn block_on<T: Send + 'static, F: Future<Output = T>>(
        &self,
        work: impl FnOnce(Netlink) -> F + Send + 'static,
    ) -> T {
        self.run(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async { work(Netlink::connect().expect("a socket")).await })
        })
    }

    /// Runs `ip` with these words.
    pub fn ip(&self, words: &str) {
        self.output(&format!("ip {words}"));
    }

    /// What a command says.
    pub fn output(&self, command: &str) -> String {
        let command = command.to_owned();
        self.run(move || {
            let mut words = command.split(' ');
            let output = Command::new(words.next().expect("a program"))
                .args(words)
                .output();
            let output = output.expect("it is installed");
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {errors}");
            String::from_utf8(output.stdout).expect("text")
        })
    }

    /// Address of the one pod.
    pub fn pod(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => [10, self.number, 0, 1].into(),
            Family::V6 => [0xfd00, self.number.into(), 0, 0, 0, 0, 0, 1].into(),
        }
    }

    /// Prefixes of the pods.
    pub fn pods(&self) -> BTreeSet<Prefix> {
        let all = [(Family::V4, 16), (Family::V6, 32)];
        let all = all.map(|(family, length)| Prefix::new(self.pod(family), length));
        all.into_iter().collect::<Result<_, _>>().expect("valid")
    }

    pub fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// Where the other node sends encrypted packets.
    pub fn endpoint(&self, family: Family) -> SocketAddr {
        let address: IpAddr = match family {
            Family::V4 => [192, 0, 2, self.number].into(),
            Family::V6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, self.number.into()].into(),
        };
        SocketAddr::new(address, PORT)
    }

    pub fn settings(&self) -> DeviceSettings {
        DeviceSettings {
            name: self.name.parse().expect("short enough"),
            port: Port::try_from(PORT).expect("not 0"),
            mark: FirewallMark::try_from(0xe1f0).expect("not 0"),
            mtu: 1420,
        }
    }

    pub fn paths(&self) -> ProcessPaths {
        ProcessPaths {
            program: PathBuf::from(env!("CARGO_BIN_EXE_weir-agent")),
            folder: self.folder.path().to_owned(),
            separate: false,
        }
    }

    /// Makes the device, with its key.
    pub fn create(&self) -> Device {
        let (settings, paths, key) = (self.settings(), self.paths(), self.key.clone());
        self.block_on(async move |netlink| {
            let device = Device::create(&netlink, &settings, backend(), &paths).await;
            let device = device.expect("created");
            device.set_private_key(&key, &[]).await.expect("set");
            device
        })
    }

    /// What the device is.
    pub fn state(&self) -> DeviceState {
        let (settings, paths) = (self.settings(), self.paths());
        self.block_on(async move |netlink| {
            let device = Device::create(&netlink, &settings, backend(), &paths).await;
            let state = device.expect("adopted").state().await;
            (*state.expect("answers")).clone()
        })
    }

    /// Brings the peers of the device in step; returns how many changes it took.
    pub fn sync(&self, desired: Peers) -> usize {
        let (settings, paths) = (self.settings(), self.paths());
        self.block_on(async move |netlink| {
            let device = Device::create(&netlink, &settings, backend(), &paths).await;
            let device = device.expect("adopted");
            let actual = device.state().await.expect("answers");
            let changes = peers::plan(&desired, &actual.peers);
            device.apply(&changes).await.expect("applied");
            let actual = device.state().await.expect("answers");
            assert_eq!(peers::plan(&desired, &actual.peers), []);
            changes.len()
        })
    }

    /// The other node, as a peer.
    pub fn as_peer(&self, family: Family) -> PeerConfig {
        PeerConfig {
            endpoint: Some(self.endpoint(family)),
            allowed_ips: self.pods(),
            ..PeerConfig::default()
        }
    }

    /// Leads the other's pods into the device; returns how many changes it took.
    pub fn route_to(&self, other: &Self) -> usize {
        let device = self.create();
        let sources = BTreeMap::from(Family::ALL.map(|family| (family, self.pod(family))));
        let routes = other.pods().into_iter().map(|to| {
            let route = Route {
                to,
                target: RouteTarget::Device(device.index()),
                source: Some(sources[&Family::of(to)]),
                mtu: Some(1400),
            };
            (route.key(), route)
        });
        let rules = Family::ALL.map(|family| Rule {
            family,
            priority: RulePriority::try_from(101).expect("valid"),
            selector: Selector {
                mark: Some((self.settings().mark, u32::MAX)),
                not: true,
                ..Selector::default()
            },
            action: RuleAction::Table(table()),
        });
        let desired = Routing {
            rules: rules.into(),
            routes: routes.collect(),
        };
        self.block_on(async move |netlink| {
            routing::apply(&netlink, table(), &desired)
                .await
                .expect("applied")
        })
    }

    /// Number of the device's process, as its record has it.
    pub fn process(&self) -> Option<i32> {
        let record = format!("wireguard-{}.json", self.name);
        let text = std::fs::read_to_string(self.folder.path().join(record)).ok()?;
        let record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        Some(record["pid"].as_i64().expect("a number") as i32)
    }

    /// Removes the device.
    pub fn delete(&self) {
        let (settings, paths) = (self.settings(), self.paths());
        self.block_on(async move |netlink| {
            let deleted = Device::delete_by_name(&netlink, &settings.name, &paths).await;
            deleted.expect("deleted");
        });
    }
}

pub fn table() -> RouteTable {
    RouteTable::try_from(51871).expect("valid")
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.delete();
        }
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            // The panic of the work was told where it was waited for.
            let _told = thread.join();
        }
    }
}
