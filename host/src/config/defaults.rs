//! Every default, and with them every key that there is: what is not here is unknown.

/// The defaults in the form in which a configuration is written. `weir.toml` in the root explains each; a test holds the two
/// together.
pub(super) const DEFAULTS: &str = r#"
[kafka]
brokers = "localhost:9092"
group = "weir"
delivery = "exactly-once"
transactional_id = ""
start = "earliest"
headers = true

[topics]
input = "user-login"
output = "processed-user-login"
rejected = "user-login-rejected"
counts = "device_type_count"
create = true
partitions = 3
replication = 1

[batch]
rows = 20000
bytes = "4MiB"
linger = "5ms"

[counts]
member = "device_type"
every = "60s"
emit_empty = false
on_bad_state = "stop"

[rules]
folder = "rules/dist"
pipeline = ["validation", "utc-enrichment", "device-filter"]
watch = true
state = ""
history = 20
compile_memory = ""
compile_time = "30s"

[trial]
records = 10000
time = "60s"
faults = 0.01
rejections = 0.2
fewer_rejections = 0.5

[shadow]
share = 0.1

[admin]
listen = "127.0.0.1:8081"
token = ""
token_file = ""

[log]
level = "info"

[simulate]
rate = 100
count = 10000
seed = 1
bad_share = 0.1
users = 1000
"#;

/// The defaults of each rule, under `[rule.NAME]`. An empty `file` stands for `NAME.wasm` in `rules.folder`.
pub(super) const RULE_DEFAULTS: &str = r#"
file = ""
on_reject = "dead-letter"
on_fault = "dead-letter"
memory = "32MiB"
tables = 20000
instances = 10
stack = "512KiB"
result = "64MiB"
deadline = "1s"
config = {}
"#;

/// Other names of keys: what stands there is for the key, and a number is one of this unit.
pub(super) const ALIASES: [(&str, &str, &str); 1] = [("trial.seconds", "trial.time", "s")];

/// Tables whose keys are others' to define: librdkafka's and the broker's.
pub(super) const OPEN_TABLES: [&str; 2] = ["kafka.properties", "topics.settings"];

/// Keys and tables whose values are never shown: they are secrets, or in a place where one may be put by mistake.
pub(super) const SECRETS: [&str; 3] = ["admin.token", "admin.token_file", "kafka.properties"];
