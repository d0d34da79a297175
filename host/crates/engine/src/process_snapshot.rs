//! The snapshots of all data loops of a process, and their sum.
//!
//! Each loop writes a snapshot of its own, so that no loop waits for another one. Observers get the sum, or each snapshot. A set of
//! rules counts as in force in the process once it is in force in every loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::protocol::LoopId;
use crate::snapshot::{LoopState, MAX_RECENT, SharedSnapshot, Snapshot, Swaps};
use weir_core::counts::Window;

/// The snapshots of the data loops of a process. Clones share the snapshots.
#[derive(Clone, Debug)]
pub struct ProcessSnapshot {
    loops: Arc<Mutex<Vec<SharedSnapshot>>>,
}

impl ProcessSnapshot {
    /// Returns the snapshots of `loops` data loops, at least one.
    pub fn new(loops: usize) -> ProcessSnapshot {
        ProcessSnapshot { loops: Arc::new(Mutex::new((0..loops.max(1)).map(|_| SharedSnapshot::default()).collect())) }
    }

    /// Removes the snapshots of all loops but the first `loops`.
    pub fn limit(&self, loops: usize) {
        self.loops.lock().truncate(loops.max(1));
    }

    /// Returns the snapshots, which the loops write.
    pub fn shared(&self) -> Vec<SharedSnapshot> {
        self.loops.lock().clone()
    }

    /// Returns a copy of the snapshot of each loop.
    pub fn each(&self) -> Vec<Snapshot> {
        self.shared().iter().map(SharedSnapshot::get).collect()
    }

    /// Returns the sum of the snapshots.
    pub fn get(&self) -> Snapshot {
        sum(self.each())
    }

    /// Returns the loop that was alive last before all others, and when that was, in milliseconds since the epoch. Leaves out loops
    /// that wait for Kafka at the start, because that wait has no limit. Returns None if there are no others.
    pub fn oldest_heartbeat(&self) -> Option<(LoopId, i64)> {
        let loops = self.shared();
        let at_work = loops.iter().enumerate().filter(|(_, shared)| shared.state() != LoopState::Connecting);
        at_work.map(|(id, shared)| (LoopId(id), shared.last_heartbeat())).min_by_key(|(_, at)| *at)
    }
}

/// Returns the sum of the snapshots of all loops of a process.
pub fn sum(mut loops: Vec<Snapshot>) -> Snapshot {
    if loops.len() == 1 {
        return loops.remove(0);
    }
    let state = state(&loops);
    // While a set takes the place of another one, the set that is being replaced is shown.
    let Some(shown) = loops.iter().min_by_key(|snapshot| snapshot.since) else { return Snapshot::default() };
    let of_shown = || loops.iter().filter(|snapshot| snapshot.live.hash == shown.live.hash);
    let mut sum = Snapshot {
        state,
        live: Arc::clone(&shown.live),
        why: shown.why,
        since: of_shown().map(|snapshot| snapshot.since).max().unwrap_or_default(),
        // The loops share the trial, and each shows what it was after its own last commit.
        trial: of_shown().filter_map(|snapshot| snapshot.trial.clone()).max_by_key(|trial| trial.records),
        swaps: Swaps {
            live: loops.iter().map(|snapshot| snapshot.swaps.live).min().unwrap_or_default(),
            taken_back: loops.iter().map(|snapshot| snapshot.swaps.taken_back).min().unwrap_or_default(),
        },
        closes: loops.iter().filter_map(|snapshot| snapshot.closes).min(),
        counts_wait: loops.iter().filter_map(|snapshot| snapshot.counts_wait).max(),
        closed: closed(&loops),
        ..Snapshot::default()
    };
    let shown_of_each = (MAX_RECENT / loops.len()).max(1);
    for snapshot in loops {
        sum.add_loop(snapshot, shown_of_each);
    }
    sum.partitions.sort_unstable();
    sum
}

