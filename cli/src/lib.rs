//! The command line `weir`: asks the agent of this node over its unix socket, and shows what it
//! says.
//!
//! On the path of a flow this is the far end. Each command turns arguments into one request and
//! answers into text; both are pure and tested by tables, with the call between them.

pub mod args;
mod backend;
mod completions;
mod connect;
mod connectivity;
mod encrypt;
mod endpoint;
mod failure;
mod json;
pub mod observe;
pub mod output;
mod service;
mod status;
mod uninstall;

use std::io::Write;

pub use args::Arguments;
use args::{BackendCommand, Command, EndpointCommand, ServiceCommand};
pub use connect::Server;
pub use failure::Failure;
use output::Paint;

/// Runs one command. What it has to say goes to `out`; `paint` tells whether `out` takes colours.
pub async fn run(
    arguments: Arguments,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let server = &arguments.server;
    match arguments.command {
        Command::Status(args) => status::run(server, &args, paint, out).await,
        Command::Observe(args) => observe::run(server, &args, paint, out).await,
        Command::Service {
            command: ServiceCommand::List(args),
        } => service::list(server, &args, out).await,
        Command::Backend {
            command: BackendCommand::List(args),
        } => backend::list(server, &args, out).await,
        Command::Endpoint {
            command: EndpointCommand::List(args),
        } => endpoint::list(server, &args, out).await,
        Command::Connectivity { command } => connectivity::run(command, paint, out).await,
        Command::Encrypt { command } => encrypt::run(server, command, paint, out).await,
        Command::Completions { shell } => completions::write(shell, out),
        Command::Uninstall { arguments } => uninstall::run(&arguments),
    }
}
