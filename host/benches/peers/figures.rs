//! The figures of a contender, as a row of the table and as JSON.

use serde::Serialize;

use super::common::figures::median;
use super::contenders::Contender;

/// What was measured of a contender. None stands for what was not.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    /// Records per second.
    pub rate: Option<f64>,
    /// The same in the second half.
    pub rate_warm: Option<f64>,
    /// Processor time for a million records, in seconds.
    pub cpu_per_million: Option<f64>,
    /// The same in the second half.
    pub cpu_warm: Option<f64>,
    /// The peak of resident memory, in MiB.
    pub peak_mib: Option<f64>,
    /// The time from the start of the process to the first output that can be read, in seconds.
    pub first_s: Option<f64>,
    /// The median latency, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The latency that one login in a hundred exceeds, in milliseconds.
    pub p99_ms: Option<f64>,
}

/// A figure, by the name of its field.
pub type Figure = fn(&Figures) -> Option<f64>;

impl Figures {
    pub const HEADINGS: &str = "| contender | delivery | records/s | second half | CPU s per million | second half | peak MiB \
                                | first output, s | p50 ms | p99 ms |\n\
                                |---|---|---:|---:|---:|---:|---:|---:|---:|---:|";

    pub fn row(&self, contender: &Contender) -> String {
        let cell = |figure: Option<f64>, digits: usize| figure.map_or("–".into(), |figure| format!("{figure:.digits$}"));
        let cells = [
            cell(self.rate, 0),
            cell(self.rate_warm, 0),
            cell(self.cpu_per_million, 2),
            cell(self.cpu_warm, 2),
            cell(self.peak_mib, 0),
            cell(self.first_s, 2),
            cell(self.p50_ms, 1),
            cell(self.p99_ms, 1),
        ];
        format!("| {} | {} | {} |", contender.title, contender.delivery(), cells.join(" | "))
    }

    /// Returns the median of each figure.
    pub fn median(runs: &[Figures]) -> Figures {
        let of = |figure: Figure| {
            let found: Vec<f64> = runs.iter().filter_map(figure).collect();
            (!found.is_empty()).then(|| median(found))
        };
        Figures {
            rate: of(|run| run.rate),
            rate_warm: of(|run| run.rate_warm),
            cpu_per_million: of(|run| run.cpu_per_million),
            cpu_warm: of(|run| run.cpu_warm),
            peak_mib: of(|run| run.peak_mib),
            first_s: of(|run| run.first_s),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
        }
    }
}

/// Returns the ratio of a figure of `left` to one of `right`: the median of the ratios within each round.
pub fn ratio(left: (&[Figures], Figure), right: (&[Figures], Figure)) -> Option<f64> {
    let pairs = left.0.iter().zip(right.0);
    let ratios: Vec<f64> = pairs.filter_map(|(one, other)| Some(left.1(one)? / right.1(other)?)).collect();
    (!ratios.is_empty()).then(|| median(ratios))
}
