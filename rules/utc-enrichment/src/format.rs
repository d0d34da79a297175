//! Points in time as text: a template for what is only fixed-width numbers, chrono for everything else.
//!
//! The default format, and most that people write, have nothing but years, months, days, hours, minutes and seconds between
//! punctuation. Those are patched into a copy of a template, several times faster than a formatter that is interpreted.

use std::array;
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
    /// Four at a time, because a loop costs a check a turn in Wasm. To make four of what is left, a hole is named again.
    holes: Vec<[Hole; 4]>,
}

/// Where to put two digits, and which: an index into what [`pairs`] gives.
#[derive(Clone, Copy)]
struct Hole {
    at: usize,
    pair: usize,
}

impl Template {
    /// The template of a format; none if it needs more than templates can do.
    fn of(items: &[Item<'_>]) -> Option<Template> {
        let (mut all, mut holes) = (String::new(), Vec::new());
        for item in items {
            match item {
                Item::Literal(text) | Item::Space(text) => all.push_str(text),
                Item::OwnedLiteral(text) | Item::OwnedSpace(text) => all.push_str(text),
                Item::Numeric(numeric, Pad::Zero) => {
                    for pair in pairs_of(numeric)? {
                        holes.push(Hole { at: all.len(), pair });
                        all.push_str("00");
                    }
                }
                Item::Numeric(..) | Item::Fixed(_) | Item::Error => return None,
            }
        }
        Some(Template { text: all, holes: holes.chunks(4).map(|some| array::from_fn(|at| some[at % some.len()])).collect() })
    }

    #[inline]
    fn write(&self, seconds: i64, writer: &mut TextWriter<'_>) {
        let pairs = pairs(&Civil::of(seconds));
        let text = writer.push_template(&self.text);
        for four in &self.holes {
            for hole in four {
                text[hole.at..hole.at + 2].copy_from_slice(&pairs[hole.pair]);
            }
        }
    }
}

/// Everything a template can show, as two digits each: century, year, month, day; hour, minute, second, and a zero.
#[inline]
fn pairs(time: &Civil) -> [[u8; 2]; 8] {
    let Civil { year, month, day, second } = *time;
    let date = four_pairs([year / 100, year % 100, month, day]);
    let time = four_pairs([second / 3_600, second / 60 % 60, second % 60, 0]);
    [date[0], date[1], date[2], date[3], time[0], time[1], time[2], time[3]]
}

/// Four numbers below 100 as two digits each, all at once: 16 bits for each, in which a tenth is 103/1024.
#[inline]
fn four_pairs(numbers: [u32; 4]) -> [[u8; 2]; 4] {
    let numbers = numbers.iter().rev().fold(0, |lanes, number| lanes << 16 | u64::from(*number));
    let tens = (numbers * 103 >> 10) & 0x000f_000f_000f_000f;
    let digits = (tens + ((numbers - tens * 10) << 8) + 0x3030_3030_3030_3030).to_le_bytes();
    array::from_fn(|at| [digits[2 * at], digits[2 * at + 1]])
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
    /// Years begin on 1 March here, so that the leap day is a year's last, and every quarter of 400 years has 146,097 quarters
    /// of a day. The month's first day is linear in the month, but for a fraction that is cut off; so is the year's. The
    /// factors are those of Neri and Schneider, "Euclidean affine functions": <https://doi.org/10.1002/spe.3172>.
    #[inline]
    fn of(seconds: i64) -> Civil {
        const DAYS_FROM_MARCH_OF_YEAR_0: u32 = 719_468;
        const YEAR: u64 = 2_939_745; // 2^32 / 1461, and four years have 1461 days
        const MONTH: u32 = 2_141; // 2^16 / 30.61, the mean of the months from March to January
        let day = (seconds >> 7) as u32 / 675; // 86,400 is 675 * 2^7, and this way 32 bits are enough
        let second = (seconds - i64::from(day) * 86_400) as u32;

        let quarters = 4 * (day + DAYS_FROM_MARCH_OF_YEAR_0) + 3;
        let (century, day_of_century) = (quarters / 146_097, quarters % 146_097 / 4);
        let years = YEAR * u64::from(4 * day_of_century + 3);
        let day_of_year = (years as u32) / YEAR as u32 / 4;
        let months = MONTH * day_of_year + 197_913;
        let (month, day) = (months >> 16, (months & 0xffff) / MONTH + 1);
        let (month, next_year) = if month > 12 { (month - 12, 1) } else { (month, 0) };
        Civil { year: century * 100 + (years >> 32) as u32 + next_year, month, day, second }
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
