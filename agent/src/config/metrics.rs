//! Settings of metrics and health.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::problem::Finding;
use super::section::section;
use super::value::Scalar;

section! {
    /// Metrics and health over HTTP.
    pub struct Metrics {
        settings {
            /// Whether `/metrics` for Prometheus, `/healthz` and `/readyz` are served.
            "enabled" enabled: bool = true,
            /// Address and port where they are served, without TLS. Other nodes reach no loopback
            /// address; for another one set `allowRemoteWithoutTls` as well.
            "listen" listen: SocketAddr =
                SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_965),
            /// Whether `listen` may be an address that others reach. Whoever reaches it reads in
            /// clear text how much goes where and the names of nodes, and nobody is asked who he is.
            "allowRemoteWithoutTls" allow_remote_without_tls: bool = false,
        }
    }
}

impl Scalar for SocketAddr {
    fn form() -> String {
        "an address and a port such as 127.0.0.1:9965 or [::1]:9965".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let address: Self = text
            .parse()
            .map_err(|_| "is no address with a port".to_owned())?;
        if address.port() == 0 {
            return Err("has port 0".into());
        }
        Ok(address)
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl Metrics {
    pub(super) fn check(&self, findings: &mut Vec<Finding>) {
        let remote = !self.listen.ip().is_loopback();
        if self.enabled && remote && !self.allow_remote_without_tls {
            findings.push(Finding::new(
                "metrics.listen",
                "is no loopback address, and there is no TLS",
                "choose one such as 127.0.0.1:9965, or set metrics.allowRemoteWithoutTls to true",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_let_in_in_so_many_words_only() {
        for (listen, enabled, allowed, findings) in [
            ("127.0.0.1:9965", true, false, 0),
            ("[::1]:1", true, false, 0),
            ("0.0.0.0:9965", true, false, 1),
            ("[::]:9965", true, false, 1),
            ("0.0.0.0:9965", true, true, 0),
            ("0.0.0.0:9965", false, false, 0),
        ] {
            let metrics = Metrics {
                enabled,
                listen: Scalar::parse(listen).unwrap(),
                allow_remote_without_tls: allowed,
            };
            let mut found = Vec::new();
            metrics.check(&mut found);
            assert_eq!(found.len(), findings, "{listen}");
        }
    }

    #[test]
    fn an_address_has_a_port() {
        for bad in ["127.0.0.1", "9965", ":9965", "localhost:1", "[::1]:0"] {
            <SocketAddr as Scalar>::parse(bad).unwrap_err();
        }
    }
}
