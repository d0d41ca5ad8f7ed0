//! Cases 43 to 51: where answers lead, and what is said there.

use provision_testbed::{Fault, When};

use super::Trial;
use crate::faults::peers::sandbox::{PATH, Scene};

/// The file's origin leads there.
fn leads(case: u8, label: &str, to: impl Fn(&Scene) -> Option<String> + Send + Sync + 'static) -> Trial {
    let prepare = move |scene: &Scene| {
        scene.origin.inject(PATH, Fault::Redirect { status: 302, location: to(scene) });
        vec![scene.origin.url(PATH)]
    };
    Trial::prepared(case, label, prepare)
}

/// As `leads`; the tool is given a token. Only where the case is about that: it would else be counted again and again.
fn leads_with_token(
    case: u8,
    label: &str,
    to: impl Fn(&Scene) -> Option<String> + Send + Sync + 'static,
) -> Trial {
    Trial { with_token: true, ..leads(case, label, to) }
}

pub(super) fn all(has_public_address: bool) -> Vec<Trial> {
    let mut trials = vec![
        leads_with_token(43, "to 127.0.0.2", |scene| Some(scene.host.url(PATH))),
        leads_with_token(44, "to another port", |scene| Some(scene.port.url(PATH))),
        Trial {
            with_token: true,
            trespass: |scene| went(scene.port.counters().requests > 0, "went on over http"),
            ..Trial::prepared(45, "302", |scene| vec![scene.https_to_http()])
        },
        leads(46, "file:", |_| Some("file:///etc/hostname".to_owned())),
        Trial {
            trespass: |scene| went(scene.ftp.came() > 0, "went on by ftp"),
            ..leads(46, "ftp:", |scene| Some(format!("ftp://127.0.0.1:{}{PATH}", scene.ftp.port)))
        },
        leads(46, "data:", |_| Some("data:application/octet-stream,wrong".to_owned())),
    ];
    if has_public_address {
        trials.push(Trial {
            trespass: |scene| went(scene.host.counters().requests > 0, "asked loopback"),
            ..Trial::prepared(47, "to 127.0.0.2", |scene| {
                let Some(public) = &scene.public else { return Vec::new() };
                public.inject(PATH, Fault::redirect(scene.host.url(PATH)));
                vec![public.url(PATH)]
            })
        });
    }
    trials.push(leads(48, "a loop", |_| Some(PATH.to_owned())));
    trials.push(leads(48, "eleven hops", |scene| Some(eleven_hops(scene))));
    trials.push(leads(49, "no Location", |_| None));
    trials.push(leads(49, "a user name in it", |scene| {
        Some(scene.host.url(PATH).replace("http://", "http://user:password@"))
    }));
    trials.push(leads(49, "%2F in the host", |_| Some(format!("http://127.0.0.2%2Fa{PATH}"))));
    trials.push(leads(49, "CR in it", |scene| Some(scene.host.url(PATH) + "\rX-Injected: 1")));
    trials.push(challenge());
    trials.push(Trial {
        trespass: |scene| {
            let all = scene.foreign().into_iter().chain(scene.origin.requests());
            went(all.into_iter().any(|request| request.header("referer").is_some()), "Referer sent")
        },
        ..leads(51, "to 127.0.0.2", |scene| Some(scene.host.url(PATH)))
    });
    trials
}

fn went(is_so: bool, words: &'static str) -> Vec<&'static str> {
    if is_so { vec![words] } else { Vec::new() }
}

/// Ten are followed, one more is not. The last has the file.
fn eleven_hops(scene: &Scene) -> String {
    for hop in 1..11 {
        let next = if hop == 10 { "/end".to_owned() } else { format!("/hop{}", hop + 1) };
        scene.origin.inject(&format!("/hop{hop}"), Fault::redirect(next));
    }
    scene.origin.put("/end", scene.content.clone());
    "/hop1".to_owned()
}

/// 50: a challenge whose realm is somebody else's.
fn challenge() -> Trial {
    let prepare = |scene: &Scene| {
        let realm = format!("Bearer realm=\"{}\"", scene.host.url("/token"));
        let headers = vec![("WWW-Authenticate".to_owned(), realm)];
        let fault = Fault::Status { code: 401, headers, body: "no".into() };
        scene.origin.inject(PATH, fault.when(When::Always));
        vec![scene.origin.url(PATH)]
    };
    Trial {
        with_token: true,
        trespass: |scene| went(scene.host.counters().connections_accepted > 0, "asked the realm"),
        ..Trial::prepared(50, "realm at 127.0.0.2", prepare)
    }
}
