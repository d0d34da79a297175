//! The scanner accepts no message that another JSON reader refuses, and finds the fields that the other reader finds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::Value;
use weir_core::column::{Column, Kind};
use weir_core::json::{Found, Habit, Projection};

const WANTED: [&str; 4] = ["a", "/a/b", "/c/0", "timestamp"];

fuzz_target!(|message: &[u8]| {
    let mut projection = Projection::default();
    let nodes = WANTED.map(|name| projection.want(name).unwrap());
    let mut layout = vec![Found::default(); projection.nodes()];
    let scanned = projection.scan(message, &mut layout);
    // The second time its names are the usual ones.
    let (mut usual, mut habit) = (layout.clone(), Habit::default());
    for _ in 0..2 {
        assert_eq!(projection.scan_usual(message, &mut habit, &mut usual), scanned);
        assert!(scanned.is_err() || usual == layout);
    }
    if scanned.is_err() {
        return;
    }
    serde_json::from_slice::<IgnoredAny>(message).expect("what the scanner takes is JSON");
    // The other reader refuses half of a surrogate pair and numbers beyond its own, wherever they are.
    let Ok(value) = serde_json::from_slice::<Value>(message) else { return };
    assert!(value.is_object());
    for (node, name) in nodes.into_iter().zip(WANTED) {
        let pointer = if name.starts_with('/') { name.to_owned() } else { format!("/{name}") };
        let (found, expected) = (layout[node], value.pointer(&pointer));
        assert_eq!(found.is_present(), expected.is_some(), "{name}");
        let mut column = Column::default();
        if found.push_cell(message, &mut column).is_err() {
            continue; // Half of a surrogate pair is refused when it is read.
        }
        match (Kind::from_byte(column.kind(0)), expected) {
            (Some(Kind::Text), Some(Value::String(text))) => assert_eq!(column.cell(0), text.as_bytes()),
            (Some(Kind::Absent), None) | (Some(Kind::Null), Some(Value::Null)) => assert!(column.cell(0).is_empty()),
            (Some(Kind::Boolean), Some(Value::Bool(flag))) => assert_eq!(column.cell(0), flag.to_string().as_bytes()),
            (Some(Kind::Number), Some(Value::Number(_))) | (Some(Kind::Composite), Some(Value::Array(_) | Value::Object(_))) => {
                assert_eq!(serde_json::from_slice::<Value>(column.cell(0)).unwrap(), *expected.unwrap());
            }
            (kind, expected) => panic!("{name} is {kind:?} here and {expected:?} there"),
        }
    }
});
