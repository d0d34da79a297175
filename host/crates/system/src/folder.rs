//! Folders that belong to this user alone: where they are, how they are created, and what is checked before they are used.
//!
//! Three things are kept on disk: compiled rules (cache), the history of rules (state), and locks. Each has a folder by the XDG
//! base directory specification, which ignores paths that are not absolute. Folders are created with mode 700.
//!
//! The three folders are trusted differently. Machine code would run with the rights of this user, so a cache folder that is open
//! to others is refused, even though it could be closed: others may already have written to it. Locks contain nothing, so their
//! folder is closed to others and used. A state folder may be a mount that belongs to root, which is used as it is. A state
//! folder of this user is closed to others and used. A folder for several users, such as `/tmp`, must not be closed, so it is
//! refused as a state folder; a folder of another user is refused, too.
//!
//! A link in the place of a folder is never followed; a link above it is. The folder that was opened is the one that is checked,
//! closed and used.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, fchmod, open, openat};
use rustix::process::geteuid;

/// The mode of a folder that is closed to others.
pub const CLOSED: u32 = 0o700;
/// The bits of a mode that give others any right.
const OTHERS: u32 = 0o077;
/// The bits of a mode that let others write.
const WRITABLE: u32 = 0o022;
/// The bit of a mode that lets all users write.
const WRITABLE_BY_ALL: u32 = 0o002;
/// The bit of a mode that keeps users who may write from removing files that are not their own, as in `/tmp`.
const STICKY: u32 = 0o1000;
/// The user id of root, whose mounts may be state folders.
const ROOT: u32 = 0;

/// Returns `$XDG_CACHE_HOME/weir`, or `~/.cache/weir`.
pub fn cache() -> Option<PathBuf> {
    base(|name| std::env::var_os(name), "XDG_CACHE_HOME", ".cache")
}

/// Returns `$XDG_STATE_HOME/weir`, or `~/.local/state/weir`. There is no other folder to fall back on: in a folder that is open
/// to all, such as `/tmp`, the first user to create a folder of that name would decide which rules run.
pub fn state() -> Option<PathBuf> {
    base(|name| std::env::var_os(name), "XDG_STATE_HOME", ".local/state")
}

/// Returns the folders where locks may be, the best one first. All processes of one host have to agree on the folder.
pub fn locks() -> Vec<PathBuf> {
    let runtime = absolute(std::env::var_os("XDG_RUNTIME_DIR")).filter(|folder| folder.is_dir());
    let first = match runtime {
        Some(folder) => folder.join("weir"),
        None => std::env::temp_dir().join(format!("weir-{}", geteuid().as_raw())),
    };
    // In a folder that is open to all, another user may have taken the first name; then the second is used. `.locks` is no folder
    // of a consumer group: those have no dot in their names.
    std::iter::once(first).chain(state().map(|folder| folder.join(".locks"))).collect()
}

fn base(variable: impl Fn(&str) -> Option<OsString>, name: &str, below_home: &str) -> Option<PathBuf> {
    let home = || absolute(variable("HOME")).map(|home| home.join(below_home));
    absolute(variable(name)).or_else(home).map(|base| base.join("weir"))
}

fn absolute(value: Option<OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Creates `folder` and its parents with mode 700, if they are missing.
pub fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(CLOSED).create(folder)
}

/// Creates `folder` if it is missing. Refuses a folder that does not belong to this user or is open to others.
///
/// # Errors
/// If the folder can't be created, or is refused.
pub fn make_private(folder: &Path) -> anyhow::Result<()> {
    use anyhow::Context as _;
    make(folder).with_context(|| format!("failed to make the folder {}", folder.display()))?;
    let remedy = || format!("{} must be a folder of this user's with mode 700; `chmod 700` it", folder.display());
    open_private(folder).map(drop).with_context(remedy)
}

