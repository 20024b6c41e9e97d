//! What of the desired services the maps have room for. Pure.
//!
//! One Service with more endpoints than all others together must not take the room of these, and a
//! map that is full must not stop what fits. So what is asked of the maps is cut to what they hold,
//! the same way on every node, and whoever gets less is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ebpf_abi::Family;

use super::desired::{Desired, DesiredService, Problems};
use super::plan::{Actual, Ids};
use super::{BackendAddress, ServiceKey, family_of};
use crate::state::{ObjectName, Problem, Severity};

/// Entries that the maps have room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Frontends of each family.
    pub frontends: usize,
    /// Backends of each family.
    pub backends: usize,
    /// Ports of Services, of both families together.
    pub services: usize,
}

/// Leaves out what does not fit: of services and frontends the last by name, of backends some of the
/// largest services'.
pub fn fit(desired: &mut Desired, capacity: &Capacity) {
    let mut problems = Problems::default();
    fit_services(desired, capacity, &mut problems);
    for family in [Family::V4, Family::V6] {
        fit_backends(desired, family, capacity.backends, &mut problems);
    }
    desired.problems.extend(problems.finish());
}

fn fit_services(desired: &mut Desired, capacity: &Capacity, problems: &mut Problems) {
    let mut services = 0;
    let mut frontends: BTreeMap<Family, usize> = BTreeMap::new();
    let mut told: BTreeSet<ObjectName> = BTreeSet::new();
    desired.services.retain(|key, service| {
        let frontends = frontends.entry(key.family).or_default();
        let fits = services < capacity.services
            && *frontends + service.frontends.len() <= capacity.frontends;
        if fits {
            services += 1;
            *frontends += service.frontends.len();
        } else if told.insert(key.name.clone()) {
            problems.push(no_room(key, capacity));
        }
        fits
    });
}

/// Cuts the largest services of a family to the same number of backends, so that all fit. Which ones
/// stay follows from their addresses: all nodes agree, and one that comes or goes moves few.
fn fit_backends(desired: &mut Desired, family: Family, room: usize, problems: &mut Problems) {
    let of_family = |(key, _): &(&ServiceKey, &mut DesiredService)| key.family == family;
    let services = || {
        desired
            .services
            .iter()
            .filter(|(key, _)| key.family == family)
    };
    let sizes: Vec<_> = services().map(|(_, it)| it.backends.len()).collect();
    let draining: usize = services().map(|(_, it)| it.draining.len()).sum();
    if draining > 0 && sizes.iter().sum::<usize>() + draining > room {
        // What takes new connections goes before what has some left.
        for (_, service) in desired.services.iter_mut().filter(of_family) {
            service.draining.clear();
        }
        problems.push(nothing_drains(family, room));
    }
    let Some(most) = most_of_each(sizes, room) else {
        return;
    };
    for (key, service) in desired.services.iter_mut().filter(of_family) {
        let all = service.backends.len();
        if all <= most {
            continue;
        }
        let mut by_rank: Vec<_> = service.backends.keys().map(|it| (rank(it), *it)).collect();
        by_rank.sort_unstable();
        for (_, left_out) in &by_rank[most..] {
            service.backends.remove(left_out);
        }
        problems.push(fewer_backends(key, all, most, room));
    }
}

/// The largest number to which all sizes must be cut, so that they come to at most `room`; nothing
/// if they fit as they are. (A backend of several services is counted for each.)
fn most_of_each(mut sizes: Vec<usize>, room: usize) -> Option<usize> {
    if sizes.iter().sum::<usize>() <= room {
        return None;
    }
    sizes.sort_unstable();
    let mut left = room;
    let mut others = sizes.len();
    for size in sizes {
        let share = left / others;
        if size > share {
            return Some(share);
        }
        left -= size;
        others -= 1;
    }
    None
}

/// A number that is a backend's own, the same on every node: FNV-1a, and then each bit of it spread.
fn rank(backend: &BackendAddress) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let text = format!("{} {}", backend.ip, backend.port);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

