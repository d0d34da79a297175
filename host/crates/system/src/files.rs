//! Files that are put in place whole: components, which may be watched, the cache of compiled ones, and the history of rules.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};

/// The extension of a file that is not whole yet.
const PART: &str = "part";
/// The age from which on no process writes to an unfinished file any more.
const ABANDONED: Duration = Duration::from_secs(3_600);
/// The mode of a file that others may read, if the umask lets them.
const READABLE: u32 = 0o666;
/// The mode of a file that others may not read.
const PRIVATE: u32 = 0o600;

/// Replaces `file` by one with `bytes`: a crash leaves the old file or the new one, never a part.
///
/// # Errors
/// If the file can't be written. No part of it is left then.
pub fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(file, bytes, READABLE)
}

/// Puts `bytes` in place of `file` like [`replace`], but only this user may read the file.
///
/// # Errors
/// As for [`replace`].
pub fn replace_private(file: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(file, bytes, PRIVATE)
}

fn replace_with(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let part = part(file);
    let written = write(&part, bytes, mode).and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        let _ = fs::remove_file(&part); // The first error is the one to report.
    }
    written
}

/// Puts several files in place, all of them or none. Every step that can fail for lack of space or rights is done for all files
/// before the first one is replaced. If a file can't be replaced all the same, or if `last`, which is called after the files are
/// in place, fails, the files that were replaced are put back.
///
/// # Errors
/// If a file can't be written, with its name and the remedy, or if `last` fails. The message also names the files that could not
/// be put back.
pub fn replace_all(files: &[(&Path, &[u8])], last: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let failed = |file: &Path| {
        format!("failed to write {}; make its folder writable for this process, or put the file there yourself", file.display())
    };
    let parts: Vec<PathBuf> = files.iter().map(|(file, _)| part(file)).collect();
    let all = || files.iter().zip(&parts);
    let written = all().try_for_each(|((file, bytes), part)| write(part, bytes, READABLE).with_context(|| failed(file)));
    let mut replaced: Vec<(&Path, Option<Vec<u8>>)> = Vec::new();
    let placed = written.and_then(|()| {
        all().try_for_each(|((file, _), part)| {
            let old = match fs::read(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                old => Some(old.with_context(|| failed(file))?),
            };
            fs::rename(part, file).with_context(|| failed(file))?;
            replaced.push((file, old));
            Ok(())
        })
    });
    placed.and_then(|()| last()).map_err(|error| {
        parts.iter().for_each(|part| drop(fs::remove_file(part))); // The parts have been renamed, or are of no use.
        match put_back(&replaced) {
            stuck if stuck.is_empty() => error,
            stuck => anyhow!("{error:#}; new is {}", stuck.join(", ")),
        }
    })
}

/// Removes the unfinished files that killed processes have left in `folder`.
pub fn sweep(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for file in entries.map(|entry| entry.path()).filter(|file| is_part(file)) {
        let modified = fs::metadata(&file).and_then(|metadata| metadata.modified());
        if modified.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > ABANDONED)) {
            let _ = fs::remove_file(file); // Another process may have removed it.
        }
    }
}

/// Puts the old files back. Returns the files that could not be put back.
fn put_back(replaced: &[(&Path, Option<Vec<u8>>)]) -> Vec<String> {
    let undone = |file: &Path, old: &Option<Vec<u8>>| match old {
        Some(old) => replace(file, old),
        None => fs::remove_file(file),
    };
    let stuck = replaced.iter().filter(|(file, old)| undone(file, old).is_err());
    stuck.map(|(file, _)| file.display().to_string()).collect()
}

/// Returns the name of the unfinished file that becomes `file`. Each call returns another name: processes in containers that
/// share a volume often have the same process id.
fn part(file: &Path) -> PathBuf {
    file.with_extension(format!("{:016x}.{PART}", fastrand::u64(..)))
}

/// Returns whether the name of `file` was made by [`part`].
fn is_part(file: &Path) -> bool {
    let digits = file.file_stem().and_then(|stem| stem.to_str()?.rsplit_once('.')).map_or("", |(_, digits)| digits);
    file.extension().is_some_and(|extension| extension == PART)
        && digits.len() == 16
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn write(part: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut out = fs::File::options().write(true).create_new(true).mode(mode).open(part)?;
    out.write_all(bytes)?;
    // Without this, a machine that goes down may be left with an empty file under the new name.
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
        let error = replace_all(&all, || panic!("it does not come so far")).unwrap_err();
        assert!(format!("{error:#}").contains("c.wasm"), "{error:#}");
        assert_eq!((fs::read(&old).unwrap(), new.exists()), (b"old".to_vec(), false));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "and no part is left");
        fs::remove_dir_all(&blocked).unwrap();
        let error = replace_all(&all, || Err(anyhow!("the last step fails"))).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), fs::read(&old).unwrap(), new.exists()),
            ("the last step fails", b"old".into(), false)
        );
        replace_all(&all, || Ok(())).unwrap();
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

    #[test]
    fn what_a_killed_process_has_left_is_swept_away_once_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let [file, others] = ["rule.wasm", "copy.part"].map(|name| folder.path().join(name));
        let (old, young) = (part(&file), part(&file));
        [&file, &old, &young, &others].into_iter().for_each(|file| fs::write(file, b"").unwrap());
        for file in [&file, &old, &others] {
            let long_ago = SystemTime::now() - 2 * ABANDONED;
            fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
        }
        sweep(folder.path());
        assert_eq!([&file, &old, &young, &others].map(|file| file.exists()), [true, false, true, true]);
    }

    #[test]
    fn nobody_else_writes_to_the_same_part() {
        let file = Path::new("rule.wasm");
        assert_ne!(part(file), part(file), "not even this process");
    }
}
