//! Puts new fields into the original bytes of a message.

use std::fmt;

use super::projection::{Node, Projection, ROOT};
use super::scan::Found;
use super::text;
use crate::column::{Column, Kind};

/// The detail of why a message can't be written: the field that would lie inside a value that is not an object, or the exceeded
/// size of the outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritable(pub String);

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A change of a message. The bytes `from..to` are replaced by the value, or by the new fields, of `node`.
#[derive(Clone, Copy, Debug)]
struct Edit {
    from: usize,
    to: usize,
    node: Node,
}

/// Writes messages with fields replaced and added. Keeps its buffers from message to message.
#[derive(Debug, Default)]
pub struct Splicer {
    edits: Vec<Edit>,
    marks: Vec<Mark>,
}

/// The mark of a node: what is written there. Marks are looked up by node, so that the cost of a message does not grow faster
/// than the number of nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// The index of the column that is written at the node.
    column: Option<usize>,
    /// True if something is written at the node or inside it.
    within: bool,
}

/// The values to write into a message: cell `row` of each column, for its field. Absent cells write nothing.
#[derive(Clone, Copy, Debug)]
pub struct Writes<'a> {
    /// The fields, ascending, with their columns.
    pub columns: &'a [(Node, &'a Column)],
    /// The row that is written, for all columns.
    pub row: usize,
}

impl<'a> Writes<'a> {
    /// Returns the fields that are written, with the kind and the bytes of each value: unescaped for text, otherwise JSON.
    fn iter(self) -> impl Iterator<Item = (Node, Kind, &'a [u8])> {
        (0..self.columns.len()).filter_map(move |index| {
            let (kind, bytes) = self.get(index)?;
            Some((self.columns[index].0, kind, bytes))
        })
    }

    /// Returns the value that is written from the column `index`. None if its cell is absent.
    fn get(self, index: usize) -> Option<(Kind, &'a [u8])> {
        let (_, column) = self.columns[index];
        let kind = Kind::from_byte(column.kind(self.row)).filter(|kind| *kind != Kind::Absent)?;
        Some((kind, column.cell(self.row)))
    }
}

impl Splicer {
    /// Appends `message` to `out` with `writes` in it. A field that the message has is replaced in its place. A new field is
    /// added at the end of its object, and missing objects around it are made.
    ///
    /// # Errors
    /// If an object is needed where the message has another value. Nothing has been appended then.
    pub fn write(
        &mut self,
        projection: &Projection,
        message: &[u8],
        layout: &[Found],
        writes: Writes<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritable> {
        let is_new = |node: Node| projection.branches[node].parent == ROOT && !layout[node].is_present();
        if writes.columns.iter().all(|(node, _)| is_new(*node)) {
            append(projection, message, layout[ROOT], writes, out);
            return Ok(());
        }
        self.mark(projection, writes);
        self.edits.clear();
        for (node, ..) in writes.iter() {
            self.edits.push(edit(projection, message, layout, node)?);
        }
        // New fields of the same object make one edit, at the end of the object, where there is no other edit.
        self.edits.sort_unstable_by_key(|edit| edit.from);
        self.edits.dedup_by_key(|edit| edit.node);
        let mut at = 0;
        for edit in &self.edits {
            out.extend_from_slice(&message[at..edit.from]);
            match self.written(edit.node, writes) {
                Some((kind, bytes)) => write_value(kind, bytes, out),
                None => {
                    let mut comma = has_fields(message, layout[edit.node]);
                    self.add_fields(projection, layout, edit.node, writes, &mut comma, out);
                }
            }
            at = edit.to;
        }
        out.extend_from_slice(&message[at..]);
        Ok(())
    }

    /// Marks the nodes that are written, and the nodes around them.
    fn mark(&mut self, projection: &Projection, writes: Writes<'_>) {
        self.marks.clear();
        self.marks.resize(projection.nodes(), Mark::default());
        for index in (0..writes.columns.len()).filter(|index| writes.get(*index).is_some()) {
            let mut node = writes.columns[index].0;
            self.marks[node].column = Some(index);
            while !self.marks[node].within {
                self.marks[node].within = true;
                node = projection.branches[node].parent;
            }
        }
    }

    /// Returns the value that is written at `node`.
    fn written<'a>(&self, node: Node, writes: Writes<'a>) -> Option<(Kind, &'a [u8])> {
        self.marks[node].column.and_then(|column| writes.get(column))
    }

