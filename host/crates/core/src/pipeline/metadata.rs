//! A record's metadata as cells: `@key`, `@topic`, `@partition`, `@offset`, `@timestamp` and `@header/NAME`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::column::{Column, Kind};
use crate::record::Batch;

/// A piece of metadata that a rule reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Metadata {
    Key,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Header(String),
}

impl Metadata {
    /// Returns the metadata with the name `name`, which begins with `@`.
    pub(super) fn parse(name: &str) -> Result<Metadata, String> {
        match name {
            "@key" => Ok(Metadata::Key),
            "@topic" => Ok(Metadata::Topic),
            "@partition" => Ok(Metadata::Partition),
            "@offset" => Ok(Metadata::Offset),
            "@timestamp" => Ok(Metadata::Timestamp),
            _ => match name.strip_prefix("@header/") {
                Some(header) if !header.is_empty() => Ok(Metadata::Header(header.into())),
                _ => Err(format!(
                    "`{name}` is no metadata: there are @key, @topic, @partition, @offset, @timestamp and @header/NAME; a member \
                     of that name is read by its JSON Pointer `/{name}`"
                )),
            },
        }
    }

    /// Appends this metadata of record `record` to `column`. If several headers have the same name, the last one counts.
    pub(super) fn push_cell(&self, batch: &Batch, record: usize, column: &mut Column) {
        let origin = &batch.records()[record];
        match self {
            Metadata::Key => push_bytes(batch.key(record), column),
            Metadata::Topic => column.push(Kind::Text, batch.topic.as_bytes()),
            Metadata::Partition => push_integer(Some(origin.partition.into()), column),
            Metadata::Offset => push_integer(Some(origin.offset), column),
            Metadata::Timestamp => push_integer(origin.timestamp, column),
            Metadata::Header(name) => match batch.headers(record).filter(|(header, _)| header == name).last() {
                Some((_, None)) => column.close(Kind::Null),
                Some((_, value)) => push_bytes(value, column),
                None => column.close(Kind::Absent),
            },
        }
    }
}

/// Appends a cell: text as it is, other bytes in base64.
fn push_bytes(bytes: Option<&[u8]>, column: &mut Column) {
    match bytes {
        None => column.close(Kind::Absent),
        Some(bytes) if std::str::from_utf8(bytes).is_ok() => column.push(Kind::Text, bytes),
        Some(bytes) => column.push(Kind::Text, BASE64_STANDARD.encode(bytes).as_bytes()),
    }
}

fn push_integer(integer: Option<i64>, column: &mut Column) {
    match integer {
        None => column.close(Kind::Absent),
        Some(integer) => column.push(Kind::Number, itoa::Buffer::new().format(integer).as_bytes()),
    }
}
