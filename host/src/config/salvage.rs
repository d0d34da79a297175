//! What `weir rules` needs of a configuration that can't be used: the address and the token of the admin interface.
//!
//! Going back to sound rules must not wait until `weir.toml` is mended. The file is read line by line, so that what is wrong in
//! one line hides no other. An address that may be in the file but can't be read is never replaced by the default: a change
//! would then be asked of another process.

use std::path::Path;

use serde_json::Value;

use super::raw::{Origin, Raw, parse_table};
use super::{Admin, Token, environment, read, validate};

const KEYS: [&str; 3] = ["listen", "token", "token_file"];

/// What could be read.
#[derive(Debug, PartialEq)]
pub struct Salvaged {
    /// Where to ask, if that is certain.
    pub listen: Option<String>,
    /// The token, if there is one.
    pub token: Option<Token>,
}

/// Reads what can be read of `file` and of the environment.
pub fn salvage(file: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Salvaged {
    let text = file.map_or(Some(String::new()), |file| read(file).ok());
    let mut raw = Raw::parse("", Path::new("")).expect("the defaults are valid");
    let mut found = text.as_deref().map(lines).unwrap_or_default();
    for key in KEYS {
        let name = environment::PREFIX.to_owned() + &environment::variable(&format!("admin.{key}"));
        found.extend(variable(&name).map(|value| (key, value)));
    }
    let has_listen = found.iter().any(|(key, _)| *key == "listen");
    for (key, value) in found {
        raw.set(&format!("admin.{key}"), Value::String(value), Origin::Default);
    }
    let is_default = || text.is_some_and(|text| !text.lines().any(mentions_listen));
    match validate::admin(&raw, file.and_then(Path::parent).unwrap_or(Path::new(""))) {
        Ok(Admin { listen, token }) => Salvaged { listen: listen.filter(|_| has_listen || is_default()), token },
        Err(_) => Salvaged { listen: None, token: None },
    }
}

/// The keys of `[admin]` and their values, from the lines that can be read.
fn lines(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let mut is_admin = false;
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            is_admin = parse_table(line).is_some_and(|table| table.contains_key("admin"));
            continue;
        }
        let Some(table) = parse_table(line) else { continue };
        let admin = if is_admin { Some(&table) } else { table.get("admin").and_then(Value::as_object) };
        let value = |key| Some((key, admin?.get(key)?.as_str()?.to_owned()));
        found.extend(KEYS.into_iter().filter_map(value));
    }
    found
}

/// Whether a line may be about `admin.listen`.
fn mentions_listen(line: &str) -> bool {
    line.split('#').next().unwrap_or_default().contains("listen")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salvaged(text: &str, variables: &[(&str, &str)]) -> Salvaged {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weir.toml");
        std::fs::write(&file, text).unwrap();
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        salvage(Some(&file), variable)
    }

    fn listen(text: &str, variables: &[(&str, &str)]) -> Option<String> {
        salvaged(text, variables).listen
    }

    #[test]
    fn the_address_is_found_beside_what_is_broken() {
        let broken = "[rules]\npipeline = [\"validation\"\n";
        for text in [
            "[admin]\nlisten = \"127.0.0.1:7\"\n[kafka\n",
            &format!("{broken}[admin] # here\n  listen = '127.0.0.1:7' # there\n"),
            &format!("admin.listen = \"127.0.0.1:7\"\n{broken}"),
            &format!("admin = {{ listen = \"127.0.0.1:7\" }}\n{broken}"),
        ] {
            assert_eq!(listen(text, &[]).as_deref(), Some("127.0.0.1:7"), "{text}");
        }
    }

    #[test]
    fn the_default_is_taken_only_where_nothing_else_can_be_meant() {
        assert_eq!(listen("[kafka\n# listen", &[]).as_deref(), Some("127.0.0.1:8081"));
        assert_eq!(salvage(None, |_| None).listen.as_deref(), Some("127.0.0.1:8081"));
        for text in ["[admin]\nlisten = \"127.0.0.1:7", "[admin]\nlisten = \"nowhere\"", "[admin]\nlisten = \"\""] {
            assert_eq!(listen(text, &[]), None, "{text}");
        }
        assert_eq!(salvage(Some(Path::new("/nowhere/weir.toml")), |_| None).listen, None);
    }

    #[test]
    fn the_environment_goes_before_the_file_and_the_token_is_found_too() {
        let found = salvaged(
            "[admin]\nlisten = \"127.0.0.1:7\"\ntoken = \"old\"\n[kafka\n",
            &[("WEIR_ADMIN_LISTEN", "127.0.0.1:9"), ("WEIR_ADMIN_TOKEN", "new")],
        );
        assert_eq!(found, Salvaged { listen: Some("127.0.0.1:9".into()), token: Some(Token::Text("new".into())) });
    }
}
