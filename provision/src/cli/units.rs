//! Numbers as text for people: bytes, rates and durations, printed and parsed.
//!
//! Sizes are texts of [`ByteSize`]. The parsers accept every text that the printers make, so a user can copy a rate
//! from the progress into `--limit-rate`.

use std::time::Duration;

use provision_core::byte_size::{ByteSize, Scale};

/// Bytes with three significant digits: `31.8 GB`, `254 MB`, `0 B`.
pub fn bytes(count: u64) -> String {
    ByteSize(count).to_string()
}

/// Bytes a second: `1.02 GB/s`. NaN and negative values are shown as `0 B/s`.
pub fn rate(bytes_per_second: f64) -> String {
    // A cast from f64 saturates, and gives 0 for NaN.
    format!("{}/s", bytes(bytes_per_second.round() as u64))
}

/// A part and the whole in the whole's unit and decimals, so that the part keeps its unit while it grows:
/// `("12.3", "31.8 GB")`, `("0.5", "24.0 GB")`.
pub fn part_of(part: u64, whole: u64) -> (String, String) {
    let scale = Scale::of(whole);
    (scale.number(part.min(whole)), format!("{} {}", scale.number(whole), scale.unit()))
}

/// Whole percent, rounded down: 100 only if nothing is missing.
pub fn percent(part: u64, whole: u64) -> u64 {
    if part >= whole {
        return 100;
    }
    (u128::from(part) * 100 / u128::from(whole)) as u64
}

/// A duration as words: `40 ms`, `4.2 s`, `47 s`, `2 min 05 s`, `1 h 03 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if duration.is_zero() {
        return "0 s".to_owned();
    }
    if seconds < 0.0995 {
        return format!("{} ms", (seconds * 1000.0).ceil());
    }
    if seconds < 9.95 {
        return format!("{} s", trimmed(format!("{seconds:.1}")));
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => {
            let minutes = whole.saturating_add(30) / 60;
            format!("{} h {:02} min", minutes / 60, minutes % 60)
        }
    }
}

/// A duration for a column of at most seven characters: `0:47`, `12:05`, `1:03:12`, `12h03m`, `250h`, `>999h`.
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match hours {
        0 => format!("{minutes}:{:02}", seconds % 60),
        1..10 => format!("{hours}:{minutes:02}:{:02}", seconds % 60),
        10..100 => format!("{hours}h{minutes:02}m"),
        100..1000 => format!("{hours}h"),
        _ => ">999h".to_owned(),
    }
}

/// A number with its noun: `1 file`, `4 files`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn trimmed(mut number: String) -> String {
    if number.contains('.') {
        let length = number.trim_end_matches('0').trim_end_matches('.').len();
        number.truncate(length);
    }
    number
}

/// A text that is no rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Not a number with a known unit.
    #[error(
        "{text:?} is no rate; expected bytes a second such as 50M, 1.5G, 800k or 1000000 (K, M and G are decimal)"
    )]
    Syntax {
        /// The text.
        text: String,
    },
    /// Less than a byte a second.
    #[error("a rate is at least 1 byte a second, such as 50M, 1.5G or 800k; for no limit leave the rate out")]
    Zero,
    /// More than 2⁶⁴ − 1.
    #[error("{text:?} is more bytes a second than can be counted; expected a rate such as 50M, 1.5G or 800k")]
    TooLarge {
        /// The text.
        text: String,
    },
}

/// Bytes a second from `50M`, `1.5G`, `800k`, `1000000`, `20 MB/s`. Units are decimal, in either case.
pub fn parse_rate(text: &str) -> Result<u64, RateError> {
    let syntax = || RateError::Syntax { text: text.to_owned() };
    let (number, unit) = leading_number(text.trim()).ok_or_else(syntax)?;
    let unit = unit.trim_start().to_ascii_lowercase();
    let unit = unit.strip_suffix("/s").unwrap_or(&unit);
    let factor: u64 = match unit.strip_suffix('b').unwrap_or(unit) {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "p" => 1_000_000_000_000_000,
        "e" => 1_000_000_000_000_000_000,
        _ => return Err(syntax()),
    };
    let too_large = || RateError::TooLarge { text: text.to_owned() };
    let rate = if number.contains('.') {
        let rate = number.parse::<f64>().map_err(|_| syntax())? * factor as f64;
        if rate >= u64::MAX as f64 {
            return Err(too_large());
        }
        rate as u64
    } else {
        // The text has digits only, so there are too many of them.
        number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(too_large)?
    };
    if rate == 0 { Err(RateError::Zero) } else { Ok(rate) }
}

