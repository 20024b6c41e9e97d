//! The findings for people (a table) and for programs (JSON), from the same rows.

use serde::Serialize;

use super::{Found, Probe};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was looked for.
    pub feature: String,
    /// Whether it is there.
    #[serde(flatten)]
    pub found: Found,
    /// What the data plane uses, given that.
    pub used: String,
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether Weir can run here, as this user.
    pub able: bool,
    /// Release of the kernel.
    pub kernel: String,
    /// Needed capabilities that this process lacks.
    pub missing_capabilities: Vec<&'static str>,
    /// What the kernel can do.
    pub features: Vec<Row>,
    /// Features without which Weir cannot run, and that this process does not have.
    pub obstacles: Vec<String>,
    /// What devices can do.
    pub devices: Vec<super::Device>,
    /// Settings of the kernel.
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// Words for a feature without which nothing works.
const REQUIRED: &str = "nothing: required";

impl Report {
    /// Puts the findings in rows.
    pub fn new(probe: &Probe) -> Self {
        let settings = probe.settings.iter();
        let obstacles: Vec<_> = probe
            .obstacles()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        Self {
            able: obstacles.is_empty(),
            kernel: probe.kernel.clone(),
            missing_capabilities: probe.missing_capabilities.clone(),
            features: rows(probe),
            obstacles,
            devices: probe.devices.clone(),
            settings: settings
                .map(|(name, value)| (name.replace('/', "."), value.clone().into()))
                .collect(),
        }
    }

    /// As a table, with a last line that sums up.
    pub fn table(&self) -> String {
        let mut lines = vec![["FEATURE", "FOUND", "USED", "DETAIL"].map(str::to_owned)];
        for Row {
            feature,
            found,
            used,
        } in &self.features
        {
            lines.push([
                feature.clone(),
                found.word().into(),
                used.clone(),
                found.detail().into(),
            ]);
        }
        for device in &self.devices {
            let found = &device.native_xdp;
            // What `devices.xdpMode: auto` makes of it.
            let used = match found {
                _ if device.driver == "veth" => "TC alone",
                Found::Yes(_) => "native XDP",
                Found::No(_) => "TC alone",
                Found::NotPermitted(_) | Found::NotTried(_) => "native XDP if it attaches",
            };
            let attached = device
                .xdp_program
                .map(|id| format!("program {id} is attached"))
                .unwrap_or_default();
            let driver = match device.driver.as_str() {
                "" => "unknown driver".to_owned(),
                name => format!("driver {name}"),
            };
            let detail = [driver.as_str(), found.detail(), &attached];
            let detail: Vec<_> = detail.into_iter().filter(|text| !text.is_empty()).collect();
            lines.push([
                format!("native XDP on {}", device.name),
                found.word().into(),
                used.into(),
                detail.join("; "),
            ]);
        }
        for (name, value) in &self.settings {
            let value = value.as_str().unwrap_or_default().to_owned();
            lines.push([name.clone(), value, String::new(), String::new()]);
        }
        aligned(&lines) + "\n" + &self.summary()
    }

    fn summary(&self) -> String {
        let mut text = format!("Kernel {}. ", self.kernel);
        if self.able {
            text.push_str("Weir can run here.\n");
            return text;
        }
        text.push_str(
            &[
                "Weir cannot run here for want of ",
                &self.obstacles.join(", "),
                ".\n",
            ]
            .concat(),
        );
        if !self.missing_capabilities.is_empty() {
            let missing = self.missing_capabilities.join(", ");
            text.push_str(&["This process lacks ", &missing, "; run it as root.\n"].concat());
        }
        text
    }
}

/// The features of the kernel, with what is used for each.
fn rows(probe: &Probe) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |feature: &str, found: &Found, with: &str, without: &str| {
        let used = match found {
            Found::Yes(_) => with,
            Found::No(_) => without,
            Found::NotPermitted(_) | Found::NotTried(_) => "unknown",
        };
        rows.push(Row {
            feature: feature.into(),
            found: found.clone(),
            used: used.into(),
        });
    };
    row("eBPF programs", &probe.programs, "XDP and TC", REQUIRED);
    row(
        "locked memory",
        &probe.memlock,
        "maps of any size",
        "small maps only",
    );
    row("kernel BTF", &probe.btf, "not needed", "not needed");
    row("ring buffer", &probe.ring_buffer, "flow events", REQUIRED);
    row(
        "LRU hash maps",
        &probe.lru_hash,
        "connection table",
        REQUIRED,
    );
    row("maps of maps", &probe.map_in_map, "Maglev tables", REQUIRED);
    row(
        "inner maps of any size",
        &probe.inner_map_sizes,
        "Maglev tables",
        REQUIRED,
    );
    row("bpffs", &probe.bpffs, "pins", REQUIRED);
    row("XDP links", &probe.xdp_link, "XDP by link", REQUIRED);
    row("TCX", &probe.tcx, "TC by link", "TC by clsact filter");
    let per_packet = "ClusterIPs translated per packet";
    row(
        "cgroup socket hooks",
        &probe.cgroup_hooks,
        "ClusterIPs at connect",
        per_packet,
    );
    for helper in &probe.helpers {
        let (with, without) = match helper.name {
            "fib_lookup" => ("next hop", REQUIRED),
            "jiffies64" => ("time", REQUIRED),
            "redirect_neigh" => ("next hop without a neighbour", REQUIRED),
            "get_socket_cookie" => ("ClusterIPs at connect", per_packet),
            _ => ("socket events", "socket events without the pod"),
        };
        row(&helper.feature(), &helper.found, with, without);
    }
    row(
        "WireGuard",
        &probe.wireguard,
        "encryption",
        "encryption in a process",
    );
    row("TUN devices", &probe.tun, "encryption in a process", "none");
    rows
}

/// Columns of equal width, two spaces between.
fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    });
    let mut text = String::new();
    for line in lines {
        let cells = line
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}  "));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::probe::Device;

    #[test]
    fn a_device_is_shown_with_what_the_agent_uses_by_default() {
        let tried = || Found::NotTried("this kernel does not tell".into());
        let cases = [
            ("", Found::yes(), "native XDP"),
            ("veth", Found::yes(), "TC alone"),
            ("", Found::No("the driver has no XDP".into()), "TC alone"),
            (
                "ixgbe",
                Found::NotPermitted("not root".into()),
                "native XDP if it attaches",
            ),
            ("", tried(), "native XDP if it attaches"),
            ("veth", tried(), "TC alone"),
        ];
        for (driver, native_xdp, used) in cases {
            let word = native_xdp.word();
            let report = Report {
                able: true,
                kernel: String::new(),
                missing_capabilities: Vec::new(),
                features: Vec::new(),
                obstacles: Vec::new(),
                devices: vec![Device {
                    name: "eth0".into(),
                    ifindex: 2,
                    driver: driver.into(),
                    xdp_program: None,
                    native_xdp,
                    mtu: 1500,
                }],
                settings: serde_json::Map::new(),
            };
            let table = report.table();
            let mut lines = table.lines();
            let row = lines.find(|line| line.starts_with("native XDP on eth0"));
            // Two spaces or more stand between columns.
            let cells = row.unwrap().split("  ").map(str::trim);
            let cells: Vec<_> = cells.filter(|cell| !cell.is_empty()).collect();
            assert_eq!(cells[..3], ["native XDP on eth0", word, used], "{table}");
        }
    }
}
