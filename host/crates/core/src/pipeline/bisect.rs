//! Finds the rows on which a rule fails, so that other rows do not suffer.
//!
//! A batch on which a rule fails is bisected: it is processed again in halves, down to single rows. Rules are pure, so the
//! results of the other rows do not change. Three things bound the cost:
//!
//! - Deadlines. Once a part of a batch has run out of time, its halves get less time. A single row gets more time before it is
//!   blamed, because a timeout on a machine that stalled says nothing about the row.
//! - The circuit breaker. It opens if a rule fails on everything. While it is open, the rule is called only for periodic probes.
//!   A rule whose faults are cheap is probed so often that it still sees every row of a small batch; only expensive
//!   calls are left out.
//! - Budgets. A bisection ends when it has used up its time, or the bytes that the rule may return. The rows that are known by
//!   then are a batch of their own, and the other rows are read again.
//!
//! This module leaves out what becomes of the rows: the pipeline decides that.

use std::time::Duration;

use crate::column::{Column, Kind};
use crate::pipeline::breaker::Breaker;
use crate::pipeline::{Budget, Evaluate, Fault, Manifest, Outcome, View, bounded};
use crate::record::RuleStats;

/// The time budget of one bisection, in deadlines of the rule. The search for one endless row among a few thousand needs less:
/// 1/8 of a deadline for each half, and 2 deadlines for the single row. A larger budget would delay the shutdown of the process.
const MAX_DEADLINES: u32 = 4;
/// The least time budget of one bisection. It is for rules with short deadlines, so that cheap faults do not use up the budget.
const LEAST_BUDGET: Duration = Duration::from_secs(1);
/// The number of rows that are tried before the circuit breaker opens, and in a probe.
const SAMPLES: usize = 16;
/// One in so many sampled rows gets the full deadline. This tells a slow rule from one that never ends.
const SLOW_SAMPLE: usize = 4;
/// The reason why a row goes no further.
#[derive(Debug)]
pub(super) enum RowRejection {
    /// The rule rejected the row: an index into the manifest's reasons, known to be in range, and the detail.
    Rejected(u32, Option<String>),
    /// The rule failed on this row.
    Fault(Fault),
    /// The rule was not called. The reason, with the rule's last fault, is in the circuit breaker.
    Skipped,
}

/// The known results for rows. They have been checked: they keep every promise of the contract.
#[derive(Debug, Default)]
pub(super) struct RowVerdicts {
    /// The number of rows, from the first on. If the bisection ended early, fewer than there are, but at least one.
    pub rows: usize,
    /// The rows that go no further, ascending.
    pub refusals: Vec<(u32, RowRejection)>,
    /// The written columns, in the order of the manifest's `writes`.
    pub columns: Vec<Column>,
}

impl RowVerdicts {
    /// Returns the verdict of an outcome, after everything in the outcome was checked.
    fn checked(outcome: Outcome, manifest: &Manifest, rows: usize) -> Result<RowVerdicts, Fault> {
        outcome.check(manifest, rows)?;
        let listed = outcome.rejections.into_iter();
        let refusals = listed.map(|(row, reason, detail)| (row, RowRejection::Rejected(reason, detail.map(bounded))));
        Ok(RowVerdicts { rows, refusals: refusals.collect(), columns: outcome.columns })
    }

    /// Returns the number of bytes that the rule has written.
    fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.bytes.len()).sum()
    }

    /// Appends the verdict on the next rows.
    fn append(&mut self, next: RowVerdicts) {
        let first = self.rows as u32;
        self.refusals.extend(next.refusals.into_iter().map(|(row, refusal)| (first + row, refusal)));
        self.columns.iter_mut().zip(&next.columns).for_each(|(column, next)| column.extend(next, 0, next.len()));
        self.rows += next.rows;
    }

    /// Appends a row that goes no further and has no written cells.
    fn refuse(&mut self, refusal: RowRejection) {
        self.refusals.push((self.rows as u32, refusal));
        self.columns.iter_mut().for_each(|column| column.push(Kind::Absent, b""));
        self.rows += 1;
    }
}