/// Bytes from `100G`, `1.5T`, `500MB`, `0`. Units are decimal, in either case.
pub fn parse_size(text: &str) -> Result<u64, String> {
    if text.trim().bytes().all(|b| b == b'0') && !text.trim().is_empty() {
        return Ok(0);
    }
    parse_rate(text).map_err(|_| format!("{text:?} is no size; expected one such as 100G, 1.5T or 500M"))
}

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not numbers with units, the largest unit first.
    #[error(
        "{text:?} is no duration; expected one such as 10m, 90s, 1h30m, 500ms or 0 (units: d, h, m, s, ms)"
    )]
    Syntax {
        /// The text.
        text: String,
    },
    /// A number without its unit.
    #[error("{text:?} lacks its unit; expected a duration such as {text}s, {text}m or {text}h")]
    NoUnit {
        /// The text.
        text: String,
    },
    /// A value beyond the range.
    #[error("{text:?} is too long; expected a duration such as 10m, 90s or 1h")]
    TooLong {
        /// The text.
        text: String,
    },
}

/// A duration such as `10m`, `90s`, `1h30m`, `1.5h`, `500ms`, `0`, `2 min 05 s`. Each unit at most once, the largest
/// first.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let syntax = || DurationError::Syntax { text: text.to_owned() };
    let too_long = || DurationError::TooLong { text: text.to_owned() };
    let lower = text.trim().to_ascii_lowercase();
    let mut rest = lower.as_str();
    if let Some((number, "")) = leading_number(rest) {
        let zero = number.bytes().all(|b| matches!(b, b'0' | b'.'));
        return if zero {
            Ok(Duration::ZERO)
        } else {
            Err(DurationError::NoUnit { text: number.to_owned() })
        };
    }
    if rest.is_empty() {
        return Err(syntax());
    }
    let mut sum = Duration::ZERO;
    let mut smallest = f64::INFINITY;
    while !rest.is_empty() {
        let (number, after) = leading_number(rest).ok_or_else(syntax)?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "d" => 86400.0,
            "h" => 3600.0,
            "m" | "min" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(syntax()),
        };
        if seconds >= smallest {
            return Err(syntax());
        }
        smallest = seconds;
        let seconds = number.parse::<f64>().map_err(|_| syntax())? * seconds;
        let part = Duration::try_from_secs_f64(seconds).map_err(|_| too_long())?;
        sum = sum.checked_add(part).ok_or_else(too_long)?;
        rest = after.trim_start();
    }
    Ok(sum)
}

