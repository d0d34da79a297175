//! The time of day. The data loop, the loader and the view get it as an argument or from here, and pass it on.

/// Returns the milliseconds since the Unix epoch.
pub fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
