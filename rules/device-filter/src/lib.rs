//! Keeps messages whose `device_type` is in a list, compared in lower case. Rejects all others, also values of other JSON types.
//!
//! With `normalise` the rule also rewrites the spelling to the one in the list; otherwise the bytes stay as they were sent.

use serde::Deserialize;
use weir_rule::{About, Field, Manifest, Output, Reason, Row, Rule, Verdict};

/// The settings of the rule.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The device types to keep, compared in lower case.
    pub allowed: Vec<String>,
    /// Whether `device_type` is rewritten to its spelling in `allowed`.
    pub normalise: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config { allowed: vec!["android".to_owned(), "iOS".to_owned()], normalise: false }
    }
}

/// The rule.
pub struct DeviceFilter {
    allowed: Vec<Device>,
    device_type: Field,
    normalised: Option<Output>,
    unsupported: Reason,
}

/// A device type that is kept.
struct Device {
    spelling: String,
    lowercase: String,
    /// The same in one number, if the name is short.
    packed: Option<Packed>,
}

/// A short name of ASCII in lower case: its length, and its bytes as one integer.
type Packed = (usize, u64);

impl Rule for DeviceFilter {
    const ABOUT: About = weir_rule::about!();
    type Config = Config;

    fn configure(config: Config, manifest: &mut Manifest) -> Result<DeviceFilter, String> {
        if config.allowed.is_empty() {
            return Err(
                "failed to read `allowed`: it is empty and would reject everything, list at least one device type".to_owned()
            );
        }
        Ok(DeviceFilter {
            allowed: config.allowed.into_iter().map(Device::new).collect(),
            device_type: manifest.reads("device_type"),
            normalised: config.normalise.then(|| manifest.writes("device_type")),
            unsupported: manifest.rejects("unsupported_device_type"),
        })
    }

    #[inline]
    fn evaluate(&self, row: &mut Row<'_>) -> Verdict {
        let Some((sent, device)) = row.text(self.device_type).and_then(|sent| Some((sent, self.find(sent)?))) else {
            return row.reject(self.unsupported, self.device_type);
        };
        if let Some(output) = self.normalised
            && sent != device.spelling
        {
            row.set_text(output, &device.spelling);
        }
        Verdict::Keep
    }
}

impl DeviceFilter {
    #[inline]
    fn find(&self, sent: &str) -> Option<&Device> {
        match packed(sent) {
            None => self.find_long(sent),
            short => self.allowed.iter().find(|device| device.packed == short),
        }
    }

    #[cold]
    fn find_long(&self, sent: &str) -> Option<&Device> {
        self.allowed.iter().find(|device| device.lowercase.eq_ignore_ascii_case(sent)).or_else(|| self.find_unicode(sent))
    }

    /// Compares in Unicode lower case. After a comparison that ignores the case of ASCII, only a name beyond ASCII can still
    /// match.
    #[cold]
    fn find_unicode(&self, sent: &str) -> Option<&Device> {
        if sent.is_ascii() {
            return None;
        }
        let lowercase = sent.to_lowercase();
        self.allowed.iter().find(|device| device.lowercase == lowercase)
    }
}

impl Device {
    fn new(spelling: String) -> Device {
        let lowercase = spelling.to_lowercase();
        Device { packed: packed(&lowercase), lowercase, spelling }
    }
}

/// Packs a name of 1 to 8 bytes of ASCII, in lower case. Its bytes are examined together: in Wasm every turn of a loop costs a
/// check.
#[inline]
fn packed(name: &str) -> Option<Packed> {
    const fn eight_times(byte: u8) -> u64 {
        u64::from_le_bytes([byte; 8])
    }
    let name = name.as_bytes();
    let at = |index: usize| u64::from(name[index]) << (8 * index);
    let bytes = match name.len() {
        // The first and the last bytes, some of them twice.
        4..=8 => {
            let (first, last) = (u32::from_le_bytes(*name.first_chunk()?), u32::from_le_bytes(*name.last_chunk()?));
            u64::from(first) | u64::from(last) << (8 * name.len() - 32)
        }
        1..=3 => at(0) | at(name.len() / 2) | at(name.len() - 1),
        _ => return None,
    };
    if bytes & eight_times(0x80) != 0 {
        return None;
    }
    // The sums set the highest bit of the bytes from `A` on, and of those behind `Z`.
    let upper = (bytes + eight_times(0x80 - b'A')) & !(bytes + eight_times(0x7f - b'Z')) & eight_times(0x80);
    Some((name.len(), bytes | upper >> 2))
}

weir_rule::export!(DeviceFilter);

