//! Properties of the JSON pass: it agrees with serde_json on which bytes are JSON and on every value, and it leaves all other
//! bytes of a message unchanged.

use proptest::prelude::*;
use serde_json::{Map, Value};
use weir_core::column::{Column, Kind};
use weir_core::json::{Found, Habit, Projection, Splicer, Writes};

/// JSON values of every kind, nested a little.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // A number with so few digits that serde_json reads back exactly what it wrote.
        any::<i16>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Objects with some of the fields a, b and c among others.
fn objects() -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("c".to_owned()), any::<String>()];
    prop::collection::vec((name, values()), 0..8).prop_map(|members| members.into_iter().collect())
}

/// Returns spellings of the same JSON: plain, with white space, and with every character escaped.
fn spellings(value: &Value) -> Vec<String> {
    let plain = value.to_string();
    let pretty = serde_json::to_string_pretty(value).unwrap().replace('\n', "\r\n\t ");
    vec![plain, format!(" \n{pretty}\t"), escaped(value)]
}

/// Returns JSON text in which every character of every string is an escape.
fn escaped(value: &Value) -> String {
    let string = |text: &str| {
        let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{units}\"")
    };
    match value {
        Value::String(text) => string(text),
        Value::Array(items) => format!("[{}]", items.iter().map(escaped).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(name, value)| format!("{}:{}", string(name), escaped(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

/// Returns the value that a cell stands for.
fn cell_value(column: &Column, row: usize) -> Option<Value> {
    let text = std::str::from_utf8(column.cell(row)).unwrap();
    match Kind::from_byte(column.kind(row)).unwrap() {
        Kind::Absent => None,
        Kind::Null => Some(Value::Null),
        Kind::Text => Some(Value::from(text)),
        _ => Some(serde_json::from_str(text).unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn members_arrive_in_columns_as_serde_reads_them(object in objects()) {
        let mut projection = Projection::default();
        let names = ["a", "b", "c"];
        let nodes = names.map(|name| projection.want(name).unwrap());
        let mut layout = vec![Found::default(); projection.nodes()];
        for message in spellings(&Value::Object(object.clone())) {
            projection.scan(message.as_bytes(), &mut layout).unwrap();
            for (name, node) in names.iter().zip(nodes) {
                let mut column = Column::default();
                layout[node].push_cell(message.as_bytes(), &mut column).unwrap();
                column.check(1).unwrap();
                prop_assert_eq!(cell_value(&column, 0), object.get(*name).cloned());
            }
        }
    }

    #[test]
    fn a_habit_changes_nothing_but_the_time(
        messages in prop::collection::vec((objects(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        let mut projection = Projection::default();
        for name in ["a", "/b/c", "/c/0"] {
            projection.want(name).unwrap();
        }
        let mut layout = vec![Found::default(); projection.nodes()];
        let (mut usual, mut habit) = (layout.clone(), Habit::default());
        for (object, at, byte, damaged) in messages {
            for message in spellings(&Value::Object(object)) {
                let mut bytes = message.into_bytes();
                if damaged {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                // The second time the names are the usual ones.
                for _ in 0..2 {
                    let alone = projection.scan(&bytes, &mut layout);
                    prop_assert_eq!(&projection.scan_usual(&bytes, &mut habit, &mut usual), &alone);
                    prop_assert!(alone.is_err() || usual == layout);
                }
            }
        }
    }

    #[test]
    fn splicing_sets_what_is_written_and_leaves_the_rest_to_the_byte(object in objects(), written in values()) {
        let mut projection = Projection::default();
        let node = projection.want("b").unwrap();
        let mut layout = vec![Found::default(); projection.nodes()];
        let json = written.to_string();
        let cell = match &written {
            Value::Null => (Kind::Null, &b""[..]),
            Value::String(text) => (Kind::Text, text.as_bytes()),
            Value::Bool(_) => (Kind::Boolean, json.as_bytes()),
            Value::Number(_) => (Kind::Number, json.as_bytes()),
            _ => (Kind::Composite, json.as_bytes()),
        };
        for message in spellings(&Value::Object(object.clone())) {
            projection.scan(message.as_bytes(), &mut layout).unwrap();
            let mut column = Column::default();
            column.push(cell.0, cell.1);
            let writes = Writes { columns: &[(node, &column)], row: 0 };
            let mut out = Vec::new();
            Splicer::default().write(&projection, message.as_bytes(), &layout, writes, &mut out).unwrap();
            let mut expected = object.clone();
            expected.insert("b".to_owned(), written.clone());
            prop_assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), Value::Object(expected));

            let found = layout[node];
            let (from, to) = match found.is_present() {
                true => (found.start as usize, found.end as usize),
                false => (message.rfind('}').unwrap(), message.rfind('}').unwrap()),
            };
            prop_assert!(out.starts_with(&message.as_bytes()[..from]), "what stands before is unchanged");
            prop_assert!(out.ends_with(&message.as_bytes()[to..]), "what stands behind is unchanged");
        }
    }

    #[test]
    fn strictness_agrees_with_serde_on_damaged_messages(
        object in objects(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        how in 0..3,
    ) {
        let mut bytes = Value::Object(object).to_string().into_bytes();
        let index = at.index(bytes.len());
        match how {
            0 => bytes[index] = byte,
            1 => bytes.insert(index, byte),
            _ => drop(bytes.remove(index)),
        }
        prop_assert_eq!(scans(&bytes), serde_says(&bytes), "{}", bytes.escape_ascii());
    }

    #[test]
    fn strictness_agrees_with_serde_on_json_like_noise(noise in r#"[ \n{}\[\]:,"\\/a-fu0-9.eE+\-]{0,40}"#) {
        for text in [noise.clone(), format!("{{\"x\":{noise}}}"), format!("{{\"x\":\"{noise}\"}}")] {
            prop_assert_eq!(scans(text.as_bytes()), serde_says(text.as_bytes()), "{}", text);
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(scans(&bytes), serde_says(&bytes));
    }

    #[test]
    fn columns_from_anywhere_are_checked_without_a_panic(
        kinds in prop::collection::vec(0..7_u8, 0..6),
        ends in prop::collection::vec(0..20_u32, 0..6),
        bytes in prop::collection::vec(any::<u8>(), 0..16),
        rows in 0..6_usize,
    ) {
        let column = Column { kinds, ends, bytes };
        if column.check(rows).is_ok() {
            for row in 0..rows {
                prop_assert!(std::str::from_utf8(column.cell(row)).is_ok());
                cell_value(&column, row);
            }
        }
    }
}

/// Returns whether Weir takes the bytes for a message.
fn scans(bytes: &[u8]) -> bool {
    Projection::default().scan(bytes, &mut [Found::default()]).is_ok()
}

/// Returns whether serde_json takes the bytes for an object. It refuses two things that RFC 8259 allows and that Weir passes on
/// unread: halves of surrogate pairs, and numbers beyond the range of an `f64`. These count as accepted if Weir accepts them.
fn serde_says(bytes: &[u8]) -> bool {
    match serde_json::from_slice::<Map<String, Value>>(bytes) {
        Ok(_) => true,
        Err(error) => {
            let message = error.to_string();
            let allowed = ["surrogate", "unexpected end of hex escape", "number out of range"];
            allowed.iter().any(|allowed| message.contains(allowed)) && scans(bytes)
        }
    }
}

#[test]
fn bad_messages_have_a_reason() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: &[(&[u8], &str)] = &[
        (b"", "empty_value"),
        (b" ", "malformed_json"),
        (b"nonsense", "malformed_json"),
        (b"{\"a\":\xff}", "not_utf8"),
        (b"[1]", "not_an_object"),
        (b"\"text\"", "not_an_object"),
        (b"null", "not_an_object"),
        (deep.as_bytes(), "too_deep"),
        (b"{\"a\":\"\0\"}", "malformed_json"),
        (b"{\"a\":1}\0", "malformed_json"),
        (b"{\"a\":1,\"a\":2}", "duplicate_member"),
        (b"{\"a\":1,\"\\u0061\":2}", "duplicate_member"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b"{} x", "malformed_json"),
        (b"{\"a\":NaN}", "malformed_json"),
        (b"{\"a\":01}", "malformed_json"),
        (b"{\"a\":+1}", "malformed_json"),
        (b"{\"a\":1.}", "malformed_json"),
        (b"{\"a\":.5}", "malformed_json"),
        (b"{\"a\":1,}", "malformed_json"),
        (b"{a:1}", "malformed_json"),
        (b"{'a':1}", "malformed_json"),
        (b"{\"a\":1 /* x */}", "malformed_json"),
        (b"{\"a\":\"\\x\"}", "malformed_json"),
        (b"{\"a\":\"\\u12\"}", "malformed_json"),
        (b"{\"a\":\"\n\"}", "malformed_json"),
    ];
    let mut projection = Projection::default();
    projection.want("a").unwrap();
    let mut layout = vec![Found::default(); projection.nodes()];
    for (message, reason) in cases {
        let problem = projection.scan(message, &mut layout).expect_err("the message is bad");
        assert_eq!(problem.reason().name(), *reason, "{}", message.escape_ascii());
    }
}

#[test]
fn odd_but_sound_messages_are_read() {
    let cases = [
        (r#"{"a":123456789012345678901234567890}"#, Kind::Number, "123456789012345678901234567890"),
        (r#"{"a":-0}"#, Kind::Number, "-0"),
        (r#"{"a":1E400}"#, Kind::Number, "1E400"),
        (r#"{"b":1,"b":2,"a":3}"#, Kind::Number, "3"),
        (r#"{"b":"\ud800","a":3}"#, Kind::Number, "3"),
        (r#"{"\u0061":"\u00e9\ud83d\ude00"}"#, Kind::Text, "é😀"),
        (r#"{"a":"\u0000"}"#, Kind::Text, "\0"),
        (r#"{"a":[{"a":1}, 2]}"#, Kind::Composite, r#"[{"a":1}, 2]"#),
    ];
    let mut projection = Projection::default();
    let node = projection.want("a").unwrap();
    let mut layout = vec![Found::default(); projection.nodes()];
    for (message, kind, bytes) in cases {
        projection.scan(message.as_bytes(), &mut layout).unwrap();
        let mut column = Column::default();
        layout[node].push_cell(message.as_bytes(), &mut column).unwrap();
        assert_eq!((column.kind(0), column.cell(0)), (kind as u8, bytes.as_bytes()), "{message}");
    }
}

/// Objects and arrays that RFC 8259 allows but that few readers expect, as a rule that reads them as a whole gets them.
fn odd_composites() -> Vec<String> {
    let deepest = ["[".repeat(112), "]".repeat(112)].concat();
    let odd = [
        r#"["\ud800"]"#,
        r#"{"\udc00":"\ude00\ud83d"}"#,
        r#"{"b":1,"b":2}"#,
        r#"{"b":1,"\u0062":2}"#,
        r#"{"":0,"":0}"#,
        "[1e400, -0]",
        &deepest,
    ];
    odd.map(str::to_owned).into()
}

#[test]
fn odd_objects_and_arrays_are_read_as_they_were_sent() {
    let mut projection = Projection::default();
    let node = projection.want("a").unwrap();
    let mut layout = vec![Found::default(); projection.nodes()];
    let deepest = ["[".repeat(127), "]".repeat(127)].concat();
    for sent in odd_composites().into_iter().chain([deepest]) {
        let message = format!(r#"{{"x":0,"a":{sent}}}"#);
        projection.scan(message.as_bytes(), &mut layout).unwrap();
        let mut column = Column::default();
        layout[node].push_cell(message.as_bytes(), &mut column).unwrap();
        assert_eq!((column.kind(0), column.cell(0)), (Kind::Composite as u8, sent.as_bytes()));
    }
}

#[test]
fn odd_objects_and_arrays_are_written_as_a_rule_wrote_them() {
    let mut projection = Projection::default();
    let node = projection.want("a").unwrap();
    let mut layout = vec![Found::default(); projection.nodes()];
    projection.scan(br#"{"x":0}"#, &mut layout).unwrap();
    for written in odd_composites() {
        let (mut column, mut out) = (Column::default(), Vec::new());
        column.push(Kind::Composite, written.as_bytes());
        column.check(1).unwrap();
        let writes = Writes { columns: &[(node, &column)], row: 0 };
        Splicer::default().write(&projection, br#"{"x":0}"#, &layout, writes, &mut out).unwrap();
        assert_eq!(String::from_utf8(out.clone()).unwrap(), format!(r#"{{"x":0,"a":{written}}}"#));
        assert!(scans(&out), "whoever reads it next, such as another Weir, takes it for a message");
    }
}

#[test]
fn what_is_nested_too_deep_to_be_written_is_said_with_the_limit() {
    let mut column = Column::default();
    column.push(Kind::Composite, ["[".repeat(113), "]".repeat(113)].concat().as_bytes());
    let error = column.check(1).unwrap_err();
    assert!(error.contains("JSON object or array of at most 112 levels"), "{error}");
}

#[test]
fn a_name_that_stands_twice_is_refused_only_where_it_is_wanted() {
    let refused = |wanted: &[&str], message: &str| {
        let mut projection = Projection::default();
        for name in wanted {
            projection.want(name).unwrap();
        }
        let mut layout = vec![Found::default(); projection.nodes()];
        projection.scan(message.as_bytes(), &mut layout).err().map(|problem| (problem.reason().name(), problem.to_string()))
    };
    let inner = r#"{"a":{"b":1,"b":2}}"#;
    let outer = r#"{"a":{"b":1},"a":{"c":2}}"#;
    for (wanted, message, expected) in [
        (&["a"][..], inner, None),
        (&["/a/c"], inner, None),
        (&["/a/b"], inner, Some("/a/b")),
        (&["a", "/a/b"], inner, Some("/a/b")),
        (&["a"], outer, Some("a")),
        (&["/a/b"], outer, Some("a")),
        (&["b"], outer, None),
        (&["a"], r#"{"a":[{"a":1,"a":2}]}"#, None),
        (&["/a/0/a"], r#"{"a":[{"a":1,"a":2}]}"#, Some("/a/0/a")),
    ] {
        let found = refused(wanted, message);
        assert_eq!(found.as_ref().map(|(reason, _)| *reason), expected.map(|_| "duplicate_member"), "{wanted:?} of {message}");
        assert_eq!(found.map(|(_, name)| name).as_deref(), expected, "{wanted:?} of {message}");
    }
}
