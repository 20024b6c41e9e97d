//! Flows as the agents show them, and which connection each is about: pure.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

/// Most flows shown for one failure.
const MOST: usize = 12;
/// More than has passed, because clocks and seconds are not exact, in seconds.
const MARGIN: u64 = 2;

/// One flow in the JSON form of the flow API.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Flow(pub Value);

impl Flow {
    /// Address and port of an end.
    fn end(&self, ip: &str, port: &str) -> Option<SocketAddr> {
        let ip: IpAddr = self.0["IP"][ip].as_str()?.parse().ok()?;
        let port = self.layer4()?[port].as_u64().unwrap_or(0);
        Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
    }

    fn layer4(&self) -> Option<&Value> {
        let layer4 = &self.0["l4"];
        ["TCP", "UDP"]
            .into_iter()
            .map(|name| &layer4[name])
            .find(|it| it.is_object())
    }

    /// Sender and receiver, each with the pod that it is.
    fn ends(&self) -> [(Option<SocketAddr>, Option<String>); 2] {
        [
            (self.end("source", "source_port"), pod(&self.0["source"])),
            (
                self.end("destination", "destination_port"),
                pod(&self.0["destination"]),
            ),
        ]
    }

    fn verdict(&self) -> &str {
        self.0["verdict"].as_str().unwrap_or_default()
    }
}

fn pod(endpoint: &Value) -> Option<String> {
    let (namespace, name) = (
        endpoint["namespace"].as_str()?,
        endpoint["pod_name"].as_str()?,
    );
    Some(format!("{namespace}/{name}"))
}

/// What an agent answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// Flows, the oldest first.
    pub flows: Vec<Flow>,
    /// Events that it says were lost.
    pub lost: u64,
}

impl Seen {
    /// Reads what `weir observe -o json` printed.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let mut seen = Self::default();
        for line in text.lines() {
            let mut answer: Value = serde_json::from_str(line)?;
            let lost = &answer["lost_events"]["num_events_lost"];
            // 64-bit numbers are texts in the JSON of protobuf.
            seen.lost += lost
                .as_str()
                .and_then(|count| count.parse::<u64>().ok())
                .unwrap_or(0);
            match answer["flow"].take() {
                Value::Null => {}
                flow => seen.flows.push(Flow(flow)),
            }
        }
        Ok(seen)
    }

    /// Flows by the address and port of either end.
    pub fn by_end(&self) -> HashMap<SocketAddr, Vec<&Flow>> {
        let mut by_end: HashMap<_, Vec<_>> = HashMap::new();
        for flow in &self.flows {
            for (end, _) in flow.ends() {
                if let Some(end) = end {
                    by_end.entry(end).or_default().push(flow);
                }
            }
        }
        by_end
    }
}

/// The arguments of `weir` that ask for flows of the last `span` that have one of these addresses.
pub fn arguments(span: Duration, addresses: &BTreeSet<IpAddr>) -> Vec<String> {
    let since = format!("{}s", span.as_secs() + MARGIN);
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let words = [
        "observe",
        "--output",
        "json",
        "--since",
        &since,
        "--ip",
        &addresses.join(","),
    ];
    words.map(str::to_owned).to_vec()
}

/// A connection that an agent must have seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Its client's end, as it was where the agent is.
    pub client: SocketAddr,
    /// The pod at that end, if it is one.
    pub client_pod: Option<String>,
    /// The pod at the other end, if it is one.
    pub server_pod: Option<String>,
}

impl Connection {
    /// True if a flow is a packet of this connection that was let through, with the right pods.
    pub fn is_shown_by(&self, flow: &Flow) -> bool {
        let [source, destination] = flow.ends();
        let is = |client: &(Option<SocketAddr>, Option<String>), server: &Option<String>| {
            client.0 == Some(self.client)
                && (self.client_pod.is_none() || client.1 == self.client_pod)
                && (self.server_pod.is_none() || *server == self.server_pod)
        };
        flow.verdict() == "FORWARDED"
            && (is(&source, &destination.1) || is(&destination, &source.1))
    }
}

/// The client's end of a connection that failed, and where it may have gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Ends of the connections, the address unspecified where it is not known.
    pub clients: Vec<SocketAddr>,
    /// What was dialled, and what it may have led to.
    pub addresses: BTreeSet<IpAddr>,
}

