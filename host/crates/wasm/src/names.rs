//! The names of the functions in a trap's backtrace, made readable.
//!
//! Names come from the guest and are written after the call has ended, where no deadline applies. A mangled name of a few hundred
//! bytes can stand for megabytes, so demangling stops as soon as it has written as much as is kept. The length of the mangled
//! names is checked before compilation, in [`super::compiler`].

use std::fmt::{self, Write};

use wasmtime::WasmBacktrace;

use weir_core::printable::escape_value;

/// The most frames of a backtrace that are kept.
const MAX_FRAMES: usize = 32;
/// The most of a mangled name that is read, in bytes.
const MAX_MANGLED_BYTES: usize = 1_024;
/// The most of a function's name that is kept, in characters.
const MAX_FUNCTION: usize = 200;

/// Returns the functions of a backtrace, one per line.
pub(super) fn functions(backtrace: &WasmBacktrace) -> String {
    let frames = backtrace.frames().iter().take(MAX_FRAMES);
    let words = frames.map(|frame| match frame.func_name() {
        Some(name) => escape_value(&demangled(name)),
        None => format!("function {}", frame.func_index()),
    });
    words.collect::<Vec<_>>().join("\n")
}

/// Returns the beginning of a function's name, as its author wrote it.
fn demangled(name: &str) -> String {
    let mut beginning = Bounded { text: String::new(), room: MAX_FUNCTION };
    let mangled = &name[..name.floor_char_boundary(MAX_MANGLED_BYTES)];
    // Writing fails if the name is longer than the part that is kept.
    let _ = write!(beginning, "{:#}", rustc_demangle::demangle(mangled));
    beginning.text
}

/// A writer that takes characters while there is room. Then it fails, which ends the demangling.
struct Bounded {
    text: String,
    room: usize,
}

impl Write for Bounded {
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
        // Each tuple refers back twice to the tuple before it, which doubles the output.
        let bomb = include_str!("../../../../tests/guests/names-that-grow.wat");
        let name = bomb.split('"').find(|part| part.starts_with("_RINv")).expect("the guest has such a name");
        (0..1_000).for_each(|_| assert_eq!(demangled(name).chars().count(), MAX_FUNCTION));
        let long = format!("_ZN{}E", "1a".repeat(4 << 20));
        (0..1_000).for_each(|_| assert!(demangled(&long).starts_with("_ZN1a1a")));
        assert!(begun.elapsed() < Duration::from_secs(2), "2,000 names took {:?}", begun.elapsed());
    }
}
