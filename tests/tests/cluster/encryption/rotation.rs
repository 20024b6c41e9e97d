//! New keys while connections go on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_tests::cluster::Node;
use weir_tests::traffic::server::ECHO_PORT;
use weir_tests::{Cluster, wait};

use super::{
    KEY, assert_unreadable, connect, look, published_key, remote, start,
    while_records_are_passed_on,
};
use crate::setting::SOON;

/// A connection may stand still for so long while a key changes.
const STALL: Duration = Duration::from_secs(1);

/// Both nodes replace their keys by age, at about the same time, while streams go on. The others hear
/// of a key before it is used; that it is used they see for themselves.
#[test]
fn streams_go_on_while_both_nodes_change_their_keys() -> Result<()> {
    let seconds = |usual| format!("{}s", wait::patiently(Duration::from_secs(usual)).as_secs());
    let settings = json!({ "wireguard": {
        "rotateAfter": seconds(10),
        "rotationGrace": seconds(6),
    } });
    let cluster = start("enc-rotation", settings)?;
    connect(&cluster)?;
    while_records_are_passed_on(&cluster, || streams_go_on(&cluster))
}

fn streams_go_on(cluster: &Cluster) -> Result<()> {
    let capture = look(cluster)?;
    let asker = cluster.pod("asker")?;
    let streams = remote(cluster)?
        .address()
        .both()
        .map(|address| asker.stream(address, ECHO_PORT).start());

    let key = |node: &Node| published_key(node, KEY)?.context("no key is published");
    let old: Vec<String> = cluster.nodes().iter().map(key).collect::<Result<_>>()?;
    for (node, old) in cluster.nodes().iter().zip(&old) {
        wait::until("another key to be in use", SOON * 2, || {
            ensure!(key(node)? != *old, "{old} is still in use");
            Ok(())
        })?;
    }
    // What goes wrong after a change is seen by the streams, if they are given the time.
    wait::let_pass(STALL * 2);
    for stream in streams {
        for report in stream?.stop()? {
            ensure!(report.error.is_none(), "{report:?}");
            ensure!(report.longest < wait::patiently(STALL), "{report:?}");
            ensure!(report.rounds > 100, "{report:?}");
            println!("longest time without an answer: {:?}", report.longest);
        }
    }
    assert_unreadable(cluster, &capture.finish()?, 400)
}
