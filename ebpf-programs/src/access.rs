//! The raw accesses: every pointer into a frame or a map is dereferenced here.

use core::mem::size_of;

use aya_ebpf::btf_maps::{LruHashMap, PerCpuArray};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_ns};
use bytemuck::Pod;
use ebpf_abi::{Address, Counter, DatapathConfig, TrafficKey, TrafficValue};

use crate::maps::{CONFIG, COUNTERS, TRAFFIC};

/// A header inside a frame, to be written to. Bounds are checked, so `None` is "frame too short".
///
/// Alignment is not: frames guarantee two bytes at most, and eBPF loads and stores of up to eight
/// bytes work at any address on the architectures we build for (the verifier refuses them where
/// they do not).
#[inline(always)]
pub fn header<'a, T>(start: usize, end: usize, offset: usize) -> Option<&'a mut T> {
    let header = start + offset;
    if header + size_of::<T>() > end {
        return None;
    }
    // SAFETY: in bounds by the check above, which is also the one the verifier asks for; programs
    // hold one such reference at a time and none across a helper that may move the frame.
    Some(unsafe { &mut *(header as *mut T) })
}

/// The entry of `key` for reading and writing in place.
#[inline(always)]
pub fn entry<'a, K, V, const N: usize, const F: usize>(
    map: &LruHashMap<K, V, N, F>,
    key: &K,
) -> Option<&'a mut V> {
    let value = map.get_ptr_mut(key)?;
    // If the kernel recycles the entry for another key meanwhile, we write a counter or a cached route into
    // a foreign one: the route is refreshed within a second and is checked against the frame's interface.
    // SAFETY: the entry's memory stays mapped until the program ends.
    Some(unsafe { &mut *value })
}

/// The settings, or nothing while they are not valid: nothing is balanced then.
#[inline(always)]
pub fn config() -> Option<&'static DatapathConfig> {
    settings().filter(|config| config.generation != 0)
}

/// The settings, valid or not. What must not leave in clear text is known before the addresses of
/// the node are.
#[inline(always)]
pub fn settings() -> Option<&'static DatapathConfig> {
    CONFIG.get(0)
}

/// The generation in force now. To be read before what is checked against it, and once: a second look
/// could find a later one, in which what was checked is no longer so.
#[inline(always)]
pub fn generation(config: &DatapathConfig) -> u32 {
    // SAFETY: the reference is valid for reads, and any bits are a number.
    unsafe { (&raw const config.generation).read_volatile() }
}

/// This CPU's element of a per-CPU array.
#[inline(always)]
pub fn per_cpu<'a, T, const N: usize, const F: usize>(
    map: &PerCpuArray<T, N, F>,
    index: u32,
) -> Option<&'a mut T> {
    // SAFETY: the element belongs to this CPU, and programs hold one reference to it at a time.
    map.get_ptr_mut(index).map(|value| unsafe { &mut *value })
}

/// This CPU's account of a node, for reading and writing in place.
#[inline(always)]
pub fn traffic_of<'a>(key: &TrafficKey) -> Option<&'a mut TrafficValue> {
    // SAFETY: the element belongs to this CPU, and programs hold one reference to it at a time. A
    // key is removed only after its node is gone; a count written then is of nobody.
    TRAFFIC.get_ptr_mut(key).map(|value| unsafe { &mut *value })
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    count_many(counter, 1);
}

/// Adds to a counter of this CPU. No packet of a known connection is counted this way, so this stays
/// out of the way of those.
#[inline(never)]
pub fn count_many(counter: Counter, more: u64) {
    if let Some(value) = per_cpu(&COUNTERS, counter as u32) {
        *value += more;
    }
}

/// Sets a word to zero, whatever the compiler thinks of its neighbours: it turns a few zeros in a
/// row into a call of `memset`, which here is a loop over bytes.
#[inline(always)]
pub fn clear<T: Pod>(word: &mut T) {
    // SAFETY: the reference is valid for writes, and all zeros are a value of any plain type.
    unsafe { (&raw mut *word).write_volatile(T::zeroed()) };
}

/// Writes an address word by word: the compiler makes a call of `memmove` of copying an IPv6 one from
/// a map into a frame, and that is a loop over bytes as well.
#[inline(always)]
pub fn copy<A: Address>(to: &mut A, from: A) {
    let from = from.widen().0;
    let to = (&raw mut *to).cast::<u32>();
    for word in 0..size_of::<A>() / size_of::<u32>() {
        // SAFETY: an address is so many words of four bytes, and the reference is valid for writes.
        unsafe { to.add(word).write_volatile(from[word]) };
    }
}

/// True if two values are the same, compared word by word: the compiler makes a call of comparing IPv6
/// addresses as well, and that takes stack.
#[inline(always)]
pub fn same<T: Pod>(one: &T, other: &T) -> bool {
    const { assert!(size_of::<T>().is_multiple_of(size_of::<u32>())) };
    let (one, other) = (
        (&raw const *one).cast::<u32>(),
        (&raw const *other).cast::<u32>(),
    );
    for word in 0..size_of::<T>() / size_of::<u32>() {
        // SAFETY: both references are valid for reads of so many words, and any bits are a word.
        if unsafe { one.add(word).read_volatile() != other.add(word).read_volatile() } {
            return false;
        }
    }
    true
}

/// `CLOCK_MONOTONIC`.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: takes no argument and has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// Low half of `jiffies`. Differences are right as long as they stay below 2^32 ticks (49 days at
/// 1000 Hz).
#[inline(always)]
pub fn jiffies() -> u32 {
    // SAFETY: takes no argument and has no precondition.
    unsafe { bpf_jiffies64() as u32 }
}
