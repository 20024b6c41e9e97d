//! `cargo xtask demo` in all its kinds: it passes, and its figures have the names that are relied on.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_tests::binary::{self, Binary};
use weir_tests::control_plane;
use weir_tests::demo::{self, Options};

#[test]
fn the_demo_passes() -> Result<()> {
    let figures = figures(&Options::default())?;
    assert_eq!(figures["nodes"], 2);
    ensure!(figures.get("encryption").is_none(), "{figures}");
    Ok(())
}

#[test]
fn the_demo_with_encryption_passes() -> Result<()> {
    let figures = figures(&Options {
        encrypt: true,
        ..Options::default()
    })?;
    assert_eq!(figures["cleartext_packets_between_nodes"], 0);
    ensure!(["kernel", "userspace"].contains(&figures["encryption"].as_str().unwrap_or_default()));
    ensure!(
        figures["wireguard_packets"].as_u64() > Some(1_000),
        "{figures}"
    );
    Ok(())
}

#[test]
fn the_demo_with_an_api_server_passes() -> Result<()> {
    if !control_plane::is_available() {
        return Ok(());
    }
    let figures = figures(&Options {
        kubernetes: true,
        ..Options::default()
    })?;
    assert_eq!(figures["nodes"], 3);
    Ok(())
}

fn figures(options: &Options) -> Result<Value> {
    binary::announce(Binary::Traffic, env!("CARGO_BIN_EXE_weir-traffic"));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("figures.json");
    demo::run(&Options {
        json: Some(file.clone()),
        ..options.clone()
    })?;
    let figures: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    println!("{figures}");
    assert_eq!(
        (&figures["requests"], &figures["failed"]),
        (&2_500.into(), &0.into())
    );
    let backends = figures["backends"].as_object().context("backends")?;
    assert_eq!(backends.len(), 8, "four pods of two families");
    ensure!(figures["flows_seen"].as_u64() > Some(0), "{figures}");
    Ok(figures)
}
