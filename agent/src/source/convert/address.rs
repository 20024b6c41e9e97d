//! Addresses in objects.

use std::net::IpAddr;

use super::Findings;

/// Parses an address that packets carry: of a frontend, an endpoint, a pod or a node.
pub(super) fn parse(findings: &mut Findings, field: &str, text: &str) -> Option<IpAddr> {
    usable(text).map_err(|why| findings.error(field, why)).ok()
}

/// Likewise for one of several that a controller wrote: the others are of use without it.
pub(super) fn parse_or_leave_out(
    findings: &mut Findings,
    field: &str,
    text: &str,
) -> Option<IpAddr> {
    usable(text)
        .map_err(|why| findings.warning(field, format!("{why}; this address is left out")))
        .ok()
}

/// The address, or what is wrong with it.
fn usable(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text
        .parse()
        .map_err(|_| format!("{text:?} is no IP address"))?;
    match unusable(ip) {
        Some(why) => Err(format!("{ip} is {why} and cannot be used here")),
        None => Ok(ip),
    }
}

/// Why packets cannot be sent to this address from any node, as API validation asks of endpoints.
fn unusable(ip: IpAddr) -> Option<&'static str> {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    match ip {
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => {
            Some("an IPv4 address written as IPv6 (write it as IPv4)")
        }
        IpAddr::V4(ip) if ip.is_broadcast() => Some("the broadcast address"),
        _ if ip.is_unspecified() => Some("the unspecified address"),
        _ if ip.is_loopback() => Some("a loopback address"),
        _ if ip.is_multicast() => Some("a multicast address"),
        _ if link_local => Some("a link-local address"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_as_the_api_server_does() {
        let cases = [
            ("10.0.0.1", true),
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("240.0.0.1", true),
            ("", false),
            ("10.0.0", false),
            ("10.0.0.1/32", false),
            ("010.0.0.1", false),
            ("fe80::1%eth0", false),
            ("::ffff:10.0.0.1", false),
            ("0.0.0.0", false),
            ("::", false),
            ("127.0.0.1", false),
            ("::1", false),
            ("224.0.0.1", false),
            ("ff02::1", false),
            ("255.255.255.255", false),
            ("169.254.0.1", false),
            ("fe80::1", false),
        ];
        for (text, good) in cases {
            let mut findings = Findings::default();
            let ip = parse(&mut findings, "ip", text);
            assert_eq!(
                (ip.is_some(), findings.errors()),
                (good, usize::from(!good)),
                "{text}"
            );
        }
    }
}
