//! Answers of the admin interface in words: what a person sees at a glance.
//!
//! Pure: answers in, text out. Each line is escaped as a whole before it leaves, for hashes, versions and evidence come over the
//! wire, and evidence holds what strangers have sent. Times are UTC.

use chrono::{DateTime, SecondsFormat};

use crate::swap::report::{Change, Deployed, Entry, Set, Shadow, Status, TakenBack, Trial, Why};
use crate::view::{harmless, middle_out, number};

/// Digits of a component's SHA-256 that are shown. Nobody tells components apart by more.
const DIGITS: usize = 12;
/// What is shown of a value, in characters; `--json` has all of it.
const MAX_VALUE: usize = 400;
/// What is shown of a message that speaks against a set, in characters.
const MAX_EVIDENCE: usize = 1_000;
/// How many partitions are listed; `--json` has all of them.
const MAX_PARTITIONS: usize = 100;

/// Which set runs, why, and what stands in the way of another one.
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
    notes.extend(status.trial.as_ref().map(trial));
    notes.extend(status.taken_back.iter().flat_map(taken_back));
    notes.extend(status.folder.iter().map(|folder| waiting(folder, status.why)));
    if let Some(candidate) = &status.shadow {
        notes.push(format!("SHADOW      {}", progress(candidate)));
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

/// That a set went live, or would.
pub(super) fn deployed(deployed: &Deployed) -> String {
    let Deployed { live, old, new, from, changes, took } = deployed;
    let took = duration(*took);
    let head = match (live, old == new) {
        (true, false) => format!("live: {old} → {new}, in {took}"),
        (true, true) => format!("live: {new}, as before"),
        (false, false) => format!("would go live: {old} → {new}, proven in {took}; nothing has changed"),
        (false, true) => format!("nothing would change: {new} is live"),
    };
    let mut lines = vec![head];
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

/// What went live, the last first.
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

/// What is different between two sets.
pub(super) fn changes(changes: &[Change]) -> String {
    if changes.is_empty() { page(["nothing is different".to_owned()]) } else { page(differences(changes)) }
}

/// How a candidate does beside the live rules.
pub(super) fn shadow(shadow: &Shadow) -> String {
    let Shadow { candidate, since, records, skipped, agreed, differences, faults, .. } = shadow;
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

/// The same in one line without its end.
pub(super) fn progress(shadow: &Shadow) -> String {
    let Shadow { candidate, records, agreed, faults, .. } = shadow;
    let agreed = match records {
        0 => "no message compared yet".to_owned(),
        _ => format!("{} messages compared, {} agreed{}", number(*records), number(*agreed), share(*agreed, *records)),
    };
    harmless(&format!("{} beside the live rules: {agreed}, {} faults", candidate.hash, number(*faults))).into_owned()
}

fn reason(why: Why) -> &'static str {
    match why {
        Why::Folder => "the folder and the configuration have it",
        Why::Pinned => "PINNED: an operator went back to it; `weir rules resume` follows the folder again",
        Why::LastGood => "LAST GOOD: what the folder has can't be used or was taken back",
    }
}

fn waiting(folder: &str, why: Why) -> String {
    match why {
        Why::Pinned => format!("WAITING     the folder has {folder}; `weir rules resume` makes it live"),
        Why::Folder | Why::LastGood => format!("WAITING     the folder has {folder}"),
    }
}

fn trial(trial: &Trial) -> String {
    let Trial { records, of, until, faults, rejected, previous } = trial;
    let [records, of, faults, rejected] = [records, of, faults, rejected].map(|count| number(*count));
    format!(
        "TRIAL       {records} of {of} messages, until {} at most; {faults} faults, {rejected} rejected; if it fails, {previous} \
         comes back",
        time(*until)
    )
}

fn taken_back(taken_back: &TakenBack) -> Vec<String> {
    let TakenBack { hash, at, reason, evidence } = taken_back;
    let mut lines = vec![format!("TAKEN BACK  {}: {hash}: {reason}", time(*at))];
    lines.extend(evidence.iter().map(|message| format!("            {}", middle_out(message, MAX_EVIDENCE))));
    lines
}

fn rules(set: &Set) -> Vec<String> {
    let head = ["rule", "version", "component", "bytes"].map(str::to_owned);
    let row = |rule: &crate::swap::report::Rule| {
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

/// What a message takes, against the live rules.
fn cost(shadow: &Shadow) -> String {
    let Shadow { nanos, live_nanos, .. } = shadow;
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

/// ` (12.34 %)`. Rounded down, so that 100 % is all of them.
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

/// Columns as wide as their widest cells, two blanks between them; the last one is as wide as it is.
fn table<const N: usize>(rows: impl Iterator<Item = [String; N]>) -> Vec<String> {
    let rows: Vec<[String; N]> = rows.map(|row| row.map(|cell| harmless(&cell).into_owned())).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N - 1).map(width).chain([0]).collect();
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn page(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().map(|line| format!("{}\n", harmless(&line))).collect()
}
