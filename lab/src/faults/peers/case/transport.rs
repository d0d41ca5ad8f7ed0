//! Cases 29 to 35: connections that break and stall, refusals, signatures that expire.

use std::time::Duration;

use provision_testbed::{Fault, ResetAt, When};

use super::{Trial, both, held};
use crate::faults::peers::sandbox::{FILE, Scene};

pub(super) fn all() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (label, at) in [
        ("at byte 0", ResetAt::FirstByte),
        ("in the head", ResetAt::Head),
        ("midway", ResetAt::Body(300_000)),
        ("at the last byte", ResetAt::LastByte),
    ] {
        trials.push(Trial::new(29, label, Fault::Reset(at).when(When::First(2))));
    }
    trials.push(Trial::new(30, "always", Fault::Trickle { every: Duration::from_secs(10) }));
    trials.push(Trial::new(30, "two stalls", Fault::Stall(100_000).when(When::First(2))));
    trials.push(Trial::new(30, "two requests unanswered", Fault::NoAnswer.when(When::First(2))));
    trials.push(Trial::new(31, "5000 lines", Fault::HeaderFlood { lines: 5000 }));
    trials.push(Trial::new(31, "one line without end", Fault::EndlessHeader));
    for value in ["1", "Sun, 06 Nov 1994 08:49:37 GMT", "315360000", "soon"] {
        let fault = Fault::RetryAfter { status: 503, value: value.to_owned() };
        trials.push(Trial::new(32, value, fault.when(When::First(1))));
    }
    for code in [500, 503, 408, 429] {
        let fault = Fault::status(code).when(When::First(2));
        trials.push(Trial::new(33, &format!("{code} twice"), fault));
    }
    for code in [400, 404, 410] {
        trials.extend(both(34, &code.to_string(), Fault::status(code)));
    }
    trials.push(Trial::prepared(35, "after a cut", expiring));
    trials.push(Trial::prepared(35, "after a cut", expiring).going_on(held(1), "going on from a part"));
    trials
}

/// The signed address is cut once, and its signature has expired when it is asked again.
fn expiring(scene: &Scene) -> Vec<String> {
    let store = scene.host.control();
    let url = scene.origin.put_hub_on(&store, "o/r", "main", FILE, scene.content.clone());
    // A condition may change the origin: it is asked before the signature is.
    let expires = When::custom(move |_, number| {
        if number == 1 {
            store.expire_signatures();
        }
        number == 0
    });
    let path = provision_testbed::Control::signed_path(&format!("/o/r/resolve/main/{FILE}"));
    scene.host.inject(&path, Fault::CutBody(300_000).when(expires));
    vec![url]
}
