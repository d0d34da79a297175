//! The admin token: the server compares it, `weir rules` sends it, and both read it here.

use std::fs::File;
use std::io::Read as _;

use anyhow::{Context as _, ensure};

use super::Token;

/// Longest token, in bytes: it has to fit into a header of HTTP.
const MAX_BYTES: u64 = 4_096;

impl Token {
    /// The token itself. A file is read anew each time, so that it may be replaced while the process runs.
    ///
    /// # Errors
    /// If the file can't be read, or if it is no token that HTTP can carry. The token is never part of the message.
    pub fn read(&self) -> anyhow::Result<String> {
        let (token, key) = match self {
            Token::Text(token) => (token.reveal().to_owned(), "admin.token"),
            Token::File(file) => {
                let mut text = Vec::new();
                let read = File::open(file).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut text));
                read.with_context(|| format!("failed to read the admin token from {} (admin.token_file)", file.display()))?;
                (String::from_utf8_lossy(&text).trim_end_matches(['\r', '\n']).to_owned(), "admin.token_file")
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
        assert!(missing.to_string().contains("admin.token_file"), "{missing}");
    }
}