/// Lets `rule` evaluate all rows, and finds the rows on which it fails.
pub(super) fn evaluate<R: Evaluate>(
    rule: &mut R,
    manifest: &Manifest,
    breaker: &mut Breaker,
    view: View<'_>,
    stats: &mut RuleStats,
) -> RowVerdicts {
    let whole = RowVerdicts::default();
    let time = rule.deadline().saturating_mul(MAX_DEADLINES).max(LEAST_BUDGET).as_nanos() as u64;
    let mut bisection =
        Bisection { rule, manifest, breaker, view, stats, time, whole, full: false, failed: false, fresh: false, last: None };
    if bisection.breaker.open().is_some() {
        return bisection.probe();
    }
    match bisection.call(0, view.rows, Budget::Usual) {
        Ok(verdict) => verdict,
        Err(fault) => bisection.run(fault),
    }
}

/// The work on one batch.
struct Bisection<'a, R> {
    rule: &'a mut R,
    manifest: &'a Manifest,
    breaker: &'a mut Breaker,
    view: View<'a>,
    stats: &'a mut RuleStats,
    /// The time that the bisection may still take, in nanoseconds.
    time: u64,
    /// The verdict on the rows that are known so far.
    whole: RowVerdicts,
    /// True if the verdict on the next rows was left out, because the bytes of all rows would exceed what the rule may return.
    full: bool,
    /// True if the last call failed. A rule starts afresh after a failed call.
    failed: bool,
    /// True if the call before the last one failed, so that the last call was the first one after a fresh start.
    fresh: bool,
    /// The message of the last fault of a row.
    last: Option<String>,
}

