//! The device that encrypts while agents and its own process come and go: the kernel's where it has
//! one, else a process.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::{Node, Pod};
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, wait};

use crate::setting::{SOON, ordinary};

/// Age beyond which a session may be replaced because of its age alone (WireGuard: 120 s).
const YOUNG: Duration = Duration::from_secs(110);
/// Age from which a session is that of both nodes: a first handshake that was not answered is tried
/// again after five seconds and a little (`REKEY_TIMEOUT` of WireGuard), and may come after the other
/// node's own.
const SETTLED: Duration = Duration::from_secs(7);

fn start(name: &str, config: AgentConfig) -> Result<(Cluster, [IpAddr; 2])> {
    let config = AgentConfig {
        encryption: true,
        ..config
    };
    let cluster = ordinary(name).agents(config).start()?;
    cluster.serve()?;
    cluster.distribute_keys()?;
    let addresses = remote(&cluster)?.address().both();
    for address in addresses {
        wait::until(&format!("pod {address} to answer"), SOON, || {
            ask(&cluster, address, 1)
        })?;
    }
    wait::until("the sessions to settle", SOON, || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let is_settled =
            |session: &Session| now >= Duration::from_secs(session.handshake) + SETTLED;
        let sessions = sessions(&cluster)?;
        ensure!(sessions.iter().all(is_settled), "{sessions:?} at {now:?}");
        Ok(())
    })?;
    Ok((cluster, addresses))
}

/// With a device whose process is a service of its own.
fn start_apart(name: &str) -> Result<(Cluster, [IpAddr; 2])> {
    let wireguard = json!({ "implementation": "userspace", "process": "separate" });
    let config = AgentConfig {
        encryption_settings: json!({ "wireguard": wireguard }),
        ..AgentConfig::default()
    };
    start(name, config)
}

/// A serving pod of the other node than that of `asker`.
fn remote(cluster: &Cluster) -> Result<&Pod> {
    let here = cluster.pod("asker")?.node_name();
    let mut pods = cluster.web_pods();
    let found = pods.find(|pod| pod.node_name() != here);
    found.with_context(|| format!("all pods are on {here}"))
}

/// Requests from `asker`, none of which may fail.
fn ask(cluster: &Cluster, address: IpAddr, requests: u32) -> Result<()> {
    let traffic = cluster.pod("asker")?.http(address, HTTP_PORT);
    let traffic = traffic.requests(requests).timeout(Duration::from_secs(1));
    let report = traffic.run()?;
    ensure!(report.failed == 0, "{:?}", report.failures.0);
    Ok(())
}

/// What the device tells of its one peer.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    /// End of the last handshake, in seconds since 1970.
    handshake: u64,
    received: u64,
    sent: u64,
}

fn session(node: &Node) -> Result<Session> {
    let text = node.output("wg", &["show", "weir_wg0", "dump"])?;
    let peer = text.lines().nth(1).context("no peer")?;
    // Key, secret, endpoint, allowed IPs, last handshake, received, sent, keepalive.
    let numbers: Vec<u64> = peer
        .split('\t')
        .skip(4)
        .map_while(|word| word.parse().ok())
        .collect();
    let [handshake, received, sent, ..] = numbers[..] else {
        anyhow::bail!("wg printed {text:?}");
    };
    Ok(Session {
        handshake,
        received,
        sent,
    })
}

fn nodes(cluster: &Cluster) -> Result<[&Node; 2]> {
    Ok([cluster.node("node1")?, cluster.node("node2")?])
}

fn sessions(cluster: &Cluster) -> Result<[Session; 2]> {
    let [one, two] = nodes(cluster)?;
    Ok([session(one)?, session(two)?])
}

/// Asserts that the sessions are the same ones, and carried packets since.
fn assert_went_on(before: &[Session; 2], after: &[Session; 2]) {
    for (before, after) in before.iter().zip(after) {
        assert_eq!(before.handshake, after.handshake, "no new handshake");
        assert!(after.received > before.received, "{before:?}, {after:?}");
        assert!(after.sent > before.sent, "{before:?}, {after:?}");
    }
}

#[test]
fn a_restart_of_the_agent_forces_no_handshake() -> Result<()> {
    let (cluster, addresses) = start("enc-session", AgentConfig::default())?;
    let agent = cluster.node("node1")?.agent()?;
    let session_began = Instant::now();
    let before = sessions(&cluster)?;
    agent.kill9()?;
    ask(&cluster, addresses[0], 20)?;
    agent.start()?;
    ask(&cluster, addresses[1], 20)?;
    let after = sessions(&cluster)?;
    ensure!(
        session_began.elapsed() < YOUNG,
        "the machine is too slow for this test: the session has become too old to tell"
    );
    assert_went_on(&before, &after);
    Ok(())
}

#[test]
fn the_device_goes_on_when_all_processes_of_the_agent_are_ended() -> Result<()> {
    let (cluster, addresses) = start_apart("enc-apart")?;
    let agent = cluster.node("node1")?.agent()?;
    let before = sessions(&cluster)?;
    agent.kill_cgroup()?;
    for address in addresses {
        ask(&cluster, address, 50)?;
    }
    assert_went_on(&before, &sessions(&cluster)?);
    agent.start()?;
    for address in addresses {
        ask(&cluster, address, 50)?;
    }
    assert_went_on(&before, &sessions(&cluster)?);
    Ok(())
}

#[test]
fn a_device_whose_process_was_killed_is_set_up_again() -> Result<()> {
    let (cluster, addresses) = start_apart("enc-device")?;
    let agent = cluster.node("node1")?.agent()?;
    let before = session(cluster.node("node1")?)?;
    let begun = Instant::now();
    agent.device_service()?.kill9()?;
    ask(&cluster, addresses[0], 1).expect_err("nothing passes without the device");
    agent.restart_device()?;
    let restarted = Instant::now();
    wait::until("packets to pass again", SOON, || {
        ask(&cluster, addresses[0], 1)
    })?;
    println!(
        "packets passed {:?} after the process was started again, {:?} after it was killed",
        restarted.elapsed(),
        begun.elapsed()
    );
    ask(&cluster, addresses[1], 20)?;
    let after = session(cluster.node("node1")?)?;
    assert_ne!(before.handshake, 0);
    assert!(after.received > 0, "a session of the new device: {after:?}");
    Ok(())
}

#[test]
fn a_device_that_was_switched_off_is_switched_on_again() -> Result<()> {
    let (cluster, addresses) = start("enc-switched", AgentConfig::default())?;
    for node in nodes(&cluster)? {
        node.output("ip", &["link", "set", "weir_wg0", "down"])?;
        let begun = Instant::now();
        wait::until("the device to be on", SOON, || {
            let links = node.output("ip", &["-br", "link", "show", "up"])?;
            ensure!(links.contains("weir_wg0"), "{links}");
            Ok(())
        })?;
        // Its routes went when it was switched off.
        for address in addresses {
            wait::until("packets to pass again", SOON, || ask(&cluster, address, 1))?;
        }
        println!(
            "packets passed {:?} after it was switched off",
            begun.elapsed()
        );
        for address in addresses {
            ask(&cluster, address, 20)?;
        }
    }
    Ok(())
}
