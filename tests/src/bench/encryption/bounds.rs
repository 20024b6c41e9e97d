//! What the figures have to keep to.

use super::report::Report;
use super::scale::Scale;

/// Least part of boringtun's throughput.
const RATIO_MIN: f64 = 0.95;
/// Longest first step among a thousand nodes, in milliseconds.
const FIRST_SYNC_MS_MAX: f64 = 1_000.0;
/// Longest step for the change of one of them, in milliseconds: the median.
const ONE_CHANGE_MS_MAX: f64 = 10.0;
/// Largest share of one processor that steps may take while nodes change all the time. A tenth is what
/// the agent grants them; the step that is under way at the end is more than that.
const SHARE_OF_STEPS_MAX: f64 = 0.11;

/// What does not keep to its bound, each in a line.
pub fn exceeded(report: &Report) -> Vec<String> {
    let ratios = report.ratios().filter(|(_, ratio)| *ratio < RATIO_MIN);
    let slow = ratios.map(|(load, ratio)| {
        format!("{load}: {ratio:.2} of boringtun's throughput, {RATIO_MIN} is wanted")
    });
    let Scale {
        first_sync_ms,
        one_change_ms: [one_change_ms, _],
        ref flapping,
        ..
    } = *report.scale();
    let share = flapping.share_of_steps;
    let others = [
        (
            first_sync_ms,
            FIRST_SYNC_MS_MAX,
            "milliseconds for the first sync",
        ),
        (
            one_change_ms,
            ONE_CHANGE_MS_MAX,
            "milliseconds for one change",
        ),
        (
            share,
            SHARE_OF_STEPS_MAX,
            "of a processor while nodes change",
        ),
    ];
    let others = others.into_iter().filter(|(found, most, _)| found > most);
    let others = others.map(|(found, most, what)| format!("{found:.2} {what}, at most {most}"));
    slow.chain(others).collect()
}
