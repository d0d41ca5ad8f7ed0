//! The table of scenarios. Each has the kinds of stores at which it takes place.

mod access;
mod damage;
mod lists;
mod push;
mod speed;

use anyhow::Result;

use super::fleet;
use super::server::Kind;
use super::trial::Trial;

/// A scenario, its name, and the kinds of stores.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) kinds: &'static [Kind],
    pub(super) run: fn(&Trial<'_>) -> Result<()>,
}

/// One of each protocol.
const EACH: &[Kind] = &[Kind::Registry, Kind::Bucket, Kind::Nginx];
/// Those with a network.
const REMOTE: &[Kind] = &[Kind::Registry, Kind::Password, Kind::Token, Kind::Bucket, Kind::Moto, Kind::Nginx];
/// Those that check a login.
const GUARDED: &[Kind] = &[Kind::Password, Kind::Token, Kind::Bucket];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "pushed, pushed again, checked, fetched", kinds: Kind::ALL, run: push::round_trip },
    Scenario { name: "a push killed midway goes on", kinds: REMOTE, run: push::killed },
    Scenario { name: "piece lists go along, and are not needed", kinds: Kind::ALL, run: lists::travel },
    Scenario { name: "wrong bytes in the store", kinds: Kind::ALL, run: damage::wrong_bytes },
    Scenario { name: "missing bytes in the store", kinds: Kind::ALL, run: damage::missing_bytes },
    Scenario {
        name: "blobs without bytes, collected under the running registry",
        kinds: &[Kind::Registry],
        run: damage::collected,
    },
    Scenario { name: "wrong keys or password", kinds: GUARDED, run: access::wrong_login },
    Scenario { name: "no keys or password", kinds: GUARDED, run: access::no_login },
    Scenario { name: "short-lived keys are renewed", kinds: &[Kind::Bucket], run: access::renewed_keys },
    Scenario {
        name: "signatures expire midway, and a clock is wrong",
        kinds: &[Kind::Bucket],
        run: access::expired,
    },
    Scenario { name: "a store that is down", kinds: EACH, run: speed::down },
    Scenario { name: "a store that never answers", kinds: EACH, run: speed::silent },
    Scenario { name: "--store-only and a file that the store lacks", kinds: EACH, run: speed::store_only },
    Scenario { name: "a fast store beside a slow origin", kinds: EACH, run: speed::slow_origin },
    Scenario {
        name: "a slow store beside a fast origin, with --origin-below",
        kinds: &[Kind::Nginx],
        run: speed::slow_store,
    },
    Scenario { name: "two stores with a half each", kinds: EACH, run: speed::halves },
    Scenario {
        name: "eight fetches at once, and the origin gets nothing",
        kinds: &[Kind::Registry, Kind::Bucket, Kind::Nginx, Kind::Directory],
        run: fleet::from_a_full_store,
    },
];
