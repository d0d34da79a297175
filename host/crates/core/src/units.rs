//! Sizes and durations, as a configuration and messages about it have them.

const BYTE_UNITS: [(&str, u64); 7] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("B", 1)];
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// Returns a number of bytes as it is written: `32MiB`.
pub fn size(bytes: u64) -> String {
    let unit = BYTE_UNITS[..3].iter().rev().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{bytes}B"), |(name, factor)| format!("{}{name}", bytes / factor))
}

/// Reads a size with its unit, such as `4MiB`, as a number of bytes.
pub fn bytes(text: &str) -> Option<u64> {
    quantity(text, &BYTE_UNITS)
}

/// Reads a duration with its unit, such as `90s` or `2m`, as a number of milliseconds.
pub fn millis(text: &str) -> Option<u64> {
    quantity(text, &TIME_UNITS)
}

/// Reads `4MiB` as a number of the smallest unit.
fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|next: char| next.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
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