/// Creates `folder` if it is missing, and closes it to others if it belongs to this user. A folder of root, such as a mount, is
/// left as it is; the log warns if its group can write to it.
///
/// # Errors
/// If the folder can't be created, opened or closed, if it is a link, if it is for several users, or if it belongs to a user
/// other than this one and root.
pub fn make_closed(folder: &Path) -> io::Result<()> {
    make(folder)?;
    let (opened, found) = open_folder(folder)?;
    let (owner, mode, user) = (found.uid(), found.mode() & 0o7777, geteuid().as_raw());
    if let Some(refusal) = refusal(owner, mode, user) {
        return Err(io::Error::other(refusal));
    }
    if owner == user && mode & OTHERS != 0 {
        fchmod(&opened, Mode::RWXU)?;
        tracing::info!(folder = %folder.display(), "closed the folder to other users: its mode was {mode:o} and is {CLOSED:o} now");
    } else if owner != user && mode & WRITABLE != 0 {
        tracing::warn!(folder = %folder.display(), owner, mode = format_args!("{mode:o}"), "other users can write to this folder, \
            and so decide which rules run; name a folder below it instead, which is then made with mode {CLOSED:o}");
    }
    Ok(())
}

/// Returns the reason why `user` can't keep its state in a folder with this owner and mode. Returns None if it can.
fn refusal(owner: u32, mode: u32, user: u32) -> Option<String> {
    let is_shared = mode & WRITABLE_BY_ALL != 0 || mode & STICKY != 0 && mode & WRITABLE != 0;
    if is_shared {
        return Some(format!(
            "it is a folder for several users (mode {mode:o}), who would decide which rules run; name a folder in it that is \
             Weir's own, which is then made with mode {CLOSED:o}"
        ));
    }
    (owner != user && owner != ROOT).then(|| {
        format!("it belongs to the user with the id {owner}, who would decide which rules run; name a folder of this user's")
    })
}

/// Opens an existing folder that belongs to this user and is closed to others.
///
/// # Errors
/// If the folder is a link, belongs to another user, is open to others, or can't be opened.
pub fn open_private(folder: &Path) -> io::Result<File> {
    match open_own(folder)? {
        (opened, mode) if mode & OTHERS == 0 => Ok(opened),
        _ => Err(io::Error::other("it is open to others")),
    }
}

/// Opens a folder of this user. Returns its mode as well.
fn open_own(folder: &Path) -> io::Result<(File, u32)> {
    let (opened, found) = open_folder(folder)?;
    if found.uid() != geteuid().as_raw() {
        return Err(io::Error::other(format!("it belongs to the user with the id {}", found.uid())));
    }
    Ok((opened, found.mode()))
}

/// Opens a folder without following a link in its place. Returns its metadata as well.
fn open_folder(folder: &Path) -> io::Result<(File, Metadata)> {
    // With a slash at the end of the path a link would be followed, so the slash is removed.
    let folder: PathBuf = folder.components().collect();
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let opened = open(&folder, flags, Mode::empty()).map_err(|error| match fs::read_link(&folder) {
        Ok(target) => io::Error::other(format!("it is a link to {}; name that folder itself", target.display())),
        Err(_) => error.into(),
    })?;
    let opened = File::from(opened);
    let found = opened.metadata()?;
    Ok((opened, found))
}

/// An open folder that only this user can access.
pub struct Private(File);

impl Private {
    /// Opens `folder`. Creates it if it is missing, and closes it to others if it exists.
    ///
    /// # Errors
    /// If the folder is a link, if it belongs to another user, or if it can't be created, opened or closed.
    pub fn open(folder: &Path) -> io::Result<Private> {
        make(folder)?;
        let (opened, mode) = open_own(folder)?;
        if mode & OTHERS != 0 {
            fchmod(&opened, Mode::RWXU)?;
        }
        Ok(Private(opened))
    }

