//! The pure core: a batch of records in, a step of outputs, rejections and counts out.
//!
//! Each message is parsed once. The fields that some rule reads become columns. Each rule sees the rows that are left and the
//! columns that it reads, with the values that earlier rules wrote. At the end the written values are spliced into the original
//! bytes. A rule that fails on a batch is run again on parts of the batch until the rows on which it fails are known.
//!
//! There is no clock here, no Kafka and no Wasm: the way a rule is run is hidden behind [`Evaluate`], and the time is
//! [`Batch::processed_at`].

mod bisect;
mod breaker;
mod metadata;
mod names;
mod plan;
mod rows;

use std::fmt;
use std::time::Duration;

use crate::column::Column;
use crate::counts::Counts;
use crate::json::{Found, Habit, Node, Splicer, Unwritable, Writes};
use crate::position::Position;
use crate::record::{Batch, Cause, Rejection, RuleStats, Step};
use crate::reserved::Reason;
use bisect::RowRejection;
use breaker::Breaker;
use plan::{CellSource, Plan};
use rows::Rows;

pub use names::{reason_name, rule_name};
pub use plan::check_manifest;

/// The most of a rejection's detail that is kept, in bytes of UTF-8. The detail becomes a header of the dead letter.
pub const MAX_DETAIL_BYTES: usize = 1_024;
/// The most of a fault's backtrace that is kept, in bytes of UTF-8. The backtrace becomes a header of the dead letter as well.
pub const MAX_BACKTRACE_BYTES: usize = 4_096;

/// The most that a rule may return for a batch by default, in bytes.
const MAX_RESULT_BYTES: usize = 64 << 20;
/// The time that a rule may take for a batch by default.
const DEADLINE: Duration = Duration::from_secs(1);

/// The rule's description of itself, as in the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The rule's name.
    pub name: String,
    /// The rule's version.
    pub version: String,
    /// One line on what the rule does.
    pub description: String,
    /// The fields that the rule sees.
    pub reads: Vec<String>,
    /// The fields that the rule may write.
    pub writes: Vec<String>,
    /// The reasons for which it may reject a row.
    pub reasons: Vec<String>,
}

/// The rows that a rule is to evaluate.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// The number of rows. Every column has as many cells.
    pub rows: usize,
    /// The time of processing, in milliseconds since the epoch.
    pub processed_at: i64,
    /// The columns that the rule reads, in the order of the manifest's `reads`.
    pub columns: &'a [&'a Column],
    /// The time that the rule may take.
    pub budget: Budget,
    /// The records of the rows, so that log lines can name them.
    pub origin: Origin<'a>,
}

/// The time that a rule may take, relative to its deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// The deadline as it is configured.
    #[default]
    Usual,
    /// Less than the deadline: after a time-out, so that the search for the slow row does not take too long, and for most rows of a
    /// probe.
    Short,
    /// More than the deadline: if the rule takes longer even now, the row is blamed.
    Long,
}

/// The records of rows. A probe has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    batch: Option<&'a Batch>,
    /// The index of each row's record in the batch.
    records: &'a [u32],
    /// True if other rules have processed the records, and are compared with this rule.
    compared: bool,
}

impl<'a> Origin<'a> {
    /// Returns the first and the last record, as partition and offset.
    pub fn ends(self) -> Option<[(i32, i64); 2]> {
        let (batch, first, last) = (self.batch?, self.records.first()?, self.records.last()?);
        Some([first, last].map(|index| {
            let record = &batch.records()[*index as usize];
            (record.partition, record.offset)
        }))
    }

    /// Returns whether other rules have processed the records, so that the result of this rule is only used for a comparison.
    pub fn compared(self) -> bool {
        self.compared
    }

    fn part(self, from: usize, to: usize) -> Origin<'a> {
        Origin { records: self.records.get(from..to).unwrap_or_default(), ..self }
    }
}

/// A rule's result for rows. As it comes from the rule, nothing in it can be relied on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The rejections: row, index of the reason, and detail. The rows ascend.
    pub rejections: Vec<(u32, u32, Option<String>)>,
    /// The columns that the rule writes, in the order of the manifest's `writes`.
    pub columns: Vec<Column>,
}

