//! Waiting for a condition with a deadline: the only kind of waiting in these tests.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(10);

/// Calls `look` until it returns a value, and returns that value.
///
/// # Errors
///
/// After `deadline`: `what` was awaited, and the last error that `look` gave. At least one look is
/// taken, whatever the deadline.
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= deadline => {
                return Err(last.context(format!("waited {deadline:?} for {what}")));
            }
            Err(_) => thread::sleep(PAUSE),
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
