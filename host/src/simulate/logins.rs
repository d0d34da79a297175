//! A seeded, endless iterator over logins, some of them bad.
//!
//! Pure: the same options give the same messages. A message takes a fraction of a microsecond and one allocation, so a benchmark
//! can be fed with them: the constant values of a user are written once, when the users are created.

use fastrand::Rng;

use super::bad::{Alteration, DEFECTS, Defect};

/// Versions of the app, all of them new enough for the rules.
const VERSIONS: [&str; 6] = ["2.3.0", "2.3", "2.4.1", "2.10.0", "3.0.0", "3.1.4"];
const LOCALES: [&str; 8] = ["en_US", "en_GB", "de_DE", "fr_FR", "pt_BR", "ja_JP", "hi_IN", "ru_RU"];
/// One in so many timestamps is a string.
const QUOTED_ONE_IN: u32 = 8;
/// The percentage of users with Android. The others have iOS.
const ANDROID_PERCENT: u8 = 65;

/// The fields of a login, in their order.
pub const FIELDS: [&str; 7] = ["user_id", "app_version", "ip", "locale", "device_id", "timestamp", "device_type"];

/// The settings of the logins.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    /// The timestamp of the first login, in seconds since the epoch.
    pub start: i64,
    /// The number of logins after which the timestamp is a second later.
    pub per_second: u32,
    /// The share of bad logins, 0 to 1.
    pub bad_share: f64,
    /// The kinds of bad logins. If it is empty, all kinds that have a weight.
    pub kinds: Vec<&'static Defect>,
    /// The number of users.
    pub users: usize,
}

impl Default for Options {
    /// Returns the options of a configuration without settings. The logins begin with the year 2024.
    fn default() -> Options {
        let defaults = crate::config::Config::default().simulate;
        Options {
            seed: defaults.seed,
            start: 1_704_067_200,
            per_second: 1_000,
            bad_share: defaults.bad_share,
            kinds: Vec::new(),
            users: defaults.users,
        }
    }
}

/// A message as it is produced.
#[derive(Clone, Debug)]
pub struct GeneratedLogin {
    /// The user's id.
    pub key: [u8; UUID],
    /// The value. None for a tombstone.
    pub value: Option<Vec<u8>>,
    /// The kind of bad login. None for a good login.
    pub kind: Option<&'static Defect>,
}

/// The length of an id in text, in bytes.
const UUID: usize = 36;

/// An endless iterator over logins.
#[derive(Debug)]
pub struct Logins {
    rng: Rng,
    users: Vec<User>,
    /// The kinds of bad logins, each as often as its weight says.
    kinds: Vec<&'static Defect>,
    bad_share: f64,
    start: i64,
    per_second: u64,
    made: u64,
}

#[derive(Debug)]
struct User {
    id: [u8; UUID],
    device_id: [u8; UUID],
    locale: &'static str,
    device_type: &'static str,
}

/// The values that differ from one login of a user to the next.
struct Login<'a> {
    user: &'a User,
    version: &'static str,
    ip: [u8; 4],
    timestamp: i64,
    quoted: bool,
}

impl Logins {
    /// Returns the logins that `options` describes.
    pub fn new(options: &Options) -> Logins {
        let mut rng = Rng::with_seed(options.seed);
        let users = (0..options.users.max(1)).map(|_| User::new(&mut rng)).collect();
        let kinds = match options.kinds.is_empty() {
            true => DEFECTS.iter().flat_map(|kind| std::iter::repeat_n(kind, kind.weight)).collect(),
            false => options.kinds.iter().flat_map(|kind| std::iter::repeat_n(*kind, kind.weight.max(1))).collect(),
        };
        let per_second = u64::from(options.per_second.max(1));
        Logins { rng, users, kinds, bad_share: options.bad_share, start: options.start, per_second, made: 0 }
    }
}

impl Iterator for Logins {
    type Item = GeneratedLogin;

    fn next(&mut self) -> Option<GeneratedLogin> {
        let Logins { rng, users, kinds, .. } = self;
        let kind = (rng.f64() < self.bad_share).then(|| kinds[rng.usize(..kinds.len())]);
        let login = Login {
            user: &users[rng.usize(..users.len())],
            version: VERSIONS[rng.usize(..VERSIONS.len())],
            ip: rng.u32(..).to_be_bytes(),
            timestamp: self.start + (self.made / self.per_second) as i64,
            quoted: rng.u32(..QUOTED_ONE_IN) == 0,
        };
        self.made += 1;
        let value = match kind.map(|kind| &kind.edit) {
            None => Some(login.write()),
            Some(edit) => login.write_edited(edit, rng),
        };
        Some(GeneratedLogin { key: login.user.id, value, kind })
    }
}

impl User {
    fn new(rng: &mut Rng) -> User {
        User {
            id: uuid(rng.u128(..)),
            device_id: uuid(rng.u128(..)),
            locale: LOCALES[rng.usize(..LOCALES.len())],
            device_type: if rng.u8(..100) < ANDROID_PERCENT { "android" } else { "iOS" },
        }
    }
}

