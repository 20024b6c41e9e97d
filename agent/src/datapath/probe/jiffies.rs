//! Measures how fast the kernel's `jiffies` count.
//!
//! The data plane tells time in jiffies because they cost nothing to read, and userspace has no way
//! to ask for their frequency (`sysconf(_SC_CLK_TCK)` is another one). So a program that returns
//! them is run, and they are counted between two ticks.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use aya_obj::generated::{bpf_func_id, bpf_prog_type};

use super::bpf;

/// What kernels are built with.
const FREQUENCIES: [u32; 4] = [100, 250, 300, 1000];

/// Longer than six ticks of the slowest, so that being late by one matters little.
const SPAN: Duration = Duration::from_millis(64);

/// A measurement may be off by so much: the nearest two frequencies differ by 20 %.
const TOLERANCE: f64 = 0.07;

/// The CPU may have been away at a tick.
const ATTEMPTS: usize = 5;

/// The frequency; `None` if programs cannot be run or no measurement was clear.
pub fn per_second() -> Option<u32> {
    let instructions = bpf::returning_helper(bpf_func_id::BPF_FUNC_jiffies64 as i32);
    let kind = bpf_prog_type::BPF_PROG_TYPE_XDP;
    let program = bpf::load_program(kind, None, &instructions).ok()?;
    (0..ATTEMPTS).find_map(|_| {
        let (first, first_at) = next_tick(program.as_fd()).ok()?;
        std::thread::sleep(SPAN);
        let (last, last_at) = next_tick(program.as_fd()).ok()?;
        frequency(last.wrapping_sub(first), last_at - first_at)
    })
}

/// Waits for the next tick, at most a hundredth of a second away.
fn next_tick(program: BorrowedFd<'_>) -> io::Result<(u32, Instant)> {
    let packet = [0; 64];
    let before = bpf::run_program(program, &packet)?;
    loop {
        let now = bpf::run_program(program, &packet)?;
        if now != before {
            return Ok((now, Instant::now()));
        }
    }
}

fn frequency(ticks: u32, span: Duration) -> Option<u32> {
    let measured = f64::from(ticks) / span.as_secs_f64();
    FREQUENCIES.into_iter().find(|frequency| {
        let frequency = f64::from(*frequency);
        (measured - frequency).abs() <= frequency * TOLERANCE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clear_measurements_count() {
        let cases = [
            (7, 70_000, Some(100)),
            (16, 64_000, Some(250)),
            (20, 66_000, Some(300)),
            (65, 65_000, Some(1000)),
            (18, 66_000, None),
            (8, 64_000, None),
        ];
        for (ticks, micros, expected) in cases {
            let found = frequency(ticks, Duration::from_micros(micros));
            assert_eq!(found, expected, "{ticks} in {micros} us");
        }
    }
}
