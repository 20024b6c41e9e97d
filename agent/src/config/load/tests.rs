//! The layers together: what wins, and what is reported.

use std::path::Path;

use super::*;
use crate::config::environment::tests::Fixed;
use crate::config::{LogLevel, PortRange, XdpMode};

fn flags<const N: usize>(pairs: [(&str, &str); N]) -> ConfigFlags {
    let values = pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    ConfigFlags { file: None, values }
}

fn load(file: &str, environment: &Fixed, flags: &ConfigFlags) -> Result<Loaded, ConfigError> {
    Loader::new()
        .file_text(Path::new("c.yaml"), file)
        .environment(environment)
        .flags(flags)
        .finish(environment)
}

fn problems(file: &str) -> Vec<String> {
    let error = load(file, &Fixed::default(), &flags([])).unwrap_err();
    error.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_given_means_the_defaults_and_the_host_name() {
    for file in ["", "---\n", "flows:\nlog:\n  level:\n"] {
        let loaded = load(file, &Fixed::with([]), &flags([])).unwrap();
        let expected = Config {
            node_name: "node-a".into(),
            ..Config::default()
        };
        assert_eq!(loaded.config, expected, "{file:?}");
        assert!(loaded.origins.is_empty());
    }
}

#[test]
fn a_later_layer_wins() {
    let file = "\
log: {level: warn}
flows: {capacity: 100, reportInterval: 7s}
devices: {uplinks: [eth0, 'en*'], xdpMode: off}
loadBalancer: {snatPorts: 1024-2047}
";
    let environment = Fixed::with([
        ("WEIR_LOG_LEVEL", "error"),
        ("WEIR_FLOWS_CAPACITY", "200"),
        ("UNRELATED", "x"),
    ]);
    let loaded = load(file, &environment, &flags([("log.level", "debug")])).unwrap();
    let Config {
        log,
        flows,
        devices,
        load_balancer,
        ..
    } = &loaded.config;
    assert_eq!(log.level, LogLevel::Debug);
    assert_eq!(flows.capacity.get(), 200);
    assert_eq!(flows.report_interval.get(), 7);
    assert_eq!(devices.uplinks.len(), 2);
    assert_eq!(devices.xdp_mode, XdpMode::Off);
    assert_eq!(
        load_balancer.snat_ports,
        PortRange {
            first: 1024,
            last: 2047
        }
    );
    assert_eq!(
        loaded.origins["log.level"],
        Origin::Flag("--log-level".into())
    );
    assert_eq!(
        loaded.origins["flows.capacity"],
        Origin::Environment("WEIR_FLOWS_CAPACITY".into())
    );
    assert_eq!(
        loaded.origins["flows.reportInterval"],
        Origin::File("c.yaml".into())
    );
    assert!(loaded.summary().contains("log.level=debug"));
}

#[test]
fn every_mistake_of_every_layer_is_reported_at_once() {
    let file = "\
nodeName: Node_A
flows: {enabled: perhaps, reportInterval: 5}
loadBalancer: {snatPorts: 20000-40000}
";
    let environment = Fixed::with([("WEIR_LOG_LEVEL", "loud")]);
    let error = load(file, &environment, &flags([("paths.bpffs", "here")])).unwrap_err();
    let expected = "\
the configuration has 6 mistakes:
  flows.enabled = perhaps (file c.yaml) is neither true nor false; write true or false
  flows.reportInterval = 5 (file c.yaml) has no unit; write a time span from 1s to 1h, such as \
90s, 2m or 1h30m
  log.level = loud (variable WEIR_LOG_LEVEL) is none of the choices; write one of error warn \
info debug trace
  paths.bpffs = here (flag --paths-bpffs) does not start with '/'; write an absolute path
  nodeName = Node_A (file c.yaml) is not a name Kubernetes gives to nodes; use lower-case \
letters, digits, '-' and '.', at most 253, as `kubectl get nodes` shows it
  loadBalancer.snatPorts = 20000-40000 (file c.yaml) contains NodePorts; stay out of 30000-32767";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn unknown_keys_suggest_the_nearest() {
    let cases = [
        (
            "flows: {capcity: 5}",
            "flows.capcity (file c.yaml) is not a setting; did you mean flows.capacity?",
        ),
        (
            "flow: {capacity: 5}",
            "flow (file c.yaml) is not a setting; did you mean flows?",
        ),
        (
            "snatPorts: 1024-4096",
            "snatPorts (file c.yaml) is not a setting; did you mean loadBalancer.snatPorts?",
        ),
        (
            "flows: {snatports: 1024-4096}",
            "flows.snatports (file c.yaml) is not a setting; did you mean loadBalancer.snatPorts?",
        ),
        (
            "colour: blue",
            "colour (file c.yaml) is not a setting; remove it, or see `weir-agent config --print-default`",
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(problems(file), [expected], "{file}");
    }
}

#[test]
fn values_of_the_wrong_shape_are_named() {
    let cases = [
        (
            "flows: 5",
            "flows = 5 (file c.yaml) is a section, not a setting; write its settings below it, indented",
        ),
        (
            "log: {level: {a: b}}",
            "log.level (file c.yaml) has keys below it; write one value, or a list of values",
        ),
        (
            "log: {level: [info]}",
            "log.level = [\"info\"] (file c.yaml) is a list; write one of error warn info debug trace",
        ),
        (
            "- a",
            "file c.yaml is not a mapping of keys to values; write `key: value` lines",
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(problems(file), [expected], "{file}");
    }
}

#[test]
fn text_that_is_not_yaml_is_reported_with_its_line() {
    let found = problems("log:\n  level: [info\n");
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("is not YAML") && found[0].contains("line"),
        "{}",
        found[0]
    );
    assert!(
        problems("a: 1\na: 2\n")[0].contains("duplicate"),
        "a key twice is a mistake"
    );
}

#[test]
fn an_unreadable_file_is_a_problem_like_others() {
    let file = Path::new("/nonexistent/weir.yaml");
    let error = Loader::new()
        .file(file)
        .flags(&flags([("log.level", "loud")]))
        .finish(&Fixed::default())
        .unwrap_err();
    assert_eq!(error.problems.len(), 2);
    assert!(
        error.problems[0]
            .to_string()
            .contains("/nonexistent/weir.yaml cannot be read")
    );
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_a_warning() {
    let environment = Fixed::with([
        ("WEIR_FLOWS_CAPCITY", "5"),
        ("WEIR_AGENT_SERVICE_HOST", "10.0.0.1"),
        ("WEIR_CONFIG", "/etc/x"),
    ]);
    let loaded = load("", &environment, &flags([])).unwrap();
    assert_eq!(
        loaded.warnings,
        ["variable WEIR_FLOWS_CAPCITY is not a setting; did you mean WEIR_FLOWS_CAPACITY?"]
    );
}

#[test]
fn limits_hold() {
    let cases = [
        ("loadBalancer: {connectionsV4: 10}", "is below 1024"),
        ("loadBalancer: {connectionsV4: 9000000}", "is above 8388608"),
        (
            "loadBalancer: {maglev: {loadFactor: 5000}}",
            "is above 1000",
        ),
        ("loadBalancer: {tcpIdleTimeout: 1s}", "is shorter than 10s"),
        (
            "flows: {ringBufferBytes: 5MiB}",
            "is not a size the kernel accepts",
        ),
        (
            "flows: {ringBufferBytes: 2GiB}",
            "is not a size the kernel accepts",
        ),
        (
            "flows: {ringBufferBytes: 0}",
            "is not a size the kernel accepts",
        ),
    ];
    for (file, expected) in cases {
        let found = problems(file);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{file}: {found:?}"
        );
    }
    let long = format!("paths: {{socket: /{}}}", "x".repeat(107));
    assert!(problems(&long)[0].contains("has 108 bytes"));
}
