//! Without balancing (`loadBalancer.enabled: false`) a node is only watched.

use anyhow::{Result, ensure};
use weir_tests::agent::AgentConfig;
use weir_tests::cluster::Node;
use weir_tests::{Cluster, plan, wait};

use crate::setting::{HTTP, SOON, ordinary, start_with_web, try_once, wait_for_web};

fn restart(cluster: &Cluster, config: &AgentConfig) -> Result<()> {
    for node in cluster.nodes() {
        let agent = node.agent()?;
        agent.stop()?;
        agent.configure(config)?;
        agent.start()?;
    }
    Ok(())
}

fn sees_flows(node: &Node, pod: &str) -> Result<()> {
    wait::until(&format!("flows of {pod}"), SOON, || {
        let from = format!("default/{pod}");
        let flows = node
            .agent()?
            .weir(&["observe", "--last", "50", "--from-pod", &from])?;
        ensure!(flows.contains("FORWARDED"), "{flows:?}");
        Ok(())
    })
}

#[test]
fn switching_balancing_off_takes_services_away_and_leaves_flows() -> Result<()> {
    let cluster = start_with_web(&ordinary("observeonly"))?;
    let asker = cluster.pod("asker")?;
    let cluster_ip = plan::cluster_ip(0).v4.into();
    assert_eq!(asker.http(cluster_ip, HTTP).run()?.failed, 0);

    let only_observed = AgentConfig {
        xdp_mode: "off".into(),
        more: serde_json::json!({ "loadBalancer": { "enabled": false } }),
        ..AgentConfig::default()
    };
    restart(&cluster, &only_observed)?;
    for address in cluster.vips(0) {
        try_once(&cluster, address, HTTP).unwrap_err();
    }
    let soon = std::time::Duration::from_millis(500);
    let unserved = asker.http(cluster_ip, HTTP).requests(1).timeout(soon);
    assert_eq!(unserved.run()?.failed, 1);
    for node in cluster.nodes() {
        let status = node.agent()?.status()?;
        let datapath = &status.0["datapath"];
        let hooks = datapath["cgroup_hooks"].as_array();
        assert!(hooks.is_none_or(Vec::is_empty), "{datapath}");
        // Exit code 0: nothing is wrong with it.
        node.agent()?.weir(&["status"])?;
    }
    // Pods reach each other, and are seen.
    let target = cluster.pod("web-3")?.address().v4.into();
    assert_eq!(asker.http(target, 8080).requests(5).run()?.failed, 0);
    sees_flows(cluster.node("node1")?, "asker")?;

    restart(&cluster, &AgentConfig::default())?;
    wait_for_web(&cluster)?;
    assert_eq!(asker.http(cluster_ip, HTTP).run()?.failed, 0);
    Ok(())
}
