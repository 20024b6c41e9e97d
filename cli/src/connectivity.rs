//! `weir connectivity`: runs the suite of checks, and what it runs elsewhere.

mod args;
mod interrupt;
mod show;

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context as _, Error, Result, bail};
use weir_connectivity::kubernetes::Kubernetes;
use weir_connectivity::{Commands, Inventory, Place, Report, Suite, serve};

use crate::args::Form;
use crate::failure::Failure;
use crate::output::Paint;
pub use args::{ConnectivityCommand, TestArgs};
use interrupt::Interrupt;

/// How long services that were just made may take until they answer.
const SETTLE: Duration = Duration::from_secs(20);

/// Runs one of the commands.
pub(crate) async fn run(
    command: ConnectivityCommand,
    paint: Paint,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    match command {
        ConnectivityCommand::Test(args) => test(&args, paint, out).await,
        ConnectivityCommand::Serve(args) => Ok(serve::serve(&args, out).await?),
        ConnectivityCommand::Probe { probe } => {
            let report = probe.run().await;
            let text = serde_json::to_string(&report).context("write the report")?;
            Ok(writeln!(out, "{text}")?)
        }
    }
}

async fn test(args: &TestArgs, paint: Paint, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
    let mut interrupt = Interrupt::new()?;
    let (report, left) = match &args.inventory {
        Some(file) => {
            let inventory = Inventory::read(file).map_err(could_not_run)?;
            (
                with_inventory(&inventory, args, &mut interrupt).await,
                Ok(()),
            )
        }
        None => on_kubernetes(args, &mut interrupt).await,
    };
    let report = match (report, left) {
        (Ok(report), Ok(())) => report,
        (Ok(report), Err(left)) => {
            show(&report, args, paint, out)?;
            return Err(Failure::CouldNotRun(left));
        }
        (Err(error), Ok(())) => return Err(Failure::CouldNotRun(error)),
        (Err(error), Err(left)) => {
            let both = format!("{left:#}");
            return Err(Failure::CouldNotRun(error.context(both)));
        }
    };
    show(&report, args, paint, out)?;
    verdict(&report)
}

fn show(report: &Report, args: &TestArgs, paint: Paint, out: &mut dyn Write) -> Result<()> {
    match args.output.output {
        Form::Json => {
            let text = serde_json::to_string(report).context("write the report")?;
            writeln!(out, "{text}")?;
        }
        Form::Text => show::write(report, paint, out)?,
    }
    Ok(())
}

fn verdict(report: &Report) -> Result<(), Failure> {
    match report.counts() {
        [0, 0, _] => {
            let text = "nothing could be tried: see the table for the reasons";
            Err(could_not_run(Error::msg(text)))
        }
        [_, 0, _] => Ok(()),
        [_, failed, _] => Err(Failure::Connectivity(format!("{failed} checks failed"))),
    }
}

fn could_not_run(error: impl Into<Error>) -> Failure {
    Failure::CouldNotRun(error.into())
}

/// Tells whoever waits what is being done.
fn progress(text: &str) {
    // Nobody need read it.
    let _ = writeln!(io::stderr(), "{text} ...");
}

async fn with_inventory(
    inventory: &Inventory,
    args: &TestArgs,
    interrupt: &mut Interrupt,
) -> Result<Report> {
    let run = async {
        let place = Commands::start(inventory).await?;
        let report = run_suite(&place, inventory, args).await;
        place.stop().await;
        report
    };
    tokio::select! {
        report = run => report,
        () = interrupt.wait() => bail!("interrupted"),
    }
}

/// What came of the run, and of the removal of what was made.
async fn on_kubernetes(args: &TestArgs, interrupt: &mut Interrupt) -> (Result<Report>, Result<()>) {
    let prepared = tokio::select! {
        prepared = Kubernetes::prepare(args.kubernetes()) => prepared,
        () = interrupt.wait() => return (Err(Error::msg("interrupted")), Ok(())),
    };
    let place = match prepared {
        Ok(place) => place,
        Err(error) => return (Err(error.into()), Ok(())),
    };
    progress(&place.about());
    // Not to be interrupted: what is made must be known, to be removed.
    if let Err(error) = place.create_namespace().await {
        return (Err(error.into()), Ok(()));
    }
    let run = async {
        place.create().await?;
        let inventory = place.wait_ready(&progress).await?;
        run_suite(&place, &inventory, args).await
    };
    let report = tokio::select! {
        report = run => report,
        () = interrupt.wait() => Err(Error::msg("interrupted")),
    };
    let namespace = &args.namespace;
    if args.keep {
        progress(&format!("leaving the namespace {namespace} there"));
        return (report, Ok(()));
    }
    progress(&format!("removing the namespace {namespace}"));
    let removed = tokio::select! {
        removed = place.remove() => removed.map_err(Error::from),
        () = interrupt.wait() => {
            Err(anyhow::anyhow!("interrupted again: the namespace {namespace} may still be there"))
        }
    };
    (report, removed)
}

async fn run_suite<P: Place>(place: &P, inventory: &Inventory, args: &TestArgs) -> Result<Report> {
    let settings = args.suite();
    let suite = Suite::new(place, inventory, &settings, &progress);
    suite
        .preflight()
        .await
        .context("weir cannot be run everywhere")?;
    if args.inventory.is_none() {
        suite.settle(SETTLE).await;
    }
    Ok(suite.run().await)
}
