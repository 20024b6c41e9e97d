//! One copy of what many objects say alike: names of namespaces, nodes, zones and accounts, sets of
//! labels, workloads.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::{EndpointSlice, Labels, ObjectName, Pod, Workload};

/// Values that are looked through for those nobody has any more, at least.
const SWEEP_MIN: usize = 1_024;

/// The copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Interner {
    texts: Pool<Arc<str>>,
    labels: Pool<Labels>,
    workloads: Pool<Arc<Workload>>,
}

impl Interner {
    /// The same pod, of shared parts.
    pub(super) fn pod(&mut self, pod: Pod) -> Pod {
        Pod {
            name: self.name(pod.name),
            node_name: pod.node_name.map(|name| self.texts.get(name)),
            labels: self.labels(&pod.labels),
            service_account: self.texts.get(pod.service_account),
            workload: pod.workload.map(|workload| self.workloads.get(workload)),
            ..pod
        }
    }

    /// The same slice, of shared parts.
    pub(super) fn slice(&mut self, mut slice: EndpointSlice) -> EndpointSlice {
        slice.name = self.name(slice.name);
        slice.service = self.texts.get(slice.service);
        slice.endpoints.shrink_to_fit();
        for endpoint in &mut slice.endpoints {
            endpoint.node_name = endpoint.node_name.take().map(|name| self.texts.get(name));
            endpoint.zone = endpoint.zone.take().map(|zone| self.texts.get(zone));
        }
        slice
    }

    /// Names of objects are their own; those of namespaces are not.
    fn name(&mut self, name: ObjectName) -> ObjectName {
        ObjectName {
            namespace: self.texts.get(name.namespace),
            ..name
        }
    }

    fn labels(&mut self, labels: &Labels) -> Labels {
        if let Some(known) = self.labels.known(labels) {
            return known;
        }
        let labels = labels.map(|part| self.texts.get(Arc::clone(part)));
        self.labels.get(labels)
    }

    /// Number of texts, sets of labels and workloads.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 3] {
        [
            self.texts.values.len(),
            self.labels.values.len(),
            self.workloads.values.len(),
        ]
    }
}

/// A value that knows whether anybody else has it.
trait Shared: Clone + Hash + Eq {
    fn is_unshared(&self) -> bool;
}

impl<T: ?Sized> Shared for Arc<T>
where
    Self: Hash + Eq,
{
    fn is_unshared(&self) -> bool {
        Arc::strong_count(self) == 1
    }
}

impl Shared for Labels {
    fn is_unshared(&self) -> bool {
        self.is_unshared()
    }
}

/// Values of one type. Those that nobody has any more are dropped when there are twice as many as
/// when that was done last, so that it costs little for each one.
#[derive(Clone, Debug)]
struct Pool<T> {
    values: HashSet<T>,
    sweep_at: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            values: HashSet::new(),
            sweep_at: SWEEP_MIN,
        }
    }
}

impl<T: Shared> Pool<T> {
    fn known(&self, value: &T) -> Option<T> {
        self.values.get(value).cloned()
    }

    /// The value that everybody has who asked for an equal one.
    fn get(&mut self, value: T) -> T {
        if let Some(known) = self.known(&value) {
            return known;
        }
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| !value.is_unshared());
            self.values.shrink_to_fit();
            self.sweep_at = (self.values.len() * 2).max(SWEEP_MIN);
        }
        self.values.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_has_is_dropped() {
        let mut pool = Pool::<Arc<str>>::default();
        let one = pool.get("one".into());
        assert!(Arc::ptr_eq(&one, &pool.get("one".into())));
        for number in 0..100 * SWEEP_MIN {
            drop(pool.get(number.to_string().into()));
            assert!(pool.values.len() <= SWEEP_MIN);
        }
        assert!(Arc::ptr_eq(&one, &pool.get("one".into())));
    }
}
