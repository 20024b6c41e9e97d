//! The program `weir-agent` as an operator calls it, as far as nothing is loaded.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn agent(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-agent"));
    // A variable of the developer's is no business of the test.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WEIR_") {
            command.env_remove(name);
        }
    }
    let Output {
        status,
        stdout,
        stderr,
    } = command.args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn the_default_configuration_has_no_mistakes_and_is_what_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    let path = file.to_str().unwrap();
    let (code, defaults, errors) = agent(&["config", "--print-default"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(defaults.contains("# ") && defaults.contains("\nflows:\n"));
    fs::write(&file, &defaults).unwrap();
    let checked = agent(&["config", "--check", path]);
    let good = format!("{path}: no mistakes\n");
    assert_eq!(checked, (Some(0), good, String::new()));

    let node = "--node-name=node-1";
    let (_, without, _) = agent(&["config", node]);
    let (code, with, errors) = agent(&["config", "--config", path, node]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert_eq!(with, without);
}

#[test]
fn a_check_reports_every_mistake_and_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    let path = file.to_str().unwrap();
    fs::write(
        &file,
        "log: {level: loud}\nflows: {capacty: 5}\ndevices: {xdpMode: fast}\n",
    )
    .unwrap();
    let (code, text, errors) = agent(&["config", "--check", path]);
    assert_eq!((code, text.as_str()), (Some(1), ""), "{errors}");
    for part in [
        "3 mistakes",
        path,
        "log.level",
        "one of error warn info debug trace",
        "capacty",
        "did you mean flows.capacity?",
        "devices.xdpMode",
    ] {
        assert!(errors.contains(part), "{part} is not in {errors}");
    }
    let (code, _, errors) = agent(&["config", "--check", "/nowhere/weir.yaml"]);
    assert_eq!(code, Some(1));
    assert!(errors.contains("/nowhere/weir.yaml"), "{errors}");
}

#[test]
fn a_probe_says_the_same_to_people_and_to_programs() {
    let (code, table, errors) = agent(&["probe", "--device", "lo"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let (code, json, errors) = agent(&["probe", "--device", "lo", "-o", "json"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&json).unwrap();
    let features = report["features"].as_array().unwrap();
    for wanted in ["TCX", "ring buffer", "WireGuard", "cgroup", "BTF", "XDP"] {
        let names = |row: &Value| row["feature"].as_str().unwrap().contains(wanted);
        assert!(features.iter().any(names), "{wanted} is not in {json}");
    }
    for row in features {
        let feature = row["feature"].as_str().unwrap();
        let line = table.lines().find(|line| line.starts_with(feature));
        let line = line.unwrap_or_else(|| panic!("{feature} is not in\n{table}"));
        assert!(line.contains(row["used"].as_str().unwrap()), "{line}");
    }
}

/// What an agent writes that cannot start, as there is no BPF file system where it shall pin.
fn log_of_a_start(format: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (code, _, errors) = agent(&[
        "run",
        "--node-name=node-1",
        "--log-format",
        format,
        "--paths-socket",
        &path("agent.sock"),
        "--paths-bpffs",
        &path("no-bpffs"),
        "--paths-state",
        &path("state"),
    ]);
    assert_eq!(code, Some(1), "{errors}");
    let mut lines: Vec<_> = errors.lines().map(str::to_owned).collect();
    let last = lines.pop().unwrap();
    assert!(
        last.starts_with("weir-agent: this node cannot run"),
        "{last}"
    );
    assert!(!lines.is_empty(), "the configuration is logged");
    lines
}

#[test]
fn the_log_is_for_people_or_for_machines() {
    for line in log_of_a_start("json") {
        let entry: Value = serde_json::from_str(&line).expect(&line);
        for key in ["timestamp", "level", "target", "message"] {
            assert!(entry[key].is_string(), "{key}: {line}");
        }
    }
    for line in log_of_a_start("text") {
        assert!(line.contains("INFO weir_agent"), "{line}");
        assert!(!line.contains('\x1b'), "colours are for terminals: {line}");
    }
}

#[test]
fn a_pod_whose_work_is_done_waits_and_ends_when_it_is_told_to() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::os::unix::process::ExitStatusExt as _;
    use std::time::{Duration, Instant};

    let mut waiting = Command::new(env!("CARGO_BIN_EXE_weir-agent"))
        .arg("wait")
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(waiting.id().cast_signed());
    // As the first process of a container it would not even be ended by a signal that it has not
    // asked for; so it must have, before it is told.
    let mask = format!("/proc/{pid}/status");
    let deadline = Instant::now() + Duration::from_secs(30);
    let catches = || {
        let status = fs::read_to_string(&mask).unwrap();
        let caught = status.lines().find_map(|it| it.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
        caught & (1 << (Signal::SIGTERM as u32 - 1)) != 0
    };
    while !catches() {
        assert!(Instant::now() < deadline && waiting.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(pid, Signal::SIGTERM).unwrap();
    let status = waiting.wait().unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}