impl Failure {
    /// The flows that tell of it: packets of its connections, and whatever was not let through to
    /// where they may have gone.
    pub fn flows<'a>(&self, seen: &'a Seen) -> Vec<&'a Flow> {
        let mut flows: Vec<_> = seen
            .flows
            .iter()
            .filter(|flow| self.is_told_by(flow))
            .collect();
        flows.truncate(MOST);
        flows
    }

    fn is_told_by(&self, flow: &Flow) -> bool {
        let ends = flow.ends().map(|(end, _)| end);
        let is_ours = |end: &SocketAddr| {
            let mut clients = self.clients.iter();
            clients.any(|client| {
                let same_address = client.ip() == end.ip() || client.ip().is_unspecified();
                client.port() == end.port() && same_address
            })
        };
        let leads_there = |end: &SocketAddr| self.addresses.contains(&end.ip());
        let mut known = ends.iter().flatten();
        let touches = known.clone().any(leads_there);
        let let_through = ["FORWARDED", "REDIRECTED", "TRACED", "TRANSLATED"];
        touches && (known.any(is_ours) || !let_through.contains(&flow.verdict()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn flow(source: (&str, u16, &str), destination: (&str, u16, &str), verdict: &str) -> Flow {
        let endpoint = |pod: &str| match pod.split_once('/') {
            Some((namespace, name)) => json!({ "namespace": namespace, "pod_name": name }),
            None => json!({ "identity": 2 }),
        };
        Flow(json!({
            "verdict": verdict,
            "IP": { "source": source.0, "destination": destination.0 },
            "l4": { "TCP": { "source_port": source.1, "destination_port": destination.1 } },
            "source": endpoint(source.2),
            "destination": endpoint(destination.2),
        }))
    }

    const A: (&str, u16, &str) = ("10.0.0.9", 4000, "shop/a");
    const B: (&str, u16, &str) = ("10.0.0.1", 8080, "shop/b");

    #[test]
    fn a_connection_is_shown_by_packets_of_either_way() {
        let connection = Connection {
            client: "10.0.0.9:4000".parse().unwrap(),
            client_pod: Some("shop/a".into()),
            server_pod: Some("shop/b".into()),
        };
        let cases = [
            (flow(A, B, "FORWARDED"), true),
            (flow(B, A, "FORWARDED"), true),
            (flow(A, B, "DROPPED"), false),
            (flow((A.0, 4001, A.2), B, "FORWARDED"), false),
            (flow((A.0, A.1, "shop/c"), B, "FORWARDED"), false),
            (flow(A, (B.0, B.1, "-"), "FORWARDED"), false),
            (Flow(json!({ "verdict": "FORWARDED" })), false),
        ];
        for (flow, expected) in cases {
            assert_eq!(connection.is_shown_by(&flow), expected, "{flow:?}");
        }
        let of_a_node = Connection {
            client_pod: None,
            ..connection
        };
        assert!(of_a_node.is_shown_by(&flow((A.0, A.1, "-"), B, "FORWARDED")));
    }

    #[test]
    fn a_failure_is_told_by_its_packets_and_by_drops_on_the_way() {
        let failure = |client: &str| Failure {
            clients: vec![client.parse().unwrap()],
            addresses: [B.0.parse().unwrap()].into(),
        };
        let seen = Seen {
            flows: vec![
                flow(A, B, "FORWARDED"),
                flow(("192.0.2.7", 55, "-"), B, "DROPPED"),
                flow(("192.0.2.7", 55, "-"), B, "FORWARDED"),
                flow(A, ("10.0.0.77", 1, "-"), "DROPPED"),
            ],
            lost: 0,
        };
        for client in ["10.0.0.9:4000", "0.0.0.0:4000"] {
            let flows = failure(client).flows(&seen);
            assert_eq!(flows, [&seen.flows[0], &seen.flows[1]], "{client}");
        }
        assert_eq!(failure("10.0.0.8:4000").flows(&seen), [&seen.flows[1]]);
    }

    #[test]
    fn answers_are_read_line_by_line() {
        let text = "{\"flow\":{\"verdict\":\"DROPPED\"},\"node_name\":\"a\"}\n\
                    {\"lost_events\":{\"num_events_lost\":\"3\"}}\n";
        let seen = Seen::parse(text).unwrap();
        assert_eq!((seen.flows.len(), seen.lost), (1, 3));
        assert_eq!(Seen::parse("").unwrap(), Seen::default());
        assert!(Seen::parse("what?").is_err());
    }

    #[test]
    fn flows_are_asked_for_by_time_and_address() {
        let addresses = ["10.0.0.1", "fd00::1"].map(|ip| ip.parse().unwrap()).into();
        let words = arguments(Duration::from_millis(4900), &addresses);
        assert_eq!(
            words.join(" "),
            "observe --output json --since 6s --ip 10.0.0.1,fd00::1"
        );
    }
}
