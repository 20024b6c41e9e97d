//! What the kernel counted as lost, at every member of a cluster: devices, sockets, TCP.
//!
//! Reports of traffic say what its ends noticed. These counters say it of every packet that
//! passed, also of the directions that no client sees.
//!
//! A segment that TCP sent again because its acknowledgement was late, not because it was lost, is
//! no loss: the receiver has it already and says so (duplicate SACK, RFC 2883). Such reports are
//! taken off the segments that were sent again.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use crate::{Cluster, Place};

/// Counters of `/proc/net/snmp`, `snmp6` and `netstat` that say that a packet was lost or damaged.
/// The names of all three are of one space.
const LOSSES: [&str; 19] = [
    "IpInDiscards",
    "IpOutDiscards",
    "IpInHdrErrors",
    "Ip6InDiscards",
    "Ip6OutDiscards",
    "Ip6InHdrErrors",
    "TcpRetransSegs",
    "TcpInErrs",
    "TcpExtIPReversePathFilter",
    "TcpInCsumErrors",
    "UdpInErrors",
    "UdpRcvbufErrors",
    "UdpSndbufErrors",
    "Udp6InErrors",
    "Udp6RcvbufErrors",
    "Udp6SndbufErrors",
    "TcpExtListenDrops",
    "TcpExtTCPBacklogDrop",
    "TcpExtTCPReqQFullDrop",
];

/// Segments sent again.
const SENT_AGAIN: &str = "TcpRetransSegs";
/// Reports of the other end that it had a segment twice.
const HAD_ALREADY: &str = "TcpExtTCPDSACKRecv";

/// Counters by member and name, such as `node1 TcpRetransSegs` or `web-1 eth0 rx_dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses(pub BTreeMap<String, u64>);

impl Losses {
    /// All counters of all members now.
    ///
    /// # Errors
    ///
    /// When a member is gone.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let mut all = Self::default();
        for place in cluster.places() {
            let texts = place.run(|| {
                ["snmp", "netstat", "snmp6", "dev"]
                    .map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")))
            })?;
            let [snmp, netstat, snmp6, dev] = texts;
            let context = || format!("read the counters of {}", place.name());
            let known = pairs_of_lines(&snmp.with_context(context)?)
                .into_iter()
                .chain(pairs_of_lines(&netstat.with_context(context)?))
                .chain(pairs(&snmp6.with_context(context)?))
                .filter(|(name, _)| LOSSES.contains(&name.as_str()) || name == HAD_ALREADY);
            all.add(place, known);
            all.add(place, devices(&dev.with_context(context)?));
        }
        Ok(all)
    }

    /// What was lost since `before`; what did not change is left out.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let growth = |name: &str| {
            let value = |all: &Self| all.0.get(name).copied().unwrap_or(0);
            value(self).saturating_sub(value(before))
        };
        let lost = |name: &String| {
            let needless = name.strip_suffix(SENT_AGAIN);
            let needless = needless.map_or(0, |member| growth(&format!("{member}{HAD_ALREADY}")));
            let lost = growth(name).saturating_sub(needless);
            (lost > 0 && !name.ends_with(HAD_ALREADY)).then(|| (name.clone(), lost))
        };
        Self(self.0.keys().filter_map(lost).collect())
    }

    fn add(&mut self, place: &Place, counters: impl IntoIterator<Item = (String, u64)>) {
        let named = |(name, value)| (format!("{} {name}", place.name()), value);
        self.0.extend(counters.into_iter().map(named));
    }
}

/// `Ip: A B` above `Ip: 1 2`, as in `snmp` and `netstat`.
fn pairs_of_lines(text: &str) -> Vec<(String, u64)> {
    let lines: Vec<&str> = text.lines().collect();
    let rows = lines.chunks_exact(2).flat_map(|two| {
        let (prefix, names) = two[0].split_once(':').unwrap_or_default();
        let values = two[1].split_once(':').unwrap_or_default().1;
        let both = names.split_whitespace().zip(values.split_whitespace());
        both.filter_map(move |(name, value)| Some((format!("{prefix}{name}"), value.parse().ok()?)))
    });
    rows.collect()
}

/// `Ip6A 1`, a line each, as in `snmp6`.
fn pairs(text: &str) -> Vec<(String, u64)> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(char::is_whitespace)?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Errors and drops of every device, as `dev` has them.
fn devices(text: &str) -> Vec<(String, u64)> {
    const COLUMNS: [(&str, usize); 4] = [
        ("rx_errors", 2),
        ("rx_dropped", 3),
        ("tx_errors", 10),
        ("tx_dropped", 11),
    ];
    let device = |line: &str| {
        let (name, values) = line.split_once(':')?;
        let values: Vec<u64> = values
            .split_whitespace()
            .filter_map(|value| value.parse().ok())
            .collect();
        let name = name.trim().to_owned();
        Some(COLUMNS.map(|(column, at)| {
            let value = values.get(at).copied().unwrap_or(0);
            (format!("{name} {column}"), value)
        }))
    };
    text.lines().filter_map(device).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let snmp = "Ip: InDiscards OutDiscards\nIp: 1 2\nUdp: InErrors\nUdp: 3\n";
        let named = |name: &str, value| (name.to_owned(), value);
        assert_eq!(
            pairs_of_lines(snmp),
            [
                named("IpInDiscards", 1),
                named("IpOutDiscards", 2),
                named("UdpInErrors", 3)
            ]
        );
        assert_eq!(pairs("Ip6InDiscards   \t4\n"), [named("Ip6InDiscards", 4)]);
        let dev =
            "Inter-| Receive | Transmit\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13\n";
        assert_eq!(
            devices(dev),
            [
                named("eth0 rx_errors", 3),
                named("eth0 rx_dropped", 4),
                named("eth0 tx_errors", 11),
                named("eth0 tx_dropped", 12)
            ]
        );
    }

    #[test]
    fn only_growth_counts() {
        let losses = |pairs: &[(&str, u64)]| {
            Losses(pairs.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect())
        };
        let before = losses(&[("a", 1), ("b", 5)]);
        let after = losses(&[("a", 3), ("b", 5), ("c", 1), ("d", 0)]);
        assert_eq!(after.since(&before), losses(&[("a", 2), ("c", 1)]));
        let after = losses(&[
            ("x TcpRetransSegs", 3),
            ("x TcpExtTCPDSACKRecv", 3),
            ("y TcpRetransSegs", 3),
            ("y TcpExtTCPDSACKRecv", 1),
        ]);
        let lost = after.since(&Losses::default());
        assert_eq!(lost, losses(&[("y TcpRetransSegs", 2)]));
    }
}
