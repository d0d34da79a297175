//! Suggests the known name that is nearest to a misspelt one.

/// The least likeness of two keys, from 0 to 1, at which one is suggested for the other.
const ALIKE: f64 = 0.6;
/// The likeness of a key to the only known key that begins with it.
const BEGUN: f64 = 0.8;

/// Returns "; did you mean `…`?" if one of `known` is like `given`, otherwise an empty text.
pub fn suggestion<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    // Suggests `WEIR_LOG_LEVEL` for `WEIR_LOG`, if no other known name begins like that.
    let beginning = |known: &str| known.strip_prefix(given).is_some_and(|rest| rest.starts_with(['.', '_']));
    let is_one = known.iter().filter(|known| beginning(known)).count() == 1;
    let likeness = |known: &str| {
        let misplaced = known.rsplit('.').next() == given.rsplit('.').next();
        let least = if is_one && beginning(known) {
            BEGUN
        } else if misplaced {
            ALIKE
        } else {
            0.0
        };
        strsim::normalized_damerau_levenshtein(given, known).max(least)
    };
    let nearest = known.into_iter().map(|known| (likeness(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    nearest.filter(|(likeness, _)| *likeness >= ALIKE).map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}
