//! However a cluster ends, nothing of it stays on the machine.

use std::io::{BufRead, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use weir_tests::run::{self, Record};
use weir_tests::traffic::server::HTTP_PORT;
use weir_tests::{Cluster, wait};

use super::{SECONDS_10, plain};

/// Traces of the run on this machine, as an operator would look for them.
fn traces(record: &Record) -> Vec<String> {
    let names = std::fs::read_dir("/run/netns").unwrap().flatten();
    let mut found: Vec<_> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.contains(&record.id))
        .collect();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&record.id))
            .map(str::to_owned),
    );
    let paths = [record.cgroup.clone(), record.directory()];
    found.extend(
        paths
            .iter()
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    let recorded = run::all().into_iter().any(|other| other.id == record.id);
    found.extend(recorded.then(|| "the record".to_owned()));
    found
}

#[test]
fn a_panic_leaves_nothing() -> Result<()> {
    let cluster = plain("panic").start()?;
    cluster.serve()?;
    let record = cluster.record().clone();
    assert!(
        traces(&record).len() > 5,
        "the search finds a living cluster"
    );
    catch_unwind(AssertUnwindSafe(move || {
        let _cluster = cluster;
        panic!("on purpose");
    }))
    .unwrap_err();
    assert_eq!(traces(&record), Vec::<String>::new());
    Ok(())
}

#[test]
fn a_failed_build_leaves_nothing() {
    let too_long = "a-name-that-is-too-long-for-an-interface";
    let error = Cluster::builder("bad")
        .client(too_long)
        .without_agents()
        .start()
        .unwrap_err();
    assert!(error.to_string().contains(too_long), "{error:#}");
    assert!(
        !run::all()
            .iter()
            .any(|record| record.id.starts_with("bad-"))
    );
}

/// Starts a process with a cluster of its own, and returns both once its pods serve.
fn start_victim() -> Result<(Child, Record)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-cluster"));
    command
        .args(["up", "victim"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut id = String::new();
    BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut id)?;
    Ok((child, Record::read(id.trim_end())?))
}

#[test]
fn what_a_killed_process_left_is_swept() -> Result<()> {
    let (mut child, record) = start_victim()?;
    child.kill()?;
    child.wait()?;
    assert!(!traces(&record).is_empty() || !Path::new(run::DIRECTORY).exists());
    // Another test's cluster may be the one that sweeps.
    run::sweep();
    wait::until("the sweep", SECONDS_10, || {
        let left = traces(&record);
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

#[test]
fn a_signal_removes_the_cluster() -> Result<()> {
    for signal in [
        nix::sys::signal::Signal::SIGINT,
        nix::sys::signal::Signal::SIGTERM,
    ] {
        let (mut child, record) = start_victim()?;
        // Waiting for the child would close it, and the end of input ends the victim in peace.
        let _open = child.stdin.take();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), signal)?;
        let status = child.wait()?;
        assert_eq!(traces(&record), Vec::<String>::new(), "{signal}");
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&status),
            Some(signal as i32)
        );
    }
    Ok(())
}

#[test]
fn a_kept_cluster_outlives_its_object_and_is_removed_by_id() -> Result<()> {
    let cluster = plain("keep").start()?;
    cluster.serve()?;
    let id = cluster.keep()?.id;
    let (swept, _) = run::sweep();
    assert!(!swept.contains(&id));
    let record = Record::read(&id)?;
    let address = "http://10.244.2.11:8080/";
    let client = record.place_of("client")?;
    let report = client
        .http("10.244.2.11".parse()?, HTTP_PORT)
        .requests(1)
        .run();
    record.remove()?;
    assert_eq!(report?.failed, 0, "{address} still answers");
    assert_eq!(traces(&record), Vec::<String>::new());
    Ok(())
}