    /// Writes those fields of `node` that are written and that the message does not have. Each is preceded by a comma, except the
    /// first field of an empty object.
    fn add_fields(
        &self,
        projection: &Projection,
        layout: &[Found],
        node: Node,
        writes: Writes<'_>,
        comma: &mut bool,
        out: &mut Vec<u8>,
    ) {
        for child in projection.branches[node].children.iter().copied().filter(|child| !layout[*child].is_present()) {
            if !self.marks[child].within {
                continue;
            }
            if *comma {
                out.push(b',');
            }
            *comma = true;
            out.extend_from_slice(&projection.branches[child].label);
            match self.written(child, writes) {
                Some((kind, bytes)) => write_value(kind, bytes, out),
                None => {
                    out.push(b'{');
                    self.add_fields(projection, layout, child, writes, &mut false, out);
                    out.push(b'}');
                }
            }
        }
    }
}

/// Handles the common case: all written fields are new and lie at the top level.
fn append(projection: &Projection, message: &[u8], object: Found, writes: Writes<'_>, out: &mut Vec<u8>) {
    let (before, after) = message.split_at(object.end as usize - 1);
    out.extend_from_slice(before);
    let mut comma = has_fields(message, object);
    for (node, kind, bytes) in writes.iter() {
        if comma {
            out.push(b',');
        }
        comma = true;
        text::put(&projection.branches[node].label, out);
        write_value(kind, bytes, out);
    }
    match after {
        [brace] => out.push(*brace),
        _ => out.extend_from_slice(after),
    }
}

/// Returns whether the object at `found` in `message` has fields.
fn has_fields(message: &[u8], found: Found) -> bool {
    let inside = &message[found.start as usize + 1..found.end as usize - 1];
    inside.iter().any(|byte| !byte.is_ascii_whitespace())
}

/// Returns the edit that writes `node`: in its place, or at the end of the innermost object around it that the message has.
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

#[inline]
fn write_value(kind: Kind, bytes: &[u8], out: &mut Vec<u8>) {
    match kind {
        Kind::Text => text::write_string(bytes, out),
        Kind::Absent | Kind::Null => out.extend_from_slice(b"null"),
        Kind::Boolean | Kind::Number => text::put(bytes, out),
        Kind::Composite => write_composite(bytes, out),
    }
}

/// Writes a composite in one line. Its line ends become blanks; they lie between its parts and never in a string.
fn write_composite(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(bytes);
    out[start..].iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `message` with `writes` (name, JSON text) set.
    fn splice(message: &str, writes: &[(&str, &str)]) -> Result<String, String> {
        let mut projection = Projection::default();
        let nodes: Vec<Node> = writes.iter().map(|(name, _)| projection.want(name).unwrap()).collect();
        let mut layout = vec![Found::default(); projection.nodes()];
        projection.scan(message.as_bytes(), &mut layout).map_err(|problem| problem.to_string())?;
        let mut out = Vec::new();
        let columns: Vec<Column> = writes.iter().map(|(_, json)| number(json)).collect();
        let mut columns: Vec<(Node, &Column)> = nodes.into_iter().zip(&columns).collect();
        columns.sort_by_key(|(node, _)| *node);
        let writes = Writes { columns: &columns, row: 0 };
        Splicer::default().write(&projection, message.as_bytes(), &layout, writes, &mut out).map_err(|error| error.0)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn number(json: &str) -> Column {
        let mut column = Column::default();
        column.push(Kind::Number, json.as_bytes());
        column
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
    fn a_composite_is_written_in_one_line() {
        let mut out = Vec::new();
        write_value(Kind::Composite, b"[\n{\"user_id\":\"forged\\n\"},\r\n1]", &mut out);
        assert_eq!(out, b"[ {\"user_id\":\"forged\\n\"},  1]");
    }

    #[test]
    fn a_member_inside_something_else_is_unwritable() {
        for message in [r#"{"geo":1}"#, r#"{"geo":null}"#, r#"{"geo":[]}"#] {
            assert_eq!(splice(message, &[("/geo/country", "1")]), Err("/geo/country".into()));
        }
    }
}
