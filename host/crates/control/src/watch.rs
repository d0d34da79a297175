//! Detects changes of files by polling them. Polling also works on bind mounts and network folders, where no event arrives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// The metadata of a file: its size, its inode, and the times of its last change of contents and of its last change of any kind,
/// as seconds and nanoseconds. None if the file is missing.
type Look = Option<(u64, u64, (i64, i64), (i64, i64))>;

/// A watch over files. It waits until files that change have come to rest.
#[derive(Debug, Default)]
pub struct FileWatch<T> {
    settled: Option<(BTreeMap<PathBuf, Look>, T)>,
    seen: Option<(BTreeMap<PathBuf, Look>, T)>,
    /// The files as they were at the last refusal.
    refused: Option<BTreeMap<PathBuf, Look>>,
}

impl<T: PartialEq> FileWatch<T> {
    /// Returns whether `files`, or `others`, have changed, and have stayed the same since the look before. Several files that
    /// change together are therefore one change, and a file that is still being written is waited for.
    pub fn look(&mut self, files: impl Iterator<Item = PathBuf>, others: T) -> bool {
        let now = Some((looks(files), others));
        if now == self.settled {
            self.seen = None;
            return false;
        }
        if now != self.seen {
            self.seen = now;
            return false;
        }
        self.settled = self.seen.take();
        true
    }

    /// Returns whether `files`, which are refused now, differ from the files of the last refusal only in that some have grown.
    /// That means that a file is still being copied.
    pub fn have_only_grown(&mut self, files: impl Iterator<Item = PathBuf>) -> bool {
        let now = looks(files);
        let before = self.refused.replace(now.clone()).unwrap_or_default();
        let changed: Vec<_> = now.iter().filter(|(file, look)| before.get(*file) != Some(*look)).collect();
        let has_grown = |(file, look): &(&PathBuf, &Look)| match (before.get(*file), look) {
            (Some(Some((was, inode, ..))), Some((is, same, ..))) => inode == same && was < is,
            _ => false,
        };
        !changed.is_empty() && changed.iter().all(has_grown)
    }

    /// Applies our own change to the last seen state of the others, so that `look` reports only changes by other processes.
    pub fn amend(&mut self, change: impl FnOnce(&mut T)) {
        if let Some((_, known)) = &mut self.settled {
            change(known);
        }
    }

    /// Returns whether `files` are still as they were when `look` last reported a change. True if it has never reported one.
    pub fn still(&self, files: impl Iterator<Item = PathBuf>) -> bool {
        self.settled.as_ref().is_none_or(|(known, _)| *known == looks(files))
    }
}

fn looks(files: impl Iterator<Item = PathBuf>) -> BTreeMap<PathBuf, Look> {
    files.map(|file| (file.clone(), look(&file))).collect()
}

fn look(file: &PathBuf) -> Look {
    let metadata = fs::metadata(file).ok()?;
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    Some((metadata.len(), metadata.ino(), (metadata.mtime(), metadata.mtime_nsec()), changed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_when_it_has_come_to_rest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let mut watch = FileWatch::default();
        let mut look = |others: u32| watch.look([file.clone()].into_iter(), others);
        assert!(!look(0) && look(0) && !look(0), "that it is missing is news at first");
        fs::write(&file, "1").unwrap();
        assert!(!look(0));
        fs::write(&file, "12").unwrap();
        assert!(!look(0), "it is still being written");
        assert!(look(0) && !look(0));
        assert!(!look(1) && look(1), "something else has changed");
    }

    #[test]
    fn what_is_expected_is_no_news_and_hides_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let files = || [file.clone()].into_iter();
        let mut watch = FileWatch::default();
        assert!(!watch.look(files(), 0) && watch.look(files(), 0));
        watch.amend(|others| *others += 1);
        assert!(!watch.look(files(), 1) && !watch.look(files(), 1));
        fs::write(&file, "1").unwrap();
        watch.amend(|others| *others += 1);
        assert!(!watch.look(files(), 2) && watch.look(files(), 2), "the file has changed all the same");
        watch.amend(|others| *others += 1);
        assert!(!watch.look(files(), 4) && watch.look(files(), 4), "somebody else has changed something too");
    }

    #[test]
    fn a_file_that_is_still_being_copied_has_only_grown() {
        let folder = tempfile::tempdir().unwrap();
        let (file, other) = (folder.path().join("a"), folder.path().join("b"));
        let mut watch = FileWatch::<()>::default();
        let mut have_only_grown = || watch.have_only_grown([file.clone()].into_iter());
        fs::write(&file, "12").unwrap();
        assert!(!have_only_grown(), "it is the first that is refused");
        fs::write(&file, "123").unwrap();
        assert!(have_only_grown());
        fs::write(&file, "1").unwrap();
        assert!(!have_only_grown(), "it was written anew");
        fs::write(&other, "1234").unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(!have_only_grown(), "it is another one");
    }

    #[test]
    fn what_changes_while_it_is_read_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let files = || [file.clone()].into_iter();
        let mut watch = FileWatch::default();
        assert!(watch.still(files()), "nobody has looked yet");
        assert!(!watch.look(files(), 0) && watch.look(files(), 0) && watch.still(files()));
        fs::write(&file, "1").unwrap();
        assert!(!watch.still(files()));
        assert!(!watch.look(files(), 0) && watch.look(files(), 0), "and is news");
    }
}
