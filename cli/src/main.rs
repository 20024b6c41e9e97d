//! The program `weir`: reads the command line, runs the command, and says how it went.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use weir_cli::output::Paint;
use weir_cli::{Arguments, Failure};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let colours = arguments
        .color
        .applies(io::stdout().is_terminal(), std::env::var_os("NO_COLOR"));
    match execute(arguments, Paint::new(colours)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to do if standard error is closed as well.
            let _ = writeln!(io::stderr(), "weir: {failure}");
            failure.exit_code().into()
        }
    }
}

fn execute(arguments: Arguments, paint: Paint) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut out = BufWriter::new(io::stdout());
    let result = runtime.block_on(weir_cli::run(arguments, paint, &mut out));
    // What came before a failure is shown before it.
    out.flush()?;
    result
}