fn no_room(key: &ServiceKey, capacity: &Capacity) -> Problem {
    let message = format!(
        "is not balanced: the maps of a node hold {} ports of Services and {} frontends of a family, \
         and the first by name have them",
        capacity.services, capacity.frontends
    );
    Problem::of_service(&key.name, "", message)
}

fn fewer_backends(key: &ServiceKey, all: usize, most: usize, room: usize) -> Problem {
    let family = shown(key.family);
    let message = format!(
        "port {}/{} has {all} endpoints of {family}, and {most} of them get traffic: the maps of a \
         node hold {room} backends of a family, of which the largest Services get equal shares",
        key.port, key.protocol
    );
    Problem::of_service(&key.name, "", message)
}

fn shown(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn nothing_drains(family: Family, room: usize) -> Problem {
    let family = shown(family);
    Problem {
        severity: Severity::Warning,
        origin: String::new(),
        object: String::new(),
        field: String::new(),
        message: format!(
            "the maps of a node hold {room} backends of a family, and those of {family} that take new \
             connections leave no room: the others lose theirs"
        ),
    }
}

/// Endpoints that the maps do not hold have no connections to keep.
pub fn forget_strangers(desired: &mut Desired, actual: &Actual, ids: &Ids) {
    for service in desired.services.values_mut() {
        service.draining.retain(|it| is_held(it, actual, ids));
    }
}

/// What comes is written before what goes is removed. Where the maps have no room for both, this is
/// the step that makes room: the services without what is new. Nothing if there is room.
pub fn room_first(
    desired: &Desired,
    actual: &Actual,
    ids: &Ids,
    capacity: &Capacity,
) -> Option<Desired> {
    if has_room(desired, actual, ids, capacity) {
        return None;
    }
    let mut first = desired.clone();
    for service in first.services.values_mut() {
        service
            .frontends
            .retain(|it, _| actual.frontends.contains_key(it));
        // Never down to nothing, for the sake of room.
        if service.backends.keys().any(|it| is_held(it, actual, ids)) {
            service.backends.retain(|it, _| is_held(it, actual, ids));
        }
    }
    first.services.retain(|_, it| !it.frontends.is_empty());
    (first.services != desired.services).then_some(first)
}

/// Whether all that comes has room beside all that is there.
fn has_room(desired: &Desired, actual: &Actual, ids: &Ids, capacity: &Capacity) -> bool {
    let services = || desired.services.values();
    let count = |of: fn(&DesiredService) -> usize| services().map(of).sum::<usize>();
    // At first as if all of it were new and of one family, which takes no look-ups.
    if actual.backends.len() + count(|it| it.backends.len()) <= capacity.backends
        && actual.frontends.len() + count(|it| it.frontends.len()) <= capacity.frontends
        && actual.tables.len() + desired.services.len() <= capacity.services
    {
        return true;
    }
    let new_tables = desired.services.keys().filter(|key| {
        let id = ids.service_id(key);
        id.is_none_or(|id| !actual.tables.contains_key(&id))
    });
    actual.tables.len() + new_tables.count() <= capacity.services
        && [Family::V4, Family::V6].into_iter().all(|family| {
            let is_of = |ip: IpAddr| family_of(ip) == family;
            let held = actual.backends.values().filter(|it| is_of(it.ip));
            let wanted = services().flat_map(|it| it.backends.keys());
            let new = wanted.filter(|it| is_of(it.ip) && !is_held(it, actual, ids));
            let backends = held.count() + new.count();
            let held = actual.frontends.keys().filter(|it| is_of(it.ip));
            let wanted = services().flat_map(|it| it.frontends.keys());
            let new = wanted.filter(|it| is_of(it.ip) && !actual.frontends.contains_key(it));
            let frontends = held.count() + new.count();
            backends <= capacity.backends && frontends <= capacity.frontends
        })
}

/// Whether the maps hold a backend.
fn is_held(backend: &BackendAddress, actual: &Actual, ids: &Ids) -> bool {
    let id = ids.backend_id(backend);
    id.is_some_and(|id| actual.backends.contains_key(&id))
}

#[cfg(test)]
mod tests;
