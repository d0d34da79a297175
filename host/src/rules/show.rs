//! The answers of the admin interface as text for a terminal.
//!
//! The functions are pure: answers in, text out. Each line is escaped as a whole, because hashes, versions and evidence come from
//! the network, and evidence contains records that others have sent. Times are UTC.

use chrono::{DateTime, SecondsFormat};

use crate::view::{middle_out, number};
use weir_control::report::{Change, Deployed, Entry, LiveReason, SetDescription, ShadowReport, Status, TakenBack, TrialReport};
use weir_core::printable::escape_line;

/// The number of digits of a component's SHA-256 that are shown. They are enough to tell components apart.
const DIGITS: usize = 12;
/// The longest value that is shown, in characters. `--json` shows all of it.
const MAX_VALUE: usize = 400;
/// The longest evidence against a set that is shown, in characters.
const MAX_EVIDENCE: usize = 1_000;
/// The most partitions that are listed. `--json` lists all of them.
const MAX_PARTITIONS: usize = 100;

/// Describes the live set, the reason for it, and the problems of other sets.
pub(super) fn status(status: &Status) -> String {
    let mut lines = vec![
        format!("live        {}", status.live.hash),
        format!("why         {}", reason(status.why)),
        format!("since       {}", time(status.since)),
        String::new(),
    ];
    lines.extend(rules(&status.live));
    let mut notes = Vec::new();
    if let Some(refusal) = &status.refusal {
        notes.push(format!("REFUSED     {}: {}", time(refusal.at), refusal.message));
    }
    notes.extend(status.unkept.iter().map(|problem| format!("NOT KEPT    {problem}")));
    notes.extend(status.trial.as_ref().map(trial));
    notes.extend(status.taken_back.iter().flat_map(taken_back));
    notes.extend(status.folder.iter().map(|folder| waiting(folder, status.why)));
    if let Some(candidate) = &status.shadow {
        notes.push(format!("SHADOW      {}", progress(candidate)));
    }
    if !status.pending.is_empty() {
        notes.push(format!(
            "PENDING     changed in the configuration, and taken only by a restart: {}",
            status.pending.join(", ")
        ));
    }
    if !notes.is_empty() {
        lines.push(String::new());
        lines.extend(notes);
    }
    let swaps = &status.swaps;
    let [live, refused, back] = [swaps.live, swaps.refused, swaps.taken_back].map(number);
    lines.extend([String::new(), format!("{live} went live, {refused} refused, {back} taken back since the process started")]);
    page(lines)
}

/// Describes the result of a deployment, or of a dry run.
pub(super) fn deployed(deployed: &Deployed) -> String {
    let Deployed { live, waiting, old, new, from, changes, took } = deployed;
    let took = duration(*took);
    let head = match (live, old == new) {
        _ if *waiting => {
            format!("waits: {old} → {new}, proven and handed over; live as soon as the data loop has Kafka's answer")
        }
        (true, false) => format!("live: {old} → {new}, in {took}"),
        (true, true) => format!("live: {new}, as before"),
        (false, false) => format!("would go live: {old} → {new}, proven in {took}; nothing has changed"),
        (false, true) => format!("nothing would change: {new} is live"),
    };
    let mut lines = vec![head];
    if from.is_empty() && *live && old != new {
        let none = "this process has no partition now; of those that it gets it judges what is not committed then";
        lines.extend([String::new(), none.to_owned()]);
    }
    if !from.is_empty() {
        lines.extend([String::new(), "first offsets that it judges".to_owned()]);
        let shown = from.iter().take(MAX_PARTITIONS);
        lines.extend(shown.map(|(partition, offset)| format!("  partition {partition}: {offset}")));
        let rest = from.len().saturating_sub(MAX_PARTITIONS);
        lines.extend((rest > 0).then(|| format!("  and {rest} more partitions")));
    }
    if !changes.is_empty() {
        lines.push(String::new());
        lines.extend(differences(changes));
    }
    page(lines)
}

/// Describes the sets that went live, the latest first.
pub(super) fn history(history: &[Entry]) -> String {
    if history.is_empty() {
        return page(["no set has gone live yet".to_owned()]);
    }
    let head = ["", "set", "went live", "why", "rules"].map(str::to_owned);
    let rows = history.iter().map(|entry| {
        let live = if entry.live { "live" } else { "" };
        [live.to_owned(), entry.hash.clone(), time(entry.at), entry.why.to_string(), entry.rules.join(", ")]
    });
    let mut lines = table(std::iter::once(head).chain(rows)).into_iter();
    let mut shown: Vec<String> = lines.next().into_iter().collect();
    for (line, entry) in lines.zip(history) {
        shown.push(line);
        shown.extend(entry.taken_back.iter().map(|reason| format!("      TAKEN BACK: {reason}")));
    }
    page(shown)
}

