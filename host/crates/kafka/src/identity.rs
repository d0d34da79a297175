//! The names by which the data loops of this process are known to the cluster: unique, and unchanged by a restart.
//!
//! A process that comes back under its former transactional ids at once ends the transactions that it left open. Under other ids,
//! readers and successors would wait until those transactions have timed out. So an id is made from parts that stay: the group, the
//! name of the host, a number that tells the processes of one host apart, and the number of the data loop, unless it is the first.
//! The number of the process is the first whose lock file is free. The lock ends with the process.
//!
//! The lock files are in a folder of this user ([`folder::locks`]). If there is no such folder, the number is 0, and a warning is
//! logged.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::bail;

use super::settings::{ClientSettings, Delivery, Settings};
use weir_system::folder;

/// The most processes of a group on one host.
const MAX_PROCESSES: usize = 1_000;

/// The property of librdkafka for a static member of a group.
const INSTANCE: &str = "group.instance.id";

/// The names of a process. If they are made here, no other process of this host takes them while this value exists. Configured
/// names are not locked.
pub struct Identity {
    /// The transactional id of the first data loop. None with at-least-once delivery.
    id: Option<String>,
    _lock: Option<File>,
}

impl Identity {
    /// Takes the configured transactional id, or one of this host.
    pub fn claim(kafka: &ClientSettings) -> Identity {
        if kafka.delivery != Delivery::ExactlyOnce {
            return Identity { id: None, _lock: None };
        }
        if let Some(id) = &kafka.transactional_id {
            return Identity { id: Some(id.clone()), _lock: None };
        }
        let base = format!("{}-{}", kafka.group, host());
        match reserve(&base, &folder::locks()) {
            Ok((number, lock)) => Identity { id: Some(format!("{base}-{number}")), _lock: Some(lock) },
            Err(error) => {
                let id = format!("{base}-0");
                tracing::warn!(
                    id,
                    "failed to reserve a transactional id on this host: {error:#}; if several processes of the \
                    group run here, set `kafka.transactional_id` for each"
                );
                Identity { id: Some(id), _lock: None }
            }
        }
    }

    /// Returns the settings of a data loop of this process, with a transactional id and a `group.instance.id` of its own.
    pub fn settings_of(&self, settings: &Settings, data_loop: usize) -> Settings {
        let mut own = settings.clone();
        own.client.transactional_id = self.id.as_deref().map(|id| of_loop(id, data_loop));
        if let Some(instance) = own.client.properties.get_mut(INSTANCE) {
            *instance = of_loop(instance.reveal(), data_loop).into();
        }
        own
    }
}

/// Returns the name of a data loop. The first loop has the name of the process: it is then the same for any number of loops, and for
/// versions of Weir that had only one.
fn of_loop(name: &str, data_loop: usize) -> String {
    if data_loop == 0 { name.to_owned() } else { format!("{name}-{data_loop}") }
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
        let group = format!("test/{}", std::process::id());
        let kafka = ClientSettings { group, delivery: Delivery::ExactlyOnce, ..crate::testing::client() };
        let (first, second) = (Identity::claim(&kafka), Identity::claim(&kafka));
        let [one, other] = [&first, &second].map(|identity| identity.id.clone().unwrap());
        assert!(one.starts_with(&kafka.group) && one.ends_with("-0"), "{one}");
        assert!(other.ends_with("-1"), "{other}");
        drop(first);
        assert_eq!(Identity::claim(&kafka).id, Some(one));
    }

    #[test]
    fn a_configured_id_is_taken_as_it_is() {
        let kafka =
            ClientSettings { transactional_id: Some("mine".into()), delivery: Delivery::ExactlyOnce, ..crate::testing::client() };
        assert_eq!(Identity::claim(&kafka).id.as_deref(), Some("mine"));
    }

    #[test]
    fn each_data_loop_has_names_of_its_own_and_the_first_those_of_the_process() {
        let mut settings = crate::testing::settings();
        settings.client.delivery = Delivery::ExactlyOnce;
        settings.client.transactional_id = Some("mine".into());
        settings.client.properties.insert(INSTANCE.into(), "pod".into());
        let identity = Identity::claim(&settings.client);
        let names = |data_loop| {
            let Settings { client, .. } = identity.settings_of(&settings, data_loop);
            (client.transactional_id.unwrap(), client.properties[INSTANCE].reveal().to_owned())
        };
        assert_eq!([names(0), names(1)], [("mine".into(), "pod".into()), ("mine-1".into(), "pod-1".into())]);
        settings.client.delivery = Delivery::AtLeastOnce;
        assert_eq!(Identity::claim(&settings.client).settings_of(&settings, 1).client.transactional_id, None);
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
