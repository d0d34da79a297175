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
use crate::pipeline::{Evaluate, Fault, Manifest, Outcome, Patience, View, bounded};
use crate::record::RuleStats;

/// The time budget of one bisection, in deadlines of the rule. The search for one endless row among a few thousand needs less:
/// 1/8 of a deadline for each half, and 2 deadlines for the single row. A larger budget would delay the shutdown of the process.
const SEARCH: u32 = 4;
/// The least time budget of one bisection. It is for rules with short deadlines, so that cheap faults do not use up the budget.
const SHORTEST_SEARCH: Duration = Duration::from_secs(1);
/// The number of strikes, with no row evaluated in between, from which on a rule is suspected of failing on all rows. A fault is
/// a strike.
const SUSPECT: u32 = 32;
/// The number of strikes for a fault that ran out of time. Such a fault costs some thousand times as much as others.
const TIMEOUT: u32 = 16;
/// The number of rows that are tried before the circuit breaker opens, and in a probe.
const SAMPLES: usize = 16;
/// One in so many sampled rows gets the full deadline. This tells a slow rule from one that never ends.
const SLOW_SAMPLE: usize = 4;
/// The factor by which the pause after a probe is longer than the probe: a tenth of the time goes into probes.
const PAUSES_PER_PROBE: u64 = 9;
/// The longest pause between probes, in milliseconds.
const LONGEST_PAUSE: u64 = 30_000;

/// The reason why a row goes no further.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The rule rejected the row: an index into the manifest's reasons, known to be in range, and the detail.
    Listed(u32, Option<String>),
    /// The rule failed on this row.
    Fault(Fault),
    /// The rule was not called. The reason, with the rule's last fault, is in the circuit breaker.
    Skipped,
}

/// The known results for rows. They have been checked: they keep every promise of the contract.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// The number of rows, from the first on. If the bisection ended early, fewer than there are, but at least one.
    pub rows: usize,
    /// The rows that go no further, ascending.
    pub refusals: Vec<(u32, Refusal)>,
    /// The written columns, in the order of the manifest's `writes`.
    pub columns: Vec<Column>,
}

impl Verdict {
    /// Returns the verdict of an outcome, after everything in the outcome was checked.
    fn checked(outcome: Outcome, manifest: &Manifest, rows: usize) -> Result<Verdict, Fault> {
        outcome.check(manifest, rows)?;
        let listed = outcome.rejections.into_iter();
        let refusals = listed.map(|(row, reason, detail)| (row, Refusal::Listed(reason, detail.map(bounded))));
        Ok(Verdict { rows, refusals: refusals.collect(), columns: outcome.columns })
    }

    /// Returns the number of bytes that the rule has written.
    fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.bytes.len()).sum()
    }

    /// Appends the verdict on the next rows.
    fn append(&mut self, next: Verdict) {
        let first = self.rows as u32;
        self.refusals.extend(next.refusals.into_iter().map(|(row, refusal)| (first + row, refusal)));
        self.columns.iter_mut().zip(&next.columns).for_each(|(column, next)| column.extend(next, 0, next.len()));
        self.rows += next.rows;
    }

    /// Appends a row that goes no further and has no written cells.
    fn refuse(&mut self, refusal: Refusal) {
        self.refusals.push((self.rows as u32, refusal));
        self.columns.iter_mut().for_each(|column| column.push(Kind::Absent, b""));
        self.rows += 1;
    }
}

/// The circuit breaker of a rule: its memory of faults, from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// The strikes since a row was evaluated last: faults, of which those that ran out of time count several times.
    strikes: u32,
    open: Option<Open>,
}

/// The state of an open circuit breaker.
#[derive(Debug)]
struct Open {
    why: String,
    /// The times of the last and of the next probe, in milliseconds since the epoch.
    probed: i64,
    next: i64,
}

impl Breaker {
    /// Returns the reason why the circuit breaker is open. None if it is closed.
    pub(super) fn open(&self) -> Option<&str> {
        self.open.as_ref().map(|open| open.why.as_str())
    }

    /// Opens the circuit breaker at `now`, after a probe that took `nanos` nanoseconds.
    fn trip(&mut self, why: String, now: i64, nanos: u64) {
        self.open = Some(Open { why, probed: now, next: now });
        self.put_off(now, nanos);
    }

