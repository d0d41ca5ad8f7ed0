//! The limits of container registries, and the way out for a layer that exceeds one.
//!
//! Sources, as of 2026: GitHub's "Working with the Container registry" (10 GB a layer, ten minutes an upload) and the
//! AWS quotas of ECR (52,000 MiB a layer) and ECR Public (10,000 MiB). Weights hardly compress, so a layer's size is
//! also the size of its upload.

use provision::cli::units;

const MIB: u64 = 1 << 20;
const GHCR_LAYER: u64 = 10_000_000_000;

/// The registries and the largest layer that each accepts, in bytes, the smallest first.
const LIMITS: [(&str, u64); 3] =
    [("ghcr.io", GHCR_LAYER), ("ECR Public", 10_000 * MIB), ("ECR private", 52_000 * MIB)];

/// The longest upload of a layer to ghcr.io, in seconds.
const GHCR_SECONDS: u64 = 10 * 60;

/// An upload to ghcr.io that needs more than this rate gets a warning: half of what a good office line gives.
const FAST_UPLOAD: u64 = 5_000_000;

/// The warnings for a push of these layers.
pub(crate) fn warnings(layers: &[(&str, u64)]) -> Vec<String> {
    let too_large = |(name, size): &(&str, u64)| {
        let (refuse, accept) = LIMITS.split_at(LIMITS.partition_point(|(_, limit)| limit < size));
        let elsewhere = match accept {
            [] => "push to a registry of your own".to_owned(),
            accept => format!("push to another registry, such as {}", names(accept)),
        };
        (!refuse.is_empty()).then(|| {
            format!(
                "{name} ({}) exceeds the largest layer of {}: {elsewhere}, or build --target runtime, which \
                 downloads the models at container start",
                units::bytes(*size),
                names(refuse),
            )
        })
    };
    let mut warnings: Vec<_> = layers.iter().filter_map(too_large).collect();
    let largest = layers.iter().filter(|(_, size)| *size <= GHCR_LAYER).max_by_key(|(_, size)| size);
    if let Some((name, size)) = largest
        && size / GHCR_SECONDS > FAST_UPLOAD
    {
        warnings.push(format!(
            "ghcr.io ends an upload after 10 minutes: {name} ({}) needs {} or more; on a slower line choose another \
             registry, and push uncompressed layers (compression=uncompressed): gzip does not make weights smaller",
            units::bytes(*size),
            units::rate((size / GHCR_SECONDS) as f64),
        ));
    }
    warnings
}

fn names(limits: &[(&str, u64)]) -> String {
    let names = limits.iter().map(|(name, limit)| format!("{name} ({})", units::bytes(*limit)));
    names.collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(size: u64) -> (&'static str, u64) {
        ("unet", size)
    }

    #[test]
    fn small_layers_give_no_warning() {
        assert_eq!(warnings(&[layer(1 << 30), layer(0)]), Vec::<String>::new());
    }

    #[test]
    fn a_layer_at_the_limit_fits_and_a_byte_more_does_not() {
        assert!(!warnings(&[layer(GHCR_LAYER)])[0].contains("exceeds"));
        let over = &warnings(&[layer(GHCR_LAYER + 1)])[0];
        assert!(over.contains("largest layer of ghcr.io (10 GB): push to another registry"), "{over}");
        let over = &warnings(&[layer(10_000 * MIB + 1)])[0];
        assert!(
            over.contains("ECR Public (10.5 GB): push to another registry, such as ECR private (54.5 GB)"),
            "{over}"
        );
        let over = &warnings(&[layer(52_000 * MIB + 1)])[0];
        assert!(over.contains("a registry of your own"), "{over}");
    }

    #[test]
    fn a_long_upload_gives_a_warning_with_its_rate() {
        let warnings = warnings(&[layer(20_000_000_000), layer(9_000_000_000), layer(8_000_000_000)]);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[1].contains("15 MB/s"), "{}", warnings[1]);
    }
}
