//! What has to hold, in this order: the images that the first makes serve all of them, and the last takes the web
//! server away.

mod failures;
mod images;
mod scratch;
mod start;

use super::{Check, docs};

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "1: the images have the models, a layer for each directory, and no token",
        run: images::build,
    },
    Check { name: "2: a baked image fills an empty volume, once", run: start::baked },
    Check { name: "2: or links to what is baked", run: start::linked },
    Check { name: "3: killed while it fetches, the next start goes on", run: failures::killed },
    Check { name: "4: a damaged file comes again, and only that", run: failures::damaged },
    Check { name: "5: two containers on one volume fetch each byte once", run: start::together },
    Check {
        name: "7: built again, also without cache, the model layers are the same",
        run: images::reproducible,
    },
    Check { name: "1: a token reaches the Hub from a build, and nothing else", run: images::token },
    Check {
        name: "an image with the binary alone resolves names and trusts by its own file",
        run: scratch::run,
    },
    Check { name: "the README's commands, as written", run: docs::run },
    Check {
        name: "6: without the origin, a full volume starts and an empty one says why not",
        run: failures::no_origin,
    },
];
