use super::*;
use crate::plan::{Plan, PodWiring, Shape, Via};
use serde::Deserialize as _;
use serde_json::Value;

fn documents() -> Vec<Value> {
    let files = fs::read_dir(manifests())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let texts = files
        .map(|path| fs::read_to_string(path).unwrap())
        .collect::<Vec<_>>();
    let parse = |text: &String| {
        serde_yaml_ng::Deserializer::from_str(text)
            .map(|document| Value::deserialize(document).unwrap())
            .collect::<Vec<_>>()
    };
    texts.iter().flat_map(parse).collect()
}

#[test]
fn manifests_name_the_addresses_that_the_cluster_has() {
    let pods = (1..=4)
        .map(|number| (format!("web-{number}"), (number - 1) / 2))
        .collect();
    let clients = vec![("client".into(), Via::Node(0))];
    let plan = Plan::new(&Shape {
        nodes: 2,
        pods,
        clients,
        wiring: PodWiring::default(),
    })
    .unwrap();
    let documents = documents();
    let of_kind = |kind: &str| {
        documents
            .iter()
            .filter(|d| d["kind"] == kind)
            .collect::<Vec<_>>()
    };
    let found = of_kind("Pod");
    assert_eq!(found.len(), plan.pods.len());
    for (document, pod) in found.into_iter().zip(&plan.pods) {
        let text = document.to_string();
        assert_eq!(document["metadata"]["name"], pod.name);
        assert_eq!(document["spec"]["nodeName"], plan.nodes[pod.node].name);
        pod.address
            .both()
            .iter()
            .for_each(|ip| assert!(text.contains(&format!("\"{ip}\""))));
    }
    for (document, node) in of_kind("Node").into_iter().zip(&plan.nodes) {
        let text = document.to_string();
        node.address
            .both()
            .iter()
            .for_each(|ip| assert!(text.contains(&format!("\"{ip}\""))));
        node.pod_ranges
            .iter()
            .for_each(|range| assert!(text.contains(range)));
    }
    let slices = of_kind("EndpointSlice")
        .iter()
        .map(ToString::to_string)
        .collect::<String>();
    for ip in plan.pods.iter().flat_map(|pod| pod.address.both()) {
        assert!(slices.contains(&format!("\"{ip}\"")), "{ip}");
    }
    let service = of_kind("Service")[0].to_string();
    let addresses = [plan::vip(0), plan::cluster_ip(0)];
    for ip in addresses.iter().flat_map(|address| address.both()) {
        assert!(service.contains(&format!("\"{ip}\"")), "{ip}");
    }
}

fn figures() -> Figures {
    Figures {
        requests: 2_500,
        failed: 0,
        backends: [("10.244.1.11:8080".parse().unwrap(), 2_500)].into(),
        flows_seen: 1,
        flows_lost: 0,
        xdp_mode: "native",
        nodes: 2,
        wire: None,
    }
}

#[test]
fn figures_are_written_as_others_read_them() {
    let text = serde_json::to_string(&figures()).unwrap();
    let expected = r#"{"requests":2500,"failed":0,"backends":{"10.244.1.11:8080":2500},"flows_seen":1,"flows_lost":0,"xdp_mode":"native","nodes":2}"#;
    assert_eq!(text, expected);
}

#[test]
fn a_demo_that_did_not_work_fails() {
    assert!(figures().judge(1).is_ok());
    assert!(figures().judge(8).is_err());
    assert!(
        Figures {
            failed: 1,
            ..figures()
        }
        .judge(1)
        .is_err()
    );
    assert!(
        Figures {
            requests: 9,
            ..figures()
        }
        .judge(1)
        .is_err()
    );
    assert!(
        Figures {
            flows_seen: 0,
            ..figures()
        }
        .judge(1)
        .is_err()
    );
}
