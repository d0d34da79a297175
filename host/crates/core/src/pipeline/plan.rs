//! The needs of a set of rules: the fields to take from messages, and the columns that each rule reads and writes.

use std::collections::HashSet;

use super::Manifest;
use super::metadata::Metadata;
use crate::json::{Node, Projection};
use crate::printable::{escape_value, is_unsafe_in_line};
use crate::reserved::{ENGINE, is_reserved};

/// The most fields that a rule may read, the most that it may write, and the most reasons that it may have.
const MAX_NAMES: usize = 64;
/// The longest name, version or reason in a manifest, in bytes. A field's name may be four times as long.
const MAX_NAME_BYTES: usize = 64;
/// The longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 1_024;
/// The most fields that all rules together may read and write, with the objects around them. Each takes 12 bytes for each record
/// of a batch, and one check for each message that is written.
const MAX_NODES: usize = 512;

/// The source of the cells of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CellSource {
    /// The cells come from the message.
    Field(Node),
    /// The cells come from the record's metadata.
    Metadata(Metadata),
    /// No cells are taken from the record: rules only write the field. No rule reads it, and its values are not counted.
    Written,
}

/// One slot for each field or piece of metadata that is read or written, and the rules that use it. A slot is an index.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) projection: Projection,
    pub(super) slots: Vec<CellSource>,
    /// For each rule, the slots of its reads.
    pub(super) reads: Vec<Vec<usize>>,
    /// For each rule, the slots of its writes.
    pub(super) writes: Vec<Vec<usize>>,
    /// The slot whose values are counted.
    pub(super) counted: usize,
    /// The nodes that some rule writes, ascending, with their slots.
    pub(super) written: Vec<(Node, usize)>,
    /// For each slot, the last rule that reads it. For the slot whose values are counted, the number of rules.
    last_reader: Vec<Option<usize>>,
    /// For each node, its slot.
    slot_of_node: Vec<Option<usize>>,
}

impl Plan {
    /// Returns a plan for rules with these manifests, in their order.
    pub(super) fn new(manifests: &[Manifest], counted: &str) -> Result<Plan, String> {
        let mut plan = Plan {
            projection: Projection::default(),
            slots: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            counted: 0,
            written: Vec::new(),
            last_reader: Vec::new(),
            slot_of_node: Vec::new(),
        };
        for (index, manifest) in manifests.iter().enumerate() {
            let in_rule = |problem| format!("rule `{}`: {problem}", manifest.name);
            let reads = manifest.reads.iter().map(|name| plan.read(name, index)).collect::<Result<_, _>>().map_err(in_rule)?;
            plan.reads.push(reads);
            let writes: Vec<usize> =
                manifest.writes.iter().map(|name| plan.write(name)).collect::<Result<_, _>>().map_err(in_rule)?;
            let mut seen = HashSet::new();
            if let Some((name, _)) = manifest.writes.iter().zip(&writes).find(|(_, slot)| !seen.insert(**slot)) {
                return Err(in_rule(format!("it writes `{name}` twice, under two names")));
            }
            plan.writes.push(writes);
        }
        plan.counted = plan.read(counted, manifests.len()).map_err(|problem| format!("counts.member: {problem}"))?;
        // The message itself is a node as well.
        let fields = plan.projection.nodes() - 1;
        if fields > MAX_NODES {
            return Err(format!(
                "the rules read and write {fields} members, the objects around them included, and at most {MAX_NODES} are allowed"
            ));
        }
        plan.check_overlaps()?;
        plan.written.sort_unstable();
        Ok(plan)
    }

    /// Returns whether a rule after rule `index` reads `slot`, or the values of `slot` are counted.
    pub(super) fn read_after(&self, slot: usize, index: usize) -> bool {
        self.last_reader[slot].is_some_and(|reader| reader > index)
    }

    /// Returns the slot of a node.
    fn slot_of(&self, node: Node) -> Option<usize> {
        self.slot_of_node.get(node).copied().flatten()
    }

