//! The addresses that this node's own Node object names, for those that choose interfaces by them.

use std::net::IpAddr;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::state::{ClusterState, SharedState};

/// Follows the object.
pub(super) struct OwnNode {
    /// Its name.
    pub(super) name: String,
    /// The tables that it is in.
    pub(super) state: SharedState,
    /// Whether the source was read once: an object that is missing does not exist then.
    pub(super) synced: watch::Receiver<bool>,
    /// Where its addresses are told, see [`crate::datapath::interfaces::NodeAddresses`].
    pub(super) named: watch::Sender<Option<Vec<IpAddr>>>,
}

impl OwnNode {
    /// Runs until told to stop. What was known when the agent ended last counts from the start: the tables
    /// hold it before the source has answered.
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut revision = self.state.subscribe();
        loop {
            revision.mark_unchanged();
            let is_synced = *self.synced.borrow_and_update();
            self.tell(is_synced);
            tokio::select! {
                // The source may end first on a shutdown.
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = revision.changed() => changed?,
                changed = self.synced.changed(), if !is_synced => changed?,
            }
        }
    }

    /// Tells those who listen if there is something new.
    fn tell(&self, is_synced: bool) {
        let addresses = addresses_of(&self.state.read(), &self.name, is_synced);
        self.named.send_if_modified(|named| {
            let differs = *named != addresses;
            *named = addresses;
            differs
        });
    }
}

/// The addresses, none if the object has none or does not exist, `None` if nobody can tell yet.
fn addresses_of(state: &ClusterState, name: &str, is_synced: bool) -> Option<Vec<IpAddr>> {
    let named = state.node(name).map(|node| node.addresses.clone());
    named
        .filter(|addresses| !addresses.is_empty())
        .or(is_synced.then(Vec::new))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::state::{Change, Kind, Node, Object, ObjectKey, ObjectName};

    fn node(name: &str, addresses: &[&str]) -> Change {
        Change::Upsert(Object::Node(Node {
            name: name.to_owned(),
            created_at_seconds: None,
            addresses: ips(addresses),
            pod_cidrs: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }))
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn addresses_are_told_as_they_change() {
        let state = SharedState::new();
        let apply = |change| state.update(|cluster| cluster.apply(vec![change]));
        let (synced_sender, synced) = watch::channel(false);
        let (sender, mut named) = watch::channel(None);
        let stop = CancellationToken::new();
        let own = OwnNode {
            name: "a".into(),
            state: state.clone(),
            synced,
            named: sender,
        };
        let running = tokio::spawn(own.run(stop.clone()));
        apply(node("b", &["192.0.2.2"]));
        apply(node("a", &["192.0.2.1", "2001:db8::1"]));
        for (change, expected) in [
            (None, &["192.0.2.1", "2001:db8::1"][..]),
            (Some(node("a", &["192.0.2.9"])), &["192.0.2.9"]),
        ] {
            change.into_iter().for_each(apply);
            let expected = Some(ips(expected));
            let told = named.wait_for(|named| *named == expected);
            let told = tokio::time::timeout(Duration::from_secs(10), told).await;
            assert!(told.is_ok_and(|told| told.is_ok()), "{expected:?}");
        }
        drop(synced_sender);
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[test]
    fn a_missing_object_says_something_only_when_all_was_read() {
        let mut cluster = ClusterState::default();
        let told = |cluster: &ClusterState, synced| addresses_of(cluster, "a", synced);
        assert_eq!(told(&cluster, false), None);
        assert_eq!(told(&cluster, true), Some(Vec::new()));
        cluster.apply(vec![node("a", &[])]);
        assert_eq!(told(&cluster, false), None, "nobody has completed it");
        cluster.apply(vec![node("a", &["192.0.2.1"])]);
        assert_eq!(told(&cluster, false), Some(ips(&["192.0.2.1"])));
        cluster.apply(vec![Change::Delete(ObjectKey {
            kind: Kind::Node,
            name: ObjectName::new("", "a"),
        })]);
        assert_eq!(told(&cluster, true), Some(Vec::new()));
    }
}
