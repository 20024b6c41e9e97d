//! The process behind [`weir_tests::traffic`]: `weir-traffic KIND JSON` does one job.

use std::io::{Read, stdin};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result, bail};
use weir_tests::traffic::{Http, Job, Load, Numbered, Server, Stop, Stream, Udp};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match perform(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-traffic: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(arguments: &[String]) -> Result<()> {
    let [kind, job] = arguments else {
        bail!("usage: weir-traffic KIND JSON")
    };
    match kind.as_str() {
        Server::KIND => perform_one::<Server>(job),
        Http::KIND => perform_one::<Http>(job),
        Udp::KIND => perform_one::<Udp>(job),
        Stream::KIND => perform_one::<Stream>(job),
        Load::KIND => perform_one::<Load>(job),
        Numbered::KIND => perform_one::<Numbered>(job),
        _ => bail!("there is no traffic of kind {kind:?}"),
    }
}

fn perform_one<J: Job>(job: &str) -> Result<()> {
    let job: J = serde_json::from_str(job).context("decode the job")?;
    let stop = Stop::default();
    let stopper = stop.clone();
    thread::spawn(move || {
        // The end of input and an error both mean that nobody waits for this job any longer.
        let _ = stdin().read_to_end(&mut Vec::new());
        stopper.set();
    });
    println!(
        "{}",
        serde_json::to_string(&job.perform(&stop)?).context("encode the report")?
    );
    Ok(())
}
