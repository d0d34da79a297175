//! What a set of rules needs: which members to take from messages, and which columns go to which rule.

use std::collections::HashSet;

use super::Manifest;
use super::metadata::Metadata;
use crate::json::{Node, Projection};

/// Members that a rule may read, that it may write, and reasons that it may have.
const MAX_NAMES: usize = 64;
/// Longest name, version or reason in a manifest, in bytes; a member's name may be four times as long.
const MAX_NAME_BYTES: usize = 64;
/// Longest description, in bytes.
const MAX_DESCRIPTION_BYTES: usize = 1_024;

/// Where the cells of a slot come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// From the message.
    Member(Node),
    /// From the message's metadata.
    Metadata(Metadata),
    /// From rules alone: nothing reads the member before it is written.
    Written,
}

/// Slots for everything that is read or written, each thing once, and who uses them. A slot is an index.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) projection: Projection,
    pub(super) slots: Vec<Source>,
    /// For each rule, the slots of its reads.
    pub(super) reads: Vec<Vec<usize>>,
    /// For each rule, the slots of its writes.
    pub(super) writes: Vec<Vec<usize>>,
    /// The slot whose values are counted.
    pub(super) counted: usize,
    /// The nodes that some rule writes, ascending, with their slots.
    pub(super) written: Vec<(Node, usize)>,
    /// For each slot the last rule that reads it; the number of rules if it is counted.
    last_reader: Vec<Option<usize>>,
    /// For each node its slot.
    slot_of_node: Vec<Option<usize>>,
}

impl Plan {
    /// A plan for rules with these manifests, in their order.
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
            let writes = manifest.writes.iter().map(|name| plan.write(name)).collect::<Result<_, _>>().map_err(in_rule)?;
            plan.writes.push(writes);
        }
        plan.counted = plan.read(counted, manifests.len()).map_err(|problem| format!("counts.member: {problem}"))?;
        plan.check_overlaps()?;
        plan.written.sort_unstable();
        Ok(plan)
    }

    /// Whether a rule after rule `index`, or the counts, read `slot`.
    pub(super) fn read_after(&self, slot: usize, index: usize) -> bool {
        self.last_reader[slot].is_some_and(|reader| reader > index)
    }

    /// The slot of a node.
    fn slot_of(&self, node: Node) -> Option<usize> {
        self.slot_of_node.get(node).copied().flatten()
    }

    fn read(&mut self, name: &str, reader: usize) -> Result<usize, String> {
        let slot = match name.strip_prefix('@') {
            Some(_) => {
                let source = Source::Metadata(Metadata::parse(name)?);
                self.slots.iter().position(|known| *known == source).unwrap_or_else(|| self.push_slot(source))
            }
            None => {
                let node = self.projection.want(name)?;
                let slot = self.slot_of(node).unwrap_or_else(|| self.push_node(node, Source::Written));
                // Also where an earlier rule writes it: that rule may leave some rows as they are.
                self.slots[slot] = Source::Member(node);
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
        let slot = self.slot_of(node).unwrap_or_else(|| self.push_node(node, Source::Written));
        if !self.written.contains(&(node, slot)) {
            self.written.push((node, slot));
        }
        Ok(slot)
    }

    fn push_node(&mut self, node: Node, source: Source) -> usize {
        let slot = self.push_slot(source);
        self.slot_of_node.resize(self.projection.nodes(), None);
        self.slot_of_node[node] = Some(slot);
        slot
    }

    fn push_slot(&mut self, source: Source) -> usize {
        self.slots.push(source);
        self.last_reader.push(None);
        self.slots.len() - 1
    }

    /// Refuses a written member with another one inside or around it: who reads the one would not see a change of the other.
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

/// Checks what a rule says of itself. Everything later relies on this.
///
/// # Errors
/// What is wrong.
pub fn check_manifest(manifest: &Manifest) -> Result<(), String> {
    let lower = |text: &str, other: char| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == other);
    if manifest.name.is_empty() || manifest.name.len() > MAX_NAME_BYTES || !lower(&manifest.name, '-') {
        let name = manifest.name.escape_debug();
        return Err(format!("its name `{name}` must be 1 to {MAX_NAME_BYTES} lower-case letters, digits and hyphens"));
    }
    if manifest.version.len() > MAX_NAME_BYTES || manifest.version.chars().any(char::is_control) {
        return Err(format!("its version must be at most {MAX_NAME_BYTES} printable bytes"));
    }
    if manifest.description.len() > MAX_DESCRIPTION_BYTES {
        return Err(format!("its description must be at most {MAX_DESCRIPTION_BYTES} bytes"));
    }
    for reason in &manifest.reasons {
        if reason.is_empty() || reason.len() > MAX_NAME_BYTES || !lower(reason, '_') {
            let reason = reason.escape_debug();
            return Err(format!(
                "its reason `{reason}` must be 1 to {MAX_NAME_BYTES} lower-case letters, digits and underscores"
            ));
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
        let mut seen = HashSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(format!("its {what} have `{}` twice", name.escape_debug()));
        }
    }
    Plan::new(std::slice::from_ref(manifest), "@topic").map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let reasons = vec!["Bad Reason".to_string()];
        assert!(refused(&Manifest { reasons, ..manifest("a", &[], &[]) }).contains("`Bad Reason`"));
        let many: Vec<String> = (0..65).map(|index| format!("m{index}")).collect();
        assert!(refused(&Manifest { reads: many, ..manifest("a", &[], &[]) }).contains("65"));
    }
}
