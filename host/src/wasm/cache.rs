//! Compiled components on disk, so that a start need not compile what has not changed.
//!
//! Compiled code runs with the host's rights. The folder must therefore belong to this user and be closed to all others, or
//! it is not used; and nothing that a user hands in is ever looked for here: entries are named by the SHA-256 of the
//! component's own bytes, and of the wasmtime version and configuration that compiled it.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::files;

/// A folder of compiled components.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in the user's cache folder: `$XDG_CACHE_HOME/weir` or `$HOME/.cache/weir`. None, with a word in the log, if
    /// there is no such folder or it can't be trusted: then components are compiled at every start.
    pub fn of_user() -> Option<Cache> {
        let home = |name: &str, below: &str| {
            std::env::var_os(name).filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(below))
        };
        let folder = home("XDG_CACHE_HOME", "weir").or_else(|| home("HOME", ".cache/weir"))?;
        match Cache::in_folder(folder) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::debug!("compiled rules are not cached: {error:#}");
                None
            }
        }
    }

    /// The cache in `folder`, which is made if it is missing.
    ///
    /// # Errors
    /// If the folder can't be made, or others than this user could write to it.
    pub fn in_folder(folder: PathBuf) -> anyhow::Result<Cache> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("failed to make the cache folder {}", folder.display()))?;
        let metadata = fs::symlink_metadata(&folder).with_context(|| format!("failed to look at {}", folder.display()))?;
        if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
            bail!("the cache folder {} must be a folder of this user's with mode 700; `chmod 700` it", folder.display());
        }
        Ok(Cache { folder })
    }

    /// Where the compiled form named `key` is, if it is there.
    pub(super) fn find(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.join(key)).filter(|path| path.is_file())
    }

    /// Keeps `compiled` under `key`, whole or not at all.
    pub(super) fn store(&self, key: &str, compiled: &[u8]) -> anyhow::Result<()> {
        let written = files::replace(&self.folder.join(key), compiled);
        written.with_context(|| format!("failed to write into the cache folder {}", self.folder.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_folder_that_is_open_to_others_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("weir");
        assert!(Cache::in_folder(cache.clone()).is_ok());
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Cache::in_folder(cache).unwrap_err().to_string().contains("chmod 700"));
    }

    #[test]
    fn what_is_stored_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(folder.path().join("weir")).unwrap();
        assert_eq!(cache.find("key"), None);
        cache.store("key", b"compiled").unwrap();
        assert_eq!(fs::read(cache.find("key").unwrap()).unwrap(), b"compiled");
    }
}
