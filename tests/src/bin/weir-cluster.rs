//! Looks at clusters from outside: those running, those kept, those a crash left.

use std::env;
use std::io::{Read as _, stdin};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use weir_tests::Cluster;
use weir_tests::run::{self, Record};

/// Network namespace clusters on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds a cluster without agents and removes it at the end of standard input or on a signal
    ///
    /// Prints the id of the cluster once its pods serve. There is a client called `client`.
    Up {
        /// Name, the first part of the id
        name: String,
        /// Number of nodes
        #[arg(long, default_value_t = 2)]
        nodes: usize,
        /// Number of pods on each node
        #[arg(long, default_value_t = 1)]
        pods_per_node: usize,
    },
    /// Lists clusters with their members
    List,
    /// Runs a command in a member (a node, pod, client or `underlay`), its cgroup included
    ///
    /// Programs that lie beside this one, such as `weir`, are found before those on PATH.
    Exec {
        /// Id of the cluster
        cluster: String,
        /// Name of the member
        member: String,
        /// The command, a shell if not given
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Removes what crashed clusters left, and the clusters named
    Clean {
        /// Ids of clusters to remove, kept or not, whoever owns them
        clusters: Vec<String>,
        /// Remove all kept clusters too
        #[arg(long)]
        kept: bool,
    },
}

fn main() -> ExitCode {
    match perform(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up {
            name,
            nodes,
            pods_per_node,
        } => up(&name, nodes, pods_per_node)?,
        Command::List => list(),
        Command::Exec {
            cluster,
            member,
            command,
        } => return exec(&cluster, &member, &command),
        Command::Clean { clusters, kept } => clean(&clusters, kept)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(name: &str, nodes: usize, pods_per_node: usize) -> Result<()> {
    let builder = Cluster::builder(name)
        .nodes(nodes)
        .pods_per_node(pods_per_node);
    let cluster = builder.client("client").without_agents().start()?;
    cluster.serve()?;
    println!("{}", cluster.id());
    stdin()
        .read_to_end(&mut Vec::new())
        .context("wait for the end of standard input")?;
    cluster.remove()
}

fn list() {
    for record in run::all() {
        let state = match (record.kept, record.owner.is_alive()) {
            (true, _) => "kept".to_owned(),
            (false, true) => format!("in use by process {}", record.owner.pid),
            (false, false) => "left by a crash".to_owned(),
        };
        println!(
            "{} ({state}): {}",
            record.id,
            record.members().collect::<Vec<_>>().join(" ")
        );
    }
}

fn exec(cluster: &str, member: &str, command: &[String]) -> Result<ExitCode> {
    let record = Record::read(cluster)?;
    let shell = ["sh".to_owned()];
    let command = if command.is_empty() { &shell } else { command };
    let mut process = record.place_of(member)?.command(program(&command[0])?)?;
    let status = process.args(&command[1..]).status();
    let status = status.with_context(|| format!("start {}", command[0]))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// The program beside this one called `name`, if there is one, else `name` itself.
fn program(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("find the running executable")?;
    let neighbour = own.with_file_name(name);
    let is_ours = !name.contains('/') && neighbour.is_file();
    Ok(if is_ours { neighbour } else { name.into() })
}

fn clean(clusters: &[String], kept: bool) -> Result<()> {
    let (mut removed, mut problems) = run::sweep();
    let named = clusters.iter().map(|id| Record::read(id));
    let all_kept = run::all()
        .into_iter()
        .filter(|run| kept && run.kept)
        .map(Ok);
    for record in named.chain(all_kept) {
        match record.and_then(|record| record.remove().map(|()| record.id)) {
            Ok(id) => removed.push(id),
            Err(error) => problems.push(error),
        }
    }
    for id in removed {
        println!("removed {id}");
    }
    for error in &problems {
        eprintln!("{error:#}");
    }
    if !problems.is_empty() {
        bail!("{} clusters could not be removed", problems.len());
    }
    Ok(())
}
