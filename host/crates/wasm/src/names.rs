//! The functions of a trap's backtrace, in words.
//!
//! Names come from the guest and are written after the call has ended, where no deadline counts. A mangled name of a few
//! hundred bytes can stand for megabytes, so demangling stops as soon as there is as much as is kept. How long names may be
//! at all is checked before they are compiled, in [`super::compiler`].

use std::fmt::{self, Write};

use wasmtime::WasmBacktrace;

use super::guest::escaped;

/// Frames of a backtrace that are kept.
const MAX_FRAMES: usize = 32;
/// What is looked at of a mangled name, in bytes.
const MAX_MANGLED_BYTES: usize = 1_024;
/// What is kept of a function's name, in characters.
const MAX_FUNCTION: usize = 200;

/// The functions of a backtrace, one a line.
pub(super) fn functions(backtrace: &WasmBacktrace) -> String {
    let frames = backtrace.frames().iter().take(MAX_FRAMES);
    let words = frames.map(|frame| match frame.func_name() {
        Some(name) => escaped(&demangled(name)),
        None => format!("function {}", frame.func_index()),
    });
    words.collect::<Vec<_>>().join("\n")
}

/// The beginning of a function's name, as its author wrote it.
fn demangled(name: &str) -> String {
    let mut beginning = Beginning { text: String::new(), room: MAX_FUNCTION };
    let mangled = &name[..name.floor_char_boundary(MAX_MANGLED_BYTES)];
    // It fails where the name is longer than what is kept of it.
    let _ = write!(beginning, "{:#}", rustc_demangle::demangle(mangled));
    beginning.text
}

/// Takes characters while there is room, and fails then, which ends whoever writes.
struct Beginning {
    text: String,
    room: usize,
}

impl Write for Beginning {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            self.room = self.room.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(character);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn names_are_as_their_author_wrote_them_up_to_a_length() {
        assert_eq!(demangled("_ZN7my_rule8evaluate17h0123456789abcdefE"), "my_rule::evaluate");
        assert_eq!(demangled("evaluate"), "evaluate");
        assert_eq!(demangled(&"é".repeat(MAX_FUNCTION)), "é".repeat(MAX_FUNCTION));
        assert_eq!(demangled(&"é".repeat(MAX_FUNCTION + 1)), "é".repeat(MAX_FUNCTION));
    }

    #[test]
    fn a_name_that_stands_for_megabytes_is_cut_before_it_is_written() {
        let begun = Instant::now();
        // Tuples of two back references to the tuple before: each doubles what is written.
        let bomb = include_str!("../../../../tests/guests/names-that-grow.wat");
        let name = bomb.split('"').find(|part| part.starts_with("_RINv")).expect("the guest has such a name");
        (0..1_000).for_each(|_| assert_eq!(demangled(name).chars().count(), MAX_FUNCTION));
        let long = format!("_ZN{}E", "1a".repeat(4 << 20));
        (0..1_000).for_each(|_| assert!(demangled(&long).starts_with("_ZN1a1a")));
        assert!(begun.elapsed() < Duration::from_secs(2), "2,000 names took {:?}", begun.elapsed());
    }
}
