//! What has to hold, by subject. Each check has destinations of its own and leaves nothing to the next.

mod basics;
mod choices;
mod failures;
mod hub;
mod interruptions;
mod machine;
mod origins;

use super::Check;
use super::world::World;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "http: every file is right", prove: basics::http },
    Check { name: "a second run asks nothing", prove: basics::second_run },
    Check { name: "https with a CA of its own", prove: basics::https },
    Check { name: "one damaged file is fetched again, and only that", prove: basics::repair },
    Check { name: "verify and status", prove: basics::verify_and_status },
    Check { name: "a dry run does nothing and says all", prove: choices::dry_run },
    Check { name: "offline never asks", prove: choices::offline },
    Check { name: "only some of the files", prove: choices::selection },
    Check { name: "the lock on standard input", prove: choices::standard_input },
    Check { name: "options by environment", prove: choices::environment },
    Check { name: "progress as JSON", prove: choices::json_progress },
    Check { name: "a limited rate is kept", prove: choices::limited_rate },
    Check { name: "a cache is filled, used and emptied", prove: machine::cache },
    Check { name: "a baked copy on XFS takes no room", prove: machine::reflink },
    Check { name: "https without the CA", prove: failures::unknown_authority },
    Check { name: "a CA file that is not there", prove: failures::missing_ca_file },
    Check { name: "https never becomes http", prove: failures::downgrade },
    Check { name: "a wrong digest in the lock", prove: failures::wrong_digest },
    Check { name: "404", prove: failures::not_found },
    Check { name: "a full disk", prove: failures::full_disk },
    Check { name: "the mirror takes over", prove: origins::mirror },
    Check { name: "a server without ranges", prove: origins::no_ranges },
    Check { name: "a server that allows two connections", prove: origins::two_connections },
    Check { name: "killed, terminated, interrupted: the next run continues", prove: interruptions::resume },
    Check { name: "two runs on one destination", prove: interruptions::two_at_once },
    Check { name: "the token goes to the hub and nowhere else", prove: hub::token },
];