#[cfg(test)]
mod tests {
    use weir_rule::serde_json::{Value, json};
    use weir_rule::test::{Harness, Judged};

    use super::*;

    fn judge(config: Value, device_type: &Value) -> Judged {
        Harness::<DeviceFilter>::new(config).unwrap().judge(json!({ "device_type": device_type }))
    }

    #[test]
    fn keeps_android_and_ios_in_any_case() {
        for name in ["android", "iOS", "ANDROID", "ios", "IOS", "Android"] {
            assert!(judge(json!({}), &json!(name)).is_kept(), "{name}");
        }
    }

    #[test]
    fn short_names_are_packed_in_lower_case() {
        for length in 1..=8 {
            for (place, byte) in (0..length).flat_map(|place| (0..=127).map(move |byte| (place, byte))) {
                let mut name = b"aZ@[`{z0"[..length].to_vec();
                name[place] = byte;
                let name = String::from_utf8(name).unwrap();
                let mut bytes = [0; 8];
                bytes[..length].copy_from_slice(name.to_ascii_lowercase().as_bytes());
                assert_eq!(packed(&name), Some((length, u64::from_le_bytes(bytes))), "{name:?}");
            }
        }
        for other in ["", "androids!", "é", "iOS\u{301}"] {
            assert_eq!(packed(other), None, "{other}");
        }
    }

    #[test]
    fn rejects_other_devices_with_what_was_sent() {
        for name in ["windows", "", " iOS", "androi", "androidd", "і\u{4f}S"] {
            let judged = judge(json!({}), &json!(name));
            assert_eq!((judged.reason(), judged.detail()), (Some("unsupported_device_type"), Some(name)));
        }
    }

    #[test]
    fn rejects_other_json_types_too() {
        let cases =
            [(json!(7), "7"), (json!(true), "true"), (Value::Null, "null"), (json!(["iOS"]), "[\"iOS\"]"), (json!({}), "{}")];
        for (sent, detail) in cases {
            let judged = judge(json!({}), &sent);
            assert_eq!((judged.reason(), judged.detail()), (Some("unsupported_device_type"), Some(detail)));
        }
    }

    #[test]
    fn a_device_type_that_is_not_there_is_named() {
        let judged = Harness::<DeviceFilter>::new(json!({})).unwrap().judge(json!({}));
        assert_eq!((judged.reason(), judged.detail()), (Some("unsupported_device_type"), Some("`device_type` is missing")));
    }

    #[test]
    fn the_detail_is_bounded_and_cuts_no_character() {
        let judged = judge(json!({}), &json!("é".repeat(10_000)));
        assert_eq!(judged.detail().unwrap().len(), 1_024);
        assert_eq!(judge(json!({}), &json!("€".repeat(10_000))).detail().unwrap().len(), 1_023);
    }

    #[test]
    fn compares_in_lower_case_beyond_ascii_and_folds_nothing() {
        let allowed = json!({ "allowed": ["Téléphone", "K"] });
        assert!(judge(allowed.clone(), &json!("TÉLÉPHONE")).is_kept());
        assert!(judge(allowed.clone(), &json!("\u{212a}")).is_kept(), "the Kelvin sign is a K");
        assert!(!judge(allowed, &json!("telephone")).is_kept());
        let allowed = json!({ "allowed": ["Straße", "ΣΙΓΜΑΣ", "iOS"] });
        for other in ["STRASSE", "σιγμασ", "ıOS", "iOſ"] {
            assert!(!judge(allowed.clone(), &json!(other)).is_kept(), "{other}");
        }
    }

    #[test]
    fn leaves_the_spelling_alone_unless_told_to_normalise() {
        assert!(Harness::<DeviceFilter>::new(json!({})).unwrap().manifest().writes.is_empty());
        let normalise = json!({ "normalise": true });
        assert_eq!(judge(normalise.clone(), &json!("ANDROID")).written("device_type"), Some(json!("android")));
        assert_eq!(judge(normalise.clone(), &json!("ios")).written("device_type"), Some(json!("iOS")));
        assert_eq!(judge(normalise, &json!("iOS")).written("device_type"), None, "it is spelt right already");
    }

    #[test]
    fn refuses_a_configuration_that_cannot_be_meant() {
        for (config, named) in
            [(json!({ "allowed": [] }), "`allowed`"), (json!({ "alowed": ["iOS"] }), "`alowed`"), (json!([]), "configuration")]
        {
            let error = Harness::<DeviceFilter>::new(config).err().unwrap();
            assert!(error.contains(named), "{error}");
        }
    }
}

/// The rule in the README of the project is compiled and tested as it stands there, in a crate like that of any rule.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
