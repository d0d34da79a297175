//! Files put in place whole: for components, which may be watched, for the cache of compiled ones, and for the history of rules.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Puts `bytes` in place of `file`, at once and for good: a crash leaves the old file or the new one.
///
/// # Errors
/// If the file can't be written. Nothing of it is left then.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = file.with_extension(format!("{}.part", std::process::id()));
    let write = || {
        let mut out = fs::File::create(&part)?;
        out.write_all(bytes)?;
        // Without this a machine that goes down may be left with an empty file under the new name.
        out.sync_all()
    };
    let written = write().and_then(|()| fs::rename(&part, file));
    if written.is_err() {
        let _ = fs::remove_file(&part); // The first error is the one to tell.
    }
    written
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
    fn a_file_that_cannot_be_replaced_leaves_no_part_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rule.wasm");
        fs::create_dir_all(file.join("in-the-way")).unwrap();
        assert!(replace(&file, b"new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
