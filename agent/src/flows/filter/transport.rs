//! Fields about the transport header.

use ebpf_abi::{Protocol, tcp};
use weir_proto::flow::{FlowFilter, TcpFlags};

use super::{Fields, FilterError, both};
use crate::flows::record::protocol;

pub(super) fn compile(filter: &FlowFilter, fields: &mut Fields) -> Result<(), FilterError> {
    fields.add_text(
        "protocol",
        &filter.protocol,
        parse_protocol,
        |wanted, record| wanted.contains(&record.event.protocol),
    )?;
    let ports = both(
        ("source_port", &filter.source_port),
        ("destination_port", &filter.destination_port),
    );
    for (side, field, values) in ports {
        let parse = |value: &str| {
            value
                .parse()
                .map_err(|_| format!("{value:?} is not a port from 0 to 65535"))
        };
        fields.add_text(field, values, parse, move |wanted: &u16, record| {
            record.port(side) == Some(*wanted)
        })?;
    }
    fields.add(
        filter.tcp_flags.iter().map(Bits::of).collect(),
        |wanted, record| {
            let Some(flags) = record.tcp_flags() else {
                return false;
            };
            !wanted.ns && flags & wanted.bits == wanted.bits
        },
    );
    Ok(())
}

/// The IP protocols that a word stands for; none for those of layer 7, which no record has.
fn parse_protocol(word: &str) -> Result<&'static [Protocol], String> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "tcp" => &[Protocol::TCP],
        "udp" => &[Protocol::UDP],
        "sctp" => &[protocol::SCTP],
        "icmp" => &[Protocol::ICMP, Protocol::ICMPV6],
        "icmpv4" => &[Protocol::ICMP],
        "icmpv6" => &[Protocol::ICMPV6],
        "vrrp" => &[protocol::VRRP],
        "igmp" => &[protocol::IGMP],
        "dns" | "http" | "kafka" => &[],
        _ => {
            return Err(format!(
                "{word:?} is not a protocol; use tcp, udp, sctp, icmp, icmpv4, icmpv6, vrrp, \
                 igmp, dns, http or kafka"
            ));
        }
    })
}

/// Flags that must all be set.
struct Bits {
    bits: u8,
    /// The ninth flag, which lies outside the byte that records keep, and so is never seen.
    ns: bool,
}

impl Bits {
    fn of(flags: &TcpFlags) -> Self {
        let named = [
            (flags.fin, tcp::FIN),
            (flags.syn, tcp::SYN),
            (flags.rst, tcp::RST),
            (flags.psh, tcp::PSH),
            (flags.ack, tcp::ACK),
            (flags.urg, tcp::URG),
            (flags.ece, tcp::ECE),
            (flags.cwr, tcp::CWR),
        ];
        let bits = named
            .iter()
            .filter(|(set, _)| *set)
            .fold(0, |bits, (_, bit)| bits | bit);
        Self { bits, ns: flags.ns }
    }
}
