//! Points in time as text: a template for what is only fixed-width numbers, chrono for everything else.
//!
//! The default format, and most that people write, have nothing but years, months, days, hours, minutes and seconds between
//! punctuation. Those are patched into a copy of a template, several times faster than a formatter that is interpreted.

use std::array;
use std::cell::RefCell;
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
///
/// Most times are of the same day as the time before, so the text is kept with that day filled in. What is written does not
/// depend on it, only how long that takes.
pub(crate) struct Template {
    today: RefCell<Today>,
    date: Vec<Hole>,
    /// Four at a time, because a loop costs a check a turn in Wasm. To make four of what is left, a hole is named again.
    time: Vec<[Hole; 4]>,
}

/// A template's text with a date in it.
struct Today {
    /// Since the epoch.
    day: u32,
    /// UTF-8.
    text: Vec<u8>,
}

/// Where to put two digits, and which: an index into what [`date_pairs`] gives or, from 4, [`time_pairs`] behind it.
#[derive(Clone, Copy)]
struct Hole {
    at: usize,
    pair: usize,
}

impl Template {
    /// The template of a format; none if it needs more than templates can do.
    fn of(items: &[Item<'_>]) -> Option<Template> {
        let (mut text, mut holes) = (String::new(), Vec::new());
        for item in items {
            match item {
                Item::Literal(piece) | Item::Space(piece) => text.push_str(piece),
                Item::OwnedLiteral(piece) | Item::OwnedSpace(piece) => text.push_str(piece),
                Item::Numeric(numeric, Pad::Zero) => {
                    for pair in pairs_of(numeric)? {
                        holes.push(Hole { at: text.len(), pair });
                        text.push_str("00");
                    }
                }
                Item::Numeric(..) | Item::Fixed(_) | Item::Error => return None,
            }
        }
        let (date, time): (Vec<Hole>, Vec<Hole>) = holes.into_iter().partition(|hole| hole.pair < 4);
        let time = time.chunks(4).map(|some| array::from_fn(|at| some[at % some.len()])).collect();
        let template = Template { today: RefCell::new(Today { day: 0, text: text.into_bytes() }), date, time };
        template.turn_to(0);
        Some(template)
    }

    #[inline]
    fn write(&self, seconds: i64, writer: &mut TextWriter<'_>) {
        let day = (seconds >> 7) as u32 / 675; // 86,400 is 675 * 2^7, and this way 32 bits are enough
        if day != self.today.borrow().day {
            self.turn_to(day);
        }
        let pairs = time_pairs((seconds - i64::from(day) * 86_400) as u32);
        let text = writer.push_template(&self.today.borrow().text);
        for four in &self.time {
            for hole in four {
                text[hole.at..hole.at + 2].copy_from_slice(&pairs[hole.pair % 4]);
            }
        }
    }

    /// Fills another day in.
    #[cold]
    #[inline(never)]
    fn turn_to(&self, day: u32) {
        let pairs = date_pairs(&Date::of(day));
        let mut today = self.today.borrow_mut();
        today.day = day;
        for hole in &self.date {
            today.text[hole.at..hole.at + 2].copy_from_slice(&pairs[hole.pair]);
        }
    }
}

/// A date as two digits each: century, year, month, day.
fn date_pairs(date: &Date) -> [[u8; 2]; 4] {
    let Date { year, month, day } = *date;
    four_pairs([year / 100, year % 100, month, day])
}

/// A second of a day as two digits each: hour, minute, second, and a zero.
#[inline]
fn time_pairs(second: u32) -> [[u8; 2]; 4] {
    let minute = second / 60;
    four_pairs([minute / 60, minute % 60, second % 60, 0])
}

/// Four numbers below 100 as two digits each, all at once: 16 bits for each, in which a tenth is 103/1024.
#[inline]
fn four_pairs(numbers: [u32; 4]) -> [[u8; 2]; 4] {
    let numbers = numbers.iter().rev().fold(0, |lanes, number| lanes << 16 | u64::from(*number));
    let tens = ((numbers * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = (tens + ((numbers - tens * 10) << 8) + 0x3030_3030_3030_3030).to_le_bytes();
    array::from_fn(|at| [digits[2 * at], digits[2 * at + 1]])
}

/// Which pairs make up an item, as a [`Hole`] names them; none if a template can't show it.
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

/// A day in the Gregorian calendar.
struct Date {
    year: u32,
    month: u32,
    day: u32,
}

impl Date {
    /// Years begin on 1 March here, so that the leap day is a year's last, and every quarter of 400 years has 146,097 quarters
    /// of a day. The month's first day is linear in the month, but for a fraction that is cut off; so is the year's. The
    /// factors are those of Neri and Schneider, "Euclidean affine functions": <https://doi.org/10.1002/spe.3172>.
    ///
    /// `day` is counted from the Unix epoch.
    fn of(day: u32) -> Date {
        const DAYS_FROM_MARCH_OF_YEAR_0: u32 = 719_468;
        const YEAR: u64 = 2_939_745; // 2^32 / 1461, and four years have 1461 days
        const MONTH: u32 = 2_141; // 2^16 / 30.61, the mean of the months from March to January
        let quarters = 4 * (day + DAYS_FROM_MARCH_OF_YEAR_0) + 3;
        let (century, day_of_century) = (quarters / 146_097, quarters % 146_097 / 4);
        let years = YEAR * u64::from(4 * day_of_century + 3);
        let day_of_year = (years as u32) / YEAR as u32 / 4;
        let months = MONTH * day_of_year + 197_913;
        let (month, day) = (months >> 16, (months & 0xffff) / MONTH + 1);
        let (month, next_year) = if month > 12 { (month - 12, 1) } else { (month, 0) };
        Date { year: century * 100 + (years >> 32) as u32 + next_year, month, day }
    }
}

#[cfg(test)]
mod tests {
    use weir_rule::time::LAST_SECOND;

    use super::*;

    #[test]
    fn the_calendar_agrees_with_chrono_on_every_day() {
        for day in 0..=(LAST_SECOND / 86_400) as u32 {
            let Date { year, month, day: of_month } = Date::of(day);
            let expected = DateTime::from_timestamp(i64::from(day) * 86_400, 0).unwrap().date_naive();
            assert_eq!(chrono::NaiveDate::from_ymd_opt(year as i32, month, of_month), Some(expected));
        }
    }

    #[test]
    fn the_time_of_day_agrees_with_a_clock_at_every_second() {
        for second in 0..86_400 {
            let clock = format!("{:02}{:02}{:02}00", second / 3_600, second / 60 % 60, second % 60);
            assert_eq!(time_pairs(second).as_flattened(), clock.as_bytes());
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
