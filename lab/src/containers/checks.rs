//! The checks, in an order that matters: later ones use the images of the first, and the last stops the server.

mod failures;
mod images;
mod own_repository;
mod program;
mod start;
mod verbs;

use anyhow::Result;

use super::docs;
use super::env::ContainerEnv;

pub(super) type Check = fn(&mut ContainerEnv) -> Result<()>;

pub(super) const CHECKS: [(&str, Check); 17] = [
    ("1: the images have the models, a layer for each directory, and no token", images::build),
    ("2: a baked image fills an empty volume once", start::baked),
    ("2: a baked image can link its models instead", start::linked),
    ("3: a start after a kill resumes", failures::killed),
    ("4: a damaged file is fetched again, and no other", failures::damaged),
    ("5: two containers on one volume fetch each byte once", start::together),
    ("7: a build without cache, or with piece lists, makes the same model layers", images::reproducible),
    ("1: a token reaches the Hub from a build and is in no image", images::token),
    ("the image provision fills a volume as an init container", program::init_container),
    ("as root it writes files of the folder's owner", program::owner),
    ("images for arm64 have its program and the same model layers", program::other_platform),
    ("the commands on a lock work for any user in a read-only image", verbs::run),
    ("the image with the program alone is built", own_repository::program),
    ("what init writes builds, starts and validates in a repository of one's own", own_repository::run),
    ("the documents about a repository of one's own work as written", docs::own_repository),
    ("the documented commands work as written", docs::run),
    ("6: without the origin, a full volume starts and an empty one explains why not", failures::no_origin),
];
