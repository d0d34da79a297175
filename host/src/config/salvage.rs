//! Reads the address and the token of the admin interface, which `weir rules` needs, from a configuration that can't be used.
//!
//! An operator must be able to go back to sound rules before `weir.toml` is repaired. The file is read line by line, so that an
//! error in one line hides no other line. If the address is uncertain, no address is returned: otherwise a change might be sent
//! to another process. The address is uncertain if, for example, the file names two addresses, or may name one in a line that
//! can't be read.

use std::path::Path;

use serde_json::Value;

use super::origin::ValueOrigin;
use super::path::{PREFIX, variable as variable_of};
use super::raw::{Raw, parse_table};
use super::{read, validate};
use weir_admin::Token;

const KEYS: [&str; 3] = ["listen", "token", "token_file"];

/// The settings that could be read.
#[derive(Debug, PartialEq)]
pub struct Salvaged {
    /// The address of the admin interface, if it is certain.
    pub listen: Option<String>,
    /// The token, if there is one.
    pub token: Option<Token>,
}

/// Reads as much as possible from `file` and from the environment.
pub fn salvage(file: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Salvaged {
    let text = file.map_or(Some(String::new()), |file| read(file).ok());
    let mut raw = Raw::parse("", Path::new("")).expect("the defaults are valid");
    let AdminTable { mut values, mut is_certain } = text.as_deref().map(find).unwrap_or_default();
    for key in KEYS {
        let name = PREFIX.to_owned() + &variable_of(&format!("admin.{key}"));
        if let Some(value) = variable(&name) {
            is_certain |= key == "listen";
            values.push((key, value));
        }
    }
    for (key, value) in values {
        raw.set(&format!("admin.{key}"), Value::String(value), ValueOrigin::Default);
    }
    match validate::admin(&raw, file.and_then(Path::parent).unwrap_or(Path::new(""))) {
        Ok(weir_admin::Settings { listen, token }) => Salvaged { listen: listen.filter(|_| is_certain), token },
        Err(_) => Salvaged { listen: None, token: None },
    }
}

/// The settings of `[admin]` in a text. The default is for a file that can't be read.
#[derive(Default)]
struct AdminTable {
    /// The keys and their values, from the lines that can be read.
    values: Vec<(&'static str, String)>,
    /// True if only one address can be meant: the one in `values`, or the default if `values` has none.
    is_certain: bool,
}

fn find(text: &str) -> AdminTable {
    let (mut values, mut is_mentioned, mut is_doubtful) = (Vec::new(), false, false);
    // True while the lines belong to `[admin]`. None below a header that can't be read.
    let mut is_admin = Some(false);
    for line in text.lines() {
        let table = parse_table(line);
        if line.trim_start().starts_with('[') {
            is_admin = table.as_ref().map(|table| table.contains_key("admin"));
        }
        let admin =
            table.as_ref().and_then(|table| if is_admin == Some(true) { Some(table) } else { table.get("admin")?.as_object() });
        values.extend(KEYS.into_iter().filter_map(|key| Some((key, admin?.get(key)?.as_str()?.to_owned()))));
        if mentions_listen(line) {
            let is_no_text = admin.and_then(|admin| admin.get("listen")).is_some_and(|listen| !listen.is_string());
            is_mentioned = true;
            is_doubtful |= table.is_none() || is_admin.is_none() || is_no_text;
        }
    }
    let mut addresses: Vec<&str> = values.iter().filter(|(key, _)| *key == "listen").map(|(_, value)| value.as_str()).collect();
    addresses.dedup();
    let is_one = if is_mentioned { addresses.len() == 1 } else { addresses.is_empty() };
    AdminTable { is_certain: is_one && !is_doubtful, values }
}

/// Returns whether a line may set `admin.listen`.
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
    fn where_more_than_one_address_can_be_meant_none_is_taken() {
        let one = "listen = \"127.0.0.1:7\"";
        for other in ["listen = \"127.0.0.1:8\"", "listen = \"127.0.0.1:8", "listen = 8", "[admin\nlisten = \"127.0.0.1:8\""] {
            for lines in [format!("{one}\n{other}\n"), format!("{other}\n[admin]\n{one}\n")] {
                assert_eq!(listen(&format!("[admin]\n{lines}"), &[]), None, "{lines}");
            }
        }
        let conflict = format!("[admin]\n<<<<<<< HEAD\n{one}\n=======\nlisten = \"127.0.0.1:8\"\n>>>>>>> other\n");
        assert_eq!(listen(&conflict, &[]), None, "both sides of a conflict can be meant");
        let variable = [("WEIR_ADMIN_LISTEN", "127.0.0.1:9")];
        assert_eq!(listen(&conflict, &variable).as_deref(), Some("127.0.0.1:9"), "the environment goes before both");
        assert_eq!(listen(&format!("[admin]\n{one}\n{one}\n"), &[]).as_deref(), Some("127.0.0.1:7"), "twice the same is one");
        let others = format!("[admin]\n{one}\n[topics]\ninput = \"listen\"\n");
        assert_eq!(listen(&others, &[]).as_deref(), Some("127.0.0.1:7"), "another key is none");
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
