//! The outcome of a guest is either refused or safe to use, whatever it contains.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use weir_core::column::{Column, Kind};
use weir_core::pipeline::{Manifest, Outcome};

type Handed = (u8, Vec<(Vec<u8>, Vec<u32>, Vec<u8>)>, Vec<(u32, u32, Option<String>)>);

fuzz_target!(|handed: Handed| {
    let (rows, columns, rejections) = handed;
    let columns: Vec<Column> = columns.into_iter().map(|(kinds, ends, bytes)| Column { kinds, ends, bytes }).collect();
    let writes: Vec<String> = (0..columns.len()).map(|index| format!("w{index}")).collect();
    let manifest = Manifest { reasons: vec!["a".into(), "b".into()], writes, ..Manifest::default() };
    let outcome = Outcome { rejections, columns };
    if outcome.check(&manifest, rows.into()).is_err() {
        return;
    }
    for column in &outcome.columns {
        assert_eq!((column.len(), column.cells().count(), column.texts().count()), (rows.into(), rows.into(), rows.into()));
        for (kind, cell) in column.cells() {
            match Kind::from_byte(kind).expect("a kind that was checked") {
                Kind::Text => drop(std::str::from_utf8(cell).expect("text is UTF-8")),
                Kind::Number | Kind::Boolean | Kind::Composite => {
                    drop(serde_json::from_slice::<IgnoredAny>(cell).expect("what is no text is JSON"));
                }
                Kind::Absent | Kind::Null => assert!(cell.is_empty()),
            }
        }
        let half = column.len() / 2;
        let (mut first, second) = (column.part(0, half), column.part(half, column.len()));
        first.extend(&second, 0, second.len());
        assert!(first.cells().eq(column.cells()));
    }
    assert!(outcome.rejections.iter().all(|(row, reason, _)| *row < u32::from(rows) && *reason < 2));
});
