//! Dates in fields (RFC 9110 §5.6.7).
//!
//! [`httpdate`] does most of it: the three forms, case-sensitive and in GMT, a weekday that fits the day. What it does
//! not do, and what is done here:
//!
//! - It takes the century of a two-digit year from a table; the rule is a window around the present.
//! - It refuses leap seconds, which the grammar has.
//! - It trims what it reads, and panics at times that no field can hold.
//!
//! Dates before 1970 are refused. A weekday that does not fit makes a date invalid: RFC 9110 is silent, and RFC 5322
//! §3.3, whence the form comes, demands that it fits. RFC 9111 §4.2 would have caches read dates in any case of letters,
//! as they should not be written; here they are invalid, and what is invalid is never fresh (§5.3) and matches nothing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// Half a century of Gregorian years, which have 365.2425 days.
const HALF_A_CENTURY: Duration = Duration::from_secs(50 * 31_556_952);

/// The first second of the year 10000.
const END: Duration = Duration::from_secs(253_402_300_800);

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Reads any of the three forms. `now` tells the century of a two-digit year.
pub(in crate::middleware) fn parse(text: &[u8], now: SystemTime) -> Option<SystemTime> {
    let text = str::from_utf8(text).ok().filter(|text| text.is_ascii() && text.trim() == *text)?;
    let steady = text.replacen("23:59:60", "23:59:59", 1);
    let leap = Duration::from_secs((steady != text).into());
    let whole_weekday =
        WEEKDAYS.iter().find_map(|day| Some((&day[..3], steady.strip_prefix(day)?.strip_prefix(", ")?)));
    let time = match whole_weekday {
        Some((weekday, rest)) => two_digit_year(weekday, rest, now)?,
        None => httpdate::parse_http_date(&steady).ok()?,
    };
    Some(time + leap)
}

/// The preferred form; `None` before 1970 and after 9999.
pub(in crate::middleware) fn format(time: SystemTime) -> Option<HeaderValue> {
    HeaderValue::try_from(fixdate(time)?).ok()
}

fn fixdate(time: SystemTime) -> Option<String> {
    let within = time.duration_since(UNIX_EPOCH).is_ok_and(|since| since < END);
    within.then(|| httpdate::fmt_http_date(time))
}

