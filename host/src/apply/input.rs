//! The input of `weir apply`: the lines of a file or of standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, bail};

use super::{FileId, identity, is_standard, standard};
use weir_core::record::Batch;
use weir_core::units::size;

/// The longest line that is read, in bytes. No broker accepts records of this size.
const MAX_LINE_BYTES: usize = 64 << 20;
/// The length of the input's beginning that is kept, in bytes.
const HEAD: usize = 4 << 10;

/// Lines of a file or of standard input.
pub(super) struct InputLines {
    name: String,
    identity: Option<FileId>,
    reader: BufReader<File>,
    lines: i64,
    line: Vec<u8>,
    head: Vec<u8>,
}

impl InputLines {
    pub(super) fn open(path: &Path) -> anyhow::Result<InputLines> {
        let (name, file) = if is_standard(path) {
            ("standard input".to_owned(), standard(io::stdin())?)
        } else {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("failed to open the input {name}"))?;
            (name, file)
        };
        let identity = identity(&file);
        let reader = BufReader::with_capacity(1 << 18, file);
        Ok(InputLines { name, identity, reader, lines: 0, line: Vec::new(), head: Vec::new() })
    }

    /// Returns the identity of the input, if it is a regular file.
    pub(super) fn identity(&self) -> Option<FileId> {
        self.identity
    }

    /// Returns the beginning of the input, as far as it has been read.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Fills `batch` with the next lines. Returns false at the end of the input.
    pub(super) fn fill(&mut self, batch: &mut Batch, rows: usize, bytes: usize) -> anyhow::Result<bool> {
        batch.clear();
        while batch.len() < rows && batch.bytes() < bytes {
            self.line.clear();
            let read = (&mut self.reader).take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut self.line);
            if read.with_context(|| format!("failed to read {}", self.name))? == 0 {
                break;
            }
            self.remember();
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
            }
            if self.line.len() > MAX_LINE_BYTES {
                let max = size(MAX_LINE_BYTES as u64);
                bail!("line {} of {} is longer than {max}", self.lines + 1, self.name);
            }
            batch.push(0, self.lines, None, None, Some(&self.line));
            self.lines += 1;
        }
        Ok(!batch.is_empty())
    }

    fn remember(&mut self) {
        let room = HEAD - self.head.len();
        self.head.extend_from_slice(&self.line[..self.line.len().min(room)]);
    }
}