    fn read(&mut self, name: &str, reader: usize) -> Result<usize, String> {
        let slot = match name.strip_prefix('@') {
            Some(_) => {
                let source = CellSource::Metadata(Metadata::parse(name)?);
                self.slots.iter().position(|known| *known == source).unwrap_or_else(|| self.push_slot(source))
            }
            None => {
                let node = self.projection.want(name)?;
                let slot = self.slot_of(node).unwrap_or_else(|| self.push_node(node, CellSource::Written));
                // The cells come from the message even if an earlier rule writes the field: that rule may leave some rows as they
                // are.
                self.slots[slot] = CellSource::Field(node);
                slot
            }
        };
        self.last_reader[slot] = Some(reader);
        Ok(slot)
    }

    fn write(&mut self, name: &str) -> Result<usize, String> {
        if name.starts_with('@') {
            return Err(format!("it writes `{name}`, and metadata can't be written"));
        }
        let node = self.projection.want(name)?;
        let slot = self.slot_of(node).unwrap_or_else(|| self.push_node(node, CellSource::Written));
        if !self.written.contains(&(node, slot)) {
            self.written.push((node, slot));
        }
        Ok(slot)
    }

    fn push_node(&mut self, node: Node, source: CellSource) -> usize {
        let slot = self.push_slot(source);
        self.slot_of_node.resize(self.projection.nodes(), None);
        self.slot_of_node[node] = Some(slot);
        slot
    }

    fn push_slot(&mut self, source: CellSource) -> usize {
        self.slots.push(source);
        self.last_reader.push(None);
        self.slots.len() - 1
    }

    /// Refuses a written field if another field in use lies inside or around it: a reader of one would not see a change of the
    /// other.
    fn check_overlaps(&self) -> Result<(), String> {
        let used = || (0..self.projection.nodes()).filter(|node| self.slot_of(*node).is_some());
        for (written, _) in &self.written {
            let overlaps = |node: &Node| {
                node != written && (self.projection.contains(*node, *written) || self.projection.contains(*written, *node))
            };
            if let Some(other) = used().find(overlaps) {
                let (written, other) = (self.projection.name(*written), self.projection.name(other));
                return Err(format!("`{written}` is written and `{other}`, which is read or written too, overlaps with it"));
            }
        }
        Ok(())
    }
}

/// Checks a rule's description of itself. Everything later relies on this check.
///
/// # Errors
/// The error says what is wrong.
pub fn check_manifest(manifest: &Manifest) -> Result<(), String> {
    let lower = |text: &str, other: char| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == other);
    if manifest.name.is_empty() || manifest.name.len() > MAX_NAME_BYTES || !lower(&manifest.name, '-') {
        let name = excerpt(&manifest.name);
        return Err(format!("its name `{name}` must be 1 to {MAX_NAME_BYTES} lower-case letters, digits and hyphens"));
    }
    if manifest.name == ENGINE {
        return Err(format!("its name `{ENGINE}` is the engine's own; call it otherwise"));
    }
    if manifest.version.len() > MAX_NAME_BYTES || !is_printable(&manifest.version) {
        return Err(format!("its version must be at most {MAX_NAME_BYTES} printable bytes"));
    }
    if manifest.description.len() > MAX_DESCRIPTION_BYTES || !is_printable(&manifest.description) {
        return Err(format!("its description must be at most {MAX_DESCRIPTION_BYTES} printable bytes"));
    }
    for reason in &manifest.reasons {
        if reason.is_empty() || reason.len() > MAX_NAME_BYTES || !lower(reason, '_') {
            let reason = excerpt(reason);
            return Err(format!(
                "its reason `{reason}` must be 1 to {MAX_NAME_BYTES} lower-case letters, digits and underscores"
            ));
        }
        if is_reserved(reason) {
            return Err(format!("its reason `{reason}` is one of the engine's own; call it otherwise"));
        }
    }
    for (what, names) in [("reads", &manifest.reads), ("writes", &manifest.writes), ("reasons", &manifest.reasons)] {
        if names.len() > MAX_NAMES {
            return Err(format!("its {what} are {}, and at most {MAX_NAMES} are allowed", names.len()));
        }
        if let Some(name) = names.iter().find(|name| name.len() > 4 * MAX_NAME_BYTES) {
            return Err(format!(
                "its {what} have a name of {} bytes, and at most {} are allowed",
                name.len(),
                4 * MAX_NAME_BYTES
            ));
        }
        // The names appear in messages and in the log, where they must not be mistaken for anything else.
        if let Some(name) = names.iter().find(|name| !is_printable(name)) {
            return Err(format!("its {what} have the name `{}`, which must be printable", escape_value(name)));
        }
        let mut seen = HashSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(format!("its {what} have `{}` twice", escape_value(name)));
        }
    }
    Plan::new(std::slice::from_ref(manifest), "@topic").map(|_| ())
}