/// Describes the differences between two sets.
pub(super) fn changes(changes: &[Change]) -> String {
    if changes.is_empty() { page(["nothing is different".to_owned()]) } else { page(differences(changes)) }
}

/// Describes how a candidate compares with the live rules.
pub(super) fn shadow(shadow: &ShadowReport) -> String {
    let ShadowReport { candidate, since, records, skipped, agreed, differences, faults, .. } = shadow;
    let differing = records.saturating_sub(*agreed);
    let mut lines = vec![
        format!("candidate   {}, since {}", candidate.hash, time(*since)),
        format!("compared    {} messages; for {} more there was no time", number(*records), number(*skipped)),
        format!("agreed      {}{}", number(*agreed), share(*agreed, *records)),
        format!("differing   {}{}", number(differing), share(differing, *records)),
        format!("FAULTS      {} messages on which a rule of the candidate failed", number(*faults)),
        format!("cost        {}", cost(shadow)),
        String::new(),
    ];
    if *faults == 0 {
        lines[4] = "faults      none".to_owned();
    }
    lines.extend(rules(candidate));
    for difference in differences {
        let said = match (difference.live.as_str(), difference.candidate.as_str()) {
            ("passed", "passed") => "both pass it, with different outputs".to_owned(),
            (live, candidate) => format!("live: {live}; candidate: {candidate}"),
        };
        lines.extend([String::new(), format!("{} × {said}", number(difference.records))]);
        lines.extend(difference.examples.iter().map(|example| format!("    {}", middle_out(example, MAX_EVIDENCE))));
    }
    let listed: u64 = differences.iter().map(|difference| difference.records).fold(0, u64::saturating_add);
    let others = differing.saturating_sub(listed);
    if others > 0 {
        lines.extend([String::new(), format!("{} × other differences", number(others))]);
    }
    page(lines)
}

/// Describes the progress of a candidate in one line, without a line break.
pub(super) fn progress(shadow: &ShadowReport) -> String {
    let ShadowReport { candidate, records, agreed, faults, .. } = shadow;
    let agreed = match records {
        0 => "no message compared yet".to_owned(),
        _ => format!("{} messages compared, {} agreed{}", number(*records), number(*agreed), share(*agreed, *records)),
    };
    escape_line(&format!("{} beside the live rules: {agreed}, {} faults", candidate.hash, number(*faults))).into_owned()
}

fn reason(why: LiveReason) -> &'static str {
    match why {
        LiveReason::Folder => "the folder and the configuration have it",
        LiveReason::Pinned => "PINNED: an operator went back to it; `weir rules resume` follows the folder again",
        LiveReason::LastGood => "LAST GOOD: what the folder has can't be used or was taken back",
    }
}

fn waiting(folder: &str, why: LiveReason) -> String {
    match why {
        LiveReason::Pinned => format!("WAITING     the folder has {folder}; `weir rules resume` makes it live"),
        LiveReason::Folder | LiveReason::LastGood => format!("WAITING     the folder has {folder}"),
    }
}

fn trial(trial: &TrialReport) -> String {
    let TrialReport { records, of, until, faults, rejected, previous } = trial;
    let [records, of, faults, rejected] = [records, of, faults, rejected].map(|count| number(*count));
    format!(
        "TRIAL       {records} of {of} messages, until {} at most; {faults} faults, {rejected} rejected; if it fails, {previous} \
         comes back",
        time(*until)
    )
}

fn taken_back(taken_back: &TakenBack) -> Vec<String> {
    let TakenBack { hash, at, reason, evidence, back } = taken_back;
    let mut lines = vec![format!("TAKEN BACK  {}: {hash}: {reason}", time(*at))];
    lines.extend(evidence.iter().map(|message| format!("            {}", middle_out(message, MAX_EVIDENCE))));
    lines.extend(back.iter().map(|back| format!("            {back} came back")));
    lines
}

fn rules(set: &SetDescription) -> Vec<String> {
    let head = ["rule", "version", "component", "bytes"].map(str::to_owned);
    let row = |rule: &weir_control::report::RuleDescription| {
        [rule.name.clone(), rule.version.clone(), rule.digest.chars().take(DIGITS).collect(), number(rule.size as u64)]
    };
    table(std::iter::once(head).chain(set.rules.iter().map(row)))
}

