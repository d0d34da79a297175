//! Whether files have changed, by looking: that works on bind mounts and network folders too, where no event arrives.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// What a file looks like from outside: size, inode, and the times of its last change of contents and of anything, with their
/// nanoseconds. None where it is missing.
type Look = Option<(u64, u64, (i64, i64), (i64, i64))>;

/// Looks at files, and waits until what changes has come to rest.
#[derive(Debug, Default)]
pub struct Watch<T> {
    settled: Option<(BTreeMap<PathBuf, Look>, T)>,
    seen: Option<(BTreeMap<PathBuf, Look>, T)>,
    /// The files as they were when they were refused last.
    refused: Option<BTreeMap<PathBuf, Look>>,
}

impl<T: PartialEq> Watch<T> {
    /// Whether `files`, or `others`, are not what they were, and have not changed since the look before. Several files that
    /// change together are one change then, and one that is being written is waited for.
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

    /// Whether `files`, which are refused, differ from those that were refused before by nothing but that some have grown: a copy
    /// that is under way.
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

    /// Takes a change of the others as known, and no more than that: what somebody else changes meanwhile stays news.
    pub fn amend(&mut self, change: impl FnOnce(&mut T)) {
        if let Some((_, known)) = &mut self.settled {
            change(known);
        }
    }

    /// Whether `files` are as they were when their last change was told. Where nobody looks, they are.
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
        let mut watch = Watch::default();
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
        let mut watch = Watch::default();
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
        let mut watch = Watch::<()>::default();
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
        let mut watch = Watch::default();
        assert!(watch.still(files()), "nobody has looked yet");
        assert!(!watch.look(files(), 0) && watch.look(files(), 0) && watch.still(files()));
        fs::write(&file, "1").unwrap();
        assert!(!watch.still(files()));
        assert!(!watch.look(files(), 0) && watch.look(files(), 0), "and is news");
    }
}