impl Outcome {
    /// Checks the result of a rule with `manifest` for `rows` rows.
    ///
    /// # Errors
    /// If the result breaks the contract. The error names the first promise that is broken.
    pub fn check(&self, manifest: &Manifest, rows: usize) -> Result<(), Fault> {
        let fault = |problem: String| Err(Fault::new(problem));
        if self.columns.len() != manifest.writes.len() {
            let (found, declared) = (self.columns.len(), manifest.writes.len());
            return fault(format!("the rule answered with {found} columns and declares {declared} writes"));
        }
        for (column, name) in self.columns.iter().zip(&manifest.writes) {
            column.check(rows).or_else(|problem| fault(format!("the rule's column `{name}` breaks the contract: {problem}")))?;
        }
        let mut next = 0;
        for (row, reason, _) in &self.rejections {
            if *row < next || *row as usize >= rows {
                return fault(format!("the rule rejected row {row} of {rows} twice, out of order or out of range"));
            }
            if *reason as usize >= manifest.reasons.len() {
                return fault(format!(
                    "the rule rejected row {row} for reason {reason}, and declares {}",
                    manifest.reasons.len()
                ));
            }
            next = row + 1;
        }
        Ok(())
    }
}

/// The reason why a rule came to no result: it trapped, ran out of time, or returned a result that breaks the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// The description of the fault, for an operator. Parts of it may come from the rule: they are printable, but can't be
    /// trusted.
    pub message: String,
    /// The functions in which the fault happened, the innermost first, one a line. Empty if they are not known.
    pub backtrace: String,
    /// True if the rule was stopped because it took too long. If the machine stalled, the rows may not be the cause.
    pub timed_out: bool,
}

impl Fault {
    /// Returns a fault with only a message.
    pub fn new(message: impl Into<String>) -> Fault {
        Fault { message: message.into(), ..Fault::default() }
    }

