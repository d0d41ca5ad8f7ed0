//! Each case of the catalogue about origins, in one way: the one in which most tools failed when several were tried.
//!
//! curl and wget ask for a range only to resume. So the cases about ranges start with a part under the final name, as
//! an interrupted run of those tools leaves it. Transient faults strike the first requests only: a tool that retries
//! has its chance.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Result;
use provision_testbed::{
    Claim, Content, Control, Fault, Injection, OverLimit, Recorded, ResetAt, Shape, When,
};
use xshell::{Shell, cmd};

use super::origins::{FILE, Origins, PATH, TOKEN};

const SIZE: u64 = 6_000_007;
/// The length of the part that a run resumes.
const HELD: u64 = 1_000_003;

/// The numbers of the cases.
pub(super) const NUMBERS: [RangeInclusive<u8>; 5] = [1..=35, 43..=51, 90..=92, 94..=97, 102..=102];

/// The start of one run.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) number: u8,
    /// The file that the lock names.
    pub(super) content: Content,
    /// The bytes under the final name before the run.
    pub(super) before: Option<Content>,
    /// The URLs, in order of preference.
    pub(super) urls: Vec<String>,
    /// True if the tool gets a token for the first URL.
    pub(super) with_token: bool,
}

impl Case {
    /// Puts the file on the origins and sets the fault.
    pub(super) fn prepare(number: u8, origins: &Origins) -> Result<Self> {
        let Origins { origin, other_port, other_host, https, public } = origins;
        let content = Content::generated(1, if number == 27 { 0 } else { SIZE });
        for origin in [origin, other_port, other_host, public] {
            origin.put(PATH, content.clone());
        }
        let before = match number {
            1..=6 | 8..=10 | 13 | 17 | 18 | 20 | 22 | 90 | 94 | 95 => Some(Content::generated(1, HELD)),
            21 => Some(content.flipped(5_000_000, 3)),
            _ => None,
        };
        if let Some(fault) = fault(number, &content)? {
            origin.inject(PATH, fault);
        }
        let redirect = |location: String| origin.inject(PATH, Fault::redirect(location));
        let mut urls = vec![origin.url(PATH)];
        match number {
            16 => {
                other_host.set_etag(PATH, "\"another\"");
                urls.push(other_host.url(PATH));
            }
            28 => origin.shape(Shape::rate(1 << 20)),
            35 => urls = vec![expiring_signature(origin, other_host, &content)],
            43 | 51 => redirect(other_host.url(PATH)),
            44 => redirect(other_port.url(PATH)),
            45 => {
                https.inject(PATH, Fault::redirect(other_port.url(PATH)));
                urls = vec![https.url_at("localhost", PATH)];
            }
            46 => {
                // No FTP client gets further than to its connection.
                other_port.shape(Shape::at_most(0, OverLimit::Refuse));
                redirect(other_port.url(PATH).replace("http:", "ftp:"));
            }
            47 => {
                public.inject(PATH, Fault::redirect(other_host.url(PATH)));
                urls = vec![public.url(PATH)];
            }
            48 => redirect(PATH.to_owned()),
            97 => urls.push(other_host.url(PATH)),
            102 => redirect(format!("{}?a b=\"c\"", other_host.url(PATH))),
            50 => {
                let realm = format!("Bearer realm=\"{}\"", other_host.url("/token"));
                let headers = vec![("WWW-Authenticate".to_owned(), realm)];
                origin.inject(PATH, Fault::Status { code: 401, headers, body: "no".into() });
            }
            _ => {}
        }
        let with_token = matches!(number, 43..=45 | 50);
        Ok(Self { number, content, before, urls, with_token })
    }

    /// What the run did that no tool should do.
    pub(super) fn trespasses(&self, origins: &Origins) -> Vec<&'static str> {
        let Origins { origin, other_port, other_host, .. } = origins;
        let foreign: Vec<_> =
            [other_port, other_host].into_iter().flat_map(|origin| origin.requests()).collect();
        let was_asked = |control: &Control| control.counters().connections_accepted > 0;
        let is_referred = |request: &Recorded| request.header("referer").is_some();
        let has_token = |request: &Recorded| request.headers.iter().any(|(_, value)| value.contains(TOKEN));
        let own = match self.number {
            45 => was_asked(other_port).then_some("went on over http"),
            46 => was_asked(other_port).then_some("went on by ftp"),
            47 => was_asked(other_host).then_some("asked loopback"),
            50 => was_asked(other_host).then_some("asked the realm"),
            51 => foreign.iter().chain(&origin.requests()).any(is_referred).then_some("Referer sent"),
            _ => None,
        };
        own.into_iter().chain(foreign.iter().any(has_token).then_some("token sent on")).collect()
    }
}

