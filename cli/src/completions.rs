//! `weir completions`.

use std::io::Write;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::failure::Failure;

pub(crate) fn write(shell: Shell, out: &mut dyn Write) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weir", &mut script);
    Ok(out.write_all(&script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_know_the_commands_and_the_filters() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut out = Vec::new();
            write(shell, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            for word in ["observe", "verdict", "from-pod", "endpoint"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
