//! Waiting for a condition with a deadline or, for what must not happen, for some time: the only kinds of
//! waiting in these tests.
//!
//! Deadlines are what a machine of the usual kind keeps by far. `WEIR_PATIENCE=4` makes all of them
//! four times as long, for machines that are emulated.

use std::env;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Shortest pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);
/// The pause grows with the time waited, to this part of it: looking can be work, and who waits
/// long waits for the machine.
const SHARE: u32 = 20;

/// How many times longer than usual to wait.
static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
    let given = env::var("WEIR_PATIENCE").ok();
    given
        .and_then(|text| text.parse().ok())
        .map_or(1, |times: u32| times.clamp(1, 100))
});

/// A time that something may take, on this machine.
pub fn patiently(usual: Duration) -> Duration {
    usual * *PATIENCE
}

/// Lets so much time go by, on this machine.
pub fn let_pass(usual: Duration) {
    thread::sleep(patiently(usual));
}

/// Calls `look` until it returns a value, and returns that value.
///
/// # Errors
///
/// After `deadline`: `what` was awaited, and the last error that `look` gave. At least one look is
/// taken, whatever the deadline.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let deadline = patiently(deadline);
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= deadline => {
                return Err(last.context(format!("waited {deadline:?} for {what}")));
            }
            Err(_) => thread::sleep(PAUSE.max(start.elapsed() / SHARE)),
        }
    }
}

/// Calls `holds` until it is true.
///
/// # Errors
///
/// After `deadline`: `what` did not become true.
pub fn until_true(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    until(what, deadline, || {
        if holds() {
            Ok(())
        } else {
            Err(anyhow!("it did not happen"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_first_value() {
        let mut looks = 0;
        let value = until("three looks", Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err(anyhow!("look {looks}"))
            }
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn names_what_it_waited_for_and_the_last_error() {
        let error = until::<()>("rain", Duration::ZERO, || Err(anyhow!("sun"))).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("rain") && text.contains("sun"), "{text}");
    }
}