/// Splits `12.5M` into `12.5` and `M`. Stricter than `f64`: no sign, no exponent, no `inf`, digits on both sides of
/// the point.
fn leading_number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let sound = match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    };
    sound.then_some((number, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rate_is_a_size_a_second() {
        assert_eq!(rate(1.02e9), "1.02 GB/s");
        for nothing in [f64::NAN, f64::NEG_INFINITY, -1.0, 0.0] {
            assert_eq!(rate(nothing), "0 B/s");
        }
        assert_eq!(rate(f64::INFINITY), "18.4 EB/s");
    }

    #[test]
    fn a_part_keeps_the_unit_of_its_whole() {
        let part = |part, whole| {
            let (part, whole) = part_of(part, whole);
            format!("{part} of {whole}")
        };
        assert_eq!(part(12_300_000_000, 31_800_000_000), "12.3 of 31.8 GB");
        assert_eq!(part(254_000_000, 31_800_000_000), "0.3 of 31.8 GB");
        assert_eq!(part(0, 254_000_000), "0 of 254 MB");
        assert_eq!(part(40_000_000_000, 31_000_000_000), "31.0 of 31.0 GB");
        assert_eq!(part(0, 0), "0 of 0 B");
        assert_eq!(percent(12_300, 31_800), 38);
        assert_eq!(percent(u64::MAX - 1, u64::MAX), 99);
        assert_eq!(percent(0, 0), 100);
    }

    #[test]
    fn durations_read_as_words_and_as_a_clock() {
        for (milliseconds, words, column) in [
            (0, "0 s", "0:00"),
            (40, "40 ms", "0:00"),
            (99, "99 ms", "0:00"),
            (100, "0.1 s", "0:00"),
            (4_200, "4.2 s", "0:04"),
            (7_000, "7 s", "0:07"),
            (9_960, "10 s", "0:09"),
            (47_300, "47 s", "0:47"),
            (59_700, "1 min 00 s", "0:59"),
            (125_000, "2 min 05 s", "2:05"),
            (3_599_800, "1 h 00 min", "59:59"),
            (3_792_000, "1 h 03 min", "1:03:12"),
            (43_380_000, "12 h 03 min", "12h03m"),
            (900_000_000, "250 h 00 min", "250h"),
        ] {
            let time = Duration::from_millis(milliseconds);
            assert_eq!(duration(time), words, "{milliseconds}");
            assert_eq!(clock(time), column, "{milliseconds}");
        }
        assert_eq!(clock(Duration::MAX), ">999h");
        assert!(!duration(Duration::MAX).is_empty());
    }

    #[test]
    fn rates_are_decimal_and_lenient_about_the_unit() {
        for (text, rate) in [
            ("50M", 50_000_000),
            ("50m", 50_000_000),
            ("1.5G", 1_500_000_000),
            ("800k", 800_000),
            ("800KB", 800_000),
            ("20 MB/s", 20_000_000),
            ("7b/s", 7),
            ("7/s", 7),
            (" 1000000 ", 1_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
    }

    #[test]
    fn an_invalid_rate_is_refused_with_the_expected_form() {
        for text in ["0", "0M", "0.0", "0.1"] {
            assert_eq!(parse_rate(text), Err(RateError::Zero), "{text}");
        }
        for text in [
            "", " ", "M", "fast", "-5M", "+5M", "1e9", "inf", "NaN", "5MiB", "5Mbit", "5,5M", ".5M", "5.M",
            "5 M B", "1.2.3", "5é", "٥M",
        ] {
            let error = parse_rate(text).unwrap_err();
            assert!(matches!(error, RateError::Syntax { .. }), "{text}");
            assert!(error.to_string().contains("50M"), "{error}");
        }
        for text in ["18446744073709551616", "99999999999G", "99999999999.5G"] {
            assert!(matches!(parse_rate(text), Err(RateError::TooLarge { .. })), "{text}");
        }
        assert!(parse_rate("\u{1b}[31mx").unwrap_err().to_string().contains(r"\u{1b}"));
    }

    #[test]
    fn sizes_are_decimal_and_may_be_nothing() {
        assert_eq!(parse_size("100G"), Ok(100_000_000_000));
        assert_eq!(parse_size("1.5 TB"), Ok(1_500_000_000_000));
        assert_eq!(parse_size("0"), Ok(0));
        for text in ["", "much", "-1G", "10d"] {
            assert!(parse_size(text).unwrap_err().contains("such as 100G"), "{text}");
        }
    }

    #[test]
    fn durations_take_units_from_large_to_small() {
        for (text, milliseconds) in [
            ("10m", 600_000),
            ("90s", 90_000),
            ("1h", 3_600_000),
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("1h30m", 5_400_000),
            ("1H 30M 5s 250ms", 5_405_250),
            ("1.5h", 5_400_000),
            ("2 min 05 s", 125_000),
            ("30d", 2_592_000_000),
            ("1d12h", 129_600_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "m", "-1s", "1w", "30m1h", "1s1s", "1h30", "soon", "1e3s", "1..5s", "infs", "10é"] {
            let error = parse_duration(text).unwrap_err();
            assert!(matches!(error, DurationError::Syntax { .. }), "{text}");
            assert!(error.to_string().contains("90s"), "{error}");
        }
        let error = parse_duration("10").unwrap_err();
        assert_eq!(error.to_string(), r#""10" lacks its unit; expected a duration such as 10s, 10m or 10h"#);
        assert!(matches!(
            parse_duration(&format!("{}h", "9".repeat(40))),
            Err(DurationError::TooLong { .. })
        ));
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_typed_back(count in 1_u64.., nanoseconds in any::<u64>()) {
            let (shown, exact) = (bytes(count), count as f64);
            // 18.4 EB, the largest printed value, is below u64::MAX.
            let back = parse_rate(&format!("{shown}/s")).unwrap() as f64;
            prop_assert!((back - exact).abs() <= exact * 0.005_001, "{count} as {shown}");
            prop_assert!(shown.len() <= "9.99 GB".len(), "{shown}");

            let time = Duration::from_nanos(nanoseconds);
            let shown = duration(time);
            let back = parse_duration(&shown).unwrap().as_secs_f64();
            let slack = (time.as_secs_f64() * 0.01).max(0.051);
            prop_assert!((back - time.as_secs_f64()).abs() <= slack, "{time:?} as {shown}");
            prop_assert!(clock(time).len() <= 7);
        }

        #[test]
        fn nothing_shown_or_parsed_panics(
            part in any::<u64>(), whole in any::<u64>(), speed in any::<f64>(), seconds in any::<u64>(),
            text in "\\PC{0,12}", digits in "[0-9.]{0,30}[kKmMgGhs bB/é]{0,4}",
        ) {
            let (shown, _) = part_of(part, whole);
            prop_assert!(shown.len() <= 4, "{shown}");
            prop_assert!(percent(part, whole) <= 100);
            rate(speed);
            duration(Duration::from_secs(seconds));
            clock(Duration::from_secs(seconds));
            for text in [text, digits] {
                let _ = parse_rate(&text);
                let _ = parse_duration(&text);
            }
        }
    }
}
