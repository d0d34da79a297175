//! New members into the original bytes of a message.

use std::fmt;

use super::projection::{Node, Projection, ROOT};
use super::scan::Found;
use super::text;
use crate::column::Kind;

/// A member that can't be written because what should hold it is no object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritable(pub String);

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where a message is changed: at `from` the value or the new members of `node` come in, and the message goes on at `to`.
#[derive(Clone, Copy, Debug)]
struct Edit {
    from: usize,
    to: usize,
    node: Node,
}

/// Writes messages with members replaced and added. Keeps its buffers from message to message.
#[derive(Debug, Default)]
pub struct Splicer {
    edits: Vec<Edit>,
}

/// A written value: its kind and, for text, the unescaped string, else the JSON text.
type Cell<'a> = (Kind, &'a [u8]);

impl Splicer {
    /// Appends `message` to `out` with the members `writes`, which ascend, set to what `cell` has for them; members for which it has none
    /// stay as they are. A member that is there is replaced where it stands; a new one is added at the end of its object,
    /// and objects that are missing around it are made.
    ///
    /// # Errors
    /// If an object is needed where the message has something else. Nothing has been appended then.
    pub fn write<'c>(
        &mut self,
        projection: &Projection,
        message: &[u8],
        layout: &[Found],
        writes: &[Node],
        cell: impl Fn(Node) -> Option<Cell<'c>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritable> {
        if writes.iter().all(|node| projection.branches[*node].parent == ROOT && !layout[*node].is_present()) {
            append(projection, message, layout[ROOT], writes, cell, out);
            return Ok(());
        }
        self.edits.clear();
        for node in writes.iter().copied().filter(|node| cell(*node).is_some()) {
            let edit = edit(projection, message, layout, node)?;
            if !self.edits.iter().any(|known| known.node == edit.node) {
                self.edits.push(edit);
            }
        }
        self.edits.sort_unstable_by_key(|edit| edit.from);
        let mut at = 0;
        for edit in &self.edits {
            out.extend_from_slice(&message[at..edit.from]);
            match cell(edit.node) {
                Some(cell) => write_value(cell, out),
                None => {
                    let mut comma = has_members(message, layout[edit.node]);
                    add_members(projection, layout, edit.node, &cell, &mut comma, out);
                }
            }
            at = edit.to;
        }
        out.extend_from_slice(&message[at..]);
        Ok(())
    }
}

/// The common case by itself: all members are new and stand at the top level.
fn append<'c>(
    projection: &Projection,
    message: &[u8],
    object: Found,
    writes: &[Node],
    cell: impl Fn(Node) -> Option<Cell<'c>>,
    out: &mut Vec<u8>,
) {
    let (before, after) = message.split_at(object.end as usize - 1);
    out.extend_from_slice(before);
    let mut comma = has_members(message, object);
    for (node, cell) in writes.iter().filter_map(|node| Some((*node, cell(*node)?))) {
        if comma {
            out.push(b',');
        }
        comma = true;
        out.extend_from_slice(&projection.branches[node].label);
        write_value(cell, out);
    }
    out.extend_from_slice(after);
}

/// Whether the object that stands at `found` in `message` has members.
fn has_members(message: &[u8], found: Found) -> bool {
    let inside = &message[found.start as usize + 1..found.end as usize - 1];
    inside.iter().any(|byte| !byte.is_ascii_whitespace())
}

/// The edit that writes `node`: in its place, or at the end of the innermost object around it that the message has.
fn edit(projection: &Projection, message: &[u8], layout: &[Found], node: Node) -> Result<Edit, Unwritable> {
    let found = layout[node];
    if found.is_present() {
        return Ok(Edit { from: found.start as usize, to: found.end as usize, node });
    }
    let mut around = projection.branches[node].parent;
    while around != ROOT && !layout[around].is_present() {
        around = projection.branches[around].parent;
    }
    if message[layout[around].start as usize] != b'{' {
        return Err(Unwritable(projection.name(node)));
    }
    let end = layout[around].end as usize - 1;
    Ok(Edit { from: end, to: end, node: around })
}

