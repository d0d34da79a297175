//! The contract in Rust: the only `bindgen!` of the host. Columns cross as borrowed slices, so that a batch is copied only once,
//! into the guest.

wasmtime::component::bindgen!({
    path: "../../../wit",
    world: "rule",
    ownership: Borrowing { duplicate_if_necessary: true },
});
