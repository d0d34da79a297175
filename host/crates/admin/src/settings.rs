//! The settings of the admin interface: its address, and the token that changes need.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use weir_core::secret::Secret;

/// The longest token, in bytes. A token has to fit into an HTTP header.
const MAX_BYTES: u64 = 4_096;
/// The error for a missing file whose name may be the token itself.
const NOT_SHOWN: &str = "failed to read the admin token: the file that `admin.token_file` names is not there, and its name is not \
    shown, since it may be the token itself; a token belongs in `admin.token`, and a path that begins with `/` or `./` is shown";

/// The settings of the admin interface: `[admin]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The address, as `host:port`. If None, there is no interface.
    pub listen: Option<String>,
    /// The token that a request for a change must carry. If None, only requests to a loopback address may change something.
    pub token: Option<Token>,
}

/// The place of the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// The token itself.
    Text(Secret),
    /// The token is in this file. The end of the line in the file is not part of the token.
    File(PathBuf),
    /// The token is in the file with this name, relative to `folder`. The name does not look like a path, so it may be the token
    /// itself, set under the wrong key. Messages therefore show the name only if such a file exists.
    Named { folder: PathBuf, name: Secret },
}

impl Token {
    /// Returns the token itself. A file is read anew each time, so that it can be replaced while the process runs.
    ///
    /// # Errors
    /// If the file can't be read, or if HTTP can't carry the token. The message never contains the token.
    pub fn read(&self) -> anyhow::Result<String> {
        let (token, key) = match self {
            Token::Text(token) => (token.reveal().to_owned(), "admin.token"),
            Token::File(file) => (first_bytes(file).with_context(|| failed(file))?, "admin.token_file"),
            Token::Named { folder, name } => {
                let file = folder.join(name.reveal());
                let words = || if file.exists() { failed(&file) } else { NOT_SHOWN.to_owned() };
                (first_bytes(&file).with_context(words)?, "admin.token_file")
            }
        };
        let sendable = !token.is_empty() && token.len() as u64 <= MAX_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(
            sendable,
            "failed to use the token of `{key}`: expected 1 to {MAX_BYTES} printable ASCII characters without blanks"
        );
        Ok(token)
    }
}

fn failed(file: &Path) -> String {
    format!("failed to read the admin token from {} (admin.token_file)", file.display())
}

/// Returns the text of `file` without the end of its line. Reads no more than is needed to detect that the text is too long.
fn first_bytes(file: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(file)?.take(MAX_BYTES + 1).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_files_line_does_not_belong_to_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "secret\r\n").unwrap();
        assert_eq!(Token::File(file).read().unwrap(), "secret");
        assert_eq!(Token::Text("secret".into()).read().unwrap(), "secret");
    }

    #[test]
    fn what_http_cannot_carry_is_refused_and_not_shown() {
        for bad in ["", "two words", "evil\r\nhost: x", "ä", &"x".repeat(4_097)] {
            let error = Token::Text(bad.into()).read().unwrap_err().to_string();
            assert!(error.contains("admin.token") && (bad.is_empty() || !error.contains(bad)), "{error}");
        }
        let missing = Token::File("/nowhere/token".into()).read().unwrap_err();
        assert!(missing.to_string().contains("from /nowhere/token (admin.token_file)"), "{missing}");
    }

    #[test]
    fn the_name_of_a_file_that_may_be_the_token_itself_is_shown_only_where_there_is_such_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let token = Token::Named { folder: folder.path().to_owned(), name: "hunter2".into() };
        let error = format!("{:#}", token.read().unwrap_err());
        assert!(!error.contains("hunter2") && error.contains("admin.token_file"), "{error}");
        std::fs::create_dir(folder.path().join("hunter2")).unwrap();
        let error = format!("{:#}", token.read().unwrap_err());
        assert!(error.contains("hunter2 (admin.token_file): Is a directory"), "{error}");
        std::fs::remove_dir(folder.path().join("hunter2")).unwrap();
        std::fs::write(folder.path().join("hunter2"), "secret\n").unwrap();
        assert_eq!(token.read().unwrap(), "secret");
    }
}
