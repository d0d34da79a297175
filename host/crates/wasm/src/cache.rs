//! Compiled components on disk, so that a start does not compile again what has not changed.
//!
//! Compiled code runs with the host's rights. The folder must therefore belong to this user and be closed to all others, or it is
//! not used. No name that a user hands in is ever looked up here: entries are named by the SHA-256 of the component's own bytes,
//! and of the wasmtime version and configuration that compiled it.
//!
//! A disk may damage its content, and damaged machine code can do anything. Each entry therefore begins with a digest of its name
//! and of the code that follows. The code is handed out as the bytes that were checked; the file is never read a second time.
//!
//! The folder is bounded: the entries that were used longest ago are removed first.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Context;
use sha2::{Digest, Sha256};

use weir_system::{files, folder};

/// The most entries: more than the rules of a history of sets, and few enough to list all of them whenever one is added.
const MAX_ENTRIES: usize = 256;
/// The most bytes of all entries together. The entry of an ordinary rule has some 300 KiB.
const MAX_BYTES: u64 = 256 << 20;
/// The length of the digest that an entry begins with, in bytes.
const DIGEST_BYTES: usize = 32;

/// A folder of compiled components.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Returns the cache in the user's cache folder: `$XDG_CACHE_HOME/weir` or `$HOME/.cache/weir`. Returns None if there is no
    /// such folder, or if it can't be used or trusted, which is logged. Then components are compiled at every start.
    pub fn of_user() -> Option<Cache> {
        let folder = folder::cache()?;
        match Cache::in_folder(folder) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::debug!("compiled rules are not cached: {error:#}");
                None
            }
        }
    }

    /// Returns the cache in `folder`. Creates the folder if it is missing.
    ///
    /// # Errors
    /// If the folder can't be created, belongs to another user, or is open to others.
    pub fn in_folder(folder: PathBuf) -> anyhow::Result<Cache> {
        folder::make_private(&folder).context("failed to use the cache folder")?;
        Ok(Cache { folder })
    }

    /// Returns the compiled form with the name `key`, if it is there and undamaged.
    pub(super) fn find(&self, key: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(key);
        let mut entry = fs::read(&path).ok()?;
        if entry.len() < DIGEST_BYTES || entry[..DIGEST_BYTES] != digest(key, &entry[DIGEST_BYTES..]) {
            tracing::debug!("compiling anew what is damaged in the cache: {}", path.display());
            return None;
        }
        // Marks the entry as used now. If that fails, the entry keeps its old time and may be removed earlier.
        let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(entry.split_off(DIGEST_BYTES))
    }

    /// Stores `compiled` under `key`, whole or not at all.
    pub(super) fn store(&self, key: &str, compiled: &[u8]) -> anyhow::Result<()> {
        let entry = [&digest(key, compiled), compiled].concat();
        let written = files::replace(&self.folder.join(key), &entry);
        written.with_context(|| format!("failed to write into the cache folder {}", self.folder.display()))?;
        self.prune(MAX_ENTRIES, MAX_BYTES);
        Ok(())
    }

    /// Removes the entries that were used longest ago, so that at most `entries` entries and at most `bytes` bytes are left.
    fn prune(&self, entries: usize, bytes: u64) {
        let known = |entry: fs::DirEntry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        };
        let mut found: Vec<_> = fs::read_dir(&self.folder).into_iter().flatten().flatten().filter_map(known).collect();
        found.sort_unstable_by(|(a, ..), (b, ..)| b.cmp(a));
        let mut sum = 0;
        for (index, (_, size, path)) in found.into_iter().enumerate() {
            sum += size;
            if index >= entries || sum > bytes {
                let _ = fs::remove_file(path); // Another process may have removed it. If not, the next `store` tries again.
            }
        }
    }
}

/// Returns the digest that an entry begins with.
fn digest(key: &str, compiled: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(key).chain_update(compiled).finalize().into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_folder_that_is_open_to_others_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("weir");
        assert!(Cache::in_folder(cache.clone()).is_ok());
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(format!("{:#}", Cache::in_folder(cache).unwrap_err()).contains("chmod 700"));
    }

    #[test]
    fn what_is_stored_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(folder.path().join("weir")).unwrap();
        assert_eq!(cache.find("key"), None);
        cache.store("key", b"compiled").unwrap();
        assert_eq!(cache.find("key").as_deref(), Some(&b"compiled"[..]));
    }

    #[test]
    fn what_is_damaged_or_goes_by_another_name_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::in_folder(folder.path().join("weir")).unwrap();
        cache.store("key", b"compiled").unwrap();
        let whole = fs::read(cache.folder.join("key")).unwrap();
        for bit in 0..8 * whole.len() {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(cache.folder.join("key"), damaged).unwrap();
            assert_eq!(cache.find("key"), None, "with bit {bit} flipped");
        }
        for length in 0..whole.len() {
            fs::write(cache.folder.join("key"), &whole[..length]).unwrap();
            assert_eq!(cache.find("key"), None, "cut to {length} bytes");
        }
        fs::write(cache.folder.join("other"), &whole).unwrap();
        assert_eq!(cache.find("other"), None);
    }

    /// Returns a cache with an entry for each of `keys`, the oldest first. Each entry has a digest of 32 bytes and ten more
    /// bytes.
    fn filled(folder: &Path, keys: &[&str]) -> Cache {
        let cache = Cache::in_folder(folder.join("weir")).unwrap();
        for (age, key) in keys.iter().rev().enumerate() {
            cache.store(key, &[0; 10]).unwrap();
            let time = SystemTime::now() - Duration::from_secs(60 * (age as u64 + 1));
            fs::File::open(cache.folder.join(key)).unwrap().set_modified(time).unwrap();
        }
        cache
    }

    fn keys(cache: &Cache) -> Vec<String> {
        let entries = fs::read_dir(&cache.folder).unwrap();
        let mut keys: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let cache = filled(folder.path(), &["a", "b", "c", "d"]);
        assert!(cache.find("a").is_some());
        cache.prune(3, 400);
        assert_eq!(keys(&cache), ["a", "c", "d"], "a was used");
        cache.prune(3, 100);
        assert_eq!(keys(&cache), ["a", "d"]);
    }

    #[test]
    fn what_is_stored_beyond_the_bound_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..MAX_ENTRIES).map(|index| format!("{index:03}")).collect();
        let cache = filled(folder.path(), &names.iter().map(String::as_str).collect::<Vec<_>>());
        cache.store("new", b"compiled").unwrap();
        assert_eq!((keys(&cache).len(), cache.find("000"), cache.find("new").is_some()), (MAX_ENTRIES, None, true));
    }
}