/// Returns whether `text` ends no line, moves no cursor, and does not change the direction of writing.
fn is_printable(text: &str) -> bool {
    !text.chars().any(is_unsafe_in_line)
}

/// Returns the beginning of a name from a manifest, for a message.
fn excerpt(text: &str) -> String {
    escape_value(&text[..text.floor_char_boundary(MAX_NAME_BYTES)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reserved::{RULE_FAULT, Reason};

    fn manifest(name: &str, reads: &[&str], writes: &[&str]) -> Manifest {
        let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Manifest { name: name.into(), reads: list(reads), writes: list(writes), ..Manifest::default() }
    }

    #[test]
    fn a_member_has_one_slot_whoever_uses_it() {
        let rules = [manifest("a", &["x", "/y"], &["z"]), manifest("b", &["y", "z", "@key"], &["x"])];
        let plan = Plan::new(&rules, "x").unwrap();
        assert_eq!(plan.reads[0][1], plan.reads[1][0]);
        assert_eq!(plan.writes[0][0], plan.reads[1][1]);
        assert_eq!((plan.writes[1][0], plan.counted), (plan.reads[0][0], plan.reads[0][0]));
        assert!(plan.read_after(plan.counted, 1) && !plan.read_after(plan.reads[0][1], 1));
    }

    #[test]
    fn writes_that_overlap_are_refused() {
        let error = Plan::new(&[manifest("a", &["/device/os"], &[]), manifest("b", &[], &["device"])], "x").unwrap_err();
        assert!(error.contains("`device`") && error.contains("`/device/os`"), "{error}");
    }

    #[test]
    fn manifests_that_break_the_contract_are_refused() {
        let refused = |manifest: &Manifest| check_manifest(manifest).expect_err("the manifest is broken");
        assert!(check_manifest(&manifest("device-filter", &["a", "@header/x"], &["b"])).is_ok());
        assert!(refused(&manifest("Device", &[], &[])).contains("name `Device`"));
        assert!(refused(&manifest("a", &["x", "x"], &[])).contains("`x` twice"));
        assert!(refused(&manifest("a", &["@clock"], &[])).contains("no metadata"));
        assert!(refused(&manifest("a", &["/~"], &[])).contains("no JSON Pointer"));
        assert!(refused(&manifest("a", &[], &["@key"])).contains("can't be written"));
        assert!(refused(&manifest("a", &[], &["y", "/y"])).contains("`/y` twice"));
        assert!(
            refused(&manifest("a", &[], &["y\nERROR all is lost"])).contains(r"`y\nERROR all is lost`, which must be printable")
        );
        assert!(refused(&manifest("a", &["@header/\u{202e}x"], &[])).contains(r"`@header/\u{202e}x`"));
        assert!(refused(&manifest("a", &["\u{61c}x"], &[])).contains(r"`\u{61c}x`"));
        let description = "\u{9b}2J".to_owned();
        assert!(refused(&Manifest { description, ..manifest("a", &[], &[]) }).contains("description"));
        let reasons = vec!["Bad Reason".to_string()];
        assert!(refused(&Manifest { reasons, ..manifest("a", &[], &[]) }).contains("`Bad Reason`"));
    }

    #[test]
    fn names_of_the_engine_are_refused() {
        for reason in Reason::ALL.iter().map(|reason| reason.name()).chain([RULE_FAULT]) {
            let reasons = vec!["bad".to_owned(), reason.to_owned()];
            let problem = check_manifest(&Manifest { reasons, ..manifest("a", &[], &[]) }).unwrap_err();
            assert_eq!(problem, format!("its reason `{reason}` is one of the engine's own; call it otherwise"));
        }
        assert!(check_manifest(&manifest(ENGINE, &[], &[])).unwrap_err().contains("the engine's own"));
        let reasons = vec!["rule_faults".to_owned(), "not_json".to_owned()];
        assert_eq!(check_manifest(&Manifest { reasons, ..manifest("weir-2", &[], &[]) }), Ok(()));
    }

    #[test]
    fn what_is_refused_is_told_in_a_few_words() {
        let refused = |manifest: &Manifest| check_manifest(manifest).expect_err("the manifest is broken");
        let long = "A".repeat(1 << 20);
        assert!(refused(&manifest(&long, &[], &[])).len() < 200);
        assert!(refused(&Manifest { reasons: vec![long.clone()], ..manifest("a", &[], &[]) }).len() < 200);
        assert!(refused(&manifest("a", &[&long], &[])).len() < 200);
    }

    #[test]
    fn limits_of_a_manifest_obeyed_and_violated() {
        let check = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest("a", &[], &[]);
            change(&mut manifest);
            check_manifest(&manifest)
        };
        let names = |count| (0..count).map(|index| format!("m{index}")).collect::<Vec<String>>();
        assert!(
            check(&|manifest| (manifest.reads, manifest.writes, manifest.reasons) = (names(64), names(64), names(64))).is_ok()
        );
        for too_many in [
            check(&|manifest| manifest.reads = names(65)),
            check(&|manifest| manifest.writes = names(65)),
            check(&|manifest| manifest.reasons = names(65)),
        ] {
            assert!(too_many.unwrap_err().contains("are 65, and at most 64"));
        }
        let text = |length| "x".repeat(length);
        for length in [64, 65] {
            assert_eq!(check(&|manifest| manifest.name = text(length)).is_ok(), length == 64);
            assert_eq!(check(&|manifest| manifest.version = text(length)).is_ok(), length == 64);
            assert_eq!(check(&|manifest| manifest.reasons = vec![text(length)]).is_ok(), length == 64);
        }
        for length in [256, 257] {
            assert_eq!(check(&|manifest| manifest.reads = vec![text(length)]).is_ok(), length == 256);
            assert_eq!(check(&|manifest| manifest.writes = vec![text(length)]).is_ok(), length == 256);
        }
        for length in [1_024, 1_025] {
            assert_eq!(check(&|manifest| manifest.description = text(length)).is_ok(), length == 1_024);
        }
    }

    #[test]
    fn the_members_of_all_rules_obeyed_and_violated() {
        // The fifteen objects around the fields count as well.
        let deep = |rule: usize, fields| {
            let around = "/o".repeat(15);
            let names: Vec<String> = (0..fields).map(|index| format!("{around}/{rule}-{index}")).collect();
            Manifest { reads: names, ..manifest("a", &[], &[]) }
        };
        let mut rules: Vec<Manifest> = (0..7).map(|rule| deep(rule, 64)).collect();
        rules.push(deep(7, 48));
        assert!(Plan::new(&rules, "@topic").is_ok());
        rules.push(deep(8, 2));
        assert!(Plan::new(&rules, "@topic").unwrap_err().contains("read and write 513 members"));
    }
}
