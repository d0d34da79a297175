//! Files put in place whole: for components, which may be watched, for the cache of compiled ones, and for the history of rules.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

/// Puts `bytes` in place of `file`, at once and for good: a crash leaves the old file or the new one.
///
/// # Errors
/// If the file can't be written. Nothing of it is left then.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = part(file);
    let written = write(&part, bytes).and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        let _ = fs::remove_file(&part); // The first error is the one to tell.
    }
    written
}

/// Puts several files in place, all of them or none: whatever can fail for want of room or rights is done for each of them before
/// the first one is replaced, and if one can't be replaced all the same, those before it are put back.
///
/// # Errors
/// If one can't be written. The message names it, and those that could not be put back.
pub(crate) fn replace_all(files: &[(&Path, &[u8])]) -> anyhow::Result<()> {
    let failed = |file: &Path| format!("failed to write {}", file.display());
    let written = files.iter().try_for_each(|(file, bytes)| write(&part(file), bytes).with_context(|| failed(file)));
    let mut replaced: Vec<(&Path, Option<Vec<u8>>)> = Vec::new();
    let placed = written.and_then(|()| {
        files.iter().try_for_each(|(file, _)| {
            let old = fs::read(file).ok();
            fs::rename(part(file), file).with_context(|| failed(file))?;
            replaced.push((file, old));
            Ok(())
        })
    });
    placed.map_err(|error| {
        files.iter().for_each(|(file, _)| drop(fs::remove_file(part(file)))); // They are gone, or of no use.
        match put_back(&replaced) {
            stuck if stuck.is_empty() => error,
            stuck => anyhow!("{error:#}; new is {}", stuck.join(", ")),
        }
    })
}

/// Undoes what was replaced. Returns the files that stay new.
fn put_back(replaced: &[(&Path, Option<Vec<u8>>)]) -> Vec<String> {
    let undone = |file: &Path, old: &Option<Vec<u8>>| match old {
        Some(old) => replace(file, old),
        None => fs::remove_file(file),
    };
    let stuck = replaced.iter().filter(|(file, old)| undone(file, old).is_err());
    stuck.map(|(file, _)| file.display().to_string()).collect()
}

/// What becomes `file`.
fn part(file: &Path) -> PathBuf {
    file.with_extension(format!("{}.part", std::process::id()))
}

fn write(part: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut out = fs::File::create(part)?;
    out.write_all(bytes)?;
    // Without this a machine that goes down may be left with an empty file under the new name.
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rule.wasm");
        replace(&file, b"old").unwrap();
        replace(&file, b"new").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn several_files_are_replaced_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new, blocked] = ["a.wasm", "b.wasm", "c.wasm"].map(|name| folder.path().join(name));
        fs::write(&old, b"old").unwrap();
        fs::create_dir_all(blocked.join("in-the-way")).unwrap();
        let all: [(&Path, &[u8]); 3] = [(&old, b"1"), (&new, b"2"), (&blocked, b"3")];
        let error = replace_all(&all).unwrap_err();
        assert!(format!("{error:#}").contains("c.wasm"), "{error:#}");
        assert_eq!((fs::read(&old).unwrap(), new.exists()), (b"old".to_vec(), false));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "and no part is left");
        fs::remove_dir_all(&blocked).unwrap();
        replace_all(&all).unwrap();
        assert_eq!([&old, &new, &blocked].map(|file| fs::read(file).unwrap()), [b"1", b"2", b"3"]);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_leaves_no_part_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rule.wasm");
        fs::create_dir_all(file.join("in-the-way")).unwrap();
        assert!(replace(&file, b"new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
