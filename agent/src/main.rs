//! The program `weir-agent`: reads the command line, sets up the log, and hands over to the
//! library.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use weir_agent::config::command::ConfigCommand;
use weir_agent::config::{ConfigFlags, Loaded, Loader, ProcessEnvironment};
use weir_agent::datapath::probe::command::ProbeCommand;
use weir_agent::encryption::userspace::serve::ServeArguments;
use weir_agent::encryption::wireguard_service;
use weir_agent::{app, lifecycle};

/// Balances services, captures flows and needs no sidecar: the agent of one node
#[derive(Parser)]
#[command(name = "weir-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Load the data plane, keep it in step with the cluster, serve its flows
    ///
    /// SIGTERM and SIGINT stop the agent and leave the data plane working; a second one does not
    /// wait. SIGHUP is ignored: manifests are followed by themselves, and the configuration is read
    /// at start.
    Run(ConfigFlags),
    Config(ConfigCommand),
    Probe(ProbeCommand),

    /// Print the reference of all metrics, in Markdown
    Metrics,

    /// Remove every trace of Weir from this node: links, pins, sockets, state
    Uninstall(Uninstall),

    /// Serve the WireGuard device apart from the agent, where the kernel has none
    ///
    /// With encryption.wireguard.process set to separate, the agent waits for this service. Where
    /// no device is to be served it waits to be stopped.
    Wireguard(ConfigFlags),

    /// Do nothing until told to stop; the manifests keep a pod with it whose work is done
    #[command(hide = true)]
    Wait,

    /// Serve a WireGuard device where the kernel has none; the agent starts it by itself
    #[command(hide = true)]
    WireguardDevice(ServeArguments),
}

#[derive(clap::Args)]
struct Uninstall {
    #[command(flatten)]
    config: ConfigFlags,
    /// Leave the node's private key, for an agent that will come back
    #[arg(long)]
    keep_key: bool,
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(flags) => runtime()?.block_on(app::run(load(&flags)?))?,
        Command::Config(command) => print!("{}", command.run(&ProcessEnvironment)?),
        Command::Probe(command) => print!("{}", command.run()?),
        Command::Metrics => print!("{}", weir_agent::metrics::reference::page()),
        Command::Uninstall(uninstall) => {
            let loaded = load(&uninstall.config)?;
            runtime()?.block_on(app::uninstall(loaded, uninstall.keep_key))?;
        }
        Command::Wireguard(flags) => wireguard_service::run(&load(&flags)?.config)?,
        Command::Wait => runtime()?.block_on(wait())?,
        Command::WireguardDevice(device) => device.run()?,
    }
    Ok(())
}

async fn wait() -> std::io::Result<()> {
    lifecycle::Signals::new()?.stop().await;
    Ok(())
}

/// Loads the configuration and, now that its form is known, starts the log.
fn load(flags: &ConfigFlags) -> anyhow::Result<Loaded> {
    let loaded = Loader::load(flags, &ProcessEnvironment)?;
    lifecycle::log::start(&loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(configuration = loaded.summary(), "configuration");
    Ok(loaded)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}