/// Returns the state of a process: that of the loop which is furthest from running.
fn state(loops: &[Snapshot]) -> LoopState {
    let waiting = loops.iter().enumerate().find_map(|(id, snapshot)| match &snapshot.state {
        LoopState::Waiting(why) => Some(LoopState::Waiting(format!("data loop {id}: {why}"))),
        _ => None,
    });
    let some = |state: LoopState| loops.iter().any(|snapshot| snapshot.state == state).then_some(state);
    let all_stopped = loops.iter().all(|snapshot| snapshot.state == LoopState::Stopped);
    if all_stopped {
        return LoopState::Stopped;
    }
    // A loop that has stopped takes the process with it.
    let stopping = some(LoopState::Stopping).or_else(|| some(LoopState::Stopped).map(|_| LoopState::Stopping));
    stopping.or(waiting).or_else(|| some(LoopState::Connecting)).unwrap_or(LoopState::Running)
}

/// Returns the last window that was sent, over the partitions of all loops that have sent it.
fn closed(loops: &[Snapshot]) -> Option<Window> {
    let last = loops.iter().filter_map(|snapshot| snapshot.closed.as_ref()).max_by_key(|window| window.end)?;
    let same = loops.iter().filter_map(|snapshot| snapshot.closed.as_ref());
    let same = same.filter(|window| (window.start, window.end) == (last.start, last.end));
    let mut sum = Window { counts: BTreeMap::new(), totals: BTreeMap::new(), partitions: Vec::new(), ..*last };
    for window in same {
        add(&mut sum.counts, &window.counts);
        add(&mut sum.totals, &window.totals);
        sum.partitions.extend(&window.partitions);
    }
    sum.partitions.sort_unstable();
    sum.partitions.dedup();
    Some(sum)
}

/// Adds the numbers of one loop, by name.
fn add(sum: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (name, number) in more {
        match sum.get_mut(name) {
            Some(known) => *known += number,
            None => drop(sum.insert(name.clone(), *number)),
        }
    }
}

