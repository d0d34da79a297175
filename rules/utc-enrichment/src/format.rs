//! Points in time as text: a template for what is only fixed-width numbers, chrono for everything else.
//!
//! The default format, and most that people write, have nothing but years, months, days, hours, minutes and seconds between
//! punctuation. Those are patched into a copy of a template, several times faster than a formatter that is interpreted.

use std::fmt::Write;

use chrono::DateTime;
use chrono::format::{Item, Numeric, Pad, StrftimeItems};
use weir_rule::TextWriter;

/// A format string, taken apart once.
pub(crate) enum Format {
    /// Fixed-width numbers and literals.
    Template(Template),
    /// Anything else that chrono knows.
    Chrono(Vec<Item<'static>>),
}

impl Format {
    /// Takes a format string of strftime apart.
    ///
    /// # Errors
    /// That it is none, and where the good ones are listed.
    pub(crate) fn parse(format: &str) -> Result<Format, String> {
        let refuse = || {
            format!(
                "failed to read `format`: `{format}` is no strftime format, see https://docs.rs/chrono/latest/chrono/format/strftime"
            )
        };
        let items = StrftimeItems::new(format).parse_to_owned().map_err(|_| refuse())?;
        if let Some(template) = Template::of(&items) {
            return Ok(Format::Template(template));
        }
        // Some formats can only be read, not written. That shows now, not at the first message.
        with_chrono(&items, 0, &mut String::new()).ok_or_else(refuse)?;
        Ok(Format::Chrono(items))
    }

    /// Writes a point in time: seconds since the Unix epoch, from 0 to the end of the year 9999.
    #[inline]
    pub(crate) fn write(&self, seconds: i64, mut text: TextWriter<'_>) {
        match self {
            Format::Template(template) => template.write(seconds, &mut text),
            Format::Chrono(items) => with_chrono(items, seconds, &mut text).expect("the format was tried when it was read"),
        }
    }
}

fn with_chrono(items: &[Item<'_>], seconds: i64, text: &mut impl Write) -> Option<()> {
    write!(text, "{}", DateTime::from_timestamp(seconds, 0)?.format_with_items(items.iter())).ok()
}

/// A text with holes for numbers of two digits.
pub(crate) struct Template {
    text: String,
    holes: Vec<Hole>,
}

/// Where to put two digits, and which: an index into what [`pairs`] gives.
struct Hole {
    at: usize,
    pair: usize,
}

impl Template {
    /// The template of a format; none if it needs more than templates can do.
    fn of(items: &[Item<'_>]) -> Option<Template> {
        let mut template = Template { text: String::new(), holes: Vec::new() };
        for item in items {
            match item {
                Item::Literal(text) | Item::Space(text) => template.text.push_str(text),
                Item::OwnedLiteral(text) | Item::OwnedSpace(text) => template.text.push_str(text),
                Item::Numeric(numeric, Pad::Zero) => {
                    for pair in pairs_of(numeric)? {
                        template.holes.push(Hole { at: template.text.len(), pair });
                        template.text.push_str("00");
                    }
                }
                Item::Numeric(..) | Item::Fixed(_) | Item::Error => return None,
            }
        }
        Some(template)
    }

    #[inline]
    fn write(&self, seconds: i64, writer: &mut TextWriter<'_>) {
        let pairs = pairs(&Civil::of(seconds));
        let text = writer.push_template(&self.text);
        for hole in &self.holes {
            let pair = pairs[hole.pair];
            text[hole.at] = b'0' + pair / 10;
            text[hole.at + 1] = b'0' + pair % 10;
        }
    }
}

/// Everything a template can show, as numbers below 100: century, year, month, day, hour, minute, second.
#[inline]
fn pairs(time: &Civil) -> [u8; 7] {
    let Civil { year, month, day, second } = time;
    [year / 100, year % 100, *month, *day, second / 3_600, second / 60 % 60, second % 60].map(|number| number as u8)
}

/// Which of the [`pairs`] make up an item; none if a template can't show it.
fn pairs_of(numeric: &Numeric) -> Option<std::ops::Range<usize>> {
    Some(match numeric {
        Numeric::Year => 0..2,
        Numeric::Month => 2..3,
        Numeric::Day => 3..4,
        Numeric::Hour => 4..5,
        Numeric::Minute => 5..6,
        Numeric::Second => 6..7,
        _ => return None,
    })
}

/// A point in time in the Gregorian calendar, UTC.
struct Civil {
    year: u32,
    month: u32,
    day: u32,
    /// Of the day.
    second: u32,
}

impl Civil {
    /// The calendar repeats every 400 years, in which there are 146,097 days. Counted in years that begin on 1 March the leap
    /// day is a year's last, so that the lengths of the months before it are regular: 153 days in every five.
    #[inline]
    fn of(seconds: i64) -> Civil {
        const DAYS_FROM_MARCH_OF_YEAR_0: u32 = 719_468;
        let days = (seconds / 86_400) as u32 + DAYS_FROM_MARCH_OF_YEAR_0;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let (month, next_year) = if month_from_march < 10 { (month_from_march + 3, 0) } else { (month_from_march - 9, 1) };
        Civil {
            year: era * 400 + year_of_era + next_year,
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            second: (seconds % 86_400) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_rule::time::LAST_SECOND;

    use super::*;

    fn civil_text(seconds: i64) -> String {
        let Civil { year, month, day, second } = Civil::of(seconds);
        format!("{year:04}-{month:02}-{day:02} {second}")
    }

    /// A step that is prime and less than a day meets every day of the range, at ever different times of day.
    #[test]
    fn the_calendar_agrees_with_chrono_on_every_day() {
        for seconds in (0..=LAST_SECOND).step_by(86_399).chain([LAST_SECOND]) {
            let time = DateTime::from_timestamp(seconds, 0).unwrap();
            let naive = (time.date_naive(), seconds % 86_400);
            let Civil { year, month, day, second } = Civil::of(seconds);
            let date = chrono::NaiveDate::from_ymd_opt(year as i32, month, day);
            assert_eq!((date, i64::from(second)), (Some(naive.0), naive.1), "{}", civil_text(seconds));
        }
    }

    #[test]
    fn only_fixed_width_formats_are_templates() {
        for format in
            ["%Y-%m-%d %H:%M:%S", "%FT%TZ", "%d/%m/%Y", "", "à %H h", "a text that is longer than a template is by rights, %Y"]
        {
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
