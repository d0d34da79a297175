//! The time of day, for what passes it on: the data loop, the loader and the view take it as an argument or from here.

/// Milliseconds since the epoch.
pub fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