    /// Schedules the next probe after one at `now` that took `nanos` nanoseconds.
    fn put_off(&mut self, now: i64, nanos: u64) {
        let pause = (nanos.saturating_mul(PAUSES_PER_PROBE) / 1_000_000).min(LONGEST_PAUSE);
        if let Some(open) = &mut self.open {
            (open.probed, open.next) = (now, now.saturating_add(pause as i64));
        }
    }

    fn close(&mut self) {
        *self = Breaker::default();
    }

    /// Returns whether a probe is due. A clock that was set back must not delay the probe.
    fn is_due(&self, now: i64) -> bool {
        self.open.as_ref().is_some_and(|open| now >= open.next || now < open.probed)
    }
}

/// Lets `rule` evaluate all rows, and finds the rows on which it fails.
pub(super) fn judge<R: Evaluate>(
    rule: &mut R,
    manifest: &Manifest,
    breaker: &mut Breaker,
    view: View<'_>,
    stats: &mut RuleStats,
) -> Verdict {
    let whole = Verdict::default();
    let time = rule.deadline().saturating_mul(SEARCH).max(SHORTEST_SEARCH).as_nanos() as u64;
    let mut search =
        Search { rule, manifest, breaker, view, stats, time, whole, full: false, failed: false, fresh: false, last: None };
    if search.breaker.open.is_some() {
        return search.probe();
    }
    match search.call(0, view.rows, Patience::Usual) {
        Ok(verdict) => verdict,
        Err(fault) => search.split_up(fault),
    }
}

struct Search<'a, R> {
    rule: &'a mut R,
    manifest: &'a Manifest,
    breaker: &'a mut Breaker,
    view: View<'a>,
    stats: &'a mut RuleStats,
    /// The time that the bisection may still take, in nanoseconds.
    time: u64,
    /// The verdict on the rows that are known so far.
    whole: Verdict,
    /// True if the verdict on the next rows was left out, because the bytes of all rows would exceed what the rule may return.
    full: bool,
    /// True if the last call failed. A rule starts afresh after a failed call.
    failed: bool,
    /// True if the call before the last one failed, so that the last call was the first one after a fresh start.
    fresh: bool,
    /// The message of the last fault of a row.
    last: Option<String>,
}

