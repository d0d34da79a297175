//! A folder that exists while a demo runs, and the removal of the folders of earlier demos.
//!
//! A demo that is killed can't remove its folder, so the next demo does. A running demo holds a lock on its folder, which is
//! released when the process ends, however it ends. A folder is removed only if no process holds its lock, if it has the name and
//! the mark of a demo, and if it belongs to this user and is closed to others. No link is followed. A folder without a mark is
//! left alone, because its demo may be about to lock it.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::Builder;

use weir_system::folder;

/// The beginning of the name of such a folder, and the number of letters and digits that follow.
const PREFIX: &str = "weir-demo-";
const RANDOM: usize = 6;
/// The file that marks such a folder. It is created after the lock is taken, and removed last.
const MARK: &str = ".weir-demo";
const WORDS: &str = "The folder of a demo of weir. The next demo removes it, once this one has ended.\n";

/// The folder of a demo. It is removed when this value is dropped.
pub(super) struct Scratch {
    path: PathBuf,
    locked: File,
}

impl Scratch {
    /// Makes a folder in `parent`, after removing the folders that earlier demos have left there.
    ///
    /// # Errors
    /// If the folder can't be made or locked.
    pub(super) fn make(parent: &Path) -> io::Result<Scratch> {
        sweep(parent);
        let closed = Permissions::from_mode(folder::CLOSED);
        let made = Builder::new().prefix(PREFIX).rand_bytes(RANDOM).permissions(closed).tempdir_in(parent)?;
        let locked = folder::open_private(made.path())?;
        locked.lock()?;
        fs::write(made.path().join(MARK), WORDS)?;
        Ok(Scratch { path: made.keep(), locked })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder before this value is dropped. If files are written to the folder at the same time, it may remain until
    /// the next demo.
    pub(super) fn remove(&self) -> io::Result<()> {
        remove(&self.path, &self.locked)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next demo tries again.
        let _ = self.remove();
    }
}

/// Removes the folders in `parent` whose demos no longer run.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| is_ours(&entry.file_name())) {
        // A folder that is in use, or belongs to another user, stays.
        let _ = remove_leftover(&entry.path());
    }
}

fn is_ours(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
    random.is_some_and(|random| random.len() == RANDOM && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn remove_leftover(path: &Path) -> io::Result<()> {
    let locked = folder::open_private(path)?;
    locked.try_lock()?;
    match fs::symlink_metadata(inside(&locked).join(MARK))?.is_file() {
        true => remove(path, &locked),
        false => Ok(()),
    }
}

/// Removes the open folder `locked`, which is at `path`. Its content is reached through the descriptor, so that no other folder
/// is emptied, even if `path` names another folder by now.
fn remove(path: &Path, locked: &File) -> io::Result<()> {
    let inside = inside(locked);
    for entry in fs::read_dir(&inside)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false if entry.file_name() == MARK => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_file(inside.join(MARK))?;
    fs::remove_dir(path)
}

fn inside(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns a folder as a killed demo leaves it, with the name `weir-demo-` and `random`.
    fn left_over(parent: &Path, random: &str) -> PathBuf {
        let path = parent.join(format!("{PREFIX}{random}"));
        fs::create_dir_all(path.join("state/sets")).unwrap();
        fs::write(path.join("state/sets/0.json"), "{}").unwrap();
        fs::write(path.join(MARK), WORDS).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        path
    }

    #[test]
    fn what_a_killed_demo_has_left_is_removed_and_what_a_running_one_has_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let running = Scratch::make(parent.path()).unwrap();
        let left = left_over(parent.path(), "aB3dE6");
        let next = Scratch::make(parent.path()).unwrap();
        assert!(!left.exists() && running.path().exists() && next.path().exists());
        drop((running, next));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_surely_a_demos_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let names = ["short", "longer7", "dot.ed"].map(|random| left_over(parent.path(), random));
        let open = left_over(parent.path(), "opened");
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        let unmarked = left_over(parent.path(), "nomark");
        fs::remove_file(unmarked.join(MARK)).unwrap();
        sweep(parent.path());
        for left in names.iter().chain([&open, &unmarked]) {
            assert!(left.join("state/sets/0.json").exists(), "{}", left.display());
        }
    }

    #[test]
    fn no_link_is_followed() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = left_over(&parent.path().join("elsewhere"), "secret");
        symlink(&elsewhere, parent.path().join("weir-demo-linked")).unwrap();
        let left = left_over(parent.path(), "links1");
        symlink(&elsewhere, left.join("folder")).unwrap();
        symlink(elsewhere.join("state/sets/0.json"), left.join("state/file")).unwrap();
        sweep(parent.path());
        assert!(!left.exists() && parent.path().join("weir-demo-linked").is_symlink());
        assert!(elsewhere.join("state/sets/0.json").exists() && elsewhere.join(MARK).exists());
    }
}
