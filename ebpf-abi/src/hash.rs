//! The hash that picks a Maglev slot and a source port.
//!
//! Every node must pick the same slot for the same packet, so the function is part of the contract
//! between nodes: changing it moves connections that fail over to another node.

use crate::{Address, Tuple};

/// Hash of a packet's five-tuple. Equal on every node and in every release.
#[inline(always)]
pub fn tuple<A: Address>(tuple: &Tuple<A>) -> u32 {
    let ports = u32::from(tuple.source_port.0) << 16 | u32::from(tuple.destination_port.0);
    let hash = mix(tuple.source.fold() ^ 0x9e37_79b9);
    let hash = mix(hash ^ tuple.destination.fold());
    mix(hash ^ ports ^ (u32::from(tuple.protocol.0) << 8))
}

/// Maps a hash onto `0..size` without a division (Lemire, "Fast random integer generation in an
/// interval", 2019).
#[inline(always)]
pub fn scale(hash: u32, size: u32) -> u32 {
    ((u64::from(hash) * u64::from(size)) >> 32) as u32
}

/// A second, independent hash from a first.
#[inline(always)]
pub fn again(hash: u32) -> u32 {
    mix(hash ^ 0x85eb_ca6b)
}

/// An invertible 32-bit mixer in which every input bit flips every output bit with probability
/// close to one half ("lowbias32", C. Wellons, hash-prospector).
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::{Addr4, Be16, Protocol};

    fn sample(source: u32, port: u16) -> Tuple<Addr4> {
        Tuple {
            source: Ipv4Addr::from(source).into(),
            destination: Ipv4Addr::new(198, 51, 100, 1).into(),
            source_port: Be16::new(port),
            destination_port: Be16::new(80),
            protocol: Protocol::TCP,
            _pad: [0; 3],
        }
    }

    #[test]
    fn is_pinned_because_nodes_of_different_releases_must_agree() {
        assert_eq!(tuple(&sample(0xcb00_7101, 40000)), GOLDEN);
    }
    const GOLDEN: u32 = 4_288_685_772;

    #[test]
    fn neighbouring_clients_and_ports_spread_evenly() {
        const BUCKETS: usize = 16;
        let mut counts = [0_u32; BUCKETS];
        for client in 0..64 {
            for port in 32768..33792 {
                counts
                    [scale(tuple(&sample(0x0a00_0000 + client, port)), BUCKETS as u32) as usize] +=
                    1;
            }
        }
        let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(max - min < 400, "{counts:?}"); // mean 4096, standard deviation 62
    }

    #[test]
    fn scale_stays_in_range() {
        assert_eq!(scale(u32::MAX, 307), 306);
        assert_eq!(scale(0, 307), 0);
    }
}
