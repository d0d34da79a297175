//! The files that `weir apply` writes.
//!
//! All files are opened and compared, and the first lines of the input are read, before any file is emptied. So a command that is
//! refused destroys no content and leaves no new file. Only whole lines are written, so that several outputs on one pipe or
//! terminal never share a line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::{SourceFile, identity, is_standard, standard};
use crate::cli::{self, BadUsage};

/// The bytes that are collected before they are written.
const BUFFER: usize = 1 << 18;

/// The destinations of outputs, rejections and counts. Those that are standard output share one buffer, which keeps the order.
pub(super) struct Outputs {
    files: Vec<OutputFile>,
    output: usize,
    rejected: Option<usize>,
    counts: Option<usize>,
}

impl Outputs {
    /// Opens the destinations without emptying them. `sources` are the files that are read.
    ///
    /// # Errors
    /// If a file can't be opened, or if writing to it would overwrite a source, another output, or the content of a standard
    /// stream.
    pub(super) fn open(args: &cli::Apply, sources: &[SourceFile]) -> anyhow::Result<Outputs> {
        let mut files = Vec::new();
        let output = open("--output", &args.output, &mut files)?;
        let rejected = args.rejected.as_deref().map(|path| open("--rejected", path, &mut files)).transpose()?;
        let counts = args.counts.as_deref().map(|path| open("--counts", path, &mut files)).transpose()?;
        let outputs = Outputs { files, output, rejected, counts };
        outputs.refuse_sharing(sources)?;
        Ok(outputs)
    }

    /// Empties the outputs that are regular files. A new file is removed again if `begin` is never reached.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        self.files.iter_mut().try_for_each(OutputFile::begin)
    }

    pub(super) fn output(&mut self) -> &mut OutputFile {
        &mut self.files[self.output]
    }

    pub(super) fn rejected(&mut self) -> Option<&mut OutputFile> {
        self.rejected.map(|index| &mut self.files[index])
    }

    pub(super) fn counts(&mut self) -> Option<&mut OutputFile> {
        self.counts.map(|index| &mut self.files[index])
    }

    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.files.iter_mut().try_for_each(OutputFile::flush)
    }

    /// Refuses outputs that share a file with each other or with a standard stream, because they would overwrite each other. Also
    /// refuses outputs to a source.
    fn refuse_sharing(&self, sources: &[SourceFile]) -> anyhow::Result<()> {
        let [out, err] = [identity(&standard(io::stdout())?), identity(&standard(io::stderr())?)];
        for (index, file) in self.files.iter().enumerate() {
            let Some(own) = identity(&file.file) else { continue };
            if let Some(source) = sources.iter().find(|source| source.identity == own) {
                bail!(BadUsage(format!("{} is {}; write the output to another file", file.name, source.words)));
            }
            if file.is_standard {
                continue;
            }
            let OutputFile { name, option, .. } = file;
            ensure!(
                out != Some(own),
                BadUsage(format!("{name} is the file of standard output; write `{option} -` for that, or name another file"))
            );
            ensure!(
                err != Some(own),
                BadUsage(format!("{name} is the file of standard error, which gets the summary; write to another file"))
            );
            if let Some(other) = self.files[..index].iter().find(|other| identity(&other.file) == Some(own)) {
                bail!(BadUsage(format!("{} and {name} are one file; write to different ones", other.name)));
            }
        }
        Ok(())
    }
}

/// Opens `path` without emptying it, adds it to `files`, and returns its index there.
fn open(option: &'static str, path: &Path, files: &mut Vec<OutputFile>) -> anyhow::Result<usize> {
    if !is_standard(path) {
        let is_new = fs::metadata(path).is_err();
        let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = opened.with_context(|| format!("failed to create {}", path.display()))?;
        // The path may be a link to the file.
        let new = is_new.then(|| fs::canonicalize(path).ok()).flatten();
        let name = path.display().to_string();
        files.push(OutputFile { name, option, is_standard: false, file, new, buffer: Vec::new() });
    } else if let Some(shared) = files.iter().position(|file| file.is_standard) {
        return Ok(shared);
    } else {
        let (name, file) = ("standard output".to_owned(), standard(io::stdout())?);
        files.push(OutputFile { name, option, is_standard: true, file, new: None, buffer: Vec::new() });
    }
    Ok(files.len() - 1)
}

/// A file, or standard output, that is written line by line.
pub(super) struct OutputFile {
    name: String,
    option: &'static str,
    is_standard: bool,
    file: File,
    /// The path of a file that did not exist before, until `begin`.
    new: Option<PathBuf>,
    buffer: Vec<u8>,
}

impl OutputFile {
    pub(super) fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let written = self.file.write_all(&self.buffer);
        // Not again, even if writing has failed.
        self.buffer.clear();
        written.with_context(|| format!("failed to write to {}", self.name))
    }

    /// Empties a regular file. The content of standard output belongs to the process that opened it, so it is kept.
    fn begin(&mut self) -> anyhow::Result<()> {
        if !self.is_standard && identity(&self.file).is_some() {
            self.file.set_len(0).with_context(|| format!("failed to empty {}", self.name))?;
        }
        self.new = None;
        Ok(())
    }
}

impl Drop for OutputFile {
    /// Writes the results from before a failure, and removes a new file to which nothing was to be written yet. Errors are
    /// ignored here: the failure itself is reported.
    fn drop(&mut self) {
        let _ = self.flush();
        if let Some(new) = &self.new {
            let _ = fs::remove_file(new);
        }
    }
}
