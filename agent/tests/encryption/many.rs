//! A device with a thousand peers: how long the first and one more change take.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weir_agent::encryption::Prefix;
use weir_agent::encryption::device::Device;
use weir_agent::encryption::key::{ClusterSecret, PublicKey};
use weir_agent::encryption::peers::{self, PeerConfig, Peers};

use crate::node::{Node, backend, is_root, patiently};

const PEERS: u16 = 1000;

/// Bounds of the issue; builds without optimisation are given more.
const FIRST: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
const ONE_MORE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 10 });

fn peer(number: u16) -> (PublicKey, PeerConfig) {
    let [high, low] = number.to_be_bytes();
    let mut bytes = [9; 32];
    (bytes[0], bytes[1]) = (high, low);
    let key = PublicKey::new(bytes).expect("not zero");
    let secret = ClusterSecret::new(&[7; 32]).expect("long enough");
    let pods = [
        Prefix::new([10, high, low, 0].into(), 24),
        Prefix::new(IpAddr::from([0xfd00, number, 0, 0, 0, 0, 0, 0]), 64),
    ];
    let config = PeerConfig {
        endpoint: Some(SocketAddr::new([192, 0, high, low].into(), 51871)),
        allowed_ips: pods.into_iter().collect::<Result<_, _>>().expect("valid"),
        preshared_key: Some(secret.preshared_key(key, key)),
        keepalive_seconds: None,
    };
    (key, config)
}

#[test]
fn a_thousand_peers_are_written_within_a_second_and_one_change_within_10_ms() {
    if !is_root() {
        return;
    }
    let node = Node::new("many", 1);
    node.create();
    let (settings, paths) = (node.settings(), node.paths());
    node.block_on(async move |netlink| {
        let device = Device::create(&netlink, &settings, backend(), &paths).await;
        let device = device.expect("adopted");
        let sync = async |desired: &Peers| {
            let start = Instant::now();
            let actual = device.state().await.expect("answers");
            let changes = peers::plan(desired, &actual.peers);
            device.apply(&changes).await.expect("applied");
            (changes.len(), start.elapsed())
        };
        let mut desired: Peers = (0..PEERS).map(peer).collect();
        let (changes, first) = sync(&desired).await;
        assert_eq!(changes, usize::from(PEERS));
        device.forget();
        let state = device.state().await.expect("answers");
        assert_eq!(state.peers, desired);

        let mut times = Vec::new();
        for number in 0..20 {
            let (key, mut config) = peer(number);
            config.allowed_ips.pop_first();
            desired.insert(key, config);
            let (changes, time) = sync(&desired).await;
            assert_eq!(changes, 1);
            times.push(time);
        }
        device.forget();
        let state = device.state().await.expect("answers");
        assert_eq!(state.peers, desired, "as the device has it");
        times.sort_unstable();
        let median = times[times.len() / 2];
        println!(
            "{PEERS} peers: first {first:?}, one change {median:?} (slowest {:?})",
            times[19]
        );
        assert!(first < patiently(FIRST), "first {first:?}");
        assert!(median < patiently(ONE_MORE), "one change {median:?}");
    });
}