impl Login<'_> {
    /// The capacity for any good login, in bytes.
    const CAPACITY: usize = 256;

    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Login::CAPACITY);
        for field in FIELDS {
            name(&mut out, field);
            self.value(&mut out, field, self.quoted);
        }
        out.push(b'}');
        out
    }

    fn write_edited(&self, edit: &Alteration, rng: &mut Rng) -> Option<Vec<u8>> {
        match edit {
            Alteration::Tombstone => return None,
            Alteration::Whole(change) => {
                let mut value = self.write();
                change(&mut value, rng);
                return Some(value);
            }
            _ => {}
        }
        let mut out = Vec::with_capacity(Login::CAPACITY);
        for field in FIELDS {
            match edit {
                Alteration::Leave(name) if *name == field => continue,
                _ => name(&mut out, field),
            }
            match edit {
                Alteration::Set(name, values) if *name == field => {
                    out.extend_from_slice(values[rng.usize(..values.len())].as_bytes());
                }
                Alteration::Wrap(name, before, after) if *name == field => {
                    out.extend_from_slice(before.as_bytes());
                    self.value(&mut out, field, false);
                    out.extend_from_slice(after.as_bytes());
                }
                _ => self.value(&mut out, field, self.quoted),
            }
        }
        if let Alteration::Twice(field, value) = edit {
            name(&mut out, field);
            out.extend_from_slice(value.as_bytes());
        }
        out.push(b'}');
        Some(out)
    }

    /// Appends the value of `field`. A timestamp that is `quoted` is a string.
    fn value(&self, out: &mut Vec<u8>, field: &str, quoted: bool) {
        match field {
            "user_id" => text(out, &self.user.id),
            "app_version" => text(out, self.version.as_bytes()),
            "ip" => self.ip(out),
            "locale" => text(out, self.user.locale.as_bytes()),
            "device_id" => text(out, &self.user.device_id),
            "timestamp" if quoted => text(out, itoa::Buffer::new().format(self.timestamp).as_bytes()),
            "timestamp" => out.extend_from_slice(itoa::Buffer::new().format(self.timestamp).as_bytes()),
            _ => text(out, self.user.device_type.as_bytes()),
        }
    }

    fn ip(&self, out: &mut Vec<u8>) {
        for (index, part) in self.ip.iter().enumerate() {
            out.push(if index == 0 { b'"' } else { b'.' });
            out.extend_from_slice(itoa::Buffer::new().format(*part).as_bytes());
        }
        out.push(b'"');
    }
}

/// Begins a field: the separator from the field before, the name and a colon.
fn name(out: &mut Vec<u8>, name: &str) {
    out.push(if out.is_empty() { b'{' } else { b',' });
    text(out, name.as_bytes());
    out.push(b':');
}

