//! What several rounds come to.

use super::measure::Measurement;

/// The middle value; between the middle two of an even number. Zero for none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length => f64::midpoint(values[(length - 1) / 2], values[length / 2]),
    }
}

/// The medians of the times, each by itself, and the largest peak: a limit of memory that is kept half of the time is
/// not kept.
pub(super) fn summary(rounds: &[Measurement]) -> Measurement {
    Measurement {
        wall_seconds: median(rounds.iter().map(|round| round.wall_seconds)),
        cpu_seconds: median(rounds.iter().map(|round| round.cpu_seconds)),
        peak_bytes: rounds.iter().map(|round| round.peak_bytes).max().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert!(close(median([3.0, 1.0, 2.0]), 2.0));
        assert!(close(median([4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(close(median([7.0]), 7.0));
        assert!(close(median([]), 0.0));
    }

    #[test]
    fn times_are_medians_and_the_peak_is_the_largest() {
        let of =
            |wall_seconds, cpu_seconds, peak_bytes| Measurement { wall_seconds, cpu_seconds, peak_bytes };
        let summary = summary(&[of(1.0, 9.0, 10), of(2.0, 8.0, 30), of(9.0, 7.0, 20)]);
        assert!(close(summary.wall_seconds, 2.0) && close(summary.cpu_seconds, 8.0));
        assert_eq!(summary.peak_bytes, 30);
    }
}
