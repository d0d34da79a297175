//! The one pass over a message: validates it strictly by RFC 8259, and notes the places of the wanted fields.

use std::fmt;

use super::foreign::Foreign;
use super::habit::Habit;
use super::projection::{MAX_LEVELS, Node, Projection, ROOT};
use super::text;
use crate::column::{Column, Kind};
use crate::reserved::Reason;

/// The most levels of nested objects and arrays, the message itself included. It bounds the stack; other JSON readers have this
/// limit too.
const MAX_DEPTH: usize = 128;
/// The level of the fields of the message itself.
const TOP: usize = 1;
/// The number of bytes at the beginning of a value in which a problem may be caused by a format that is not JSON.
const FRONT: usize = 5;

/// The place of a field's value in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first byte of the value.
    pub start: u32,
    /// The position after the last byte of the value.
    pub end: u32,
    /// The kind of the value. [`Kind::Absent`] if the message has no such field.
    pub kind: Kind,
    /// True if the value is a string with escapes.
    pub escaped: bool,
}

impl Default for Found {
    fn default() -> Found {
        Found { start: 0, end: 0, kind: Kind::Absent, escaped: false }
    }
}

impl Found {
    /// Returns whether the message has the field.
    pub fn is_present(self) -> bool {
        self.kind != Kind::Absent
    }

    /// Appends this field of `message` to `column`.
    ///
    /// # Errors
    /// If the value is text with a lone surrogate, which can't be encoded in UTF-8.
    #[inline]
    pub fn push_cell(self, message: &[u8], column: &mut Column) -> Result<(), Problem> {
        let (start, end) = (self.start as usize, self.end as usize);
        let part = match self.kind {
            Kind::Text if self.escaped => {
                text::unescape(&message[start + 1..end - 1], &mut column.bytes).ok_or(Problem::LoneSurrogate(start))?;
                column.close(Kind::Text);
                return Ok(());
            }
            Kind::Text => start + 1..end - 1,
            Kind::Absent | Kind::Null => start..start,
            Kind::Boolean | Kind::Number | Kind::Composite => start..end,
        };
        column.push_part(self.kind, message, part);
        Ok(())
    }
}

/// The problem for which a message can't be processed. `Display` writes the detail for an operator; [`reason`](Problem::reason)
/// returns the reason of the rejection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The value has no bytes.
    Empty,
    /// The bytes from this offset on are not UTF-8.
    NotUtf8(usize),
    /// At this offset something else was expected: the text that is given here.
    Malformed(usize, &'static str),
    /// Sound JSON, but no object.
    NotAnObject,
    /// A field that is read or written occurs twice in its object.
    Duplicate(String),
    /// Objects or arrays are nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// The string at this offset, which is read, contains half of a surrogate pair.
    LoneSurrogate(usize),
    /// The bytes have this other format from the beginning. The record is rejected with this reason.
    Foreign(Reason, Foreign),
}

impl Problem {
    /// Returns the reason with which the record is rejected.
    pub fn reason(&self) -> Reason {
        match self {
            Problem::Empty => Reason::EmptyValue,
            Problem::NotUtf8(_) => Reason::NotUtf8,
            Problem::Malformed(..) => Reason::MalformedJson,
            Problem::NotAnObject => Reason::NotAnObject,
            Problem::Duplicate(_) => Reason::DuplicateField,
            Problem::TooDeep => Reason::TooDeep,
            Problem::LoneSurrogate(_) => Reason::LoneSurrogate,
            Problem::Foreign(reason, _) => *reason,
        }
    }

