//! The handle to an origin, and the decision on each request.
//!
//! [`Control`] is a cheap clone of a shared state behind short std mutexes. None is held across an await, so a test can
//! change an origin from any thread, from callbacks and while requests are being answered. A route serves a file; every
//! other behaviour is a [`Host`], and the emulated hosts implement that from above.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::answer::{Answer, Close, RequestedRange, Resource, honest};
use crate::content::Content;
use crate::counters::{Counters, LiveCounters, lock};
use crate::fault::{Fault, Injection, Rules};
use crate::request::{Recorded, percent_encode};
use crate::shape::Shape;
use crate::signatures::Signatures;

/// A behaviour beyond single files.
pub(crate) trait Host: fmt::Debug + Send + Sync {
    /// The answer, as `Err` if it is a refusal; `None` if the request is not for this host.
    fn answer(&self, request: &Recorded) -> Option<Result<Answer, Answer>>;
}

/// The handle to a running origin. A clone is cheap and does not keep the origin running.
#[derive(Clone, Debug)]
pub struct Control(Arc<Shared>);

/// The state that an origin's tasks share.
#[derive(Debug)]
pub(crate) struct Shared {
    addr: SocketAddr,
    scheme: &'static str,
    routes: Mutex<HashMap<String, Route>>,
    /// Asked in their order before the routes.
    guards: Mutex<Vec<Arc<dyn Host>>>,
    /// Asked in their order if no route matches.
    hosts: Mutex<Vec<Arc<dyn Host>>>,
    pub(crate) signatures: Arc<Signatures>,
    pub(crate) tally: Arc<LiveCounters>,
    rules: Rules,
    shape: Mutex<Shape>,
}

/// The behaviour at one path.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    File { resource: Resource, signed: bool },
    Host(Arc<dyn Host>),
}

impl Control {
    pub(crate) fn new(addr: SocketAddr, scheme: &'static str, shape: Shape) -> Self {
        Self(Arc::new(Shared {
            addr,
            scheme,
            routes: Mutex::default(),
            guards: Mutex::default(),
            hosts: Mutex::default(),
            signatures: Arc::default(),
            tally: Arc::default(),
            rules: Rules::default(),
            shape: Mutex::new(shape),
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The address that the origin listens on.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr
    }

    /// `http://127.0.0.1:PORT` (`https:` for an origin with TLS) and `path` (decoded, with a leading slash),
    /// percent-encoded.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{}", self.0.scheme, self.0.addr, percent_encode(path))
    }

    /// [`Control::url`] with another host name, which has to resolve to this origin.
    pub fn url_at(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{}", self.0.scheme, self.0.addr.port(), percent_encode(path))
    }

    /// Serves `content` at `path` (decoded, with a leading slash), with an `ETag` derived from it.
    pub fn put(&self, path: &str, content: Content) {
        self.route(path, Route::File { resource: Resource::new(content), signed: false });
    }

    /// Removes the file at `path`: 404 from now on.
    pub fn remove(&self, path: &str) {
        lock(&self.0.routes).remove(path);
    }

    /// Gives the file at `path` another `ETag`, verbatim (fault 16). Does nothing if there is no file.
    pub fn set_etag(&self, path: &str, etag: &str) {
        if let Some(Route::File { resource, .. }) = lock(&self.0.routes).get_mut(path) {
            etag.clone_into(&mut resource.etag);
        }
    }

    /// Injects a fault into the answers for `path` (`*`: for every path). A path can have several: the first one that
    /// matches a request is applied, and those of the path come before those of `*`. The path need not exist.
    pub fn inject(&self, path: &str, injection: impl Into<Injection>) {
        self.0.rules.add(path, injection.into());
    }

    /// Injects a fault in place of every one that was injected for exactly this `path`.
    pub fn replace_faults(&self, path: &str, injection: impl Into<Injection>) {
        self.clear_faults(path);
        self.inject(path, injection);
    }

    /// Removes every fault that was injected for exactly this `path` (or `*`).
    pub fn clear_faults(&self, path: &str) {
        self.0.rules.clear(path);
    }

    /// Changes the shape. A changed rate counts from a connection's next request.
    pub fn shape(&self, shape: Shape) {
        *lock(&self.0.shape) = shape;
    }

    /// A snapshot of the counters.
    pub fn counters(&self) -> Counters {
        self.0.tally.snapshot()
    }

    /// The latest [`LOG_LIMIT`](crate::LOG_LIMIT) requests, in order.
    pub fn requests(&self) -> Vec<Recorded> {
        self.requests_since(0)
    }

    /// As [`Control::requests`], without the first `seen` of [`Counters::requests`].
    pub fn requests_since(&self, seen: u64) -> Vec<Recorded> {
        self.0.tally.log_since(seen)
    }

    /// Waits until the counters satisfy `done`, and returns them. Each change wakes it; it does not poll.
    pub async fn wait_for(&self, done: impl FnMut(&Counters) -> bool) -> Counters {
        self.0.tally.wait_for(done).await
    }

    pub(crate) fn route(&self, path: &str, route: Route) {
        lock(&self.0.routes).insert(path.to_owned(), route);
    }

    /// Lets `guard` answer before the routes.
    pub(crate) fn guard(&self, guard: Arc<dyn Host>) {
        lock(&self.0.guards).push(guard);
    }

    /// Lets `host` answer if no route matches.
    pub(crate) fn mount<H: Host + 'static>(&self, host: H) -> Arc<H> {
        let host = Arc::new(host);
        lock(&self.0.hosts).push(Arc::clone(&host) as _);
        host
    }
}

impl Shared {
    pub(crate) fn current_shape(&self) -> Shape {
        *lock(&self.shape)
    }

    /// The answer to a request on a connection within the limit.
    pub(crate) fn answer(&self, request: &Recorded) -> Answer {
        let chosen = self.rules.choose(request);
        let fault = chosen.as_deref().map(|injection| &injection.fault);
        let mut answer = self.route(request, fault).unwrap_or_else(|refusal| refusal);
        if let Some(fault) = fault {
            fault.corrupt(&mut answer);
        }
        answer
    }

    fn route(&self, request: &Recorded, fault: Option<&Fault>) -> Result<Answer, Answer> {
        if request.method != "GET" && request.method != "HEAD" {
            let mut answer =
                Answer::text(405, "text/plain", "GET and HEAD only\n").with("Allow", "GET, HEAD");
            // The request may have a body, which is never read.
            answer.close = Close::Announced;
            return Err(answer);
        }
        // Cloned, so that a guard or a host runs without the mutex: it may look at this origin.
        let ask = |hosts: &Mutex<Vec<Arc<dyn Host>>>| {
            let hosts = lock(hosts).clone();
            hosts.iter().find_map(|host| host.answer(request))
        };
        if let Some(refusal) = ask(&self.guards) {
            return refusal;
        }
        let route = lock(&self.routes).get(&request.path).cloned();
        let missing = || Err(Answer::text(404, "text/plain", "no such file\n"));
        match route {
            None => ask(&self.hosts).unwrap_or_else(missing),
            Some(Route::Host(host)) => host.answer(request).unwrap_or_else(missing),
            Some(Route::File { mut resource, signed }) => {
                if let Some(refusal) = signed.then(|| self.signatures.refusal(request)).flatten() {
                    return Err(refusal);
                }
                let mut asked = RequestedRange::of(request);
                if let Some(fault) = fault {
                    fault.prepare(&mut asked, &mut resource);
                }
                Ok(honest(&asked, &resource))
            }
        }
    }
}
