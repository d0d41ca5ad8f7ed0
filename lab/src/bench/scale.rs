//! How large the sets are.

/// Files are that many times smaller than the real ones. The sizes that the scenarios are described with are those at
/// [`Scale::USUAL`]; at another scale every set, also one that has no real counterpart, grows or shrinks with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale(pub(super) u64);

impl Scale {
    pub(super) const USUAL: u64 = 20;

    /// What a number of the usual scale is at this one; never nothing.
    pub(super) fn of(self, usual: u64) -> u64 {
        (usual * Self::USUAL / self.0).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Scale;

    #[test]
    fn sizes_are_as_described_at_the_usual_scale() {
        assert_eq!(Scale(20).of(5_000), 5_000);
        assert_eq!(Scale(200).of(5_000), 500);
        assert_eq!(Scale(10).of(5_000), 10_000);
        assert_eq!(Scale(1_000_000).of(4), 1);
    }
}
