//! A format of fixed-width numbers: years, months, days, hours, minutes and seconds between literals.
//!
//! The default format of `utc-enrichment`, and most others in use, need no more. The numbers are written into a copy of the
//! text, several times faster than a formatter that interprets its format for each message.
//!
//! Names of months and weekdays, numbers without leading zeros, fractions of a second and time zones are left out: chrono has
//! them.

use std::array;
use std::cell::RefCell;

use super::LAST_SECOND;
use crate::TextWriter;

/// A format of strftime that consists of `%Y`, `%m`, `%d`, `%H`, `%M`, `%S`, their combinations `%F`, `%T` and `%R`, `%%`, and
/// other text. Times are in UTC.
///
/// ```
/// use weir_rule::time::Template;
///
/// assert!(Template::parse("%Y-%m-%d %H:%M:%S").is_some());
/// assert!(Template::parse("%-d %B %Y").is_none(), "a day without a leading zero, and the name of a month");
/// ```
pub struct Template {
    /// Most times are of the same day as the time before, so the text is kept with that day filled in. The day changes only the
    /// time that writing takes, never the output.
    today: RefCell<Today>,
    date: Vec<Hole>,
    /// Holes in groups of four, because each turn of a loop costs a check in Wasm. The last group may repeat a hole.
    time: Vec<[Hole; 4]>,
}

/// The text of a template with a date in it.
struct Today {
    /// The day, counted from the Unix epoch.
    day: u32,
    /// UTF-8.
    text: Vec<u8>,
}

/// A place for two digits.
#[derive(Clone, Copy)]
struct Hole {
    /// The offset in the text.
    at: usize,
    /// The index of the digits in the result of [`date_pairs`] or, from 4, in that of [`time_pairs`] behind it.
    pair: usize,
}

impl Template {
    /// Reads a format string. Returns `None` if it needs more than a template can do, or is no format of strftime.
    pub fn parse(format: &str) -> Option<Template> {
        let (mut text, mut holes, mut rest) = (String::new(), Vec::new(), format);
        while let Some((literal, specifier)) = rest.split_once('%') {
            text.push_str(literal);
            let mut specifier = specifier.chars();
            let items = match specifier.next()? {
                'F' => "Y-m-d",
                'T' => "H:M:S",
                'R' => "H:M",
                'Y' => "Y",
                'm' => "m",
                'd' => "d",
                'H' => "H",
                'M' => "M",
                'S' => "S",
                '%' => "%",
                _ => return None,
            };
            for item in items.chars() {
                let pairs = match item {
                    'Y' => 0..2,
                    'm' => 2..3,
                    'd' => 3..4,
                    'H' => 4..5,
                    'M' => 5..6,
                    'S' => 6..7,
                    literal => {
                        text.push(literal);
                        continue;
                    }
                };
                for pair in pairs {
                    holes.push(Hole { at: text.len(), pair });
                    text.push_str("00");
                }
            }
            rest = specifier.as_str();
        }
        text.push_str(rest);
        let (date, time): (Vec<Hole>, Vec<Hole>) = holes.into_iter().partition(|hole| hole.pair < 4);
        let time = time.chunks(4).map(|some| array::from_fn(|at| some[at % some.len()])).collect();
        let template = Template { today: RefCell::new(Today { day: 0, text: text.into_bytes() }), date, time };
        template.turn_to(0);
        Some(template)
    }

    /// Writes a point in time: seconds since the Unix epoch, as [`epoch_seconds`](super::epoch_seconds) returns them.
    ///
    /// # Panics
    /// If `seconds` is below 0 or above [`LAST_SECOND`].
    #[inline]
    pub fn write(&self, seconds: i64, mut writer: TextWriter<'_>) {
        assert!((0..=LAST_SECOND).contains(&seconds), "{seconds} is outside the years 1970 to 9999");
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

/// Returns a date as two digits each: century, year, month, day.
fn date_pairs(date: &Date) -> [[u8; 2]; 4] {
    let Date { year, month, day } = *date;
    four_pairs([year / 100, year % 100, month, day])
}

/// Returns a second of a day as two digits each: hour, minute, second, and a zero.
#[inline]
fn time_pairs(second: u32) -> [[u8; 2]; 4] {
    let minute = second / 60;
    four_pairs([minute / 60, minute % 60, second % 60, 0])
}

/// Returns four numbers below 100 as two digits each, computed at once: 16 bits for each number, in which a tenth is 103/1024.
#[inline]
fn four_pairs(numbers: [u32; 4]) -> [[u8; 2]; 4] {
    let numbers = numbers.iter().rev().fold(0, |lanes, number| lanes << 16 | u64::from(*number));
    let tens = ((numbers * 103) >> 10) & 0x000f_000f_000f_000f;
    let digits = (tens + ((numbers - tens * 10) << 8) + 0x3030_3030_3030_3030).to_le_bytes();
    array::from_fn(|at| [digits[2 * at], digits[2 * at + 1]])
}

/// A day in the Gregorian calendar.
struct Date {
    year: u32,
    month: u32,
    day: u32,
}

impl Date {
    /// Returns the date of a day, which is counted from the Unix epoch.
    ///
    /// The algorithm begins years on 1 March, so that the leap day is the last day of its year, and every quarter of 400 years
    /// has 146,097 quarters of a day. The first day of a month is linear in the month, except for a fraction that is cut off; so
    /// is the first day of a year. The factors are those of Neri and Schneider, "Euclidean affine functions":
    /// <https://doi.org/10.1002/spe.3172>.
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
    use chrono::DateTime;

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
            ["%Y-%m-%d %H:%M:%S", "%FT%TZ", "%d/%m/%Y", "%R", "", "à %H h", "100 %%", "a text that is longer than most, %Y"]
        {
            assert!(Template::parse(format).is_some(), "{format}");
        }
        for format in ["%-d", "%e", "%B", "%j", "%+", "%s", "%", "%Y-%Q", "100 %"] {
            assert!(Template::parse(format).is_none(), "{format}");
        }
    }
}