    /// Opens a file of this folder for reading and writing. Creates an empty file if it is missing. The content of an existing
    /// file stays.
    ///
    /// # Errors
    /// If the file is a link or anything else than a file of this user, or if it can't be opened.
    pub fn file(&self, name: &str) -> io::Result<File> {
        // Without NONBLOCK, opening a pipe of that name would wait.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let refused = |why: String| io::Error::other(format!("{name}: {why}; remove it"));
        let file: File =
            openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| refused(error.to_string()))?.into();
        let found = file.metadata()?;
        if !found.is_file() || found.uid() != geteuid().as_raw() {
            return Err(refused("it is no file of this user's".to_owned()));
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn make_with_mode(folder: &Path, mode: u32) {
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_base_that_is_no_absolute_path_is_ignored() {
        let with = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
            base(find, "XDG_STATE_HOME", ".local/state")
        };
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[("HOME", "relative")]), None);
        assert_eq!(with(&[("HOME", "/home/w"), ("XDG_STATE_HOME", "")]), Some("/home/w/.local/state/weir".into()));
        assert_eq!(with(&[("HOME", "/home/w"), ("XDG_STATE_HOME", "state")]), Some("/home/w/.local/state/weir".into()));
        assert_eq!(with(&[("HOME", "/home/w"), ("XDG_STATE_HOME", "/state")]), Some("/state/weir".into()));
    }

    #[test]
    fn what_is_made_is_closed_to_others_with_its_parents() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        make_closed(&inner).unwrap();
        assert_eq!([mode(&inner), mode(&folder.path().join("a"))], [0o700; 2]);
    }

    #[test]
    fn a_folder_that_was_open_is_closed_and_used_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [closed, locks, cache] = ["closed", "locks", "cache"].map(|name| folder.path().join(name));
        make_with_mode(&closed, 0o775);
        [&locks, &cache].into_iter().for_each(|folder| make_with_mode(folder, 0o777));
        make_closed(&closed).unwrap();
        drop(Private::open(&locks).unwrap());
        assert!(make_private(&cache).unwrap_err().to_string().contains("chmod 700"));
        assert_eq!([mode(&closed), mode(&locks), mode(&cache)], [0o700, 0o700, 0o777]);
    }

    #[test]
    fn a_folder_for_all_users_is_no_state_folder_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for shared in [0o777, 0o1777, 0o1770, 0o702] {
            let state = folder.path().join(format!("{shared:o}"));
            make_with_mode(&state, shared);
            let error = make_closed(&state).unwrap_err().to_string();
            assert!(error.contains("name a folder in it") && error.contains(&format!("mode {shared:o}")), "{error}");
            assert_eq!(mode(&state), shared);
            make_closed(&state.join("weir")).unwrap();
            assert_eq!(mode(&state.join("weir")), 0o700, "what the message names helps");
        }
    }

    #[test]
    fn a_state_folder_is_this_users_or_roots() {
        let (this, other) = (1_001, 1_002);
        assert!(refusal(other, 0o700, this).unwrap().contains("the id 1002"));
        assert!(refusal(other, 0o755, ROOT).is_some(), "for root as well");
        for (owner, mode) in [(this, 0o755), (this, 0o2775), (ROOT, 0o755), (ROOT, 0o2775)] {
            assert_eq!(refusal(owner, mode, this), None, "{owner} {mode:o}");
        }
        assert!(refusal(ROOT, 0o1777, this).is_some(), "as /tmp");
    }

    #[test]
    fn a_link_in_the_place_of_the_state_folder_is_refused_and_its_target_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        make_with_mode(&target, 0o755);
        symlink(&target, folder.path().join("link")).unwrap();
        for name in ["link", "link/", "link/."] {
            let error = make_closed(&folder.path().join(name)).unwrap_err().to_string();
            assert_eq!(error, format!("it is a link to {}; name that folder itself", target.display()), "{name}");
        }
        assert_eq!(mode(&target), 0o755);
    }

    #[test]
    fn a_link_above_the_state_folder_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        make_with_mode(&folder.path().join("target"), 0o755);
        symlink("target", folder.path().join("link")).unwrap();
        make_closed(&folder.path().join("link/state")).unwrap();
        assert_eq!([mode(&folder.path().join("target")), mode(&folder.path().join("target/state"))], [0o755, 0o700]);
    }

    #[test]
    fn a_link_in_the_place_of_a_folder_for_locks_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        fs::create_dir(folder.path().join("target")).unwrap();
        symlink("target", &link).unwrap();
        assert!(Private::open(&link).is_err());
    }

    #[test]
    fn only_a_plain_file_is_opened_and_what_is_in_it_stays() {
        let folder = tempfile::tempdir().unwrap();
        let private = Private::open(folder.path()).unwrap();
        let precious = folder.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, folder.path().join("link")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
        for bad in ["link", "folder", "pipe"] {
            assert!(private.file(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
        drop(private.file("precious").unwrap());
        assert_eq!(fs::read(precious).unwrap(), b"precious");
        drop(private.file("new").unwrap());
        assert_eq!(mode(&folder.path().join("new")), 0o600);
    }
}
