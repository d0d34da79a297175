//! Tests every kind of violation, and every sound case that must not be taken for one.

use super::super::violation::MAX_KEPT;
use super::*;

/// An audited system of one input partition, and of one partition of each other topic. All is right unless a test changes it.
struct System {
    audit: Audit,
    /// The number of records in the topics of the outputs and of the dead letters.
    outputs: i64,
    letters: i64,
}

const RULESET: &[u8] = b"0123456789abcdef";
const OUTPUTS: Role = Role::Outputs;
const LETTERS: Role = Role::DeadLetters;

fn names() -> TopicNames {
    TopicNames(["in", "out", "rejected", "counts"].map(str::to_owned))
}

fn headers(source: &str) -> WeirHeaders {
    WeirHeaders { sources: 1, source: source.into(), rulesets: 1, ruleset: RULESET.into() }
}

fn state(from: i64, window: i64, total: u64, open: u64) -> State {
    let mut state = State::new("id", from);
    state.window = (window, window + 60_000);
    state.counts.insert("iOS".into(), (total, open));
    state
}

fn cut(committed: i64, state: State) -> PartitionCut {
    PartitionCut { partition: 0, committed: Some(committed), state: Some(state), no_state: None }
}

impl System {
    /// Returns a system with an input of `offsets`. All records below `committed` are processed, and `total` were counted.
    fn new(offsets: impl IntoIterator<Item = i64>, committed: i64, total: u64) -> System {
        System::with(Audit::new(names(), false, vec![]), offsets, cut(committed, state(0, 60_000, total, total)))
    }

    fn with(mut audit: Audit, offsets: impl IntoIterator<Item = i64>, cut: PartitionCut) -> System {
        let offsets: Vec<i64> = offsets.into_iter().collect();
        let end = offsets.last().map_or(0, |last| last + 1);
        audit.cut(vec![cut]);
        audit.input_range(0, offsets.first().copied().unwrap_or(0)..end);
        offsets.into_iter().for_each(|offset| audit.input(0, offset, &WeirHeaders::default()));
        for role in [OUTPUTS, LETTERS, Role::Counts] {
            audit.low(role, 0, 0);
        }
        System { audit, outputs: 0, letters: 0 }
    }

    fn put(&mut self, role: Role, headers: &WeirHeaders) {
        let next = if role == OUTPUTS { &mut self.outputs } else { &mut self.letters };
        self.audit.written(role, 0, *next, headers);
        *next += 1;
    }

    /// Writes an output for each offset.
    fn outputs(mut self, offsets: impl IntoIterator<Item = i64>) -> System {
        offsets.into_iter().for_each(|offset| self.put(OUTPUTS, &headers(&format!("in/0/{offset}"))));
        self
    }

    /// Writes a dead letter for each offset.
    fn letters(mut self, offsets: impl IntoIterator<Item = i64>) -> System {
        offsets.into_iter().for_each(|offset| self.put(LETTERS, &headers(&format!("in/0/{offset}"))));
        self
    }

    fn output(mut self, headers: &WeirHeaders) -> System {
        self.put(OUTPUTS, headers);
        self
    }

    fn letter(mut self, headers: &WeirHeaders) -> System {
        self.put(LETTERS, headers);
        self
    }

