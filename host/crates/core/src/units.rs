//! Sizes, as a configuration and messages about it have them.

/// The largest binary unit comes first, because [`size`] takes the first one that divides a number.
const UNITS: [(&str, u64); 7] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000)];

/// Returns a number of bytes as [`bytes`] reads it, without rounding: `32MiB`, `1000B`.
pub fn size(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// Reads a size with its unit, such as `4MiB`, as a number of bytes.
///
/// The crate `bytesize` reads more than sizes: `4Mib`, which is 4 mebibits, as 4 MiB, and `1.7B` as 1.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|next: char| next.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_said_as_it_is_written() {
        for (number, said) in [(32 << 20, "32MiB"), (1 << 30, "1GiB"), (96 << 10, "96KiB"), (1_000, "1000B"), (0, "0B")] {
            assert_eq!(size(number), said);
            assert_eq!(bytes(said), Some(number), "and is read as the same");
        }
    }
}
