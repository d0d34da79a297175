//! Sizes in messages, as a configuration states them.

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Returns a number of bytes as a key of the configuration takes it, without rounding: `32MiB`, `1000B`.
pub fn size(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_not_rounded() {
        for (bytes, text) in [(32 << 20, "32MiB"), (1 << 30, "1GiB"), (96 << 10, "96KiB"), (1_000, "1000B"), (0, "0B")] {
            assert_eq!(size(bytes), text);
        }
    }
}
