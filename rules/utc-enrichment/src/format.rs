//! The format of a time: a template if it has only fixed-width numbers, chrono for every other format of strftime.

use std::fmt::Write;

use chrono::DateTime;
use chrono::format::{Item, StrftimeItems};
use weir_rule::TextWriter;
use weir_rule::time::Template;

/// A format string, parsed once.
pub(crate) enum Format {
    /// Fixed-width numbers and literals.
    Template(Template),
    /// Any other format that chrono knows.
    Chrono(Vec<Item<'static>>),
}

impl Format {
    /// Parses a format string of strftime.
    ///
    /// # Errors
    /// If `format` is no strftime format, or one that can only be read. The message links to the list of formats.
    pub(crate) fn parse(format: &str) -> Result<Format, String> {
        if let Some(template) = Template::parse(format) {
            return Ok(Format::Template(template));
        }
        let refuse = || {
            format!(
                "failed to read `format`: `{format}` is no strftime format, see https://docs.rs/chrono/latest/chrono/format/strftime"
            )
        };
        let items = StrftimeItems::new(format).parse_to_owned().map_err(|_| refuse())?;
        // Some formats can only be read, not written. A trial shows that now, not at the first message.
        with_chrono(&items, 0, &mut String::new()).ok_or_else(refuse)?;
        Ok(Format::Chrono(items))
    }

    /// Writes a point in time: seconds since the Unix epoch, from 0 to the end of the year 9999.
    #[inline]
    pub(crate) fn write(&self, seconds: i64, mut text: TextWriter<'_>) {
        match self {
            Format::Template(template) => template.write(seconds, text),
            Format::Chrono(items) => with_chrono(items, seconds, &mut text).expect("the format was tried when it was read"),
        }
    }
}

fn with_chrono(items: &[Item<'_>], seconds: i64, text: &mut impl Write) -> Option<()> {
    write!(text, "{}", DateTime::from_timestamp(seconds, 0)?.format_with_items(items.iter())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_used_where_they_can() {
        for format in ["%Y-%m-%d %H:%M:%S", "%FT%TZ", "%d/%m/%Y", "", "à %H h", "a text that is longer than most, %Y"] {
            assert!(matches!(Format::parse(format), Ok(Format::Template(_))), "{format}");
        }
        for format in ["%-d", "%e", "%B", "%j", "%+", "%s"] {
            assert!(matches!(Format::parse(format), Ok(Format::Chrono(_))), "{format}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_written() {
        for format in ["%", "%Y-%Q", "%!", "%#z"] {
            let error = Format::parse(format).err().unwrap();
            assert!(error.contains(&format!("`{format}` is no strftime format")), "{error}");
        }
    }
}
