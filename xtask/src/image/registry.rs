//! What registries take, and what to do with a layer that is too large for one.
//!
//! Sources, as of 2026: GitHub's "Working with the Container registry" (10 GB a layer, ten minutes an upload) and the
//! AWS quotas of ECR (52,000 MiB a layer) and ECR Public (10,000 MiB). Weights hardly compress: a layer's size is what
//! a registry sees of it.

use provision::cli::units;

use super::layers::Layer;

const MIB: u64 = 1 << 20;

/// A registry's largest layer.
struct Registry {
    name: &'static str,
    layer: u64,
}

const REGISTRIES: [Registry; 3] = [
    Registry { name: "ghcr.io", layer: 10_000_000_000 },
    Registry { name: "ECR Public", layer: 10_000 * MIB },
    Registry { name: "ECR private", layer: 52_000 * MIB },
];

/// The longest upload of a layer to ghcr.io.
const GHCR_SECONDS: u64 = 10 * 60;
/// An upload that has to be faster is worth a word: half of it is what a good office line gives.
const FAST_UPLOAD: u64 = 5_000_000;

/// What a push of these layers has to reckon with, a line each.
pub(crate) fn advice(layers: &[Layer]) -> Vec<String> {
    let mut advice: Vec<_> = layers.iter().filter_map(too_large).collect();
    let fits_ghcr = layers.iter().filter(|layer| layer.size <= REGISTRIES[0].layer);
    if let Some(slow) = fits_ghcr.max_by_key(|layer| layer.size).filter(|layer| upload(layer) > FAST_UPLOAD) {
        advice.push(format!(
            "ghcr.io ends an upload after 10 minutes: {} ({}) has to go there at {} or more; on a slow line choose another \
             registry, and push uncompressed layers (compression=uncompressed): gzip costs time and gains nothing on weights",
            slow.name,
            units::bytes(slow.size),
            units::rate(upload(slow) as f64),
        ));
    }
    advice
}

fn too_large(layer: &Layer) -> Option<String> {
    let (refuse, take): (Vec<_>, Vec<_>) =
        REGISTRIES.iter().partition(|registry| registry.layer < layer.size);
    if refuse.is_empty() {
        return None;
    }
    let named = |registries: Vec<&Registry>| {
        let name = |registry: &Registry| format!("{} ({})", registry.name, units::bytes(registry.layer));
        registries.into_iter().map(name).collect::<Vec<_>>().join(" or ")
    };
    let elsewhere = if take.is_empty() {
        "push to a registry of your own".to_owned()
    } else {
        format!("push elsewhere, such as to {}", named(take))
    };
    Some(format!(
        "{} ({}) is more than a layer may have at {}: {elsewhere}, or build --target runtime, whose models come to a \
         volume at start",
        layer.name,
        units::bytes(layer.size),
        named(refuse),
    ))
}

/// Bytes a second that ghcr.io wants for this layer.
fn upload(layer: &Layer) -> u64 {
    layer.size / GHCR_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(size: u64) -> Layer {
        Layer { name: "unet".to_owned(), size }
    }

    #[test]
    fn small_layers_are_not_worth_a_word() {
        assert_eq!(advice(&[layer(1 << 30), layer(0)]), Vec::<String>::new());
    }

    #[test]
    fn at_the_limit_it_fits_and_a_byte_more_does_not() {
        assert!(!advice(&[layer(10_000_000_000)])[0].contains("more than a layer may have"));
        let over = &advice(&[layer(10_000_000_001)])[0];
        assert!(over.contains("may have at ghcr.io (10 GB): push elsewhere"), "{over}");
        let over = &advice(&[layer(10_000 * MIB + 1)])[0];
        assert!(
            over.contains("ECR Public (10.5 GB): push elsewhere, such as to ECR private (54.5 GB)"),
            "{over}"
        );
        let over = &advice(&[layer(52_000 * MIB + 1)])[0];
        assert!(over.contains("a registry of your own"), "{over}");
    }

    #[test]
    fn a_long_upload_is_told_with_the_speed_that_it_needs() {
        let advice = advice(&[layer(20_000_000_000), layer(9_000_000_000), layer(8_000_000_000)]);
        assert_eq!(advice.len(), 2, "{advice:?}");
        assert!(advice[1].contains("15 MB/s"), "{}", advice[1]);
    }
}
