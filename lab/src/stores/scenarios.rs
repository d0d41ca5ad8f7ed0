//! The table of scenarios. Each has the kinds of stores at which it takes place.

mod access;
mod damage;
mod lists;
mod push;
mod speed;
mod torrents;

use anyhow::Result;

use super::fleet;
use super::server::Kind;
use super::trial::Trial;

/// A scenario, its name, and the kinds of stores.
pub(super) struct Scenario {
    name: &'static str,
    pub(super) kinds: &'static [Kind],
    pub(super) run: fn(&mut Trial<'_>) -> Result<()>,
}

impl Scenario {
    /// Its name with that of the store.
    pub(super) fn name_at(&self, kind: Kind) -> String {
        format!("{}: {}", kind.name(), self.name)
    }
}

const fn scenario(
    name: &'static str,
    kinds: &'static [Kind],
    run: fn(&mut Trial<'_>) -> Result<()>,
) -> Scenario {
    Scenario { name, kinds, run }
}

/// One of each protocol.
const EACH: &[Kind] = &[Kind::Registry, Kind::Bucket, Kind::Nginx];
/// Those without a login, and a bucket.
const FLEET: &[Kind] = &[Kind::Registry, Kind::Bucket, Kind::Nginx, Kind::Directory];
/// Those with a network.
const REMOTE: &[Kind] = &[Kind::Registry, Kind::Password, Kind::Token, Kind::Bucket, Kind::Moto, Kind::Nginx];
/// Those that check a login.
const GUARDED: &[Kind] = &[Kind::Password, Kind::Token, Kind::Bucket];

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("pushed, pushed again, checked, fetched", Kind::ALL, push::round_trip),
    scenario("a push killed midway goes on", REMOTE, push::killed),
    scenario("piece lists go along, and are not needed", Kind::ALL, lists::travel),
    scenario("wrong bytes in the store", Kind::ALL, damage::wrong_bytes),
    scenario("missing bytes in the store", Kind::ALL, damage::missing_bytes),
    scenario(
        "blobs without bytes, collected under the running registry",
        &[Kind::Registry],
        damage::collected,
    ),
    scenario("wrong keys or password", GUARDED, access::wrong_login),
    scenario("no keys or password", GUARDED, access::no_login),
    scenario("short-lived keys are renewed", &[Kind::Bucket], access::renewed_keys),
    scenario("signatures expire midway, and a clock is wrong", &[Kind::Bucket], access::expired),
    scenario("a store that is down", EACH, speed::down),
    scenario("a store that never answers", EACH, speed::silent),
    scenario("--store-only and a file that the store lacks", EACH, speed::store_only),
    scenario("a fast store beside a slow origin", EACH, speed::slow_origin),
    scenario("a slow store beside a fast origin, with --origin-below", &[Kind::Nginx], speed::slow_store),
    scenario("two stores with a half each", EACH, speed::halves),
    scenario("eight fetches at once, and the origin gets nothing", FLEET, fleet::from_a_full_store),
    scenario("torrents, by aria2 and libtorrent", &[Kind::Nginx], torrents::by_other_clients),
];
