//! The output has the field that a rule writes, and the rest of the message is unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::Value;
use weir_core::column::{Column, Kind};
use weir_core::counts::Counts;
use weir_core::pipeline::{Evaluate, Fault, Manifest, OnFault, Outcome, Pipeline, Stage, View};
use weir_core::record::{Batch, Step};

/// Writes one text into a field of every row.
struct Writer(Vec<u8>);

impl Evaluate for Writer {
    fn evaluate(&mut self, view: View<'_>) -> Result<Outcome, Fault> {
        let mut column = Column::default();
        (0..view.rows).for_each(|_| column.push(Kind::Text, &self.0));
        Ok(Outcome { rejections: Vec::new(), columns: vec![column] })
    }
}

fuzz_target!(|input: (&str, &[u8])| {
    let (text, message) = input;
    let manifest =
        Manifest { name: "writer".into(), version: "1".into(), writes: vec!["/a/b".into()], ..Manifest::default() };
    let rule = Writer(text.as_bytes().to_vec());
    let stage = Stage { manifest, drop: false, on_fault: OnFault::DeadLetter, rule };
    let mut pipeline = Pipeline::new(vec![stage], "device_type").unwrap();
    let (mut batch, mut step) = (Batch::new("in"), Step::default());
    batch.push(0, 0, None, None, Some(message));
    pipeline.process(&Counts::new(60_000, false), &batch, &mut step);
    assert_eq!(step.outputs.len() + step.rejections.len(), 1, "nothing is lost");
    let Some(output) = step.outputs.first() else { return };
    serde_json::from_slice::<IgnoredAny>(step.value(output, &batch)).expect("an output is JSON");
    // The other reader refuses half of a surrogate pair and numbers beyond its own.
    let Ok(mut before) = serde_json::from_slice::<Value>(message) else { return };
    let mut written: Value = serde_json::from_slice(step.value(output, &batch)).expect("nothing of that has come in");
    assert_eq!(written.pointer("/a/b").and_then(Value::as_str), Some(text));
    for value in [&mut written, &mut before] {
        if let Some(inner) = value.get_mut("a").and_then(Value::as_object_mut) {
            inner.shift_remove("b");
            if inner.is_empty() {
                value.as_object_mut().unwrap().shift_remove("a");
            }
        }
    }
    assert_eq!(written, before, "all else stays");
});