fn differences(changes: &[Change]) -> Vec<String> {
    let head = ["rule", "what", "before → after"].map(str::to_owned);
    let rows = changes.iter().map(|change| {
        let value = |value: &Option<String>| match (value.as_deref(), change.what.as_str()) {
            (None, _) => "(absent)".to_owned(),
            (Some(""), _) => "(empty)".to_owned(),
            (Some(digest), "component") => digest.chars().take(DIGITS).collect(),
            (Some(value), _) => middle_out(value, MAX_VALUE),
        };
        let rule = change.rule.clone().unwrap_or_else(|| "(all)".to_owned());
        [rule, change.what.clone(), format!("{} → {}", value(&change.before), value(&change.after))]
    });
    table(std::iter::once(head).chain(rows))
}

/// Describes the time that one record takes, compared with the live rules.
fn cost(shadow: &ShadowReport) -> String {
    let ShadowReport { nanos, live_nanos, .. } = shadow;
    let times = match live_nanos {
        0 => String::new(),
        _ => format!(": {:.2} times as much", *nanos as f64 / *live_nanos as f64),
    };
    format!("{} a message, the live rules {}{times}", micros(*nanos), micros(*live_nanos))
}

fn micros(nanos: u64) -> String {
    format!("{}.{:02} µs", number(nanos / 1_000), nanos % 1_000 / 10)
}

fn duration(millis: u64) -> String {
    if millis < 1_000 { format!("{millis} ms") } else { format!("{}.{} s", number(millis / 1_000), millis % 1_000 / 100) }
}

/// Returns a share such as ` (12.34 %)`. It is rounded down, so that 100 % means all of them.
fn share(part: u64, of: u64) -> String {
    if of == 0 {
        return String::new();
    }
    let hundredths = u128::from(part) * 10_000 / u128::from(of);
    format!(" ({}.{:02} %)", hundredths / 100, hundredths % 100)
}

