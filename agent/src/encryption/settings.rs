//! What else of the host decides whether packets pass: forwarding and the filter on the reverse
//! path, in `/proc/sys/net`, or wherever a container has it (`paths.sysctl`).
//!
//! On our own device we set what it needs ([`HostSettings::prepare_device`]). Everything else is
//! the operator's: it is judged and reported with what to do, never changed
//! ([`HostSettings::findings`]).

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::InterfaceName;

/// Packets to others are passed on.
const FORWARDING: &str = "forwarding";
/// 0: any source may come from anywhere. 1: only by the interface that answers to it leave by.
/// 2: by any interface, if there is a way back at all. The larger of `all` and the interface's own
/// counts.
const REVERSE_PATH_FILTER: &str = "rp_filter";
const STRICT: i64 = 1;
const LOOSE: i64 = 2;

/// What our device needs, and why: family, setting, value.
const OF_OUR_DEVICE: [(&str, &str, i64); 6] = [
    // Decrypted packets for pods come in here.
    ("ipv4", FORWARDING, 1),
    // The stack asks for that of all interfaces, a program that asks for the route for this one's.
    ("ipv6", FORWARDING, 1),
    ("ipv6", "disable_ipv6", 0),
    // Their sources are other nodes' pods, and what leads there are rules of ours: with marks and
    // exceptions the way back need not be this device.
    ("ipv4", REVERSE_PATH_FILTER, LOOSE),
    // There is no other way to tell of; the kernel's WireGuard sets the same.
    ("ipv4", "send_redirects", 0),
    ("ipv6", "addr_gen_mode", 1),
];

/// A setting of someone else's that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The setting, as `sysctl` names it.
    pub setting: String,
    /// Its value.
    pub value: i64,
    /// The value to set.
    pub wanted: i64,
    /// What does not work as it is.
    pub effect: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            setting,
            value,
            wanted,
            effect,
        } = self;
        write!(
            f,
            "{setting} is {value}: {effect}. Run `sysctl -w {setting}={wanted}`"
        )
    }
}

/// What encryption is to do on this host.
#[derive(Clone, Debug)]
pub struct Needs {
    /// Our device.
    pub device: InterfaceName,
    /// Whether packets of pods are encrypted, by family.
    pub ipv4: bool,
    /// See [`Self::ipv4`].
    pub ipv6: bool,
}

/// The settings of the network namespace of the calling thread.
#[derive(Clone, Debug)]
pub struct HostSettings {
    root: PathBuf,
}

impl HostSettings {
    /// Those below a folder that is like `/proc/sys`.
    pub fn below(sysctl: &Path) -> Self {
        Self {
            root: sysctl.join("net"),
        }
    }

    /// Whether there is IPv6: the kernel may lack it, or have been started without (`ipv6.disable=1`).
    pub fn has_ipv6(&self) -> bool {
        self.root.join("ipv6").is_dir()
    }

    /// Sets what our own device needs; returns which settings that changed.
    ///
    /// # Errors
    /// A setting that has to change and cannot be written, as in a container's own `/proc/sys`.
    pub fn prepare_device(&self, device: &InterfaceName) -> io::Result<Vec<String>> {
        let mut changed = Vec::new();
        for (family, name, wanted) in OF_OUR_DEVICE {
            let setting = Setting::of(family, device.as_str(), name);
            // Absent: the kernel has no IPv6, or is too old to have the setting.
            let Some(value) = self.read(&setting)? else {
                continue;
            };
            if value != wanted {
                self.write(&setting, wanted)?;
                changed.push(setting.to_string());
            }
        }
        Ok(changed)
    }

    /// What is in the way, on our device and elsewhere.
    ///
    /// # Errors
    /// A setting that exists and cannot be read.
    pub fn findings(&self, needs: &Needs) -> io::Result<Vec<Finding>> {
        let mut findings = BTreeSet::new();
        for (family, needed) in [("ipv4", needs.ipv4), ("ipv6", needs.ipv6)] {
            if needed {
                findings.extend(self.forwarding(family)?);
            }
        }
        if needs.ipv4 {
            findings.extend(self.reverse_path(&needs.device)?);
        }
        Ok(findings.into_iter().collect())
    }

    /// The switch for all interfaces. Those of single ones follow it when it is turned.
    fn forwarding(&self, family: &'static str) -> io::Result<Option<Finding>> {
        let setting = Setting::of(family, "all", FORWARDING);
        let off = self.read(&setting)?.filter(|value| *value == 0);
        Ok(off.map(|value| Finding {
            setting: setting.to_string(),
            value,
            wanted: 1,
            effect: "packets between pods and other nodes are not forwarded",
        }))
    }

    /// The filter of our own device, which somebody may have changed since.
    fn reverse_path(&self, device: &InterfaceName) -> io::Result<Option<Finding>> {
        let own = Setting::of("ipv4", device.as_str(), REVERSE_PATH_FILTER);
        let all = Setting::of("ipv4", "all", REVERSE_PATH_FILTER);
        let (Some(own_value), Some(all_value)) = (self.read(&own)?, self.read(&all)?) else {
            return Ok(None);
        };
        // The interface's own loosens a strict one of all, so that one is the one to set.
        Ok((own_value.max(all_value) == STRICT).then(|| Finding {
            setting: own.to_string(),
            value: own_value,
            wanted: LOOSE,
            effect: "packets from other nodes' pods may be dropped after decryption",
        }))
    }

    fn read(&self, setting: &Setting) -> io::Result<Option<i64>> {
        match fs::read_to_string(self.root.join(setting.path())) {
            Ok(text) => {
                let value = text.trim().parse().map_err(io::Error::other);
                value
                    .map(Some)
                    .map_err(|error| setting.failed("read", &error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(setting.failed("read", &error)),
        }
    }

    fn write(&self, setting: &Setting, value: i64) -> io::Result<()> {
        let written = fs::write(self.root.join(setting.path()), value.to_string());
        written.map_err(|error| setting.failed("set", &error))
    }
}

/// One setting of one interface.
struct Setting {
    family: &'static str,
    interface: String,
    name: &'static str,
}

impl Setting {
    fn of(family: &'static str, interface: &str, name: &'static str) -> Self {
        Self {
            family,
            interface: interface.to_owned(),
            name,
        }
    }

    fn path(&self) -> String {
        format!("{}/conf/{}/{}", self.family, self.interface, self.name)
    }

    fn failed(&self, doing: &str, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{doing} {self}: {error}"))
    }
}

impl fmt::Display for Setting {
    /// As `sysctl` names it: a dot in the interface's name, as of a VLAN, is written as a slash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let interface = self.interface.replace('.', "/");
        write!(f, "net.{}.conf.{interface}.{}", self.family, self.name)
    }
}

#[cfg(test)]
mod tests;
