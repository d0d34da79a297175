//! The metadata of a committed offset is read or refused, and what is read is written as it was understood.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_core::state::State;

fuzz_target!(|metadata: &[u8]| {
    let Ok(Some(state)) = State::parse(metadata) else { return };
    let written = state.to_metadata();
    assert_eq!(State::parse(written.as_bytes()).unwrap(), Some(state));
});