    /// Truncates message and backtrace to their limits.
    fn bounded(self) -> Fault {
        Fault { message: bounded(self.message), backtrace: cut(self.backtrace, MAX_BACKTRACE_BYTES), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// A way to run a rule.
pub trait Evaluate {
    /// Evaluates rows. The result must be the same for the same rows, and the rule must be usable again after a fault.
    ///
    /// # Errors
    /// If the rule fails. The pipeline finds out on which rows.
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault>;

    /// Returns the time that calls have taken since the last call of this function, in nanoseconds. Returns 0 if the time is not
    /// measured.
    fn take_elapsed(&mut self) -> u64 {
        0
    }

    /// Returns the most bytes that the rule may return for a batch. Each call keeps this bound itself. If a batch takes several
    /// calls, the pipeline bounds their sum.
    fn max_result_bytes(&self) -> usize {
        MAX_RESULT_BYTES
    }

    /// Returns the time that the rule may take for a batch. Each call keeps this bound itself. A bisection takes a few times as
    /// long.
    fn deadline(&self) -> Duration {
        DEADLINE
    }
}

/// A rule in its place in a pipeline.
#[derive(Debug)]
pub struct Stage<R> {
    /// The rule's description of itself. It has passed [`check_manifest`].
    pub manifest: Manifest,
    /// True if the rows that the rule rejects are dropped, without a dead letter.
    pub drop: bool,
    /// The fate of rows on which the rule fails.
    pub on_fault: OnFault,
    /// The rule, ready to run.
    pub rule: R,
}

/// The fate of a record on which a rule fails: the setting `on_fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    /// The record is rejected with the reason `rule_fault`.
    DeadLetter,
    /// The record goes on as if the rule were not there.
    Pass,
    /// The process stops, and the record is not committed.
    Stop,
}

impl OnFault {
    /// All values, with their words in a configuration.
    pub const WORDS: [(&str, OnFault); 3] =
        [("dead-letter", OnFault::DeadLetter), ("pass", OnFault::Pass), ("stop", OnFault::Stop)];
}

/// The fate of rows that a rule does not let pass.
#[derive(Clone, Copy, Debug)]
struct Policy {
    drop: bool,
    on_fault: OnFault,
}

/// Checks whether rules with these `manifests` can work together in this order, if the values of the field `counted` are counted.
///
/// # Errors
/// If two rules can't work together: one writes inside a field that the other reads or writes. The error names both fields.
pub fn check_together(manifests: &[Manifest], counted: &str) -> Result<(), String> {
    Plan::new(manifests, counted).map(drop)
}

/// Rules in their order, with a plan of the fields that they need from messages.
#[derive(Debug)]
pub struct Pipeline<R> {
    rules: Vec<R>,
    manifests: Vec<Manifest>,
    policies: Vec<Policy>,
    breakers: Vec<Breaker>,
    plan: Plan,
    rows: Rows,
    /// The places of the fields: one entry per node of the projection, for each record of the batch. Only grows.
    layouts: Vec<Found>,
    habit: Habit,
    splicer: Splicer,
}

impl<R: Evaluate> Pipeline<R> {
    /// Returns a pipeline of `stages`, which counts the values of the field `counted`.
    ///
    /// # Errors
    /// If the rules can't work together: one writes inside a field that another reads or writes.
    pub fn new(stages: Vec<Stage<R>>, counted: &str) -> Result<Pipeline<R>, String> {
        let manifests: Vec<Manifest> = stages.iter().map(|stage| stage.manifest.clone()).collect();
        let plan = Plan::new(&manifests, counted)?;
        Ok(Pipeline {
            rows: Rows::new(plan.slots.len()),
            breakers: stages.iter().map(|_| Breaker::default()).collect(),
            policies: stages.iter().map(|stage| Policy { drop: stage.drop, on_fault: stage.on_fault }).collect(),
            rules: stages.into_iter().map(|stage| stage.rule).collect(),
            manifests,
            plan,
            layouts: Vec::new(),
            habit: Habit::default(),
            splicer: Splicer::default(),
        })
    }

    /// Returns the manifests of the rules, in their order. [`Rejection::rule`] is an index into this list.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// Processes `batch`, or only its first records: [`Step::processed_records`] tells. `step` is cleared first, and its buffers
    /// are used again. The caller commits the step and then applies its counts. Apart from scratch buffers, only the circuit
    /// breakers of the pipeline change.
    pub fn process(&mut self, counts: &Counts, batch: &Batch, step: &mut Step) {
        step.clear();
        step.rules.resize(self.rules.len(), RuleStats::default());
        self.parse(batch, step);
        for index in 0..self.rules.len() {
            self.evaluate(index, batch, step);
        }
        self.assemble(batch, step);
        step.counts = self.count(counts, batch);
        step.rejections.sort_by_key(|rejection| rejection.record);
    }

    /// Turns records into rows. Rejects messages that can't be parsed.
    fn parse(&mut self, batch: &Batch, step: &mut Step) {
        self.rows.clear();
        let nodes = self.plan.projection.nodes();
        self.layouts.resize(self.layouts.len().max(batch.len() * nodes), Found::default());
        for record in 0..batch.len() {
            let Some(message) = batch.value(record) else {
                step.rejections.push(refusal(record, Reason::Tombstone, "the message has no value".into()));
                continue;
            };
            if let Some(refused) = batch.refusal(record) {
                step.rejections.push(refusal(record, refused.reason, refused.detail.clone()));
                continue;
            }
            let layout = &mut self.layouts[record * nodes..][..nodes];
            let parsed = self.plan.projection.scan_usual(message, &mut self.habit, layout).and_then(|()| {
                for (slot, source) in self.plan.slots.iter().enumerate() {
                    let column = &mut self.rows.current[slot];
                    match source {
                        CellSource::Written => {}
                        CellSource::Field(node) => layout[*node].push_cell(message, column)?,
                        CellSource::Metadata(metadata) => metadata.push_cell(batch, record, column),
                    }
                }
                Ok(())
            });
            match parsed {
                Ok(()) => self.rows.push(record),
                Err(problem) => {
                    self.rows.undo_cells();
                    step.rejections.push(refusal(record, problem.reason(), problem.to_string()));
                }
            }
        }
    }

    /// Lets rule `index` evaluate the rows that are left.
    fn evaluate(&mut self, index: usize, batch: &Batch, step: &mut Step) {
        if self.rows.is_empty() {
            return;
        }
        let reads: Vec<&Column> = self.plan.reads[index].iter().map(|slot| &self.rows.current[*slot]).collect();
        let origin = Origin { batch: Some(batch), records: self.rows.records(), compared: step.compared };
        let (rows, processed_at) = (self.rows.len(), batch.processed_at);
        let view = View { rows, processed_at, columns: &reads, budget: Budget::Usual, origin };
        let (breaker, stats) = (&mut self.breakers[index], &mut step.rules[index]);
        let verdict = bisect::evaluate(&mut self.rules[index], &self.manifests[index], breaker, view, stats);
        (stats.rows, stats.open) = (verdict.rows as u64, breaker.open().is_some());
        if verdict.rows < rows {
            self.leave(verdict.rows, index, step);
        }
        let policy = self.policies[index];
        let mut rejected = Vec::new();
        for (row, refusal) in verdict.refusals {
            let record = self.rows.record(row as usize) as u32;
            let (cause, message) = match refusal {
                RowRejection::Rejected(reason, detail) => {
                    let cause = Cause::Rejected { rule: index, reason: reason as usize };
                    rejected.push(row);
                    step.rejections.push(Rejection { record, cause, detail, drop: policy.drop });
                    continue;
                }
                RowRejection::Fault(Fault { message, backtrace, .. }) => {
                    (Cause::Fault { rule: index, backtrace: (!backtrace.is_empty()).then_some(backtrace) }, message)
                }
                RowRejection::Skipped => {
                    let why = self.breakers[index].open().unwrap_or_default();
                    (Cause::Skipped { rule: index }, bounded(format!("short-circuited: {why}")))
                }
            };
            if policy.on_fault == OnFault::Stop {
                let (rule, position) = (&self.manifests[index].name, batch.position(record as usize));
                step.stop.get_or_insert_with(|| stop(rule, &position, &message));
                continue;
            }
            let fault = Rejection { record, cause, detail: Some(message), drop: false };
            if policy.on_fault == OnFault::Pass {
                step.passed_despite_fault.push(fault);
                continue;
            }
            rejected.push(row);
            step.rejections.push(fault);
        }
        for (slot, column) in self.plan.writes[index].iter().zip(verdict.columns) {
            self.rows.write(*slot, column, self.plan.read_after(*slot, index));
        }
        self.rows.remove(&rejected, |slot| self.plan.read_after(slot, index));
    }

    /// Drops the rows `from..` from this step, because rule `index` ran out of its budget. All records from the first of these
    /// rows on are left for later, to keep their order. They are read again after this step is committed.
    fn leave(&mut self, from: usize, index: usize, step: &mut Step) {
        let first_left = self.rows.record(from);
        step.processed_records = Some(first_left);
        let later: Vec<u32> = (from as u32..self.rows.len() as u32).collect();
        self.rows.remove(&later, |slot| self.plan.read_after(slot, index));
        // The rules before this one will process these records again, and the records count only then.
        let stats = &mut step.rules[..index];
        stats.iter_mut().for_each(|stats| stats.rows -= later.len() as u64);
        let is_left = |rejection: &mut Rejection| rejection.record as usize >= first_left;
        for rejection in step.rejections.extract_if(.., is_left) {
            if let Some(rule) = rejection.rule() {
                stats[..=rule].iter_mut().for_each(|stats| stats.rows -= 1);
            }
            discount(stats, &rejection.cause);
        }
        step.passed_despite_fault.extract_if(.., is_left).for_each(|fault| discount(stats, &fault.cause));
    }

    /// Turns rows into outputs: the original bytes, with the written values spliced in.
    fn assemble(&mut self, batch: &Batch, step: &mut Step) {
        let Pipeline { plan, rows, layouts, splicer, .. } = self;
        let nodes = plan.projection.nodes();
        let (mut refused, mut rejections) = (Vec::new(), Vec::new());
        let columns: Vec<(Node, &Column)> =
            plan.written.iter().filter_map(|(node, slot)| Some((*node, rows.written(*slot)?))).collect();
        let mut outputs = step.outputs_mut();
        for row in 0..rows.len() {
            let record = rows.record(row);
            if !rows.is_written(row) {
                outputs.pass(record as u32);
                continue;
            }
            let (message, layout) = (batch.value(record).unwrap_or_default(), &layouts[record * nodes..][..nodes]);
            let writes = Writes { columns: &columns, row };
            let spliced = outputs.pass_with(record as u32, |out| {
                splicer.write(&plan.projection, message, layout, writes, out)?;
                fits(out.len())
            });
            if let Err(Unwritable(name)) = spliced {
                refused.push(row as u32);
                rejections.push(refusal(record, Reason::UnwritableField, name));
            }
        }
        step.rejections.extend(rejections);
        rows.remove(&refused, |slot| slot == plan.counted);
    }

    fn count(&self, counts: &Counts, batch: &Batch) -> crate::counts::Delta {
        let partitions = (0..self.rows.len()).map(|row| batch.records()[self.rows.record(row)].partition);
        counts.count(batch.processed_at, partitions.zip(self.rows.current[self.plan.counted].texts()))
    }
}

/// Checks whether the outputs of a batch may take `bytes` bytes. A span can't point beyond 4 GiB.
#[inline]
fn fits(bytes: usize) -> Result<(), Unwritable> {
    let too_many = |_| Unwritable("with it the outputs of the batch would take more than 4 GiB".into());
    u32::try_from(bytes).map(|_| ()).map_err(too_many)
}

/// Returns the reason why the process stops, and the remedy.
fn stop(rule: &str, position: &Position, fault: &str) -> String {
    format!(
        "the rule `{rule}` failed on the message {position}, and rule.{rule}.on_fault is \"stop\": {fault}; mend the rule, or set \
         rule.{rule}.on_fault to \"dead-letter\" or \"pass\"; until then the message is not committed"
    )
}

/// Returns a rejection by the engine itself.
fn refusal(record: usize, reason: Reason, detail: String) -> Rejection {
    Rejection { record: record as u32, cause: Cause::Engine(reason), detail: Some(bounded(detail)), drop: false }
}

/// Subtracts one fault or one skipped row from `stats`, if that is the `cause`.
fn discount(stats: &mut [RuleStats], cause: &Cause) {
    match *cause {
        Cause::Fault { rule, .. } => stats[rule].faults -= 1,
        Cause::Skipped { rule } => stats[rule].skipped -= 1,
        Cause::Rejected { .. } | Cause::Engine(_) => {}
    }
}

/// Cuts a detail to the length that is kept.
fn bounded(detail: String) -> String {
    cut(detail, MAX_DETAIL_BYTES)
}

/// Returns the first `most` bytes of `text`, in a buffer without spare capacity.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_fault_obeyed_and_violated() {
        let kept = |message, backtrace| {
            let fault = Fault { message: "a".repeat(message), backtrace: "b".repeat(backtrace), timed_out: false }.bounded();
            (fault.message.len(), fault.backtrace.len(), fault.message.capacity() + fault.backtrace.capacity())
        };
        assert_eq!(kept(1_024, 4_096), (1_024, 4_096, 5_120));
        assert_eq!(kept(1 << 20, 1 << 20), (1_024, 4_096, 5_120), "nor is there room for more");
        assert_eq!(cut("aé".into(), 2), "a", "in the middle of a character");
    }

    #[test]
    fn outputs_of_a_batch_obeyed_and_violated() {
        assert_eq!(fits(u32::MAX as usize), Ok(()));
        assert!(fits(u32::MAX as usize + 1).is_err());
    }
}
