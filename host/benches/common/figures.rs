//! What a benchmark is told in the environment, and what it makes of its figures: medians and goals.

use anyhow::Context as _;

/// Returns the median.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The goal of a figure.
pub enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}
use Wanted::{AtLeast, AtMost};

/// Prints the heading of the table that [`goal`] fills.
pub fn goals() {
    println!("\n| goal | wanted | measured | |\n|---|---:|---:|---|");
}

/// Prints whether a figure reaches its goal.
pub fn goal(what: &str, wanted: Wanted, measured: f64) {
    let (sign, bound, reached) = match wanted {
        AtLeast(bound) => ('≥', bound, measured >= bound),
        AtMost(bound) => ('≤', bound, measured <= bound),
    };
    println!("| {what} | {sign} {bound} | {measured:.2} | {} |", if reached { "reached" } else { "missed" });
}

/// Returns the number in an environment variable.
pub fn number(variable: &str, default: usize) -> anyhow::Result<usize> {
    match std::env::var(variable) {
        Ok(text) => text.replace('_', "").parse().with_context(|| format!("failed to read {variable}: `{text}` is no number")),
        Err(_) => Ok(default),
    }
}

/// Returns the turns of `contenders` contenders in `rounds` rounds: the round, and the index of a contender. Each round begins
/// with another contender: the broker gets faster for minutes, and a contender that always came first would always meet it at
/// its slowest.
pub fn interleaved(contenders: usize, rounds: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rounds).flat_map(move |round| (0..contenders).map(move |index| (round, (round + index) % contenders)))
}
