//! Which interfaces the data plane attaches to.

use super::section::section;
use super::value::{Scalar, choice};

section! {
    /// Which network interfaces the data plane attaches to, and how.
    pub struct Devices {
        settings {
            /// Interfaces that face other nodes and clients. Empty: those with a default route, and those
            /// with an address that the Node object of this node names.
            "uplinks" uplinks: Vec<Glob> = Vec::new(),
            /// Interfaces that face pods. Empty: those that lead into another network namespace (veth
            /// and netkit pairs) and have neither a default route nor an address of the Node object,
            /// whatever the CNI calls them. An interface that is an uplink is never one of these.
            "pods" pods: Vec<Glob> = Vec::new(),
            /// How XDP attaches to uplinks: `native` in the driver, `auto` likewise where the driver
            /// has it and is no veth, `generic` in the stack, `off` not at all (TC then does all the
            /// work). `generic`, and `native` on a veth, are not for where packets come from other machines
            /// of the same host, whose checksums may not be finished; and a veth loses what XDP sends
            /// unless its other end has an XDP program or GRO.
            "xdpMode" xdp_mode: XdpMode = XdpMode::Auto,
        }
    }
}

/// How XDP attaches to an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// Native where the driver has it and is no veth, TC alone elsewhere.
    Auto,
    /// In the driver; an uplink whose driver cannot is an error.
    Native,
    /// In the network stack.
    Generic,
    /// Not at all.
    Off,
}

choice!(XdpMode { Auto = "auto", Native = "native", Generic = "generic", Off = "off" });

/// A pattern for interface names: `*` stands for any characters, `?` for exactly one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// Longest name the kernel gives an interface.
const INTERFACE_NAME_MAX: usize = 15;

impl Glob {
    /// Whether the whole of `name` fits.
    pub fn matches(&self, name: &str) -> bool {
        fits(self.0.as_bytes(), name.as_bytes())
    }
}

/// Matches greedily and, on a mismatch, lets the last `*` swallow one more byte: linear in practice
/// and never exponential.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at_pattern, mut at_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                star = Some((at_pattern + 1, at_name));
                at_pattern += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => {
                let Some((after_star, swallowed)) = star else {
                    return false;
                };
                star = Some((after_star, swallowed + 1));
                at_pattern = after_star;
                at_name = swallowed + 1;
            }
        }
    }
    pattern[at_pattern..].iter().all(|byte| *byte == b'*')
}

impl Scalar for Glob {
    fn form() -> String {
        "an interface name such as eth0, in which * and ? are wildcards".into()
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty".into());
        }
        if text
            .bytes()
            .any(|byte| byte == b'/' || byte.is_ascii_whitespace() || !byte.is_ascii())
        {
            return Err("has a character that no interface name has".into());
        }
        if text.bytes().filter(|byte| *byte != b'*').count() > INTERFACE_NAME_MAX {
            return Err(format!(
                "is longer than the {INTERFACE_NAME_MAX} characters of a name"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    fn text(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let cases = [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth0", "xeth0", false),
            ("veth*", "veth", true),
            ("veth*", "vethab12", true),
            ("veth*", "lxcveth", false),
            ("*", "anything", true),
            ("e?s*f0", "ens3f0", true),
            ("e?s*f0", "ens3f0f0", true),
            ("e?s*f0", "ens3f1", false),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbc", false),
            ("en??", "ens", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(
                Glob::parse(pattern).unwrap().matches(name),
                expected,
                "{pattern} on {name}"
            );
        }
    }

    #[test]
    fn patterns_no_interface_can_match_are_refused() {
        for pattern in ["", "a/b", "a b", "ethernet-uplink-0", "é0"] {
            Glob::parse(pattern).unwrap_err();
        }
        Glob::parse("fifteen-letters*").unwrap();
    }
}