/// The fault of the file's own origin, where it needs no other server.
fn fault(number: u8, content: &Content) -> Result<Option<Injection>> {
    let other = |seed| Fault::OtherContent(Content::generated(seed, SIZE));
    Ok(Some(match number {
        1 => Fault::IgnoreRange { accept_ranges: false }.into(),
        2 => Fault::IgnoreRange { accept_ranges: true }.into(),
        3 => Fault::OkWithContentRange { whole: true }.into(),
        4 => Fault::NoContentRange.into(),
        5 => Fault::OtherStart { shift: 100 }.into(),
        6 => Fault::ShorterRange { length: 100_000 }.into(),
        // The head contradicts itself, which is case 11, too.
        7 => Fault::LongerRange { extra: 50_000, claim: Claim::LengthOnly }.into(),
        8 => Fault::WrongTotal(5_000_000).into(),
        9 => Fault::UnknownTotal.into(),
        10 => Fault::Multipart.into(),
        11 => Fault::WrongLength { delta: -10 }.into(),
        12 => Fault::CutBody(300_000).when(When::First(2)),
        13 => Fault::LengthAndChunked { delta: 0 }.into(),
        14 => Fault::ChunkedCut(300_000).when(When::First(2)),
        15 => Fault::All(vec![other(9), Fault::Etag("\"old\"".to_owned())]).when(When::First(2)),
        16 => Fault::status(404).when(When::After(3)),
        17 => Fault::IgnoreIfRange.into(),
        18 => Fault::WeakEtag.into(),
        19 => {
            let label = Fault::ContentEncoding("gzip".to_owned());
            Fault::All(vec![Fault::OtherContent(gzip(content)?), label]).into()
        }
        20 => Fault::ContentEncoding("identity".to_owned()).into(),
        22 => Fault::RangeNotSatisfiable { content_range: None }.when(When::Ranges),
        23 => Fault::LoginPage.into(),
        24 => Fault::ErrorText { at: 3_000_000, text: "upstream connect error".to_owned() }.into(),
        25 => {
            let done = AtomicBool::new(false);
            let is_first = move |from_start| from_start && !done.swap(true, SeqCst);
            Fault::FlippedBit { at: 1000, bit: 3 }
                .when(When::custom(move |request, _| is_first(request.range_start().unwrap_or(0) == 0)))
        }
        26 => other(2).into(),
        28 => {
            let no_ranges = Fault::IgnoreRange { accept_ranges: false };
            Fault::All(vec![no_ranges, Fault::Endless { chunked: true }]).into()
        }
        29 => Fault::Reset(ResetAt::Body(300_000)).when(When::First(2)),
        30 => Fault::Trickle { every: Duration::from_secs(10) }.into(),
        31 => Fault::EndlessHeader.into(),
        32 => Fault::RetryAfter { status: 503, value: "315360000".to_owned() }.when(When::First(1)),
        33 => Fault::status(503).when(When::First(2)),
        34 => Fault::status(404).into(),
        49 => Fault::Redirect { status: 302, location: None }.into(),
        90 => Fault::ShorterRange { length: 1 }.into(),
        91 => Fault::ContentEncoding("x-gzip".to_owned()).into(),
        92 => Fault::ContentType("text/html".to_owned()).into(),
        94 => Fault::WholeAsRange.into(),
        95 => Fault::Etag("\"other\"".to_owned()).when(When::Every(2)),
        96 => Fault::RetryAfter { status: 503, value: "1".to_owned() }.when(When::First(6)),
        97 => Fault::RetryAfter { status: 429, value: "100".to_owned() }.into(),
        _ => return Ok(None),
    }))
}

/// Case 35: the signed URL's first answer is cut, and the signature has expired when it is asked again.
fn expiring_signature(origin: &Control, store: &Control, content: &Content) -> String {
    let url = origin.put_hub_on(store, "o/r", "main", FILE, content.clone());
    let signatures = store.clone();
    // The origin evaluates a condition before it checks the signature.
    let expires = When::custom(move |_, number| {
        if number == 1 {
            signatures.expire_signatures();
        }
        number == 0
    });
    let path = Control::signed_path(&format!("/o/r/resolve/main/{FILE}"));
    store.inject(&path, Fault::CutBody(300_000).when(expires));
    url
}

fn gzip(content: &Content) -> Result<Content> {
    let sh = Shell::new()?;
    Ok(Content::bytes(cmd!(sh, "gzip --stdout").stdin(content.to_vec()).quiet().output()?.stdout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_about_origins_differs_from_an_honest_download() {
        let content = Content::generated(1, SIZE);
        let without =
            NUMBERS.into_iter().flatten().filter(|number| fault(*number, &content).unwrap().is_none());
        // A full part, an empty file, a signature, redirects and a challenge.
        assert_eq!(without.collect::<Vec<_>>(), [21, 27, 35, 43, 44, 45, 46, 47, 48, 50, 51, 102]);
    }
}