impl<R: Evaluate> Search<'_, R> {
    /// Calls the rule with the rows `from..to`.
    fn call(&mut self, from: usize, to: usize, patience: Patience) -> Result<Verdict, Fault> {
        let whole = from == 0 && to == self.view.rows;
        let parts: Vec<Column> =
            if whole { Vec::new() } else { self.view.columns.iter().map(|column| column.part(from, to)).collect() };
        let parts: Vec<&Column> = parts.iter().collect();
        let rows = to - from;
        let origin = self.view.origin.part(from, to);
        let view = View { rows, patience, origin, columns: if whole { self.view.columns } else { &parts }, ..self.view };
        self.stats.calls += 1;
        let answer = self.rule.evaluate(view).and_then(|outcome| Verdict::checked(outcome, self.manifest, rows));
        let nanos = self.rule.nanos();
        self.stats.nanos += nanos;
        self.fresh = std::mem::replace(&mut self.failed, answer.is_err());
        if answer.is_ok() && rows > 0 {
            self.breaker.strikes = 0;
        }
        // The call with the whole batch does not count against the budget of the bisection.
        if !whole {
            self.time = self.time.saturating_sub(nanos);
        }
        answer
    }

    /// Bisects the batch, after the rule has failed on all rows together with `fault`.
    fn split_up(mut self, fault: Fault) -> Verdict {
        self.whole.columns = vec![Column::default(); self.manifest.writes.len()];
        self.halve(0, self.view.rows, fault, Patience::Usual);
        self.whole
    }

    /// Processes the rows `from..to`, unless the bisection is over. The rows before `from` are known already.
    fn part(&mut self, from: usize, to: usize, patience: Patience) {
        if self.is_over() {
            // At least one row becomes known, whatever time it takes. Otherwise the same rows would be read again for ever.
            if self.whole.rows == 0 {
                self.alone(from, Patience::Long);
            }
            return;
        }
        if self.breaker.open.is_some() {
            return self.skip(from, to);
        }
        match self.call(from, to, patience) {
            Ok(verdict) => self.append(verdict),
            Err(fault) => self.halve(from, to, fault, patience),
        }
    }

    /// Returns whether the rows that are not known yet are left for later.
    fn is_over(&self) -> bool {
        self.full || self.time == 0
    }

    /// Appends the verdict on the next rows, unless the bytes of all rows would then exceed what the rule may return. A first
    /// verdict is always appended.
    fn append(&mut self, next: Verdict) {
        self.full = self.whole.rows > 0 && self.whole.bytes() + next.bytes() > self.rule.most();
        if !self.full {
            self.whole.append(next);
        }
    }

    /// Bisects the rows `from..to`, on which the rule has failed with `fault`.
    fn halve(&mut self, from: usize, to: usize, fault: Fault, patience: Patience) {
        if to - from == 1 {
            return self.again(from, fault, patience);
        }
        let patience = if fault.timed_out { Patience::Short } else { patience };
        let half = from + (to - from) / 2;
        self.part(from, half, patience);
        self.part(half, to, patience);
    }

    /// Processes a single row.
    fn alone(&mut self, row: usize, patience: Patience) {
        match self.call(row, row + 1, patience) {
            Ok(verdict) => self.append(verdict),
            Err(fault) => self.again(row, fault, patience),
        }
    }

    /// Handles the failure of the rule on a single row with `fault`. The rule is called once more if the row may not be the
    /// cause. After a timeout, the second call gets more time. If the rule had evaluated other rows before, they may have left
    /// something behind, so the second call is the first one after a fresh start.
    fn again(&mut self, row: usize, fault: Fault, patience: Patience) {
        let answer = match fault.timed_out {
            true if patience != Patience::Long => self.call(row, row + 1, Patience::Long),
            false if !self.fresh => self.call(row, row + 1, patience),
            _ => Err(fault),
        };
        match answer {
            Ok(verdict) => self.append(verdict),
            Err(fault) => {
                self.blame(fault);
                self.suspect(row + 1);
            }
        }
    }

    fn blame(&mut self, fault: Fault) {
        let fault = fault.bounded();
        self.stats.faults += 1;
        self.breaker.strikes += if fault.timed_out { TIMEOUT } else { 1 };
        self.last = Some(fault.message.clone());
        self.whole.refuse(Refusal::Fault(fault));
    }

    /// Opens the circuit breaker if there is reason to believe that the rule fails on all rows from `from` on.
    fn suspect(&mut self, from: usize) {
        if self.breaker.strikes < SUSPECT {
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
    fn sample(&mut self, from: usize) -> Vec<(usize, Result<Verdict, Fault>)> {
        let rows = self.view.rows - from;
        let samples = rows.min(SAMPLES);
        let mut tried = Vec::with_capacity(samples);
        for index in 0..samples {
            let row = from + index * rows / samples;
            let patience = if index % SLOW_SAMPLE == 0 { Patience::Usual } else { Patience::Short };
            let answer = self.call(row, row + 1, patience);
            let judged = answer.is_ok();
            tried.push((row, answer));
            if judged {
                break;
            }
        }
        tried
    }

    /// Processes a batch while the circuit breaker is open. If a probe is due, a few rows show whether the breaker can be closed.
    fn probe(mut self) -> Verdict {
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
            self.part(0, rows, Patience::Usual);
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
            None => self.breaker.put_off(self.view.processed_at, took),
        }
        self.whole
    }

    /// Skips the rows `from..to`: the rule is not called with them.
    fn skip(&mut self, from: usize, to: usize) {
        self.stats.skipped += (to - from) as u64;
        (from..to).for_each(|_| self.whole.refuse(Refusal::Skipped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        alone: Vec<String>,
        deadline: Duration,
    }

    impl Default for Fake {
        fn default() -> Fake {
            Fake {
                took: CALL,
                most: usize::MAX,
                nanos: 0,
                fresh: false,
                alone: Vec::new(),
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
                self.alone.push(String::from_utf8_lossy(cells[0]).into_owned());
            }
            let late = |cell: &&[u8]| match *cell {
                b"loop" => true,
                b"stall" => view.patience != Patience::Long,
                b"slow" => view.patience == Patience::Short || view.rows > 1,
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

        fn nanos(&mut self) -> u64 {
            std::mem::take(&mut self.nanos)
        }

        fn most(&self) -> usize {
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
        fn judge(&mut self, now: i64, rows: &[&str]) -> String {
            let mut column = Column::default();
            rows.iter().for_each(|row| column.push(Kind::Text, row.as_bytes()));
            let manifest = Manifest { writes: vec!["x".into()], reasons: vec!["bad".into()], ..Manifest::default() };
            let view = View { rows: rows.len(), processed_at: now, columns: &[&column], ..View::default() };
            self.stats = RuleStats::default();
            let verdict = judge(&mut self.rule, &manifest, &mut self.breaker, view, &mut self.stats);
            assert!((1..=rows.len()).contains(&verdict.rows), "it gets on");
            let mut fates = vec!['.'; verdict.rows];
            for (row, refusal) in &verdict.refusals {
                fates[*row as usize] = match refusal {
                    Refusal::Listed(..) => 'b',
                    Refusal::Fault(_) => 'F',
                    Refusal::Skipped => '-',
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
        fn judge_all(&mut self, mut rows: &[&str]) -> (String, usize) {
            let (mut fates, mut batches) = (String::new(), 0);
            while !rows.is_empty() {
                let judged = self.judge(0, rows);
                rows = &rows[judged.len()..];
                (fates, batches) = (fates + &judged, batches + 1);
            }
            (fates, batches)
        }
    }

    /// Returns `rows` rows: `what` at the indices `culprits`, `fine` elsewhere.
    fn rows(rows: usize, culprits: impl IntoIterator<Item = usize>, what: &'static str) -> Vec<&'static str> {
        let mut all = vec!["fine"; rows];
        culprits.into_iter().for_each(|row| all[row] = what);
        all
    }

    #[test]
    fn culprits_are_found_and_their_neighbours_are_judged() {
        let mut bench = Bench::default();
        assert_eq!(bench.judge(0, &["fine", "trap", "bad", "fine", "trap", "bad", "loop"]), ".Fb.FbF");
        assert_eq!((bench.stats.faults, bench.stats.skipped, bench.breaker.open()), (3, 0, None));
    }

    #[test]
    fn ten_culprits_of_a_thousand_take_less_than_two_hundred_calls() {
        let mut bench = Bench::default();
        let fates = bench.judge(0, &rows(1_000, (0..10).map(|index| index * 100 + 37), "trap"));
        assert_eq!(fates.matches('F').count(), 10);
        assert!(bench.stats.calls < 200, "{} calls", bench.stats.calls);
    }

    #[test]
    fn a_row_that_ran_out_of_time_is_asked_about_again_before_it_is_blamed() {
        let mut bench = Bench::default();
        assert_eq!(bench.judge(0, &["fine", "stall", "loop"]), "..F");
        let asked = |what: &str| bench.rule.alone.iter().filter(|row| *row == what).count();
        assert_eq!((asked("stall"), asked("loop")), (2, 2));
        assert_eq!(bench.judge(0, &["stall"]), ".");
    }

    #[test]
    fn a_rule_that_fails_on_everything_is_short_circuited_and_costs_little() {
        let mut bench = Bench::default();
        let fates = bench.judge(0, &["trap"; 10_000]);
        assert_eq!((fates.matches('F').count(), bench.stats.faults), (32, 32));
        assert_eq!(bench.stats.skipped, 10_000 - 32);
        assert!(bench.stats.calls < 100, "{} calls", bench.stats.calls);
        assert_eq!(bench.breaker.open(), Some("it fails on row after row; lastly: trapped"));

        // The rule is probed again after a pause of nine times the duration of the last probe.
        assert_eq!(bench.judge(143, &["trap"; 1_000]).matches('-').count(), 1_000);
        assert_eq!(bench.judge(144, &["trap"; 1_000]).matches('F').count(), 16);
        assert_eq!(bench.judge(287, &["fine"; 2]), "--");
        assert_eq!(bench.judge(288, &["fine", "trap", "fine"]), ".F.");
        assert_eq!(bench.breaker.open(), None);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_put_off_the_probe() {
        let mut bench = Bench::default();
        bench.judge(1_000_000, &["trap"; 1_000]);
        assert_eq!(bench.judge(0, &["fine"; 2]), "..");
    }

    #[test]
    fn a_run_of_culprits_does_not_short_circuit_a_rule_that_judges_the_others() {
        for run in [0..500, 250..750] {
            let mut bench = Bench::default();
            let fates = bench.judge(0, &rows(1_000, run, "trap"));
            assert_eq!((fates.matches('F').count(), fates.matches('.').count()), (500, 500));
        }
        let fates = Bench::default().judge(0, &rows(1_000, 500..1_000, "trap"));
        assert!(fates.starts_with(&".".repeat(500)) && !fates[500..].contains('.'));
    }

    #[test]
    fn a_rule_that_never_ends_is_short_circuited_after_a_few_rows() {
        let mut bench = Bench::default();
        let fates = bench.judge(0, &["loop"; 10_000]);
        assert_eq!((fates.matches('F').count(), fates.matches('-').count()), (2, 9_998));
        assert!(bench.stats.calls < 50, "{} calls", bench.stats.calls);
        // Under the short deadline of a probe no row is blamed.
        assert_eq!(bench.judge(LONGEST_PAUSE as i64, &["loop"; 20]), "-".repeat(20));
        assert_eq!(bench.judge(2 * LONGEST_PAUSE as i64, &["loop", "fine"]), "F.");
    }

    #[test]
    fn rows_that_come_one_by_one_are_all_judged_where_faults_are_cheap() {
        let mut bench = Bench::default();
        for now in 0..200 {
            assert_eq!(bench.judge(now * 10, &["trap"]), "F");
            assert_eq!(bench.breaker.open().is_some(), now >= 31);
        }
        assert_eq!(bench.judge(2_000, &["fine"]), ".");
    }

    #[test]
    fn a_search_that_takes_too_long_ends_and_condemns_nobody() {
        let mut bench = Bench::default();
        // Every second row traps, so there is no run of faults.
        let culprits = rows(40_000, (0..40_000).step_by(2), "trap");
        let judged = bench.judge(0, &culprits).len();
        let search = SEARCH as u64 * SECOND;
        assert!(bench.stats.nanos < search + 3 * CALL, "{} ns", bench.stats.nanos);
        let calls = (search / CALL) as usize;
        assert!((calls / 3..calls).contains(&judged), "{judged} rows are known");
        assert_eq!(bench.judge_all(&culprits).0, "F.".repeat(20_000));
        assert_eq!(bench.breaker.open(), None);
    }

    #[test]
    fn a_long_deadline_costs_time_and_no_row() {
        let rule = Fake { took: 20 * SECOND, deadline: Duration::from_secs(20), ..Fake::default() };
        let mut bench = Bench { rule, ..Bench::default() };
        let (fates, batches) = bench.judge_all(&rows(2_000, [1_000], "loop"));
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
        let (fates, batches) = bench.judge_all(&all);
        assert_eq!((fates.matches('F').count(), fates.matches('.').count()), (4, 996));
        assert!(batches < 150, "{batches} batches");
    }

    #[test]
    fn two_rows_that_never_end_do_no_harm_to_those_that_come_after_them() {
        let mut bench = Bench::default();
        assert_eq!((bench.judge(0, &["loop"]), bench.judge(1, &["loop"])), ("F".into(), "F".into()));
        assert_eq!(bench.judge(2, &["fine"; 3]), "...");
        let mut bench = Bench::default();
        assert_eq!(bench.judge(0, &["fine", "fine", "loop", "loop"]), "..FF");
        assert_eq!(bench.judge(1, &["fine"; 3]), "...");
    }

    #[test]
    fn a_row_is_not_blamed_for_what_those_before_it_left_behind() {
        let mut bench = Bench::default();
        assert_eq!(bench.judge(0, &["leak"]), ".");
        assert_eq!(bench.judge(0, &["fine", "fine", "trap", "leak"]), "..F.");
        assert_eq!(bench.judge(0, &["fine", "leak", "fine", "trap"]), "...F");
    }

    #[test]
    fn parts_hand_back_no_more_than_a_whole_batch_may() {
        let mut bench = Bench { rule: Fake { most: 2 * "fine".len(), ..Fake::default() }, ..Bench::default() };
        assert_eq!(bench.judge(0, &["trap", "fine", "trap", "fine", "trap", "fine", "fine"]), "F.F.F");
        assert_eq!(bench.judge_all(&rows(1_000, (0..1_000).step_by(2), "trap")).0, "F.".repeat(500));
    }
}