    /// Returns this problem of the message `bytes`, with its cause if `bytes` begin like a format that is not JSON.
    #[cold]
    fn explained(self, bytes: &[u8]) -> Problem {
        match (&self, Foreign::of(bytes)) {
            (Problem::NotUtf8(..FRONT) | Problem::Malformed(..FRONT, _), Some(foreign)) => {
                Problem::Foreign(self.reason(), foreign)
            }
            _ => self,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Empty => write!(f, "the value is empty"),
            Problem::NotUtf8(at) => write!(f, "byte {at} begins no UTF-8 character"),
            Problem::Malformed(at, expected) => write!(f, "expected {expected} at byte {at}"),
            Problem::NotAnObject => write!(f, "the message is JSON, but no object"),
            Problem::Duplicate(name) => write!(f, "{name}"),
            Problem::TooDeep => write!(f, "nested deeper than {MAX_DEPTH} levels"),
            Problem::LoneSurrogate(at) => write!(f, "the string at byte {at} has half of a surrogate pair"),
            Problem::Foreign(_, foreign) => write!(f, "{foreign}"),
        }
    }
}

/// A projection without even a root node, for bytes that are only validated.
static NOTHING: Projection = Projection { branches: Vec::new() };

/// Returns whether `bytes` are a JSON number and nothing else.
pub fn is_number(bytes: &[u8]) -> bool {
    // Most numbers are whole.
    if matches!(bytes, [b'1'..=b'9', ..]) && text::leading_digits(bytes) == bytes.len() {
        return true;
    }
    let mut scan = Scan::new(&NOTHING, bytes, &mut []);
    matches!(scan.peek(), Some(b'-' | b'0'..=b'9')) && scan.number().is_ok() && scan.at == bytes.len()
}

/// Returns whether `bytes` are a JSON object or array and nothing else, without even white space around it. Its nesting is
/// bounded: wherever a field may lie, writing the value there does not make a message that is nested too deep.
pub fn is_composite(bytes: &[u8]) -> bool {
    let mut scan = Scan::new(&NOTHING, bytes, &mut []);
    let composite = matches!(scan.peek(), Some(b'{' | b'['));
    composite && std::str::from_utf8(bytes).is_ok() && scan.value(None, MAX_LEVELS).is_ok() && scan.at == bytes.len()
}

/// Returns the most levels that a written object or array may have, if `bytes` are nested deeper than that.
pub fn exceeded_depth(bytes: &[u8]) -> Option<usize> {
    std::str::from_utf8(bytes).ok()?;
    let problem = Scan::new(&NOTHING, bytes, &mut []).value(None, MAX_LEVELS);
    (problem == Err(Problem::TooDeep)).then_some(MAX_DEPTH - MAX_LEVELS)
}

impl Projection {
    /// Validates `message`, and notes the places of the wanted fields in `layout`, which has one entry per node.
    ///
    /// # Errors
    /// If the message can't be processed. The layout is then of no use.
    ///
    /// # Panics
    /// If the number of entries in `layout` is not [`nodes`](Self::nodes).
    pub fn scan(&self, message: &[u8], layout: &mut [Found]) -> Result<(), Problem> {
        Scan::new(self, message, layout).message()
    }

    /// Does the same as [`scan`](Self::scan), and takes less time for a message whose names are in the order of `habit`. If they
    /// are not, `habit` is changed.
    ///
    /// # Errors
    /// Those of [`scan`](Self::scan).
    ///
    /// # Panics
    /// Like [`scan`](Self::scan).
    pub fn scan_usual(&self, message: &[u8], habit: &mut Habit, layout: &mut [Found]) -> Result<(), Problem> {
        Scan { habit: Some(habit), ..Scan::new(self, message, layout) }.message()
    }
}

/// The kind of a value, and whether the value is a string with escapes.
type Value = (Kind, bool);

