//! Sizes as text for people: `31.8 GB`, and `4.26 GB (4257000000 bytes)` where the exact number matters.
//!
//! Units are decimal (1 GB is 10⁹ bytes), as disks and networks are sold, with three significant digits.
//! Two sizes can look the same after rounding, as 4.26 GB and one byte less do: [`ByteSize::exact`] is for a mismatch.

use std::fmt;

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// A number of bytes, shown with three significant digits: `31.8 GB`, `254 MB`, `0 B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The size with its exact number: `4.26 GB (4257000000 bytes)`; below a thousand the number alone, `17 bytes`.
    pub fn exact(self) -> ExactSize {
        ExactSize(self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = Scale::of(self.0);
        let number = scale.number(self.0);
        let number =
            if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
        // `pad` honours the width of a column.
        f.pad(&format!("{number} {}", scale.unit()))
    }
}

/// See [`ByteSize::exact`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExactSize(ByteSize);

impl fmt::Display for ExactSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.0;
        match bytes {
            1 => f.write_str("1 byte"),
            0..1000 => write!(f, "{bytes} bytes"),
            _ => write!(f, "{} ({bytes} bytes)", self.0),
        }
    }
}

/// A unit, and the decimals that make three significant digits of a size in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    power: u8,
    decimals: usize,
}

impl Scale {
    /// The scale of `count` bytes.
    pub fn of(count: u64) -> Self {
        let bytes = Self { power: 0, decimals: 0 };
        if count < 1000 {
            return bytes;
        }
        let mut scaled = count as f64;
        for power in 1..UNITS.len() as u8 {
            scaled /= 1000.0;
            // The limits at which rounding would add a digit: 9.996 is shown as 10.0.
            for (limit, decimals) in [(9.995, 2), (99.95, 1), (999.5, 0)] {
                if scaled < limit {
                    return Self { power, decimals };
                }
            }
        }
        bytes
    }

    /// `count` in this scale, without the unit.
    pub fn number(self, count: u64) -> String {
        format!("{:.*}", self.decimals, count as f64 / 1000_f64.powi(self.power.into()))
    }

    /// The unit's name.
    pub fn unit(self) -> &'static str {
        UNITS[usize::from(self.power)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_significant_digits() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1005, "1 kB"),
            (1015, "1.01 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10 kB"),
            (99_960, "100 kB"),
            (999_499, "999 kB"),
            (999_500, "1 MB"),
            (253_806_246, "254 MB"),
            (31_800_000_000, "31.8 GB"),
            (1_020_000_000, "1.02 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(ByteSize(count).to_string(), text, "{count}");
        }
        assert_eq!(format!("{:>8}", ByteSize(1000)), "    1 kB");
    }

    #[test]
    fn an_exact_size_also_has_its_bytes() {
        for (count, text) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (999, "999 bytes"),
            (1000, "1 kB (1000 bytes)"),
            (4_257_000_000, "4.26 GB (4257000000 bytes)"),
        ] {
            assert_eq!(ByteSize(count).exact().to_string(), text);
        }
    }
}