impl Snapshot {
    /// Adds the numbers of a loop, and the last `recent` of its records.
    fn add_loop(&mut self, more: Snapshot, recent: usize) {
        self.partitions.extend(more.partitions);
        self.batches += more.batches;
        self.read += more.read;
        self.written += more.written;
        for rejected in more.rejected {
            match self.rejected.iter_mut().find(|known| known.rule == rejected.rule && known.reason == rejected.reason) {
                Some(known) => known.messages += rejected.messages,
                None => self.rejected.push(rejected),
            }
        }
        add(&mut self.totals, &more.totals);
        add(&mut self.open, &more.open);
        for (rule, stats) in more.stats {
            let known = self.stats.entry(rule).or_default();
            let open = known.open || stats.open;
            known.add(&stats);
            known.open = open;
        }
        self.transaction_seconds.merge(&more.transaction_seconds);
        self.transaction_records.merge(&more.transaction_records);
        self.lag.extend(more.lag);
        let skipped = more.last.len().saturating_sub(recent);
        self.last.extend(more.last.into_iter().skip(skipped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instances::set;
    use crate::snapshot::Rejected;
    use crate::trial::TrialReport;
    use weir_core::record::RuleStats;

    fn running(hash: &str, since: i64) -> Snapshot {
        Snapshot { state: LoopState::Running, live: set(hash), since, ..Snapshot::default() }
    }

    #[test]
    fn numbers_are_added_by_name() {
        let rejected = |reason: &str, messages| Rejected { rule: "validation".into(), reason: reason.into(), messages };
        let stats = |rows, open| ("a".to_owned(), RuleStats { rows, open, ..RuleStats::default() });
        let mut loops = [running("cafe", 1), running("cafe", 2)];
        let [first, second] = &mut loops;
        (first.read, first.written, first.partitions, first.lag) = (10, 8, vec![2], [(2, 5)].into());
        (second.read, second.written, second.partitions, second.lag) = (5, 4, vec![0, 1], [(0, 1)].into());
        (first.rejected, second.rejected) = (vec![rejected("bad", 2)], vec![rejected("worse", 1), rejected("bad", 3)]);
        (first.stats, second.stats) = ([stats(7, true)].into(), [stats(3, false)].into());
        (first.totals, second.totals) = ([("iOS".to_owned(), 1)].into(), [("iOS".to_owned(), 2), ("tv".to_owned(), 1)].into());
        first.transaction_records.add(3.0);
        second.transaction_records.add(4.0);
        let sum = sum(loops.to_vec());
        assert_eq!((sum.read, sum.written, sum.partitions, sum.lag), (15, 12, vec![0, 1, 2], [(0, 1), (2, 5)].into()));
        assert_eq!(sum.rejected, [rejected("bad", 5), rejected("worse", 1)]);
        assert_eq!(sum.stats, [stats(10, true)].into(), "a rule that is left out in one loop is shown");
        assert_eq!(sum.totals, [("iOS".to_owned(), 3), ("tv".to_owned(), 1)].into());
        assert_eq!((sum.transaction_records.count(), sum.transaction_records.sum()), (2, 7.0));
    }

    #[test]
    fn a_set_is_in_force_once_every_loop_has_it() {
        let trial = |records| {
            let (of, until, faults, rejected, previous) = (100, 0, 0, 0, "cafe".to_owned());
            Some(TrialReport { records, of, until, faults, rejected, previous })
        };
        let mut loops = [running("beef", 9), running("cafe", 1)];
        (loops[0].swaps.live, loops[0].trial) = (1, trial(7));
        let half = sum(loops.to_vec());
        assert_eq!((half.live.hash.as_str(), half.since, half.swaps.live, half.trial), ("cafe", 1, 0, None));
        loops[1] = running("beef", 12);
        (loops[1].swaps.live, loops[1].trial) = (1, trial(5));
        let all = sum(loops.to_vec());
        assert_eq!((all.live.hash.as_str(), all.since, all.swaps.live, all.trial), ("beef", 12, 1, trial(7)));
    }

    #[test]
    fn a_process_runs_only_if_all_its_loops_do() {
        let state = |states: &[LoopState]| {
            let loops = states.iter().map(|state| Snapshot { state: state.clone(), ..Snapshot::default() });
            sum(loops.collect()).state
        };
        let waiting = LoopState::Waiting("no broker".into());
        assert_eq!(state(&[LoopState::Running, LoopState::Running]), LoopState::Running);
        assert_eq!(state(&[LoopState::Running, LoopState::Connecting]), LoopState::Connecting);
        assert_eq!(state(&[LoopState::Connecting, waiting]), LoopState::Waiting("data loop 1: no broker".into()));
        assert_eq!(state(&[LoopState::Stopped, LoopState::Running]), LoopState::Stopping);
        assert_eq!(state(&[LoopState::Stopped, LoopState::Stopped]), LoopState::Stopped);
        assert_eq!(state(&[LoopState::Waiting("why".into())]), LoopState::Waiting("why".into()), "a single loop needs no name");
    }

    #[test]
    fn the_window_that_was_sent_last_is_that_of_all_loops() {
        let window = |start, count, partition| Window {
            start,
            end: start + 60_000,
            counts: [("iOS".to_owned(), count)].into(),
            totals: [("iOS".to_owned(), 10 * count)].into(),
            partitions: vec![partition],
        };
        let mut loops = [running("cafe", 1), running("cafe", 1), running("cafe", 1)];
        loops[0].closed = Some(window(60_000, 1, 2));
        loops[1].closed = Some(window(60_000, 2, 0));
        loops[2].closed = Some(window(0, 7, 1));
        let last = sum(loops.to_vec()).closed.unwrap();
        assert_eq!((last.start, last.counts["iOS"], last.totals["iOS"], last.partitions), (60_000, 3, 30, vec![0, 2]));
    }

    #[test]
    fn the_loop_that_is_silent_for_longest_is_known() {
        let process = ProcessSnapshot::new(3);
        assert_eq!(process.oldest_heartbeat(), None, "all of them wait for Kafka");
        for (at, shared) in (7..).zip(process.shared()).skip(1) {
            shared.heartbeat(at);
            shared.update(|snapshot| snapshot.state = LoopState::Running);
        }
        assert_eq!(process.oldest_heartbeat(), Some((LoopId(1), 8)));
        process.limit(1);
        assert_eq!((process.each().len(), process.oldest_heartbeat()), (1, None));
    }
}
