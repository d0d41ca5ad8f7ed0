//! The table of checks. Each check uses its own destinations and leaves nothing to the next.

mod downloads;
mod interruptions;
mod local;
mod updates;

use super::Check;
use super::fixture::RealFixture;

pub(super) const CHECKS: &[Check] = &[
    Check { name: "http: every file is right, and later runs ask for nothing", run: downloads::http },
    Check { name: "https with a CA of its own", run: downloads::https },
    Check { name: "https without the CA", run: downloads::unknown_authority },
    Check { name: "a wrong digest in the lock", run: downloads::wrong_digest },
    Check { name: "the token goes to the hub and nowhere else", run: downloads::token },
    Check { name: "one group at a limited rate, then the rest", run: downloads::group },
    Check { name: "killed, terminated, interrupted: the next run continues", run: interruptions::resume },
    Check { name: "two runs on one destination", run: interruptions::two_at_once },
    Check { name: "a cache is filled, used and emptied", run: local::cache },
    Check { name: "an update fetches the header that has grown", run: updates::grown_header },
    Check { name: "a baked copy on XFS shares its blocks", run: local::reflink },
];
