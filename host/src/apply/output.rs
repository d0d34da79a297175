//! The files that `weir apply` writes.
//!
//! All of them are opened and compared before any is emptied: what is refused has lost nothing. They are written by whole lines,
//! so that several outputs on one pipe or terminal never share a line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail, ensure};

use super::{Source, identity, is_standard, standard};
use crate::cli;

/// How much is collected before it is written, in bytes.
const BUFFER: usize = 1 << 18;

/// Where outputs, rejections and counts go. What goes to standard output shares one buffer, which keeps the order.
pub(super) struct Outputs {
    files: Vec<Output>,
    output: usize,
    rejected: Option<usize>,
    counts: Option<usize>,
}

impl Outputs {
    /// Opens them, and empties those that are files. `sources` are the files that are read.
    ///
    /// # Errors
    /// If one can't be opened, or would write over a source, another output, or what else goes to a standard stream.
    pub(super) fn open(args: &cli::Apply, sources: &[Source]) -> anyhow::Result<Outputs> {
        let mut files = Vec::new();
        let output = open("--output", &args.output, &mut files)?;
        let rejected = args.rejected.as_deref().map(|path| open("--rejected", path, &mut files)).transpose()?;
        let counts = args.counts.as_deref().map(|path| open("--counts", path, &mut files)).transpose()?;
        let outputs = Outputs { files, output, rejected, counts };
        outputs.refuse_sharing(sources)?;
        outputs.files.iter().try_for_each(Output::empty)?;
        Ok(outputs)
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.files[self.output]
    }

    pub(super) fn rejected(&mut self) -> Option<&mut Output> {
        self.rejected.map(|index| &mut self.files[index])
    }

    pub(super) fn counts(&mut self) -> Option<&mut Output> {
        self.counts.map(|index| &mut self.files[index])
    }

    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.files.iter_mut().try_for_each(Output::flush)
    }

    /// Refuses two positions in one file, each of which would write over the other, and what is read.
    fn refuse_sharing(&self, sources: &[Source]) -> anyhow::Result<()> {
        let [out, err] = [identity(&standard(io::stdout())?), identity(&standard(io::stderr())?)];
        for (index, file) in self.files.iter().enumerate() {
            let Some(own) = identity(&file.file) else { continue };
            if let Some(source) = sources.iter().find(|source| source.identity == own) {
                bail!("{} is {}; write the output to another file", file.name, source.words);
            }
            if file.is_standard {
                continue;
            }
            let Output { name, option, .. } = file;
            ensure!(out != Some(own), "{name} is the file of standard output; write `{option} -` for that, or name another file");
            ensure!(err != Some(own), "{name} is the file of standard error, which gets the summary; write to another file");
            if let Some(other) = self.files[..index].iter().find(|other| identity(&other.file) == Some(own)) {
                bail!("{} and {name} are one file; write to different ones", other.name);
            }
        }
        Ok(())
    }
}

/// Opens `path` as it is, adds it to `files`, and returns where it is there.
fn open(option: &'static str, path: &Path, files: &mut Vec<Output>) -> anyhow::Result<usize> {
    if !is_standard(path) {
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = opened.with_context(|| format!("failed to create {}", path.display()))?;
        let name = path.display().to_string();
        files.push(Output { name, option, is_standard: false, file, buffer: Vec::new() });
    } else if let Some(shared) = files.iter().position(|file| file.is_standard) {
        return Ok(shared);
    } else {
        let (name, file) = ("standard output".to_owned(), standard(io::stdout())?);
        files.push(Output { name, option, is_standard: true, file, buffer: Vec::new() });
    }
    Ok(files.len() - 1)
}

/// A file, or standard output, that is written line by line.
pub(super) struct Output {
    name: String,
    option: &'static str,
    is_standard: bool,
    file: File,
    buffer: Vec<u8>,
}

impl Output {
    pub(super) fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let written = self.file.write_all(&self.buffer);
        // Not once more, whatever came of it.
        self.buffer.clear();
        written.with_context(|| format!("failed to write to {}", self.name))
    }

    /// Standard output belongs to whoever has opened it.
    fn empty(&self) -> anyhow::Result<()> {
        if self.is_standard || identity(&self.file).is_none() {
            return Ok(());
        }
        self.file.set_len(0).with_context(|| format!("failed to empty {}", self.name))
    }
}

impl Drop for Output {
    /// What was judged before a failure is kept. That failure is told, and not this one.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