/// A position in a message, with the layout that is filled on the way.
pub(super) struct Scan<'a> {
    projection: &'a Projection,
    bytes: &'a [u8],
    at: usize,
    layout: &'a mut [Found],
    habit: Option<&'a mut Habit>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(projection: &'a Projection, bytes: &'a [u8], layout: &'a mut [Found]) -> Scan<'a> {
        Scan { projection, bytes, at: 0, layout, habit: None }
    }

    /// Reads the whole message: one object, with nothing but white space around it.
    pub(super) fn message(&mut self) -> Result<(), Problem> {
        assert_eq!(self.layout.len(), self.projection.nodes(), "one entry a node");
        self.layout.fill(Found::default());
        self.object_alone().map_err(|problem| problem.explained(self.bytes))
    }

    fn object_alone(&mut self) -> Result<(), Problem> {
        if self.bytes.is_empty() {
            return Err(Problem::Empty);
        }
        if !text::is_ascii(self.bytes) {
            std::str::from_utf8(self.bytes).map_err(|error| Problem::NotUtf8(error.valid_up_to()))?;
        }
        self.white_space();
        self.field(Some(ROOT), 0)?;
        self.white_space();
        if self.at < self.bytes.len() {
            return self.expected("the end of the message");
        }
        match self.bytes[self.layout[ROOT].start as usize] {
            b'{' => Ok(()),
            _ => Err(Problem::NotAnObject),
        }
    }

    /// Reads a value, and notes its place if the value is wanted.
    #[inline(always)]
    fn field(&mut self, node: Option<Node>, depth: usize) -> Result<(), Problem> {
        let start = self.at;
        let (kind, escaped) = match self.plain() {
            Some(kind) => (kind, false),
            None => self.value(node, depth)?,
        };
        if let Some(node) = node {
            self.layout[node] = Found { start: start as u32, end: self.at as u32, kind, escaped };
        }
        Ok(())
    }

    /// Reads a string without escapes or a whole number, which most values are, and returns its kind. Reads nothing if the value is
    /// another one.
    #[inline]
    fn plain(&mut self) -> Option<Kind> {
        let (kind, end) = match self.peek()? {
            b'"' => {
                let end = text::next_special(self.bytes, self.at + 1);
                (self.bytes.get(end) == Some(&b'"')).then_some((Kind::Text, end + 1))?
            }
            b'1'..=b'9' => {
                let end = self.at + text::leading_digits(&self.bytes[self.at..]);
                (!matches!(self.bytes.get(end), Some(b'.' | b'e' | b'E'))).then_some((Kind::Number, end))?
            }
            _ => return None,
        };
        self.at = end;
        Some(kind)
    }

    fn value(&mut self, node: Option<Node>, depth: usize) -> Result<Value, Problem> {
        match self.peek() {
            Some(b'"') => Ok((Kind::Text, self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number().map(|()| (Kind::Number, false)),
            Some(b'{') => self.object(node, depth + 1).map(|()| (Kind::Composite, false)),
            Some(b'[') => self.array(node, depth + 1).map(|()| (Kind::Composite, false)),
            Some(b't') => self.literal(b"true").map(|()| (Kind::Boolean, false)),
            Some(b'f') => self.literal(b"false").map(|()| (Kind::Boolean, false)),
            Some(b'n') => self.literal(b"null").map(|()| (Kind::Null, false)),
            _ => self.expected("a JSON value"),
        }
    }

    fn object(&mut self, node: Option<Node>, depth: usize) -> Result<(), Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        self.at += 1;
        self.white_space();
        if self.take(b'}') {
            return Ok(());
        }
        for index in 0.. {
            let child = match self.usual_name(depth, index) {
                Some(child) => child,
                None => self.name(node, depth, index)?,
            };
            if let Some(child) = child
                && self.layout[child].is_present()
            {
                return Err(Problem::Duplicate(self.projection.name(child)));
            }
            self.white_space();
            self.field(child, depth)?;
            self.white_space();
            if self.take(b',') {
                self.white_space();
            } else if self.take(b'}') {
                break;
            } else {
                return self.expected("`,` or `}`");
            }
        }
        Ok(())
    }

    /// Reads the name of field number `index` with its colon, if the name is the usual one there. Returns the field's node if the
    /// field is wanted.
    #[inline]
    fn usual_name(&mut self, depth: usize, index: usize) -> Option<Option<Node>> {
        let habit = self.habit.as_deref().filter(|_| depth == TOP)?;
        let (child, len) = habit.find(index, &self.bytes[self.at..])?;
        self.at += len;
        Some(child)
    }

    /// Reads the name of field number `index` of the object at `node`, with its colon. Returns the field's node if the field is
    /// wanted.
    fn name(&mut self, node: Option<Node>, depth: usize, index: usize) -> Result<Option<Node>, Problem> {
        if self.peek() != Some(b'"') {
            return self.expected("a member's name in double quotes");
        }
        let start = self.at;
        let escaped = self.string()?;
        let end = self.at;
        self.white_space();
        if !self.take(b':') {
            return self.expected("`:`");
        }
        let Some(node) = node else { return Ok(None) };
        let name = &self.bytes[start + 1..end - 1];
        if escaped {
            let mut unescaped = Vec::new();
            return Ok(text::unescape(name, &mut unescaped).and_then(|()| self.projection.child(node, &unescaped)));
        }
        let child = self.projection.child(node, name);
        if let Some(habit) = self.habit.as_deref_mut().filter(|_| depth == TOP && self.at == end + 1) {
            habit.learn(index, &self.bytes[start..self.at], child);
        }
        Ok(child)
    }

    fn array(&mut self, node: Option<Node>, depth: usize) -> Result<(), Problem> {
        if depth > MAX_DEPTH {
            return Err(Problem::TooDeep);
        }
        self.at += 1;
        self.white_space();
        if self.take(b']') {
            return Ok(());
        }
        for index in 0.. {
            let element = node.and_then(|node| self.projection.element(node, index));
            self.field(element, depth)?;
            self.white_space();
            if self.take(b']') {
                break;
            }
            if !self.take(b',') {
                return self.expected("`,` or `]`");
            }
            self.white_space();
        }
        Ok(())
    }

    /// Reads a string, from quote to quote. Returns whether the string has escapes. The bytes are known to be UTF-8.
    #[inline]
    fn string(&mut self) -> Result<bool, Problem> {
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at = text::next_special(self.bytes, self.at);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.expected("an escape in place of a control character"),
                None => return self.expected("the string's closing quote"),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Problem> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.bytes[self.at + 1..].iter().take(4).take_while(|byte| byte.is_ascii_hexdigit()).count();
                self.at += 1 + digits;
                if digits < 4 {
                    return self.expected("four hexadecimal digits");
                }
            }
            _ => return self.expected("an escape that JSON knows"),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Problem> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _signed = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Problem> {
        let start = self.at;
        self.at += text::leading_digits(&self.bytes[start..]);
        if self.at == start { self.expected("a digit") } else { Ok(()) }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Problem> {
        if !self.bytes[self.at..].starts_with(literal) {
            return self.expected("a JSON value");
        }
        self.at += literal.len();
        Ok(())
    }

    #[inline]
    fn white_space(&mut self) {
        // Most messages have none.
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.skip_white_space();
        }
    }

    #[inline(never)]
    fn skip_white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn take(&mut self, byte: u8) -> bool {
        let taken = self.peek() == Some(byte);
        self.at += usize::from(taken);
        taken
    }

    #[cold]
    fn expected<T>(&self, what: &'static str) -> Result<T, Problem> {
        Err(Problem::Malformed(self.at, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_what_is_written_obeyed_and_violated() {
        let nested = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        assert!(is_composite(nested(MAX_DEPTH - MAX_LEVELS).as_bytes()));
        assert!(!is_composite(nested(MAX_DEPTH - MAX_LEVELS + 1).as_bytes()));
        // Even at the deepest place of a field, the value makes a message that can be read.
        let (mut projection, name) = (Projection::default(), "/a".repeat(MAX_LEVELS));
        projection.want(&name).unwrap();
        let around = "{\"a\":".repeat(MAX_LEVELS);
        let message = [around, nested(MAX_DEPTH - MAX_LEVELS), "}".repeat(MAX_LEVELS)].concat();
        let mut layout = vec![Found::default(); projection.nodes()];
        assert_eq!(projection.scan(message.as_bytes(), &mut layout), Ok(()));
    }
}