/// Appends a string that needs no escapes.
fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Returns a UUID (version 4) of these random bits, in text.
fn uuid(random: u128) -> [u8; UUID] {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let mut digits = (0..32).rev().map(|index| b"0123456789abcdef"[(bits >> (4 * index)) as usize & 0xf]);
    std::array::from_fn(|index| match index {
        8 | 13 | 18 | 23 => b'-',
        _ => digits.next().unwrap_or(b'0'),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::bad::find;
    use super::*;

    fn only(kind: &str) -> impl Iterator<Item = Option<Vec<u8>>> {
        let options = Options { bad_share: 1.0, kinds: vec![find(kind).unwrap()], ..Options::default() };
        Logins::new(&options).take(50).map(|message| message.value)
    }

    fn parse(value: &[u8]) -> Value {
        serde_json::from_slice(value).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(value)))
    }

    #[test]
    fn a_good_login_has_all_members_in_order() {
        let options = Options { bad_share: 0.0, ..Options::default() };
        for message in Logins::new(&options).take(1_000) {
            let value = message.value.unwrap();
            assert!(value.len() <= Login::CAPACITY, "it would be allocated twice");
            let login = parse(&value);
            let fields: Vec<&String> = login.as_object().unwrap().keys().collect();
            assert_eq!(fields, FIELDS);
            assert_eq!(login["user_id"].as_str().unwrap().as_bytes(), message.key);
            assert!(login["ip"].as_str().unwrap().parse::<std::net::Ipv4Addr>().is_ok());
            assert!(message.kind.is_none());
        }
    }

    #[test]
    fn the_same_options_give_the_same_messages() {
        let bytes = |seed| -> Vec<_> {
            Logins::new(&Options { seed, bad_share: 0.5, ..Options::default() })
                .take(5_000)
                .map(|message| message.value)
                .collect()
        };
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    #[test]
    fn time_goes_on() {
        let options = Options { start: 100, per_second: 2, bad_share: 0.0, ..Options::default() };
        let seconds = |message: GeneratedLogin| match &parse(&message.value.unwrap())["timestamp"] {
            Value::String(text) => text.parse().unwrap(),
            number => number.as_i64().unwrap(),
        };
        assert_eq!(Logins::new(&options).take(5).map(seconds).collect::<Vec<i64>>(), [100, 100, 101, 101, 102]);
    }

    #[test]
    fn the_share_of_bad_ones_is_as_asked() {
        for (bad_share, expected) in [(0.0, 0..=0), (0.1, 900..=1_100), (1.0, 10_000..=10_000)] {
            let bad =
                Logins::new(&Options { bad_share, ..Options::default() }).take(10_000).filter(|message| message.kind.is_some());
            assert!(expected.contains(&bad.count()), "{bad_share}");
        }
    }

    #[test]
    fn every_kind_with_a_weight_occurs() {
        let options = Options { bad_share: 1.0, ..Options::default() };
        let mut seen: Vec<&str> = Logins::new(&options).take(20_000).filter_map(|message| Some(message.kind?.name)).collect();
        seen.sort_unstable();
        seen.dedup();
        let mut expected: Vec<&str> = DEFECTS.iter().filter(|kind| kind.weight > 0).map(|kind| kind.name).collect();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }

    #[test]
    fn ids_are_random_uuids() {
        assert_eq!(&uuid(0), b"00000000-0000-4000-8000-000000000000");
        assert_eq!(&uuid(u128::MAX), b"ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    /// The messages of each kind have the defect that its name says.
    #[test]
    fn each_kind_is_what_it_says() {
        for kind in DEFECTS {
            for value in only(kind.name) {
                let shown = value.as_deref().map(String::from_utf8_lossy);
                assert!(is_what_it_says(kind.name, value.as_deref()), "{}: {shown:?}", kind.name);
            }
        }
    }

    fn is_what_it_says(kind: &str, value: Option<&[u8]>) -> bool {
        let Some(bytes) = value else { return kind == "tombstone" };
        let text = String::from_utf8_lossy(bytes);
        let json = serde_json::from_slice::<Value>(bytes);
        let field = |name: &str| json.as_ref().ok().and_then(|login| login.get(name)).cloned();
        let number = |name: &str| field(name).and_then(|value| value.as_f64());
        match kind {
            "missing-app-version" => json.is_ok() && field("app_version").is_none(),
            "missing-device-type" => json.is_ok() && field("device_type").is_none(),
            "missing-timestamp" => json.is_ok() && field("timestamp").is_none(),
            "null-app-version" => field("app_version") == Some(Value::Null),
            "null-device-type" => field("device_type") == Some(Value::Null),
            "null-timestamp" => field("timestamp") == Some(Value::Null),
            "old-version" => ["2.2.9", "1.10.0", "0.9"].map(|old| Some(old.into())).contains(&field("app_version")),
            "pre-release" => field("app_version").is_some_and(|version| version.as_str().unwrap().starts_with("2.3.0-")),
            "malformed-version" => ["latest", "2..3", "", "v2.3.0"].map(|bad| Some(bad.into())).contains(&field("app_version")),
            "number-version" => number("app_version").is_some(),
            "millis-timestamp" => number("timestamp").is_some_and(|millis| (1e12..1e13).contains(&millis)),
            "malformed-timestamp" => field("timestamp").is_some_and(|time| time.as_str().unwrap().parse::<i64>().is_err()),
            "negative-timestamp" => number("timestamp") == Some(-1.0),
            "boolean-timestamp" => field("timestamp") == Some(Value::Bool(true)),
            "huge-integer" => number("timestamp").is_some_and(|huge| huge > u64::MAX as f64),
            "other-device" => field("device_type").is_some_and(|device| !["android", "iOS"].contains(&device.as_str().unwrap())),
            "number-device" => number("device_type").is_some(),
            "object-device" => field("device_type").is_some_and(|device| device.is_object()),
            "lone-surrogate" => text.contains(r#""device_type":"\ud800""#),
            "raw-nul" => json.is_err() && bytes.contains(&0),
            "raw-newline" => json.is_err() && bytes.contains(&b'\n'),
            "nan" => json.is_err() && text.contains(r#""timestamp":NaN"#),
            "leading-zero" => json.is_err() && text.contains(r#""timestamp":0"#),
            "duplicate-member" => json.is_ok() && text.matches("\"device_type\":").count() == 2,
            "broken-json" => json.is_err() && text.starts_with("{user_id:\""),
            "truncated-json" => json.is_err_and(|error| error.is_eof()),
            "comment" => json.is_err() && text.contains("/*"),
            "trailing-bytes" => json.is_err() && text.ends_with("} {}"),
            "byte-order-mark" => bytes.strip_prefix(b"\xef\xbb\xbf").is_some_and(|rest| parse(rest).is_object()),
            "not-utf8" => std::str::from_utf8(bytes).is_err(),
            "not-json" => json.is_err() && text == "user logged in",
            "not-an-object" => json.is_ok_and(|value| value.is_array()),
            "deep-nesting" => text.contains(&"[".repeat(1_000)) && !text.contains(&"[".repeat(1_001)),
            "very-deep" => text.contains(&"[".repeat(100_000)) && text.contains(&"]".repeat(100_000)),
            "huge-value" => json.is_ok() && bytes.len() > 1_000_000,
            "empty-value" => bytes.is_empty(),
            _ => false,
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_nearest() {
        let refusal = "there is no such kind; did you mean `tombstone`? `weir simulate --list-kinds` lists them all";
        assert_eq!(find("tombston").unwrap_err(), refusal);
    }
}
