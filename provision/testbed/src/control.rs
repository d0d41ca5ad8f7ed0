//! What an origin serves and how: the handle to change it, and the decision for each request.
//!
//! [`Control`] is a cheap clone of a shared state behind short std mutexes (none is held across an await), so it can
//! be used from any thread, from callbacks and while requests are being answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::answer::{Answer, Asked, Close, Resource, honest};
use crate::content::Content;
use crate::counters::{Counters, Tally, lock};
use crate::fault::{Fault, Injection, Rules};
use crate::hosts::Host;
use crate::hosts::signing::{Entry, Signer, TokenRule};
use crate::request::{Recorded, percent_encode};
use crate::shape::Shape;

/// The handle to a running origin. Cloning is cheap; the origin does not live on because of a clone.
#[derive(Clone, Debug)]
pub struct Control(Arc<Shared>);

/// The state that an origin's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) addr: SocketAddr,
    encrypted: bool,
    pub(crate) routes: Mutex<HashMap<String, Route>>,
    pub(crate) tokens: Mutex<Vec<TokenRule>>,
    /// Asked in their order about what no route serves.
    pub(crate) hosts: Mutex<Vec<Arc<dyn Host>>>,
    pub(crate) signer: Arc<Signer>,
    pub(crate) tally: Arc<Tally>,
    rules: Rules,
    shape: Mutex<Shape>,
}

/// What is at a path.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    File { resource: Resource, signed: bool },
    Entry(Arc<Entry>),
}

impl Control {
    pub(crate) fn new(addr: SocketAddr, encrypted: bool, shape: Shape) -> Self {
        Self(Arc::new(Shared {
            addr,
            encrypted,
            routes: Mutex::default(),
            tokens: Mutex::default(),
            hosts: Mutex::default(),
            signer: Arc::default(),
            tally: Arc::default(),
            rules: Rules::default(),
            shape: Mutex::new(shape),
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Where the origin listens.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// `http://127.0.0.1:PORT` (`https:` where the origin speaks TLS) and `path` (decoded, with a leading slash),
    /// percent-encoded.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{}", self.scheme(), self.0.addr, percent_encode(path))
    }

    /// The same under a name, which has to lead to this origin.
    pub fn url_at(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{}", self.scheme(), self.0.addr.port(), percent_encode(path))
    }

    fn scheme(&self) -> &'static str {
        if self.0.encrypted { "https" } else { "http" }
    }

    /// Serves `content` at `path` (decoded, with a leading slash), with an `ETag` derived from it.
    pub fn put(&self, path: &str, content: Content) {
        let resource = Resource { etag: content.etag(), content };
        lock(&self.0.routes).insert(path.to_owned(), Route::File { resource, signed: false });
    }

    /// Serves nothing at `path` any more: 404.
    pub fn remove(&self, path: &str) {
        lock(&self.0.routes).remove(path);
    }

    /// Gives the file at `path` another `ETag`, verbatim (fault 16). Without a file there, nothing.
    pub fn set_etag(&self, path: &str, etag: &str) {
        if let Some(Route::File { resource, .. }) = lock(&self.0.routes).get_mut(path) {
            etag.clone_into(&mut resource.etag);
        }
    }

    /// Lets answers for `path` (`*`: for every path) go wrong. Several injections may be set for a path: the first
    /// that wants the request gets it, those of the path before those of `*`. The path need not serve anything.
    pub fn inject(&self, path: &str, injection: impl Into<Injection>) {
        self.0.rules.add(path, injection.into());
    }

    /// Takes back every injection that was set for exactly this `path` (or `*`).
    pub fn clear_faults(&self, path: &str) {
        self.0.rules.clear(path);
    }

    /// Serves like this from now on; a changed rate counts from a connection's next request.
    pub fn shape(&self, shape: Shape) {
        *lock(&self.0.shape) = shape;
    }

    /// A snapshot of what happened so far.
    pub fn counters(&self) -> Counters {
        self.0.tally.snapshot()
    }

    /// The requests so far, in order; the latest [`LOG_LIMIT`](crate::LOG_LIMIT).
    pub fn requests(&self) -> Vec<Recorded> {
        self.0.tally.log()
    }

    /// As [`Control::requests`], without the first `seen` of [`Counters::requests`].
    pub fn requests_since(&self, seen: u64) -> Vec<Recorded> {
        self.0.tally.log_since(seen)
    }

    /// Waits until the counters satisfy `done` and returns those. Woken by each change; no polling.
    pub async fn wait_for(&self, done: impl FnMut(&Counters) -> bool) -> Counters {
        self.0.tally.wait_for(done).await
    }
}

impl Shared {
    pub(crate) fn current_shape(&self) -> Shape {
        *lock(&self.shape)
    }

    /// The answer to a request that is served at all.
    pub(crate) fn answer(&self, request: &Recorded) -> Answer {
        let chosen = self.rules.choose(request);
        let fault = chosen.as_deref().map(|injection| &injection.fault);
        let mut answer = self.route(request, fault);
        if let Some(fault) = fault {
            fault.corrupt(&mut answer);
        }
        answer
    }

    fn route(&self, request: &Recorded, fault: Option<&Fault>) -> Answer {
        if request.method != "GET" && request.method != "HEAD" {
            let mut answer =
                Answer::text(405, "text/plain", "GET and HEAD only\n").with("Allow", "GET, HEAD");
            // There may be a body that nobody will read.
            answer.close = Close::Announced;
            return answer;
        }
        if let Some(refusal) = lock(&self.tokens).iter().find_map(|rule| rule.refusal(request)) {
            return refusal;
        }
        let route = lock(&self.routes).get(&request.path).cloned();
        match route {
            None => self
                .answer_by_host(request)
                .unwrap_or_else(|| Answer::text(404, "text/plain", "no such file\n")),
            Some(Route::Entry(entry)) => entry.answer(),
            Some(Route::File { mut resource, signed }) => {
                if let Some(refusal) = signed.then(|| self.signer.refusal(request)).flatten() {
                    return refusal;
                }
                let mut asked = Asked {
                    range: request.range.clone().filter(|_| !request.is_head()),
                    if_range: request.header("if-range").map(str::to_owned),
                };
                if let Some(fault) = fault {
                    fault.prepare(&mut asked, &mut resource);
                }
                honest(&asked, &resource)
            }
        }
    }

    fn answer_by_host(&self, request: &Recorded) -> Option<Answer> {
        // Not under the mutex: a face may look at this origin.
        let hosts = lock(&self.hosts).clone();
        hosts.iter().find_map(|host| host.answer(request))
    }
}
