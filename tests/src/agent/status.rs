//! What an agent says of itself, as far as scenarios look at it.

use serde_json::Value;

/// What `weir status -o json` says.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// Name of the node.
    pub fn node_name(&self) -> &str {
        self.0["node_name"].as_str().unwrap_or_default()
    }

    /// Has the agent read all manifests once?
    pub fn is_synced(&self) -> bool {
        self.0["source"]["synced"] == true
    }

    /// Has it nothing left to finish?
    pub fn is_ready(&self) -> bool {
        self.0["waiting_for"].as_array().is_none_or(Vec::is_empty)
    }

    /// What of the agent's own work failed.
    pub fn failures(&self) -> Vec<String> {
        let failures = self.0["failures"].as_array();
        failures
            .into_iter()
            .flatten()
            .map(Value::to_string)
            .collect()
    }

    /// Did it take over the maps of an agent before it?
    pub fn is_adopted(&self) -> bool {
        self.0["datapath"]["adopted"] == true
    }

    /// Does XDP run in the driver of every uplink?
    pub fn is_xdp_native(&self) -> bool {
        let interfaces = self.0["datapath"]["interfaces"].as_array();
        let is_uplink = |one: &&Value| one["role"] == "INTERFACE_ROLE_UPLINK";
        let mut uplinks = interfaces
            .into_iter()
            .flatten()
            .filter(is_uplink)
            .peekable();
        uplinks.peek().is_some() && uplinks.all(|one| one["xdp_mode"] == "XDP_MODE_NATIVE")
    }

    /// Flow events seen since the agent started.
    pub fn flows_seen(&self) -> u64 {
        count(&self.0["flows"]["seen"])
    }

    /// Flow events lost since the agent started, wherever.
    pub fn flows_lost(&self) -> u64 {
        let places = self.0["flows"]["lost"].as_array();
        places
            .into_iter()
            .flatten()
            .map(|place| count(&place["value"]))
            .sum()
    }

    /// A counter of the data plane, by name; zero if it is not there.
    pub fn counter(&self, name: &str) -> u64 {
        let counters = self.0["counters"].as_array().into_iter().flatten();
        let mut named = counters.filter(|counter| counter["name"] == name);
        named.next().map_or(0, |counter| count(&counter["value"]))
    }

    /// What is wrong with the input, each as JSON text.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.0["problems"].as_array();
        problems
            .into_iter()
            .flatten()
            .map(Value::to_string)
            .collect()
    }
}

/// A 64-bit number, which the JSON form of protobuf writes as a text; nothing is zero.
fn count(value: &Value) -> u64 {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_the_json_form_of_protobuf() {
        let interface = |role: &str, mode: &str| json!({ "role": role, "xdp_mode": mode });
        let pod = interface("INTERFACE_ROLE_POD", "XDP_MODE_UNSPECIFIED");
        let native = interface("INTERFACE_ROLE_UPLINK", "XDP_MODE_NATIVE");
        let generic = interface("INTERFACE_ROLE_UPLINK", "XDP_MODE_GENERIC");
        let lost = json!([{ "name": "a", "value": "2" }, { "name": "b", "value": "3" }, {}]);
        let status = |interfaces: Value| {
            Status(json!({
                "datapath": { "interfaces": interfaces, "adopted": true },
                "flows": { "seen": "18446744073709551615", "lost": lost },
            }))
        };
        let one = status(json!([pod, native]));
        assert_eq!((one.flows_seen(), one.flows_lost()), (u64::MAX, 5));
        assert!(one.is_xdp_native() && one.is_adopted() && !one.is_synced());
        assert!(one.is_ready() && one.failures().is_empty());
        let other = Status(json!({ "waiting_for": ["x"], "failures": ["y"] }));
        assert!(!other.is_ready() && other.failures() == ["\"y\""]);
        assert!(!status(json!([pod, native, generic])).is_xdp_native());
        assert!(!status(json!([pod])).is_xdp_native(), "no uplink, no XDP");
    }
}
