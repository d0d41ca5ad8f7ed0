//! What has to hold, in this order: the images that the first makes serve all of them, and the last takes the web
//! server away.

mod images;
mod scratch;
mod start;
mod trouble;

use super::{Proof, readme};

pub(super) const PROOFS: &[Proof] = &[
    Proof {
        name: "1: the images have the models, a layer for each directory, and no token",
        prove: images::build,
    },
    Proof { name: "2: a baked image fills an empty volume, once", prove: start::baked },
    Proof { name: "2: or links to what is baked", prove: start::linked },
    Proof { name: "3: killed while it fetches, the next start goes on", prove: trouble::killed },
    Proof { name: "4: a damaged file comes again, and only that", prove: trouble::damaged },
    Proof { name: "5: two containers on one volume fetch each byte once", prove: start::together },
    Proof {
        name: "7: built again, also without cache, the model layers are the same",
        prove: images::reproducible,
    },
    Proof { name: "1: a token reaches the Hub from a build, and nothing else", prove: images::token },
    Proof {
        name: "an image with the binary alone resolves names and trusts by its own file",
        prove: scratch::run,
    },
    Proof { name: "the README's commands, as written", prove: readme::run },
    Proof {
        name: "6: without the origin, a full volume starts and an empty one says why not",
        prove: trouble::no_origin,
    },
];