/// Writes the members of `node` that the message has not and that are written, each after a comma but for the first of an
/// empty object.
fn add_members<'c>(
    projection: &Projection,
    layout: &[Found],
    node: Node,
    cell: &impl Fn(Node) -> Option<Cell<'c>>,
    comma: &mut bool,
    out: &mut Vec<u8>,
) {
    for child in projection.branches[node].children.iter().copied().filter(|child| !layout[*child].is_present()) {
        if !is_written(projection, child, cell) {
            continue;
        }
        if *comma {
            out.push(b',');
        }
        *comma = true;
        out.extend_from_slice(&projection.branches[child].label);
        match cell(child) {
            Some(cell) => write_value(cell, out),
            None => {
                out.push(b'{');
                add_members(projection, layout, child, cell, &mut false, out);
                out.push(b'}');
            }
        }
    }
}

/// Whether `node` or a member inside it is written.
fn is_written<'c>(projection: &Projection, node: Node, cell: &impl Fn(Node) -> Option<Cell<'c>>) -> bool {
    cell(node).is_some() || projection.branches[node].children.iter().any(|child| is_written(projection, *child, cell))
}

fn write_value((kind, bytes): Cell<'_>, out: &mut Vec<u8>) {
    match kind {
        Kind::Text => text::write_string(bytes, out),
        Kind::Absent | Kind::Null => out.extend_from_slice(b"null"),
        Kind::Boolean | Kind::Number | Kind::Composite => out.extend_from_slice(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `message` with `writes` (name, JSON text) set.
    fn splice(message: &str, writes: &[(&str, &str)]) -> Result<String, String> {
        let mut projection = Projection::default();
        let nodes: Vec<Node> = writes.iter().map(|(name, _)| projection.want(name).unwrap()).collect();
        let mut layout = vec![Found::default(); projection.nodes()];
        projection.scan(message.as_bytes(), &mut layout).map_err(|problem| problem.to_string())?;
        let mut out = Vec::new();
        let cell = |node| nodes.iter().position(|other| *other == node).map(|index| (Kind::Number, writes[index].1.as_bytes()));
        Splicer::default().write(&projection, message.as_bytes(), &layout, &nodes, cell, &mut out).map_err(|error| error.0)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn new_members_come_last_and_the_rest_stays() {
        assert_eq!(splice(r#" {"a": 1.0e0 } "#, &[("b", "2"), ("c", "3")]).unwrap(), r#" {"a": 1.0e0 ,"b":2,"c":3} "#);
        assert_eq!(splice("{ }", &[("b", "2"), ("c", "3")]).unwrap(), r#"{ "b":2,"c":3}"#);
    }

    #[test]
    fn a_member_that_is_there_is_replaced_where_it_stands() {
        assert_eq!(splice(r#"{"b":null,"a":{"b":0}}"#, &[("a", "1"), ("b", "2")]).unwrap(), r#"{"b":2,"a":1}"#);
        assert_eq!(splice(r#"{"\u0062":"x"}"#, &[("b", "2")]).unwrap(), r#"{"\u0062":2}"#);
    }

    #[test]
    fn nested_members_are_written_and_missing_objects_made() {
        let writes = [("/geo/country", "1"), ("/geo/at/x", "2"), ("/geo/at/y", "3")];
        assert_eq!(splice(r#"{"a":0}"#, &writes).unwrap(), r#"{"a":0,"geo":{"country":1,"at":{"x":2,"y":3}}}"#);
        assert_eq!(splice(r#"{"geo":{}}"#, &writes).unwrap(), r#"{"geo":{"country":1,"at":{"x":2,"y":3}}}"#);
        assert_eq!(
            splice(r#"{"geo":{"at":{"y":9}},"z":0}"#, &writes).unwrap(),
            r#"{"geo":{"at":{"y":3,"x":2},"country":1},"z":0}"#
        );
        assert_eq!(splice(r#"{"a":[1,2]}"#, &[("/a/1", "5")]).unwrap(), r#"{"a":[1,5]}"#);
    }

    #[test]
    fn a_member_inside_something_else_is_unwritable() {
        for message in [r#"{"geo":1}"#, r#"{"geo":null}"#, r#"{"geo":[]}"#] {
            assert_eq!(splice(message, &[("/geo/country", "1")]), Err("/geo/country".into()));
        }
    }
}
