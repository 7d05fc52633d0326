//! Wall-clock time as it is written in events: RFC 3339, UTC, milliseconds, `Z`. Only ever shown,
//! never decided upon.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;

/// `time` as `2026-11-21T20:35:23.123Z`. Times before 1970 are shown as 1970.
pub fn format(time: SystemTime) -> String {
    Stamp(time).to_string()
}

/// The same for `write!`, without allocating.
#[derive(Clone, Copy, Debug)]
pub struct Stamp(pub SystemTime);

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = date(since.as_secs() / DAY_S);
        let second = since.as_secs() % DAY_S;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
            second / 3600,
            second / 60 % 60,
            second % 60,
            since.subsec_millis()
        )
    }
}

/// Reads an RFC 3339 time: any fraction of a second, `Z` or an offset such as `+02:00`.
pub fn parse(text: &str) -> Option<SystemTime> {
    let (day_text, rest) = text.split_once(['T', 't', ' '])?;
    let mut parts = day_text.split('-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || year > 9999 || !(1..=12).contains(&month) {
        return None;
    }
    let place = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at_checked(place)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':').map(digits);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let first = days(year, month, 1);
    let next_month = if month == 12 { days(year + 1, 1, 1) } else { days(year, month + 1, 1) };
    if day == 0 || first? + day > next_month? {
        return None;
    }
    let seconds = (first? + day - 1) * DAY_S + hour * 3600 + minute * 60 + second;
    let local = UNIX_EPOCH + Duration::from_secs(seconds) + fraction_of_second(fraction)?;
    let offset = |hours_minutes: &str| {
        let (hours, minutes) = hours_minutes.split_once(':')?;
        Some(Duration::from_secs(digits(hours)? * 3600 + digits(minutes)? * 60))
    };
    match zone.split_at_checked(1)? {
        ("Z" | "z", "") => Some(local),
        ("+", east) => local.checked_sub(offset(east)?),
        ("-", west) => local.checked_add(offset(west)?),
        _ => None,
    }
}

fn digits(text: &str) -> Option<u64> {
    let plain = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

fn fraction_of_second(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: String = text.chars().chain("000000000".chars()).take(9).collect();
    Some(Duration::from_nanos(nanoseconds.parse().ok()?))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; `None` before 1970.
/// Counts years from March, so that the leap day is a year's last.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

/// The date that lies `days` after 1970-01-01: the inverse of [`days`].
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64, milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn known_moments() {
        assert_eq!(format(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        assert_eq!(format(at(951_782_400, 7)), "2000-02-29T00:00:00.007Z");
        assert_eq!(format(at(1_795_293_323, 999)), "2026-11-21T20:35:23.999Z");
    }

    #[test]
    fn other_forms_are_read() {
        let moment = Some(at(1_795_293_323, 500));
        assert_eq!(parse("2026-11-21T20:35:23.5Z"), moment);
        assert_eq!(parse("2026-11-21 22:35:23.500000001+02:00"), {
            moment.map(|moment| moment + Duration::from_nanos(1))
        });
        assert_eq!(parse("2026-11-21T15:05:23.5-05:30"), moment);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "2026-11-21", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for bad in ["2026-11-21T24:00:00Z", "2026-11-21T20:35:23", "2026-11-21T20:35:23.Z"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0u64..253_402_300_800, milliseconds in 0u64..1000) {
            let moment = at(seconds, milliseconds);
            prop_assert_eq!(parse(&format(moment)), Some(moment));
        }

        #[test]
        fn random_text_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn random_times_never_panic(text in "[0-9:TZ. +-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