/// `06-Nov-94 08:49:37 GMT`, which is read as the preferred form with the latest century that is not "more than 50 years
/// in the future".
fn two_digit_year(weekday: &str, rest: &str, now: SystemTime) -> Option<SystemTime> {
    let (day, time) = (rest.get(..2)?, rest.get(9..)?);
    let month = rest.get(2..7)?.strip_prefix('-')?.strip_suffix('-')?;
    let year: u16 = rest.get(7..9).filter(|year| year.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
    let latest = now.checked_add(HALF_A_CENTURY)?;
    let latest_year: u16 = fixdate(latest)?.get(12..16)?.parse().ok()?;
    let at = |year: u16| httpdate::parse_http_date(&format!("{weekday}, {day} {month} {year}{time}")).ok();
    let candidate = latest_year - (latest_year - year) % 100;
    // The year in which the window ends belongs to it in part.
    let ends = candidate == latest_year;
    at(candidate).filter(|time| *time <= latest).or_else(|| if ends { at(candidate - 100) } else { None })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const EXAMPLE: u64 = 784_111_777;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn read(text: &str, now: &str) -> Option<u64> {
        let now = parse(now.as_bytes(), UNIX_EPOCH).unwrap();
        parse(text.as_bytes(), now).map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    const NOW: &str = "Sat, 21 Nov 2026 06:00:00 GMT";

    /// "A recipient that parses a timestamp value in an HTTP field MUST accept all three HTTP-date formats."
    #[test]
    fn three_forms() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(text, NOW), Some(EXAMPLE), "{text}");
        }
        assert_eq!(read("Sun Nov 06 08:49:37 1994", NOW), Some(EXAMPLE));
        assert_eq!(read("Thu, 29 Feb 2024 00:00:00 GMT", NOW), Some(1_709_164_800));
    }

    /// Fails if anything else is taken for a date, surrounding blanks among them.
    #[test]
    fn nothing_else() {
        for text in [
            "",
            "0",
            "-1",
            "784111777",
            "sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 gmt",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun 06 Nov 1994 08:49:37 GMT",
            "06 Nov 1994 08:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:60 GMT",
            "Wed, 30 Feb 1994 08:49:37 GMT",
            " Sun, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Monday, 06-Nov-94 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Saturday, 06-Nov-+4 08:49:37 GMT",
            "Sunday, 06 Nov 94 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 UTC",
            "Sunday, 6-Nov-94 08:49:37 GMT",
            "Sunday, ",
            "Sunday, é-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 94",
            "Wed, 31 Dec 1969 23:59:59 GMT",
        ] {
            assert_eq!(read(text, NOW), None, "{text}");
        }
        assert_eq!(parse(b"\xff", UNIX_EPOCH), None);
    }

    /// "Recipients of a timestamp value in rfc850-date format, which uses a two-digit year, MUST interpret a timestamp that
    /// appears to be more than 50 years in the future as representing the most recent year in the past that had the same
    /// last two digits." Fails with a table of centuries, such as that years from 70 on are the last century's.
    #[test]
    fn centuries_of_two_digits() {
        let year = |text, now| {
            parse(text, parse(now, UNIX_EPOCH).unwrap()).and_then(fixdate).map(|text| text[12..16].to_owned())
        };
        let table: [(&str, &str, Option<&str>); 8] = [
            ("Friday, 20-Nov-76 06:00:00 GMT", NOW, Some("2076")),
            ("Monday, 22-Nov-76 06:00:00 GMT", NOW, Some("1976")),
            ("Sunday, 22-Nov-76 06:00:00 GMT", NOW, None),
            ("Friday, 01-Jan-71 00:00:00 GMT", NOW, None),
            ("Thursday, 01-Jan-71 00:00:00 GMT", NOW, Some("2071")),
            ("Tuesday, 22-Nov-77 06:00:00 GMT", NOW, Some("1977")),
            ("Sunday, 06-Nov-94 08:49:37 GMT", "Thu, 01 Jan 2043 00:00:00 GMT", Some("1994")),
            ("Saturday, 06-Nov-94 08:49:37 GMT", "Sat, 01 Jan 2050 00:00:00 GMT", Some("2094")),
        ];
        for (text, now, expected) in table {
            assert_eq!(year(text.as_bytes(), now.as_bytes()).as_deref(), expected, "{text} in {now}");
        }
        assert_eq!(parse(b"Sunday, 06-Nov-94 08:49:37 GMT", at(END.as_secs())), None);
    }

    /// Fails if it is left to `httpdate`, or if any other minute may have 61 seconds.
    #[test]
    fn leap_seconds() {
        let last = 1_483_228_800;
        for text in ["Sat, 31 Dec 2016 23:59:60 GMT", "Saturday, 31-Dec-16 23:59:60 GMT", "Sat Dec 31 23:59:60 2016"] {
            assert_eq!(read(text, NOW), Some(last), "{text}");
        }
        assert_eq!(read("Sat, 31 Dec 2016 23:58:60 GMT", NOW), None);
    }

    /// Fails if `httpdate` is asked, which panics.
    #[test]
    fn times_without_a_form() {
        assert_eq!(format(at(EXAMPLE)).unwrap(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format(UNIX_EPOCH).unwrap(), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format(at(END.as_secs() - 1)).unwrap(), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(format(at(END.as_secs())), None);
        assert_eq!(format(UNIX_EPOCH - Duration::from_secs(1)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0..END.as_secs(), now in 0..2 * END.as_secs()) {
            let written = format(at(seconds)).unwrap();
            prop_assert_eq!(parse(written.as_bytes(), at(now)), Some(at(seconds)));
        }

        #[test]
        fn a_two_digit_year_lies_in_the_window(ahead in -49 * 31_556_952_i64..49 * 31_556_952, now in 2_000_000_000..20_000_000_000_u64) {
            let time = at(now.saturating_add_signed(ahead));
            let fixdate = fixdate(time).unwrap();
            let weekday = WEEKDAYS.iter().find(|day| fixdate.starts_with(&day[..3])).unwrap();
            let (day, month, year, clock) = (&fixdate[5..7], &fixdate[8..11], &fixdate[14..16], &fixdate[16..]);
            let text = format!("{weekday}, {day}-{month}-{year}{clock}");
            prop_assert_eq!(parse(text.as_bytes(), at(now)), Some(time));
        }

        #[test]
        fn nothing_panics(text in "(Sun(day)?|[A-Z])[, ]{0,2}[0-9A-Za-z: +-]{0,30}", now in any::<u64>()) {
            let now = UNIX_EPOCH.checked_add(Duration::from_secs(now)).unwrap_or(UNIX_EPOCH);
            let _ = parse(text.as_bytes(), now);
        }
    }
}
