//! The transactional id of this process: unique to the process, and unchanged by a restart.
//!
//! A process that comes back under its former id at once ends the transaction that it left open. Under another id, readers and
//! successors would wait until that transaction has timed out. So the id is made from parts that stay: the group, the name of the
//! host, and a number that tells the processes of one host apart. The number is the first whose lock file is free. The lock ends
//! with the process.
//!
//! The lock files are in a folder of this user ([`folder::locks`]). If there is no such folder, the number is 0, and a warning is
//! logged.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::settings::ClientSettings;
use weir_system::folder;

/// The most processes of a group on one host.
const MAX_PROCESSES: usize = 1_000;

/// A transactional id. If it is locked, no other process of this host takes it while this value exists. A configured id is not
/// locked.
pub(super) struct Identity {
    pub(super) id: String,
    _lock: Option<File>,
}

impl Identity {
    /// Returns the configured id, or an id of this host.
    pub(super) fn claim(kafka: &ClientSettings) -> Identity {
        if let Some(id) = &kafka.transactional_id {
            return Identity { id: id.clone(), _lock: None };
        }
        let base = format!("{}-{}", kafka.group, host());
        match reserve(&base, &folder::locks()) {
            Ok((number, lock)) => Identity { id: format!("{base}-{number}"), _lock: Some(lock) },
            Err(error) => {
                let id = format!("{base}-0");
                tracing::warn!(
                    id,
                    "failed to reserve a transactional id on this host: {error:#}; if several processes of the \
                    group run here, set `kafka.transactional_id` for each"
                );
                Identity { id, _lock: None }
            }
        }
    }
}

/// Locks the first free number of `base`, in the first of `folders` that can be used.
fn reserve(base: &str, folders: &[PathBuf]) -> anyhow::Result<(usize, File)> {
    let mut unusable = Vec::new();
    for folder in folders {
        match lock(base, folder) {
            Ok(locked) => return Ok(locked),
            Err(error) => unusable.push(format!("failed to use the folder {}: {error}", folder.display())),
        }
    }
    bail!("{}", unusable.join(", and "))
}

fn lock(base: &str, folder: &Path) -> io::Result<(usize, File)> {
    let folder = folder::Private::open(folder)?;
    let name: String = base.chars().map(|next| if next.is_ascii_alphanumeric() { next } else { '_' }).collect();
    for number in 0..MAX_PROCESSES {
        let file = folder.file(&format!("{name}-{number}.lock"))?;
        match file.try_lock() {
            Ok(()) => return Ok((number, file)),
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(format!("{MAX_PROCESSES} processes are running")))
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_of_one_host_have_different_ids_and_keep_them() {
        let kafka = ClientSettings { group: format!("test/{}", std::process::id()), ..crate::testing::client() };
        let (first, second) = (Identity::claim(&kafka), Identity::claim(&kafka));
        assert!(first.id.starts_with(&kafka.group) && first.id.ends_with("-0"), "{}", first.id);
        assert!(second.id.ends_with("-1"), "{}", second.id);
        let again = first.id.clone();
        drop(first);
        assert_eq!(Identity::claim(&kafka).id, again);
    }

    #[test]
    fn a_configured_id_is_taken_as_it_is() {
        let kafka = ClientSettings { transactional_id: Some("mine".into()), ..crate::testing::client() };
        assert_eq!(Identity::claim(&kafka).id, "mine");
    }

    #[test]
    fn where_another_user_was_there_first_another_folder_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let [trap, own] = ["trap", "own"].map(|name| folder.path().join(name));
        let precious = folder.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        fs::create_dir(&trap).unwrap();
        std::os::unix::fs::symlink(&precious, trap.join("group_host-0.lock")).unwrap();
        let (number, _lock) = reserve("group-host", &[trap.clone(), own.clone()]).unwrap();
        assert_eq!((number, fs::read(precious).unwrap()), (0, b"precious".to_vec()));
        assert!(own.join("group_host-0.lock").exists());
        let error = reserve("group-host", &[trap]).unwrap_err().to_string();
        assert!(error.contains("trap") && error.contains("group_host-0.lock"), "{error}");
    }
}
