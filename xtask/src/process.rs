//! Children of this program: their output as it comes, and an end for each of them.

use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

/// How long output is still awaited from processes that outlive the child.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// How often the state of a silent child is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// A child that is killed when this value goes, or when this program dies by any means.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // Both fail only for a child that has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a followed child ended.
#[derive(Debug)]
pub enum End {
    /// By itself.
    Exited(ExitStatus),
    /// Killed because the caller's `watch` asked for it.
    Stopped,
    /// Killed because the time was up.
    TimedOut,
}

/// Runs a command and shows every line of its standard output to `watch`, which may stop it by
/// returning false.
///
/// Blocks until the child has ended; the child never outlives the call.
pub fn follow(
    command: &mut Command,
    limit: Duration,
    mut watch: impl FnMut(&str) -> bool,
) -> anyhow::Result<End> {
    let deadline = Instant::now() + limit;
    let mut child = spawn(command)?;
    let stdout = child
        .0
        .stdout
        .take()
        .context("the child has no standard output")?;
    let lines = read_lines(stdout);
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        match lines.recv_timeout(GLANCE) {
            Ok(line) if !watch(&line) => return Ok(End::Stopped),
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => match ended {
                Some((status, _)) => return Ok(End::Exited(status)),
                None => thread::sleep(GLANCE),
            },
        }
        match ended {
            Some((status, at)) if at.elapsed() > STRAGGLERS => return Ok(End::Exited(status)),
            Some(_) => {}
            None if Instant::now() > deadline => return Ok(End::TimedOut),
            None => ended = child.0.try_wait()?.map(|status| (status, Instant::now())),
        }
    }
}

/// Runs a command to its end with this program's own output, and fails if it does.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("+ {}", line_of(command));
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    anyhow::ensure!(status.success(), "{} failed ({status})", line_of(command));
    Ok(())
}

/// Runs a command to its end and returns what it printed; fails with what it complained about.
pub fn read(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} failed ({})\n{}",
        line_of(command),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Replaces this program by another one: signals, terminal and exit code become its own.
pub fn hand_over(command: &mut Command) -> anyhow::Result<ExitCode> {
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", command.get_program().display()))
}

/// The command as a person would type it, the variables it adds included.
pub fn line_of(command: &Command) -> String {
    /// Cargo separates flags in a variable by a control character.
    const SEPARATOR: &str = "\u{1f}";
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), value?.display())));
    let program = command.get_program().display().to_string();
    let arguments = command
        .get_args()
        .map(|argument| argument.display().to_string());
    variables
        .chain([program])
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
        .replace(SEPARATOR, " ")
}

fn spawn(command: &mut Command) -> anyhow::Result<Kept> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // SAFETY: between fork and exec only `prctl` is called, which is async-signal-safe and
    // allocates nothing.
    unsafe {
        command.pre_exec(|| {
            set_pdeathsig(Signal::SIGKILL)
                .map_err(|errno| io::Error::from_raw_os_error(errno as i32))
        });
    }
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    Ok(Kept(child))
}

/// Reads on a thread of its own, because a pipe cannot be read with a deadline.
fn read_lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line)
                .trim_end_matches('\r')
                .to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{End, follow, line_of};

    const LONG: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn every_line_is_seen_and_the_status_kept() {
        let mut seen = Vec::new();
        let end = follow(
            &mut shell("echo one; echo two; printf three; exit 3"),
            LONG,
            |line| {
                seen.push(line.to_owned());
                true
            },
        );
        assert_eq!(seen, ["one", "two", "three"]);
        assert!(matches!(end.unwrap(), End::Exited(status) if status.code() == Some(3)));
    }

    #[test]
    fn a_silent_child_is_ended_when_its_time_is_up() {
        let begun = Instant::now();
        let end = follow(
            &mut shell("exec sleep 60"),
            Duration::from_millis(200),
            |_| true,
        );
        assert!(matches!(end.unwrap(), End::TimedOut));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn the_watcher_can_end_a_child() {
        let begun = Instant::now();
        let end = follow(
            &mut shell("echo go; echo panic; exec sleep 60"),
            LONG,
            |line| line != "panic",
        );
        assert!(matches!(end.unwrap(), End::Stopped));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn descendants_that_keep_the_output_open_do_not_hold_the_call() {
        let begun = Instant::now();
        let end = follow(&mut shell("sleep 40 & echo done"), LONG, |_| true);
        assert!(matches!(end.unwrap(), End::Exited(status) if status.success()));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn commands_print_as_typed() {
        let mut command = Command::new("cargo");
        command.env("A", "b").env_remove("C").args(["install", "x"]);
        assert_eq!(line_of(&command), "A=b cargo install x");
    }
}