fn time(millis: i64) -> String {
    let time = DateTime::from_timestamp_millis(millis);
    time.map_or_else(|| millis.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// Returns the rows as lines. Each column is as wide as its widest cell, and two blanks separate the columns. The last column is
/// not padded.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(|cell| escape_line(&cell).into_owned())).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N - 1).map(width).chain([0]).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn page(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().map(|line| format!("{}\n", escape_line(&line))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use weir_control::report::{Difference, RuleDescription, SetRefusal, SwapCounts};

    /// 2024-01-31T12:00:00Z
    const NOON: i64 = 1_706_702_400_000;

    fn set(hash: &str) -> SetDescription {
        let rule = |name: &str, version: &str, digest: &str, size| RuleDescription {
            name: name.into(),
            version: version.into(),
            digest: digest.repeat(64),
            size,
            ..RuleDescription::default()
        };
        SetDescription {
            hash: hash.into(),
            rules: vec![rule("validation", "1.2.0", "a", 54_321), rule("device-filter", "10.0.0-rc.1", "b", 987)],
        }
    }

    fn candidate() -> ShadowReport {
        let difference = |live: &str, candidate: &str, records, example: &str| Difference {
            live: live.into(),
            candidate: candidate.into(),
            records,
            examples: vec![example.into()],
        };
        ShadowReport {
            candidate: set("cafe"),
            since: NOON,
            records: 30_000,
            skipped: 1_234,
            agreed: 29_990,
            differences: vec![
                difference("passed", "rejected by device-filter: device", 6, "user-login/0/7 {\"a\":1} | \"ios\""),
                difference("passed", "passed", 3, "user-login/1/8 {} | {\"b\":2}"),
            ],
            faults: 2,
            nanos: 1_500,
            live_nanos: 1_000,
        }
    }

    #[test]
    fn a_quiet_status_is_short() {
        let quiet = Status { live: set("5f2a9c0011223344"), since: NOON, ..Status::default() };
        let expected = "\
live        5f2a9c0011223344
why         the folder and the configuration have it
since       2024-01-31T12:00:00Z

rule           version      component     bytes
validation     1.2.0        aaaaaaaaaaaa  54,321
device-filter  10.0.0-rc.1  bbbbbbbbbbbb  987

0 went live, 0 refused, 0 taken back since the process started
";
        assert_eq!(status(&quiet), expected);
    }

    #[test]
    fn a_status_is_loud_about_what_stands_in_the_way() {
        let loud = Status {
            live: SetDescription { hash: "5f2a".into(), rules: vec![] },
            why: LiveReason::Pinned,
            since: NOON,
            folder: Some("81d0".into()),
            refusal: Some(SetRefusal { at: NOON + 1_000, message: "rules/dist/a.wasm can't be used as a rule".into() }),
            unkept: Some("failed to write sets/5f2a.json".into()),
            trial: Some(TrialReport {
                records: 1_200,
                of: 10_000,
                until: NOON + 60_000,
                faults: 1,
                rejected: 30,
                previous: "beef".into(),
            }),
            taken_back: Some(TakenBack {
                hash: "dead".into(),
                at: NOON,
                reason: "its rules failed on 9 of its first 20 messages".into(),
                evidence: vec!["user-login/0/50 a: rule_fault".into()],
                back: Some("5f2a".into()),
            }),
            shadow: Some(candidate()),
            pending: vec!["kafka.group".into(), "counts.every".into()],
            swaps: SwapCounts { live: 3, refused: 1, taken_back: 1 },
        };
        let expected = "\
live        5f2a
why         PINNED: an operator went back to it; `weir rules resume` follows the folder again
since       2024-01-31T12:00:00Z

rule  version  component  bytes

REFUSED     2024-01-31T12:00:01Z: rules/dist/a.wasm can't be used as a rule
NOT KEPT    failed to write sets/5f2a.json
TRIAL       1,200 of 10,000 messages, until 2024-01-31T12:01:00Z at most; 1 faults, 30 rejected; if it fails, beef comes back
TAKEN BACK  2024-01-31T12:00:00Z: dead: its rules failed on 9 of its first 20 messages
            user-login/0/50 a: rule_fault
            5f2a came back
WAITING     the folder has 81d0; `weir rules resume` makes it live
SHADOW      cafe beside the live rules: 30,000 messages compared, 29,990 agreed (99.96 %), 2 faults
PENDING     changed in the configuration, and taken only by a restart: kafka.group, counts.every

3 went live, 1 refused, 1 taken back since the process started
";
        assert_eq!(status(&loud), expected);
    }

    #[test]
    fn a_deployment_says_from_where_on_and_what_is_different() {
        let change = |rule: Option<&str>, what: &str, before: Option<&str>, after: Option<&str>| Change {
            rule: rule.map(str::to_owned),
            what: what.into(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        let changes = vec![
            change(None, "rules", Some("a"), Some("a, b")),
            change(Some("a"), "component", Some(&"1".repeat(64)), Some(&"2".repeat(64))),
            change(Some("b"), "writes", None, Some("")),
        ];
        let from = BTreeMap::from([(0, 12), (10, 7)]);
        let done = Deployed { live: true, waiting: false, old: "5f2a".into(), new: "81d0".into(), from, changes, took: 1_290 };
        let expected = "\
live: 5f2a → 81d0, in 1.2 s

first offsets that it judges
  partition 0: 12
  partition 10: 7

rule   what       before → after
(all)  rules      a → a, b
a      component  111111111111 → 222222222222
b      writes     (absent) → (empty)
";
        assert_eq!(deployed(&done), expected);
        assert!(expected.ends_with(&super::changes(&done.changes)));
        let bare = Deployed { from: BTreeMap::new(), changes: vec![], took: 25, ..done };
        let dry = Deployed { live: false, ..bare.clone() };
        assert_eq!(deployed(&dry), "would go live: 5f2a → 81d0, proven in 25 ms; nothing has changed\n");
        let nowhere = "live: 5f2a → 81d0, in 25 ms\n\nthis process has no partition now; of those that it gets it judges what is \
                       not committed then\n";
        assert_eq!(deployed(&bare), nowhere);
        let waits = Deployed { waiting: true, ..dry };
        let handed_over = "waits: 5f2a → 81d0, proven and handed over; live as soon as the data loop has Kafka's answer\n";
        assert_eq!(deployed(&waits), handed_over);
        let same = Deployed { old: "81d0".into(), ..bare };
        assert_eq!(deployed(&same), "live: 81d0, as before\n");
        assert_eq!(deployed(&Deployed { live: false, ..same }), "nothing would change: 81d0 is live\n");
        assert_eq!(super::changes(&[]), "nothing is different\n");
    }

    #[test]
    fn partitions_are_listed_up_to_a_bound() {
        let from = (0..MAX_PARTITIONS as i32 + 5).map(|partition| (partition, 0)).collect();
        let many = Deployed { live: true, waiting: false, old: "a".into(), new: "b".into(), from, changes: vec![], took: 0 };
        assert!(deployed(&many).ends_with("partition 99: 0\n  and 5 more partitions\n"));
    }

    #[test]
    fn a_history_marks_the_live_set_and_what_was_taken_back() {
        let entry = |hash: &str, live, taken_back: Option<&str>| Entry {
            hash: hash.into(),
            at: NOON,
            why: if live { LiveReason::LastGood } else { LiveReason::Folder },
            rules: vec!["a 1.0.0".into(), "b 2.0.0".into()],
            live,
            taken_back: taken_back.map(str::to_owned),
        };
        let expected = "      set   went live             why        rules
      dead  2024-01-31T12:00:00Z  folder     a 1.0.0, b 2.0.0
      TAKEN BACK: it rejected all
live  5f2a  2024-01-31T12:00:00Z  last-good  a 1.0.0, b 2.0.0
";
        assert_eq!(history(&[entry("dead", false, Some("it rejected all")), entry("5f2a", true, None)]), expected);
        assert_eq!(history(&[]), "no set has gone live yet\n");
    }

    #[test]
    fn a_candidates_report_shows_the_differences_and_the_cost() {
        let expected = "\
candidate   cafe, since 2024-01-31T12:00:00Z
compared    30,000 messages; for 1,234 more there was no time
agreed      29,990 (99.96 %)
differing   10 (0.03 %)
FAULTS      2 messages on which a rule of the candidate failed
cost        1.50 µs a message, the live rules 1.00 µs: 1.50 times as much

rule           version      component     bytes
validation     1.2.0        aaaaaaaaaaaa  54,321
device-filter  10.0.0-rc.1  bbbbbbbbbbbb  987

6 × live: passed; candidate: rejected by device-filter: device
    user-login/0/7 {\"a\":1} | \"ios\"

3 × both pass it, with different outputs
    user-login/1/8 {} | {\"b\":2}

1 × other differences
";
        assert_eq!(shadow(&candidate()), expected);
    }

    #[test]
    fn only_all_of_them_are_100_percent() {
        assert_eq!(share(999_999, 1_000_000), " (99.99 %)");
        assert_eq!(share(u64::MAX, u64::MAX), " (100.00 %)");
        assert_eq!(share(0, 0), "");
        let fresh = ShadowReport { candidate: set("cafe"), ..ShadowReport::default() };
        assert_eq!(progress(&fresh), "cafe beside the live rules: no message compared yet, 0 faults");
    }

    /// Puts control characters into every text, which must come out escaped.
    #[test]
    fn nothing_that_comes_over_the_wire_steers_the_terminal() {
        let evil = "x\x1b[2J\r\n\u{202e}y";
        let rule = RuleDescription { name: evil.into(), version: evil.into(), digest: evil.into(), ..RuleDescription::default() };
        let live = SetDescription { hash: evil.into(), rules: vec![rule] };
        let taken_back = TakenBack {
            hash: evil.into(),
            at: i64::MAX,
            reason: evil.into(),
            evidence: vec![evil.into()],
            back: Some(evil.into()),
        };
        let candidate = ShadowReport {
            candidate: live.clone(),
            records: 1,
            differences: vec![Difference { live: evil.into(), candidate: evil.into(), records: 1, examples: vec![evil.into()] }],
            ..ShadowReport::default()
        };
        let change = Change { rule: Some(evil.into()), what: evil.into(), before: Some(evil.into()), after: None };
        let entry = Entry {
            hash: evil.into(),
            at: 0,
            why: LiveReason::Folder,
            rules: vec![evil.into()],
            live: true,
            taken_back: Some(evil.into()),
        };
        let done = Deployed {
            live: true,
            waiting: false,
            old: evil.into(),
            new: "n".into(),
            from: BTreeMap::new(),
            changes: vec![change.clone()],
            took: 0,
        };
        let state = Status {
            live,
            refusal: Some(SetRefusal { at: i64::MIN, message: evil.into() }),
            taken_back: Some(taken_back),
            folder: Some(evil.into()),
            shadow: Some(candidate.clone()),
            trial: Some(TrialReport { records: 0, of: 0, until: 0, faults: 0, rejected: 0, previous: evil.into() }),
            ..Status::default()
        };
        let texts =
            [status(&state), deployed(&done), history(&[entry]), changes(&[change]), shadow(&candidate), progress(&candidate)];
        for text in texts {
            let is_unsafe_in_line = |next: char| next.is_control() && next != '\n' || next == '\u{202e}';
            assert!(text.contains(r"x\u{1b}[2J\r\n\u{202e}y") && !text.contains(is_unsafe_in_line), "{text:?}");
        }
    }
}