impl<R: Evaluate> Bisection<'_, R> {
    /// Calls the rule with the rows `from..to`.
    fn call(&mut self, from: usize, to: usize, budget: Budget) -> Result<RowVerdicts, Fault> {
        let whole = from == 0 && to == self.view.rows;
        let parts: Vec<Column> =
            if whole { Vec::new() } else { self.view.columns.iter().map(|column| column.part(from, to)).collect() };
        let parts: Vec<&Column> = parts.iter().collect();
        let rows = to - from;
        let origin = self.view.origin.part(from, to);
        let view = View { rows, budget, origin, columns: if whole { self.view.columns } else { &parts }, ..self.view };
        self.stats.calls += 1;
        let answer = self.rule.evaluate(view).and_then(|outcome| RowVerdicts::checked(outcome, self.manifest, rows));
        let nanos = self.rule.take_elapsed();
        self.stats.nanos += nanos;
        self.fresh = std::mem::replace(&mut self.failed, answer.is_err());
        if answer.is_ok() && rows > 0 {
            self.breaker.clear_strikes();
        }
        // The call with the whole batch does not count against the budget of the bisection.
        if !whole {
            self.time = self.time.saturating_sub(nanos);
        }
        answer
    }

    /// Bisects the batch, after the rule has failed on all rows together with `fault`.
    fn run(mut self, fault: Fault) -> RowVerdicts {
        self.whole.columns = vec![Column::default(); self.manifest.writes.len()];
        self.split(0, self.view.rows, fault, Budget::Usual);
        self.whole
    }

    /// Processes the rows `from..to`, unless the bisection is over. The rows before `from` are known already.
    fn part(&mut self, from: usize, to: usize, budget: Budget) {
        if self.is_over() {
            // At least one row becomes known, whatever time it takes. Otherwise the same rows would be read again for ever.
            if self.whole.rows == 0 {
                self.single(from, Budget::Long);
            }
            return;
        }
        if self.breaker.open().is_some() {
            return self.skip(from, to);
        }
        match self.call(from, to, budget) {
            Ok(verdict) => self.append(verdict),
            Err(fault) => self.split(from, to, fault, budget),
        }
    }

    /// Returns whether the rows that are not known yet are left for later.
    fn is_over(&self) -> bool {
        self.full || self.time == 0
    }

    /// Appends the verdict on the next rows, unless the bytes of all rows would then exceed what the rule may return. A first
    /// verdict is always appended.
    fn append(&mut self, next: RowVerdicts) {
        self.full = self.whole.rows > 0 && self.whole.bytes() + next.bytes() > self.rule.max_result_bytes();
        if !self.full {
            self.whole.append(next);
        }
    }

    /// Bisects the rows `from..to`, on which the rule has failed with `fault`.
    fn split(&mut self, from: usize, to: usize, fault: Fault, budget: Budget) {
        if to - from == 1 {
            return self.retry(from, fault, budget);
        }
        let budget = if fault.timed_out { Budget::Short } else { budget };
        let half = from + (to - from) / 2;
        self.part(from, half, budget);
        self.part(half, to, budget);
    }

    /// Processes a single row.
    fn single(&mut self, row: usize, budget: Budget) {
        match self.call(row, row + 1, budget) {
            Ok(verdict) => self.append(verdict),
            Err(fault) => self.retry(row, fault, budget),
        }
    }

    /// Handles the failure of the rule on a single row with `fault`. The rule is called once more if the row may not be the
    /// cause. After a timeout, the second call gets more time. If the rule had evaluated other rows before, they may have left
    /// something behind, so the second call is the first one after a fresh start.
    fn retry(&mut self, row: usize, fault: Fault, budget: Budget) {
        let answer = match fault.timed_out {
            true if budget != Budget::Long => self.call(row, row + 1, Budget::Long),
            false if !self.fresh => self.call(row, row + 1, budget),
            _ => Err(fault),
        };
        match answer {
            Ok(verdict) => self.append(verdict),
            Err(fault) => {
                self.blame(fault);
                self.trip_if_suspicious(row + 1);
            }
        }
    }

    fn blame(&mut self, fault: Fault) {
        let fault = fault.bounded();
        self.stats.faults += 1;
        self.breaker.strike(fault.timed_out);
        self.last = Some(fault.message.clone());
        self.whole.refuse(RowRejection::Fault(fault));
    }

    /// Opens the circuit breaker if there is reason to believe that the rule fails on all rows from `from` on.
    fn trip_if_suspicious(&mut self, from: usize) {
        if !self.breaker.is_suspicious() {
            return;
        }
        let before = self.stats.nanos;
        let tried = if self.is_over() { Vec::new() } else { self.sample(from) };
        if tried.iter().all(|(_, answer)| answer.is_err()) {
            // If there was no row to try, there is no pause: the next batch shows whether the rule fails on other rows as well.
            self.trip(self.stats.nanos - before);
        }
    }

    /// Opens the circuit breaker after a probe that took `nanos` nanoseconds.
    fn trip(&mut self, nanos: u64) {
        let last = self.last.clone().unwrap_or_default();
        self.breaker.trip(format!("it fails on row after row; lastly: {last}"), self.view.processed_at, nanos);
    }

    /// Tries rows from `from` on, evenly spread, until the rule evaluates one. Tries all samples if need be, even over budget:
    /// fewer would open the circuit breaker on too little evidence.
    fn sample(&mut self, from: usize) -> Vec<(usize, Result<RowVerdicts, Fault>)> {
        let rows = self.view.rows - from;
        let samples = rows.min(SAMPLES);
        let mut tried = Vec::with_capacity(samples);
        for index in 0..samples {
            let row = from + index * rows / samples;
            let budget = if index % SLOW_SAMPLE == 0 { Budget::Usual } else { Budget::Short };
            let answer = self.call(row, row + 1, budget);
            let works = answer.is_ok();
            tried.push((row, answer));
            if works {
                break;
            }
        }
        tried
    }

    /// Processes a batch while the circuit breaker is open. If a probe is due, a few rows show whether the breaker can be closed.
    fn probe(mut self) -> RowVerdicts {
        let rows = self.view.rows;
        self.whole.columns = vec![Column::default(); self.manifest.writes.len()];
        if !self.breaker.is_due(self.view.processed_at) {
            self.skip(0, rows);
            return self.whole;
        }
        let before = self.stats.nanos;
        let tried = self.sample(0);
        let took = self.stats.nanos - before;
        if tried.iter().any(|(_, answer)| answer.is_ok()) {
            self.breaker.close();
            self.part(0, rows, Budget::Usual);
            return self.whole;
        }
        for (row, answer) in tried {
            // A row that ran out of time is not blamed, because it was not tried again with more time.
            if let Some(fault) = answer.err().filter(|fault| !fault.timed_out) {
                self.skip(self.whole.rows, row);
                self.blame(fault);
            }
        }
        self.skip(self.whole.rows, rows);
        match self.last {
            Some(_) => self.trip(took),
            None => self.breaker.schedule_probe(self.view.processed_at, took),
        }
        self.whole
    }

    /// Skips the rows `from..to`: the rule is not called with them.
    fn skip(&mut self, from: usize, to: usize) {
        self.stats.skipped += (to - from) as u64;
        (from..to).for_each(|_| self.whole.refuse(RowRejection::Skipped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::breaker::LONGEST_PAUSE;

    const CALL: u64 = 1_000_000;
    const SECOND: u64 = 1_000_000_000;

    /// A rule whose rows say what it does with them. Each call takes the time `took`.
    ///
    /// - `trap`: fails.
    /// - `leak`: fails, unless the call before has failed.
    /// - `loop`: runs out of time.
    /// - `stall`: runs out of time, unless it may take longer than usual.
    /// - `slow`: runs out of time, unless the row is alone and does not have the short deadline.
    /// - `bad`: rejects the row.
    struct Fake {
        took: u64,
        most: usize,
        nanos: u64,
        fresh: bool,
        single: Vec<String>,
        deadline: Duration,
    }

    impl Default for Fake {
        fn default() -> Fake {
            Fake {
                took: CALL,
                most: usize::MAX,
                nanos: 0,
                fresh: false,
                single: Vec::new(),
                deadline: Duration::from_nanos(SECOND),
            }
        }
    }

    impl Evaluate for Fake {
        fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
            self.nanos += self.took;
            let is_fresh = std::mem::replace(&mut self.fresh, true);
            let cells: Vec<&[u8]> = (0..view.rows).map(|row| view.columns[0].cell(row)).collect();
            if cells.len() == 1 {
                self.single.push(String::from_utf8_lossy(cells[0]).into_owned());
            }
            let late = |cell: &&[u8]| match *cell {
                b"loop" => true,
                b"stall" => view.budget != Budget::Long,
                b"slow" => view.budget == Budget::Short || view.rows > 1,
                _ => false,
            };
            if cells.iter().any(late) {
                return Err(Fault { timed_out: true, ..Fault::new("late") });
            }
            if cells.contains(&&b"trap"[..]) || cells.contains(&&b"leak"[..]) && !is_fresh {
                return Err(Fault::new("trapped"));
            }
            self.fresh = false;
            let bad = (0u32..).zip(&cells).filter(|(_, cell)| **cell == b"bad");
            let mut written = Column::default();
            cells.iter().for_each(|cell| written.push(Kind::Text, cell));
            Ok(Outcome { rejections: bad.map(|(row, _)| (row, 0, None)).collect(), columns: vec![written] })
        }

        fn take_elapsed(&mut self) -> u64 {
            std::mem::take(&mut self.nanos)
        }

        fn max_result_bytes(&self) -> usize {
            self.most
        }

        fn deadline(&self) -> Duration {
            self.deadline
        }
    }

    #[derive(Default)]
    struct Bench {
        rule: Fake,
        breaker: Breaker,
        stats: RuleStats,
    }

    impl Bench {
        /// Returns the fate of each row at `now`: `.` passes, `b` is rejected, `F` is a fault, `-` is skipped. Rows that are left
        /// for later are missing.
        fn evaluate(&mut self, now: i64, rows: &[&str]) -> String {
            let mut column = Column::default();
            rows.iter().for_each(|row| column.push(Kind::Text, row.as_bytes()));
            let manifest = Manifest { writes: vec!["x".into()], reasons: vec!["bad".into()], ..Manifest::default() };
            let view = View { rows: rows.len(), processed_at: now, columns: &[&column], ..View::default() };
            self.stats = RuleStats::default();
            let verdict = evaluate(&mut self.rule, &manifest, &mut self.breaker, view, &mut self.stats);
            assert!((1..=rows.len()).contains(&verdict.rows), "it gets on");
            let mut fates = vec!['.'; verdict.rows];
            for (row, refusal) in &verdict.refusals {
                fates[*row as usize] = match refusal {
                    RowRejection::Rejected(..) => 'b',
                    RowRejection::Fault(_) => 'F',
                    RowRejection::Skipped => '-',
                };
            }
            assert!(verdict.refusals.is_sorted_by_key(|(row, _)| *row));
            assert_eq!(verdict.columns[0].len(), verdict.rows, "a cell for every row");
            assert!(verdict.bytes() <= self.rule.most);
            for (row, fate) in fates.iter().enumerate() {
                let written = verdict.columns[0].cell(row);
                assert_eq!(written, if ['.', 'b'].contains(fate) { rows[row].as_bytes() } else { b"" });
            }
            assert_eq!(self.stats.calls * self.rule.took, self.stats.nanos);
            fates.into_iter().collect()
        }

        /// Returns the fates of all `rows`, processed batch after batch until no row is left, and the number of batches.
        fn evaluate_all(&mut self, mut rows: &[&str]) -> (String, usize) {
            let (mut fates, mut batches) = (String::new(), 0);
            while !rows.is_empty() {
                let done = self.evaluate(0, rows);
                rows = &rows[done.len()..];
                (fates, batches) = (fates + &done, batches + 1);
            }
            (fates, batches)
        }
    }

    /// Returns `rows` rows: `what` at the indices `faulting`, `fine` elsewhere.
    fn rows(rows: usize, faulting: impl IntoIterator<Item = usize>, what: &'static str) -> Vec<&'static str> {
        let mut all = vec!["fine"; rows];
        faulting.into_iter().for_each(|row| all[row] = what);
        all
    }

    #[test]
    fn culprits_are_found_and_their_neighbours_are_judged() {
        let mut bench = Bench::default();
        assert_eq!(bench.evaluate(0, &["fine", "trap", "bad", "fine", "trap", "bad", "loop"]), ".Fb.FbF");
        assert_eq!((bench.stats.faults, bench.stats.skipped, bench.breaker.open()), (3, 0, None));
    }

    #[test]
    fn ten_culprits_of_a_thousand_take_less_than_two_hundred_calls() {
        let mut bench = Bench::default();
        let fates = bench.evaluate(0, &rows(1_000, (0..10).map(|index| index * 100 + 37), "trap"));
        assert_eq!(fates.matches('F').count(), 10);
        assert!(bench.stats.calls < 200, "{} calls", bench.stats.calls);
    }

    #[test]
    fn a_row_that_ran_out_of_time_is_asked_about_again_before_it_is_blamed() {
        let mut bench = Bench::default();
        assert_eq!(bench.evaluate(0, &["fine", "stall", "loop"]), "..F");
        let asked = |what: &str| bench.rule.single.iter().filter(|row| *row == what).count();
        assert_eq!((asked("stall"), asked("loop")), (2, 2));
        assert_eq!(bench.evaluate(0, &["stall"]), ".");
    }

    #[test]
    fn a_rule_that_fails_on_everything_is_short_circuited_and_costs_little() {
        let mut bench = Bench::default();
        let fates = bench.evaluate(0, &["trap"; 10_000]);
        assert_eq!((fates.matches('F').count(), bench.stats.faults), (32, 32));
        assert_eq!(bench.stats.skipped, 10_000 - 32);
        assert!(bench.stats.calls < 100, "{} calls", bench.stats.calls);
        assert_eq!(bench.breaker.open(), Some("it fails on row after row; lastly: trapped"));

        // The rule is probed again after a pause of nine times the duration of the last probe.
        assert_eq!(bench.evaluate(143, &["trap"; 1_000]).matches('-').count(), 1_000);
        assert_eq!(bench.evaluate(144, &["trap"; 1_000]).matches('F').count(), 16);
        assert_eq!(bench.evaluate(287, &["fine"; 2]), "--");
        assert_eq!(bench.evaluate(288, &["fine", "trap", "fine"]), ".F.");
        assert_eq!(bench.breaker.open(), None);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_put_off_the_probe() {
        let mut bench = Bench::default();
        bench.evaluate(1_000_000, &["trap"; 1_000]);
        assert_eq!(bench.evaluate(0, &["fine"; 2]), "..");
    }

    #[test]
    fn a_run_of_culprits_does_not_short_circuit_a_rule_that_judges_the_others() {
        for run in [0..500, 250..750] {
            let mut bench = Bench::default();
            let fates = bench.evaluate(0, &rows(1_000, run, "trap"));
            assert_eq!((fates.matches('F').count(), fates.matches('.').count()), (500, 500));
        }
        let fates = Bench::default().evaluate(0, &rows(1_000, 500..1_000, "trap"));
        assert!(fates.starts_with(&".".repeat(500)) && !fates[500..].contains('.'));
    }

    #[test]
    fn a_rule_that_never_ends_is_short_circuited_after_a_few_rows() {
        let mut bench = Bench::default();
        let fates = bench.evaluate(0, &["loop"; 10_000]);
        assert_eq!((fates.matches('F').count(), fates.matches('-').count()), (2, 9_998));
        assert!(bench.stats.calls < 50, "{} calls", bench.stats.calls);
        // Under the short deadline of a probe no row is blamed.
        assert_eq!(bench.evaluate(LONGEST_PAUSE as i64, &["loop"; 20]), "-".repeat(20));
        assert_eq!(bench.evaluate(2 * LONGEST_PAUSE as i64, &["loop", "fine"]), "F.");
    }

    #[test]
    fn rows_that_come_one_by_one_are_all_judged_where_faults_are_cheap() {
        let mut bench = Bench::default();
        for now in 0..200 {
            assert_eq!(bench.evaluate(now * 10, &["trap"]), "F");
            assert_eq!(bench.breaker.open().is_some(), now >= 31);
        }
        assert_eq!(bench.evaluate(2_000, &["fine"]), ".");
    }

    #[test]
    fn a_search_that_takes_too_long_ends_and_condemns_nobody() {
        let mut bench = Bench::default();
        // Every second row traps, so there is no run of faults.
        let faulting = rows(40_000, (0..40_000).step_by(2), "trap");
        let done = bench.evaluate(0, &faulting).len();
        let search = MAX_DEADLINES as u64 * SECOND;
        assert!(bench.stats.nanos < search + 3 * CALL, "{} ns", bench.stats.nanos);
        let calls = (search / CALL) as usize;
        assert!((calls / 3..calls).contains(&done), "{done} rows are known");
        assert_eq!(bench.evaluate_all(&faulting).0, "F.".repeat(20_000));
        assert_eq!(bench.breaker.open(), None);
    }

    #[test]
    fn a_long_deadline_costs_time_and_no_row() {
        let rule = Fake { took: 20 * SECOND, deadline: Duration::from_secs(20), ..Fake::default() };
        let mut bench = Bench { rule, ..Bench::default() };
        let (fates, batches) = bench.evaluate_all(&rows(2_000, [1_000], "loop"));
        assert_eq!((fates.find('F'), fates.matches('.').count()), (Some(1_000), 1_999));
        assert!(batches < 10, "{batches} batches");
        assert!(bench.stats.calls < 15, "{} calls: five minutes are far", bench.stats.calls);
    }

    #[test]
    fn a_rule_that_is_slow_gets_through_slowly() {
        let rule = Fake { took: 125_000_000, ..Fake::default() };
        let mut bench = Bench { rule, ..Bench::default() };
        let all = rows(1_000, [0, 1, 500, 501], "loop");
        let all: Vec<&str> = all.into_iter().map(|row| if row == "fine" { "slow" } else { row }).collect();
        let (fates, batches) = bench.evaluate_all(&all);
        assert_eq!((fates.matches('F').count(), fates.matches('.').count()), (4, 996));
        assert!(batches < 150, "{batches} batches");
    }

    #[test]
    fn two_rows_that_never_end_do_no_harm_to_those_that_come_after_them() {
        let mut bench = Bench::default();
        assert_eq!((bench.evaluate(0, &["loop"]), bench.evaluate(1, &["loop"])), ("F".into(), "F".into()));
        assert_eq!(bench.evaluate(2, &["fine"; 3]), "...");
        let mut bench = Bench::default();
        assert_eq!(bench.evaluate(0, &["fine", "fine", "loop", "loop"]), "..FF");
        assert_eq!(bench.evaluate(1, &["fine"; 3]), "...");
    }

    #[test]
    fn a_row_is_not_blamed_for_what_those_before_it_left_behind() {
        let mut bench = Bench::default();
        assert_eq!(bench.evaluate(0, &["leak"]), ".");
        assert_eq!(bench.evaluate(0, &["fine", "fine", "trap", "leak"]), "..F.");
        assert_eq!(bench.evaluate(0, &["fine", "leak", "fine", "trap"]), "...F");
    }

    #[test]
    fn parts_hand_back_no_more_than_a_whole_batch_may() {
        let mut bench = Bench { rule: Fake { most: 2 * "fine".len(), ..Fake::default() }, ..Bench::default() };
        assert_eq!(bench.evaluate(0, &["trap", "fine", "trap", "fine", "trap", "fine", "fine"]), "F.F.F");
        assert_eq!(bench.evaluate_all(&rows(1_000, (0..1_000).step_by(2), "trap")).0, "F.".repeat(500));
    }
}
