//! The table of pods, by name and by address.
//!
//! In a large cluster it is the largest by far, so a pod is held once and pointed at.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{ObjectName, Pod};

/// All pods.
///
/// An address that was given to another pod belongs to that one even while the object of the former
/// pod is still there; the former comes forward again when the newer goes.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    by_name: BTreeSet<ByName>,
    /// Of each address the pod that was given it last.
    newest: BTreeMap<IpAddr, Arc<Pod>>,
    /// Of few addresses, the pods that were given it before, the oldest first.
    older: BTreeMap<IpAddr, Vec<Arc<Pod>>>,
}

impl Pods {
    /// In the order of names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pod> {
        self.by_name.iter().map(|ByName(pod)| &**pod)
    }

    pub(super) fn get(&self, name: &ObjectName) -> Option<&Pod> {
        self.by_name.get(name).map(|ByName(pod)| &**pod)
    }

    /// The pod that was given an address last, of those whose own it is.
    pub(super) fn by_ip(&self, ip: IpAddr) -> Option<&Pod> {
        self.newest.get(&ip).map(|pod| &**pod)
    }

    /// Puts a pod in the place of the one of its name.
    pub(super) fn put(&mut self, pod: Pod) {
        let pod = Arc::new(pod);
        let before = self.by_name.replace(ByName(Arc::clone(&pod)));
        let had = before.iter().flat_map(|ByName(before)| before.own_ips());
        let (kept, given_up): (Vec<IpAddr>, Vec<IpAddr>) = had
            .copied()
            .partition(|ip: &IpAddr| pod.own_ips().contains(ip));
        for ip in given_up {
            self.give_up(ip, &pod.name);
        }
        for ip in pod.own_ips() {
            // An address that stays must not become a newer claim than before.
            if kept.contains(ip) {
                self.point(*ip, &pod);
            } else {
                self.claim(*ip, &pod);
            }
        }
    }

    /// Removes a pod; false if there is none.
    pub(super) fn delete(&mut self, name: &ObjectName) -> bool {
        let Some(ByName(pod)) = self.by_name.take(name) else {
            return false;
        };
        for ip in pod.own_ips() {
            self.give_up(*ip, name);
        }
        true
    }

    fn claim(&mut self, ip: IpAddr, pod: &Arc<Pod>) {
        match self.newest.insert(ip, Arc::clone(pod)) {
            Some(former) if former.name != pod.name => {
                self.older.entry(ip).or_default().push(former);
            }
            _ => {}
        }
    }

    /// Has a claim point at what the pod has become.
    fn point(&mut self, ip: IpAddr, pod: &Arc<Pod>) {
        let older = self.older.get_mut(&ip).into_iter().flatten();
        let mut claims = self.newest.get_mut(&ip).into_iter().chain(older);
        if let Some(claim) = claims.find(|claim| claim.name == pod.name) {
            *claim = Arc::clone(pod);
        }
    }

    fn give_up(&mut self, ip: IpAddr, name: &ObjectName) {
        let older = self.older.get_mut(&ip);
        if self.newest.get(&ip).is_some_and(|pod| pod.name == *name) {
            match older.and_then(Vec::pop) {
                Some(next) => self.newest.insert(ip, next),
                None => self.newest.remove(&ip),
            };
        } else if let Some(older) = older {
            older.retain(|pod| pod.name != *name);
        }
        if self.older.get(&ip).is_some_and(Vec::is_empty) {
            self.older.remove(&ip);
        }
    }
}

/// A pod that is found by its name.
#[derive(Clone, Debug)]
struct ByName(Arc<Pod>);

impl Borrow<ObjectName> for ByName {
    fn borrow(&self) -> &ObjectName {
        &self.0.name
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name.cmp(&other.0.name)
    }
}