    fn window(self, offset: i64, start: i64, sum: u64, partitions: &str) -> System {
        let counts = format!(r#"{{"iOS":{sum}}}"#);
        self.message(offset, start, &counts, &counts, partitions)
    }

    /// Adds a counts message of a minute, with counts and running totals.
    fn message(mut self, offset: i64, start: i64, counts: &str, totals: &str, partitions: &str) -> System {
        let (end, window) = (start + 60_000, format!(r#""start":"{start}","end":"#));
        let message = format!(
            r#"{{"device_type_counts":{totals},"window":{{{window}"{end}","counts":{counts}}},"partitions":{partitions}}}"#
        );
        self.audit.counts(0, offset, Some(message.as_bytes()));
        self
    }

    fn verdict(mut self) -> AuditVerdict {
        self.audit.verdict()
    }

    /// Checks that the verdict has exactly the violations `kinds`. Returns the words of the first.
    fn violated(self, kinds: &[(ViolationKind, u64)]) -> String {
        let verdict = self.verdict();
        let found: Vec<(ViolationKind, u64)> =
            verdict.found.iter().map(|violation| (violation.kind, violation.records)).collect();
        assert_eq!(found, kinds, "{verdict}");
        assert_eq!(verdict.violations, kinds.iter().map(|(_, records)| records).sum::<u64>());
        assert!(!verdict.holds() && verdict.line().starts_with("NOT verified: "), "{verdict}");
        verdict.found[0].words.clone()
    }

    /// Returns the verdict, and checks that it is a good one.
    fn holds(self) -> AuditVerdict {
        let verdict = self.verdict();
        assert!(verdict.holds() && verdict.found.is_empty(), "{verdict}");
        verdict
    }
}

#[test]
fn all_is_well_where_each_record_is_in_one_of_the_two() {
    let verdict = System::new(0..10, 10, 7).outputs(0..7).letters(7..10).holds();
    assert_eq!(verdict.line(), "verified: 10 records, each exactly once, in order; counts add up");
    assert_eq!((verdict.partitions[0].outputs, verdict.partitions[0].dead_letters), (7, 3));
    assert_eq!(verdict.rulesets, BTreeMap::from([("0123456789abcdef".to_owned(), 10)]));
}

#[test]
fn lost_records_are_named_as_ranges() {
    let missing = |offset: &i64| !(17..30).contains(offset) && *offset != 40;
    let words = System::new(0..100, 100, 86)
        .outputs((0..100).filter(missing))
        .violated(&[(ViolationKind::Lost, 13), (ViolationKind::Lost, 1)]);
    assert_eq!(words, "in/0/17..=29: 13 records became neither output nor dead letter");
}

#[test]
fn so_many_losses_that_they_have_no_room_are_counted() {
    let verdict = System::new(0..10_000, 10_000, 5_000).outputs((0..10_000).step_by(2)).verdict();
    assert_eq!((verdict.violations, verdict.found.len()), (5_000, MAX_KEPT));
}

#[test]
fn a_record_with_two_outputs_is_named() {
    let words = System::new(0..3, 3, 3).outputs([0, 1, 2, 1]).violated(&[(ViolationKind::Twice, 1)]);
    assert_eq!(words, "out/0/3 is another output of in/0/1");
    System::new(0..3, 3, 0).letters([0, 0, 1, 2]).violated(&[(ViolationKind::Twice, 1)]);
}

#[test]
fn a_record_with_an_output_and_a_dead_letter_is_named() {
    let words = System::new(0..3, 3, 3).outputs(0..3).letters([1]).violated(&[(ViolationKind::InBoth, 1)]);
    assert_eq!(words, "rejected/0/0 is a dead letter of in/0/1, which has become the other too");
}

#[test]
fn an_output_behind_a_later_one_is_named() {
    let words = System::new(0..4, 4, 4).outputs([0, 2, 1, 3]).violated(&[(ViolationKind::OutOfOrder, 1)]);
    assert_eq!(words, "out/0/2 is of in/0/1 and stands behind one of offset 2");
}

#[test]
fn a_record_without_a_rule_set_or_with_two_is_named() {
    let bare = WeirHeaders { rulesets: 0, ..headers("in/0/0") };
    assert_eq!(
        System::new(0..1, 1, 1).output(&bare).violated(&[(ViolationKind::NoRuleset, 1)]),
        "out/0/0 of in/0/0 has no header weir-ruleset"
    );
    let two = WeirHeaders { rulesets: 2, ..headers("in/0/0") };
    System::new(0..1, 1, 0).letter(&two).violated(&[(ViolationKind::SeveralRulesets, 1)]);
}

#[test]
fn a_record_without_a_source_or_with_two_is_named() {
    let words =
        System::new([], 0, 0).output(&WeirHeaders { sources: 0, ..headers("") }).violated(&[(ViolationKind::NoSource, 1)]);
    assert_eq!(words, "out/0/0 has no header weir-source");
    for bad in ["in/0", "in/0/", "in/x/0", "in/0/-1", "in/0/99999999999999999999", "\u{1b}[2J"] {
        let words = System::new([], 0, 0).output(&headers(bad)).violated(&[(ViolationKind::NoSource, 1)]);
        assert!(!words.contains('\u{1b}'), "{words}");
    }
    let two = WeirHeaders { sources: 2, ..headers("in/0/0") };
    System::new(0..1, 1, 0).letter(&two).violated(&[(ViolationKind::SeveralSources, 1)]);
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let far = format!("in/0/{}", u64::MAX);
    for foreign in ["other/0/0", "in/1/0", "in/-1/0", "in/0/1", &far] {
        let words = System::new(0..1, 1, 1).outputs([0]).output(&headers(foreign)).violated(&[(ViolationKind::NoInput, 1)]);
        assert!(words.starts_with("out/0/1 is of "), "{words}");
    }
    let words = System::new([0, 1, 3], 4, 3).outputs([0, 1, 2, 3]).violated(&[(ViolationKind::NoInput, 1)]);
    assert_eq!(words, "out/0/2 is of in/0/2, where the input has no record");
}

#[test]
fn counts_that_are_too_low_or_too_high_are_named() {
    let expected = [(ViolationKind::CountsDiffer, 1), (ViolationKind::WindowsDiffer, 1)];
    let words = System::new(0..5, 5, 4).outputs(0..5).violated(&expected);
    assert_eq!(words, "the state of in/0 counts 4, and offsets 0 to 5 have 5 outputs");
    System::new(0..5, 5, 6).outputs(0..5).violated(&expected);
}

#[test]
fn windows_that_are_too_low_or_too_high_are_named() {
    let system = || System::with(Audit::new(names(), false, vec![]), 0..5, cut(5, state(0, 120_000, 5, 2))).outputs(0..5);
    assert_eq!(system().window(0, 60_000, 3, "[0]").holds().proofs[&Proof::CountsAddUp], ProofOutcome::Holds);
    let words = system().window(0, 60_000, 2, "[0]").violated(&[
        (ViolationKind::WindowsDiffer, 1),
        (ViolationKind::TypesDiffer, 1),
        (ViolationKind::TotalsDiffer, 1),
    ]);
    assert_eq!(words, "2 in 1 windows that were sent and 2 in open ones were counted, of 5 outputs");
    let twice = [(ViolationKind::WindowsDiffer, 1), (ViolationKind::TypesDiffer, 1), (ViolationKind::WindowsOverlap, 1)];
    let words = system().window(0, 60_000, 3, "[0]").window(1, 60_000, 3, "[0]").violated(&twice);
    assert!(words.ends_with("(windows from before the group's offsets were reset would explain it)"), "{words}");
    let verdict = system().window(0, 60_000, u64::MAX, "[0]").verdict();
    assert_eq!(verdict.found[0].kind, ViolationKind::WindowsDiffer, "{verdict}");
}

#[test]
fn windows_of_other_types_than_the_states_have_are_named() {
    let system = || System::with(Audit::new(names(), false, vec![]), 0..5, cut(5, state(0, 120_000, 5, 2))).outputs(0..5);
    let other = r#"{"windows phone":3}"#;
    let verdict = system().message(0, 60_000, other, other, "[0]").verdict();
    let words: Vec<&str> = verdict.found.iter().map(|violation| violation.words.as_str()).collect();
    assert_eq!(words[0], "of type `iOS` 0 in windows that were sent and 2 in open ones were counted, and the states have 5");
    assert!(words[1].starts_with("of type `windows phone` 3 in windows"), "{verdict}");
    assert!(
        verdict.found.iter().all(|found| [ViolationKind::TypesDiffer, ViolationKind::TotalsDiffer].contains(&found.kind)),
        "{verdict}"
    );
}

#[test]
fn running_totals_that_the_states_do_not_have_are_named() {
    let system = || System::with(Audit::new(names(), false, vec![]), 0..5, cut(5, state(0, 120_000, 5, 2))).outputs(0..5);
    let words = system().message(0, 60_000, r#"{"iOS":3}"#, r#"{"iOS":4}"#, "[0]").verdict().found[0].words.clone();
    assert_eq!(words, "counts/0/0 has a running total of 4 of `iOS`, and the states of its partitions have 3");
}

#[test]
fn another_message_for_a_window_is_named_though_it_counts_nothing() {
    let system = || System::with(Audit::new(names(), false, vec![]), 0..5, cut(5, state(0, 120_000, 5, 2))).outputs(0..5);
    let words = system()
        .window(0, 60_000, 3, "[0]")
        .message(1, 60_000, "{}", "{}", "[0]")
        .violated(&[(ViolationKind::WindowsOverlap, 1)]);
    assert!(words.starts_with("counts/0/1 is of 60000 to 120000 ms, and covers partitions [0]"), "{words}");
    let words = system().window(0, 90_000, 3, "[0]").violated(&[(ViolationKind::WindowsOverlap, 1)]);
    assert!(words.ends_with("and the open window of partition 0 began before that was over"), "{words}");
}

#[test]
fn a_window_of_which_only_some_partitions_moved_on_is_named() {
    let mut system = System::with(Audit::new(names(), false, vec![]), 0..5, cut(5, state(0, 120_000, 5, 2))).outputs(0..5);
    let behind = PartitionCut { partition: 1, ..cut(0, state(0, 60_000, 0, 0)) };
    system.audit.cut(vec![behind]);
    let words = system.window(7, 60_000, 3, "[0,1]").violated(&[(ViolationKind::WindowMixed, 1)]);
    assert!(words.starts_with("counts/0/7 closes a window") && words.ends_with("[0] have moved on, [1] have not"), "{words}");
}

#[test]
fn what_is_no_counts_message_is_named() {
    let mut system = System::new(0..1, 1, 1).outputs([0]);
    system.audit.counts(0, 9, None);
    assert!(system.violated(&[(ViolationKind::UnreadableCounts, 1)]).starts_with("counts/0/9 is no counts message"));
}

#[test]
fn an_input_that_ends_before_the_committed_offset_is_named() {
    System::new(0..5, 9, 5).outputs(0..5).violated(&[(ViolationKind::PastTheEnd, 1)]);
}

#[test]
fn markers_of_transactions_leave_gaps_that_are_no_losses() {
    let offsets = || (0..1_000).filter(|offset| offset % 7 != 6);
    let count = offsets().count() as u64;
    let verdict = System::new(offsets(), 1_000, count).outputs(offsets()).holds();
    assert_eq!(verdict.records(), count);
}

#[test]
fn a_live_system_has_records_past_the_cut() {
    let verdict = System::new(0..20, 10, 10).outputs(0..15).window(0, 120_000, 99, "[0]").holds();
    assert_eq!((verdict.records(), verdict.partitions[0].waiting), (10, 10));
}

#[test]
fn a_later_cut_judges_what_was_past_the_first() {
    let mut system = System::new(0..20, 10, 10).outputs((0..15).filter(|offset| *offset != 12));
    assert!(system.audit.verdict().holds());
    system.audit.cut(vec![cut(20, state(0, 60_000, 19, 19))]);
    let words = system.outputs(15..20).violated(&[(ViolationKind::Lost, 1)]);
    assert_eq!(words, "in/0/12 became neither output nor dead letter");
}

#[test]
fn what_has_expired_from_the_input_is_not_missed() {
    let verdict = System::new(40..100, 100, 100).outputs(0..100).holds();
    assert_eq!(verdict.records(), 60);
    assert_eq!(verdict.notes, ["40 offsets of in/0 are no longer there and can't be missed"]);
    assert!(verdict.line().ends_with("; not judged: 40 expired offsets"), "{verdict}");
    assert!(verdict.to_json().contains(r#""not_judged":["40 expired offsets"]"#), "{}", verdict.to_json());
}

#[test]
fn nothing_before_the_first_counted_offset_is_judged() {
    let state = state(50, 60_000, 50, 50);
    let system = System::with(Audit::new(names(), false, vec![]), 0..100, cut(100, state));
    assert_eq!(system.outputs([3, 1, 1]).outputs(50..100).holds().records(), 50);
}

#[test]
fn outputs_that_have_expired_are_said_and_never_pass_for_proven() {
    let mut system = System::new(0..100, 100, 100).outputs(30..100);
    system.audit.low(OUTPUTS, 0, 30);
    let verdict = system.holds();
    assert_eq!(verdict.unsure.unjudged, 30);
    assert!(verdict.to_string().contains("none lost, 30 not judged"), "{verdict}");
    assert!(verdict.notes[0].contains("30 records of in/0"), "{verdict}");

    let mut system = System::new(0..100, 100, 100).outputs((30..100).filter(|offset| *offset != 50));
    system.audit.low(OUTPUTS, 0, 30);
    system.violated(&[(ViolationKind::Lost, 1)]);
}

#[test]
fn a_compacted_topic_has_fewer_records_without_a_loss() {
    let compacted = |roles: Vec<Role>| Audit::new(names(), false, roles);
    let gaps = || (0..100).filter(|offset| offset % 3 == 0);
    let system = System::with(compacted(vec![Role::Input]), gaps(), cut(98, state(0, 60_000, 98, 98)));
    assert_eq!(system.outputs(0..98).holds().records(), 33);
    let system = System::with(compacted(vec![OUTPUTS]), 0..100, cut(100, state(0, 60_000, 100, 100)));
    assert_eq!(system.outputs(gaps()).holds().unsure.unjudged, 66);
}

#[test]
fn what_a_rule_drops_is_told_as_dropped_or_lost() {
    let system = System::with(Audit::new(names(), true, vec![]), 0..10, cut(10, state(0, 60_000, 7, 7)));
    let verdict = system.outputs(0..7).holds();
    let line = "verified: 10 records, none twice, in order; counts add up; not judged: 3 records dropped or lost";
    assert_eq!(verdict.line(), line);
    assert!(verdict.notes[0].starts_with("3 records of in/0 became neither") && verdict.notes[0].contains("drop"), "{verdict}");
}

#[test]
fn a_dead_letter_keeps_the_headers_that_its_record_brought() {
    let mut system = System::new(0..2, 2, 0);
    system.audit.input(0, 0, &headers("elsewhere/0/7"));
    let kept = WeirHeaders { sources: 2, rulesets: 2, ..headers("in/0/0") };
    system.letter(&kept).letters([1]).holds();
}

/// Returns a system with an input of 12 records, of which offset 10 is committed without a state.
fn stateless() -> System {
    let bare = PartitionCut { partition: 0, committed: Some(10), state: None, no_state: Some("another program wrote it".into()) };
    System::with(Audit::new(names(), false, vec![]), 0..12, bare)
}

#[test]
fn a_state_that_was_lost_is_named() {
    let words = stateless().outputs(0..10).window(0, 60_000, 99, "[0]").violated(&[(ViolationKind::StateMissing, 1)]);
    assert!(words.starts_with("in/0 has offset 10 committed without a readable state"), "{words}");
    let verdict = stateless().letters(0..10).verdict();
    assert!(verdict.notes[0].contains("another program wrote it") && verdict.notes[0].contains("from 0 on"), "{verdict}");
    assert_eq!(verdict.proofs[&Proof::CountsAddUp], ProofOutcome::Violated(1));
    // If the state is lost, records may be lost too.
    stateless().outputs(0..9).violated(&[(ViolationKind::Lost, 1), (ViolationKind::StateMissing, 1)]);
}

#[test]
fn a_group_that_begins_late_has_not_lost_what_came_before() {
    let verdict = stateless().holds();
    assert_eq!((verdict.records(), verdict.partitions[0].waiting), (0, 2));
    assert!(verdict.notes[0].contains("nothing before that offset is judged"), "{verdict}");
    assert_eq!(stateless().outputs(10..12).holds().records(), 0, "it has begun after the cut");
}

#[test]
fn counts_that_began_anew_never_pass_for_proven() {
    // 50 records were counted by a state that is lost. Their windows were sent, or were lost with the state.
    let system =
        || System::with(Audit::new(names(), false, vec![]), 0..100, cut(100, state(50, 120_000, 50, 50))).outputs(0..100);
    for verdict in [system().holds(), system().window(0, 60_000, 50, "[0]").holds()] {
        assert_eq!(verdict.proofs[&Proof::CountsAddUp], ProofOutcome::NotAudited);
        assert!(verdict.line().ends_with("; not judged: what is below the first counted offset, counts"), "{verdict}");
        assert!(verdict.notes[0].starts_with("in/0 is counted from offset 50 on"), "{verdict}");
    }
    // A count that is too low remains a violation.
    let low = System::with(Audit::new(names(), false, vec![]), 0..100, cut(100, state(50, 120_000, 50, 40)));
    low.outputs(0..100).violated(&[(ViolationKind::WindowsDiffer, 1), (ViolationKind::TypesDiffer, 1)]);
}

#[test]
fn counts_that_nothing_is_left_to_compare_with_are_not_judged() {
    let expired = |outputs: i64| {
        let mut system = System::new(0..100, 100, 100).outputs(outputs..100);
        system.audit.low(OUTPUTS, 0, outputs);
        system.audit.low(Role::Counts, 0, 7);
        system.holds()
    };
    assert_eq!(expired(30).proofs[&Proof::CountsAddUp], ProofOutcome::NotAudited);
    assert!(expired(30).line().ends_with(", expired outputs, counts"), "{}", expired(30));
    assert_eq!(expired(0).proofs[&Proof::CountsAddUp], ProofOutcome::Holds, "the outputs are all there");
    assert!(expired(0).line().ends_with("; counts add up; not judged: windows"), "{}", expired(0));
}

/// Returns a system of 10 records, of which the last two are dead letters. The topics `compacted` are compacted.
fn small(compacted: &[Role]) -> System {
    let audit = Audit::new(names(), false, compacted.to_vec());
    System::with(audit, 0..10, cut(10, state(0, 60_000, 8, 8))).outputs(0..8).letters(8..10)
}

/// Returns the system of `small`, after `change`.
fn changed(compacted: &[Role], change: impl FnOnce(&mut Audit)) -> System {
    let mut system = small(compacted);
    change(&mut system.audit);
    system
}

/// Returns systems in which something can't be judged, each with the words for it.
fn unjudged() -> Vec<(System, &'static [&'static str])> {
    const BELOW: &str = "what is below the first counted offset";
    let of = |drops, compacted: &[Role], offsets: Range<i64>, cut| {
        System::with(Audit::new(names(), drops, compacted.to_vec()), offsets, cut)
    };
    let whole = || cut(10, state(0, 60_000, 8, 8));
    let anew = || cut(10, state(5, 60_000, 5, 5));
    let bare = PartitionCut { partition: 0, committed: Some(10), state: None, no_state: Some("nothing".into()) };
    let mut late = of(false, &[], 0..10, whole()).outputs(3..8).letters(8..10);
    late.audit.low(OUTPUTS, 0, 3);
    let mut both = of(false, &[], 0..10, whole()).outputs(3..8).letters(8..10);
    both.audit.low(OUTPUTS, 0, 3);
    both.audit.low(Role::Counts, 0, 1);
    vec![
        (small(&[]), &[]),
        (of(false, &[], 4..10, whole()).outputs(0..8).letters(8..10), &["4 expired offsets"]),
        (of(false, &[], 1..10, whole()).outputs(0..8).letters(8..10), &["1 expired offset"]),
        (small(&[Role::Input]), &["compacted input"]),
        (changed(&[], |audit| audit.low(OUTPUTS, 0, 3)), &["expired outputs"]),
        (changed(&[], |audit| audit.low(LETTERS, 0, 3)), &["expired dead letters"]),
        (late, &["3 records without output or dead letter", "expired outputs", "counts of 1 partition against outputs"]),
        (small(&[OUTPUTS]), &["compacted outputs", "counts of 1 partition against outputs"]),
        (small(&[LETTERS]), &["compacted dead letters"]),
        (
            of(false, &[LETTERS], 0..10, whole()).outputs(0..8).letters([9]),
            &["1 record without output or dead letter", "compacted dead letters"],
        ),
        (small(&[OUTPUTS, LETTERS]), &["compacted outputs", "compacted dead letters", "counts of 1 partition against outputs"]),
        (small(&[Role::Counts]), &["windows"]),
        (changed(&[], |audit| audit.low(Role::Counts, 0, 1)), &["windows"]),
        (both, &["3 records without output or dead letter", "expired outputs", "counts"]),
        (small(&[OUTPUTS, Role::Counts]), &["compacted outputs", "counts"]),
        (small(&ROLES), &["compacted input", "compacted outputs", "compacted dead letters", "counts"]),
        (of(true, &[], 0..10, whole()).outputs(0..8).letters([9]), &["1 record dropped or lost"]),
        (of(false, &[], 0..10, anew()).outputs(0..10), &[BELOW, "counts"]),
        (of(false, &[], 0..10, anew()).outputs(5..10), &[BELOW]),
        (of(false, &[], 0..10, bare), &[BELOW]),
        (changed(&[], |audit| audit.nameless(true)), &["whether the input was created anew"]),
        (changed(&[], |audit| audit.untold(vec![OUTPUTS])), &["whether topics are compacted"]),
        (changed(&[], |audit| audit.windows.forgotten = 1), &["counts"]),
    ]
}

#[test]
fn whatever_is_not_judged_is_named_in_the_last_line_whether_the_rest_holds_or_not() {
    for (system, expected) in unjudged() {
        let left_out = if expected.is_empty() { String::new() } else { format!("; not judged: {}", expected.join(", ")) };
        let mut forged = System { audit: system.audit.clone(), ..system };
        let verdict = system.holds();
        assert_eq!(verdict.not_judged, expected, "{verdict}");
        let line = verdict.line();
        assert!(line.starts_with("verified: ") && line.ends_with(&left_out), "{line}");
        assert_eq!(line.contains("; not judged: "), !expected.is_empty(), "{line}");
        let gone = ["expired outputs", "expired dead letters", "compacted outputs", "compacted dead letters"];
        let once = !expected.iter().any(|what| gone.contains(what) || what.contains("dropped"));
        assert_eq!(line.contains("each exactly once"), once, "{line}");
        forged.put(OUTPUTS, &WeirHeaders { sources: 0, ..headers("") });
        let verdict = forged.verdict();
        assert_eq!(verdict.line(), format!("NOT verified: 1 violation{left_out}"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&verdict.to_json()).unwrap()["not_judged"],
            serde_json::json!(expected)
        );
    }
}

#[test]
fn counts_are_not_judged_where_a_state_was_lost() {
    let verdict = stateless().outputs(0..10).verdict();
    assert_eq!(verdict.line(), "NOT verified: 1 violation; not judged: counts");
}

#[test]
fn windows_that_are_too_many_to_keep_are_not_judged() {
    let mut system = System::new(0..1, 1, 1).outputs([0]);
    let ahead = |start: i64| {
        let end = start + 1;
        format!(
            r#"{{"device_type_counts":{{"iOS":1}},"window":{{"start":"{start}","end":"{end}","counts":{{"iOS":1}}}},"partitions":[0]}}"#
        )
    };
    (0..1 << 18).for_each(|offset| system.audit.counts(0, offset, Some(ahead(120_000 + offset).as_bytes())));
    let verdict = system.holds();
    assert_eq!(verdict.proofs[&Proof::CountsAddUp], ProofOutcome::NotAudited);
    assert!(verdict.counted.ends_with("windows are too many to keep"), "{verdict}");
}

#[test]
fn a_window_of_a_partition_that_is_not_there_is_named() {
    System::new(0..1, 1, 1).outputs([0]).window(4, 0, 1, "[3]").violated(&[(ViolationKind::NoPartition, 1)]);
}

#[test]
fn dead_letters_that_have_all_expired_are_said() {
    let mut system = System::new(0..100, 100, 60).outputs(0..60);
    system.audit.low(LETTERS, 0, 40);
    let verdict = system.holds();
    assert_eq!(verdict.unsure.unjudged, 40);
    assert!(verdict.notes[0].starts_with("40 records of in/0 below offset 100 have neither"), "{verdict}");
}

#[test]
fn two_rule_sets_are_told_and_no_violation() {
    let other = WeirHeaders { ruleset: b"other".into(), ..headers("in/0/1") };
    let verdict = System::new(0..2, 2, 2).outputs([0]).output(&other).holds();
    assert!(verdict.to_string().contains("2 in all: 0123456789abcdef, other"), "{verdict}");
}

#[test]
fn five_million_records_take_as_little_memory_as_promised() {
    const RECORDS: i64 = 5_000_000;
    // Every second offset is a marker, and nearly every other record is rejected: nothing compresses.
    let offsets = || (0..RECORDS).map(|index| 2 * index);
    let rejected = |offset: &i64| (offset >> 1).count_ones() % 2 == 1;
    let outputs = offsets().filter(|offset| !rejected(offset)).count() as u64;
    let system = System::new(offsets(), 2 * RECORDS - 1, outputs);
    let system = system.outputs(offsets().filter(|offset| !rejected(offset))).letters(offsets().filter(rejected));
    let input = &system.audit.inputs[&0];
    let bytes: usize = [&input.seen, &input.marked, &input.done[0], &input.done[1]].map(|set| set.serialized_size()).iter().sum();
    // Three sets of two bits a record, and a tenth more for their headers.
    let promised = 3 * 2 * RECORDS as usize / 8;
    assert!(bytes <= promised + promised / 10, "{bytes} bytes for {RECORDS} records, {promised} were promised");
    assert_eq!(system.holds().records(), RECORDS as u64);
}

#[test]
fn forged_offsets_take_no_memory() {
    let mut system = System::new(0..1, 1, 1).outputs([0]);
    for index in 0..100_000_u64 {
        system.put(OUTPUTS, &headers(&format!("in/0/{}", index << 40 | 1)));
    }
    assert!(system.audit.inputs[&0].done[0].serialized_size() < 100);
    let verdict = system.verdict();
    assert_eq!((verdict.violations, verdict.found.len()), (100_000, MAX_KEPT));
}
