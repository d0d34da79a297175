//! The names that messages have, each in its usual place: messages of one topic mostly have the same fields in the same order.
//!
//! A name that stands where it stood in an earlier message is recognized by one comparison, and then needs neither be read nor
//! looked up. Only top-level names are kept. A message with other names only takes longer: what is found in it is the same.

use super::projection::Node;

/// The most names that are kept. Further fields of a message are read as without a habit.
const MAX_NAMES: usize = 64;
/// The longest name that is kept, in bytes, with its quotes and its colon.
const LONGEST: usize = size_of::<u128>();

/// The name in a place where no name is kept. No bytes are equal to it.
const UNKNOWN: Name = Name { text: 1, mask: 0, len: 0, node: None };

/// The usual names of messages, in their order. It belongs to one [`Projection`](super::Projection).
#[derive(Clone, Debug, Default)]
pub struct Habit {
    names: Vec<Name>,
}

/// A name as it stands in a message, as `"name":`.
#[derive(Clone, Copy, Debug)]
struct Name {
    /// The first byte is in the lowest place. Zeros follow the last one.
    text: u128,
    /// The bits of `text` that belong to the name.
    mask: u128,
    len: usize,
    node: Option<Node>,
}

impl Habit {
    /// Returns the node of the usual name number `index`, if it is wanted, and the length of the name, if `bytes` begin with it.
    #[inline]
    pub(super) fn find(&self, index: usize, bytes: &[u8]) -> Option<(Option<Node>, usize)> {
        let name = self.names.get(index)?;
        let begin = u128::from_le_bytes(*bytes.first_chunk()?);
        (begin & name.mask == name.text).then_some((name.node, name.len))
    }

    /// Keeps `text`, a name without escapes with its quotes and its colon, as the usual name number `index`.
    #[cold]
    pub(super) fn learn(&mut self, index: usize, text: &[u8], node: Option<Node>) {
        if text.len() > LONGEST || index >= MAX_NAMES {
            return;
        }
        let mut padded = [0; LONGEST];
        padded[..text.len()].copy_from_slice(text);
        let mask = u128::MAX >> (8 * (LONGEST - text.len()));
        let name = Name { text: u128::from_le_bytes(padded), mask, len: text.len(), node };
        if index >= self.names.len() {
            self.names.resize(index + 1, UNKNOWN);
        }
        self.names[index] = name;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_only_whole_and_in_its_place() {
        let mut habit = Habit::default();
        habit.learn(0, b"\"a\":", Some(7));
        assert_eq!(habit.find(0, b"\"a\":\"and what follows\""), Some((Some(7), 4)));
        for other in [&b"\"b\":\"and what follows\""[..], b"\"a\" :\"and what follows\"", b"\"a\":1}"] {
            assert_eq!(habit.find(0, other), None, "{}", other.escape_ascii());
        }
        assert_eq!(habit.find(1, b"\"a\":\"and what follows\""), None);
        habit.learn(0, b"\"b\":", None);
        assert_eq!(habit.find(0, b"\"a\":\"and what follows\""), None, "the last name counts");
    }

    #[test]
    fn lengths_and_numbers_of_names_obeyed_and_violated() {
        let mut habit = Habit::default();
        (0..=MAX_NAMES).for_each(|index| habit.learn(index, b"\"a\":", None));
        assert_eq!(habit.names.len(), MAX_NAMES);
        habit.learn(0, b"\"thirteenbytes\":", Some(1));
        assert_eq!(habit.find(0, b"\"thirteenbytes\":1"), Some((Some(1), LONGEST)));
        habit.learn(0, b"\"fourteen_bytes\":", Some(2));
        assert_eq!(habit.names[0].node, Some(1), "it is too long to be kept");
        let mut habit = Habit::default();
        habit.learn(0, b"\"fourteen_bytes\":", Some(1));
        habit.learn(1, b"\"a\":", Some(2));
        assert_eq!(habit.find(0, b"\"fourteen_bytes\":1"), None);
        assert_eq!(habit.find(1, b"\"a\":\"and what follows\""), Some((Some(2), 4)), "and those behind it are kept");
    }
}
