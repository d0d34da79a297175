//! Hides the values of properties in texts of librdkafka, because values may be secrets.
//!
//! These texts quote values, or parts of them: one word, or all from a word on that librdkafka does not understand. A text of a
//! bounded length may end within such a part. Some values are not hidden: those of properties that have few legal values, that
//! name a file, or that name this client to every broker anyway.

use super::properties;
use super::settings::ClientSettings;
use weir_core::secret::Secret;

/// The text that replaces a hidden value.
const HIDDEN: &str = "…";
/// The shortest part of a value that is hidden wherever it stands, in bytes. A shorter part could as well be an ordinary word.
const SHORTEST: usize = 3;
/// The properties whose values every operator of the brokers sees.
const NAMES: &[&str] = &["client.id", "client.rack", "group.instance.id", "sasl.kerberos.service.name"];
/// The mechanisms of SASL. Any other value in the place of a mechanism may be a secret that was put there by mistake.
const MECHANISMS: &[&str] = &["GSSAPI", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"];

/// The values that must not be shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets(Vec<Secret>);

impl Secrets {
    /// Returns the secret values among the properties of `kafka`.
    pub(super) fn of(kafka: &ClientSettings) -> Secrets {
        Secrets::among(kafka.properties.iter().map(|(name, value)| (name.as_str(), value.reveal())))
    }

    fn among<'a>(properties: impl Iterator<Item = (&'a str, &'a str)>) -> Secrets {
        let free = properties::free();
        let is_shown =
            |name: &str| NAMES.contains(&name) || properties::FILES.contains(&name) || !free.iter().any(|free| free == name);
        let secret = properties.filter(|(name, value)| !value.is_empty() && !MECHANISMS.contains(value) && !is_shown(name));
        let mut values: Vec<&str> = secret.map(|(_, value)| value).collect();
        // A value may be a part of another value, so the longest is hidden first.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Secrets(values.into_iter().map(Secret::from).collect())
    }

    /// Returns `text` with all secret values, and parts of them, hidden.
    pub(super) fn hide(&self, text: &str) -> String {
        let whole = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.reveal(), HIDDEN));
        let (mut hidden, mut rest) = (String::new(), whole.as_str());
        while let Some(next) = rest.chars().next() {
            let within = is_in_word(&hidden) && is_of_word(next);
            let part = if within { 0 } else { self.part(&hidden, rest) };
            if part == 0 {
                hidden.push(next);
                rest = &rest[next.len_utf8()..];
            } else {
                hidden.push_str(HIDDEN);
                rest = &rest[part..];
            }
        }
        hidden
    }

    /// Returns how many bytes at the beginning of `rest` are a part of a secret value. `before` is the text before `rest`.
    fn part(&self, before: &str, rest: &str) -> usize {
        self.0.iter().flat_map(|secret| parts(secret.reveal())).map(|part| quoted(part, before, rest)).max().unwrap_or_default()
    }
}

/// Returns the parts of `value`: from each of its words to its end.
fn parts(value: &str) -> impl Iterator<Item = &str> {
    let begins = |index: usize| value[..index].chars().next_back().is_none_or(parts_words);
    value.char_indices().filter(move |(index, next)| begins(*index) && !next.is_whitespace()).map(|(index, _)| &value[index..])
}

/// Returns how many bytes at the beginning of `rest` are the beginning of `part`. The quote ends where a word of `part` ends, or
/// where the text ends.
fn quoted(part: &str, before: &str, rest: &str) -> usize {
    let same = part.char_indices().zip(rest.chars()).take_while(|((_, a), b)| a == b);
    let ends = same.map(|((index, a), _)| index + a.len_utf8()).filter(|end| {
        let ends_word = part[*end..].chars().next().is_none_or(parts_words);
        let cut = rest[*end..].chars().next().is_some_and(is_of_word) && is_in_word(&part[..*end]);
        *end == rest.len() || ends_word && !cut
    });
    // A quote at the end of the text and after a colon is what the text is about, so it is hidden however short it is.
    ends.filter(|end| *end >= SHORTEST || *end == rest.len() && before.ends_with(": ")).max().unwrap_or_default()
}

fn parts_words(char: char) -> bool {
    char.is_whitespace() || matches!(char, '=' | ',' | ';' | '"' | '\'')
}

fn is_of_word(char: char) -> bool {
    char.is_alphanumeric()
}

fn is_in_word(before: &str) -> bool {
    before.chars().next_back().is_some_and(is_of_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hide(values: &[(&str, &str)], text: &str) -> String {
        Secrets::among(values.iter().copied()).hide(text)
    }

    #[test]
    fn parts_of_a_value_are_hidden_and_what_is_beside_them_stays() {
        let config = ("sasl.oauthbearer.config", "principal=a scope=\"b, c\" hunter2 now");
        for (says, shown) in [
            (
                "Unrecognized sasl.oauthbearer.config beginning at: hunter2 now",
                "Unrecognized sasl.oauthbearer.config beginning at: …",
            ),
            ("beginning at: hunter2 now (after 3ms)", "beginning at: … (after 3ms)"),
            ("cut off within it: hunter2 n", "cut off within it: …"),
            ("cut off at once: h", "cut off at once: …"),
            ("cannot appear in principal: a", "cannot appear in …: …"),
            ("cannot appear: \"b,", "cannot appear: …"),
            ("a text about hunter22 and ahunter2", "a text about hunter22 and ahunter2"),
            ("all of it: principal=a scope=\"b, c\" hunter2 now", "all of it: …"),
        ] {
            assert_eq!(hide(&[config], says), shown, "{says}");
        }
    }

    #[test]
    fn whole_values_are_hidden_wherever_they_stand() {
        let values = [("sasl.password", "ab"), ("ssl.key.password", "abc"), ("sasl.username", "ü")];
        assert_eq!(hide(&values, "xabcx xabx ü"), "x…x x…x …");
    }

    #[test]
    fn what_is_no_secret_stays() {
        let values =
            [("client.id", "kafka"), ("security.protocol", "sasl_ssl"), ("ssl.ca.location", "ca.pem"), ("sasl.password", "")];
        let says = "sasl_ssl://kafka:9093: no CA in ca.pem for PLAIN";
        assert_eq!(hide(&values, says), says);
        let properties = [("client.id".into(), "CA".into()), ("sasl.password".into(), "hunter2".into())].into();
        let kafka = ClientSettings { properties, ..crate::testing::client() };
        assert_eq!(Secrets::of(&kafka).hide(&format!("{says}: hunter2")), format!("{says}: …"));
    }
}
