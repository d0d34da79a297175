//! The metadata of a committed offset are read or refused. A state that was read is the same after it is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_core::state::State;

fuzz_target!(|metadata: &[u8]| {
    let Ok(Some(state)) = State::parse(metadata) else { return };
    let written = state.to_metadata();
    assert_eq!(State::parse(written.as_bytes()).unwrap(), Some(state));
});
