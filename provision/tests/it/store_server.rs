//! A store for tests of `store push`: an HTTP server that takes bodies, and a registry and a bucket on it as small as
//! those tests need them. `cargo lab stores` has the real ones.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::prelude::*;

/// A request with its whole body.
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path and the query.
    pub(crate) target: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

/// An answer.
#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// The bytes of the body after which the connection ends.
    pub(crate) cut: Option<usize>,
}

pub(crate) fn reply(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

type Handler = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server, and what it was asked: `METHOD TARGET` and the length of the body.
pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Server {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { port: listener.local_addr().unwrap().port(), asked: Arc::default() };
        let (handler, asked): (Arc<Handler>, _) = (Arc::new(handler), server.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (handler, asked) = (handler.clone(), asked.clone());
                std::thread::spawn(move || serve(&stream, &*handler, &asked));
            }
        });
        server
    }

    /// The number of requests that begin with these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(line, _)| line.starts_with(words)).count()
    }

    /// The bytes of their bodies.
    pub(crate) fn bytes(&self, words: &str) -> u64 {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(line, _)| line.starts_with(words)).map(|(_, bytes)| bytes).sum()
    }
}

fn serve(stream: &TcpStream, handler: &Handler, asked: &Mutex<Vec<(String, u64)>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let mut words = head.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers = head.to_ascii_lowercase();
        let length = headers.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        asked.lock().unwrap().push((format!("{method} {target}"), body.len() as u64));
        let answer = handler(&Request { method, target, headers: head, body });
        let mut text = format!("HTTP/1.1 {} X\r\ncontent-length: {}\r\n", answer.status, answer.body.len());
        for (name, value) in &answer.headers {
            text = format!("{text}{name}: {value}\r\n");
        }
        let mut stream = stream;
        stream.write_all((text + "\r\n").as_bytes()).ok()?;
        if let Some(cut) = answer.cut {
            stream.write_all(&answer.body[..cut]).ok()?;
            return None;
        }
        stream.write_all(&answer.body).ok()?;
    }
}

/// The answer to a request for a file, or for a range of it.
pub(crate) fn file(request: &Request, bytes: Option<&Vec<u8>>) -> Reply {
    let Some(bytes) = bytes else { return reply(404) };
    let headers = request.headers.to_ascii_lowercase();
    let Some(range) = headers.split("range: bytes=").nth(1) else {
        return Reply { status: 200, body: bytes.clone(), ..Reply::default() };
    };
    let (start, end) = range.split("\r\n").next().unwrap().split_once('-').unwrap();
    let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
    if end >= bytes.len() {
        return reply(416);
    }
    let headers = vec![("content-range", format!("bytes {start}-{end}/{}", bytes.len()))];
    Reply { status: 206, headers, body: bytes[start..=end].to_vec(), cut: None }
}

/// A repository of a registry, at `/v2/r/`.
#[derive(Default)]
pub(crate) struct Repository {
    pub(crate) blobs: HashMap<String, Vec<u8>>,
    pub(crate) manifests: HashMap<String, Vec<u8>>,
    /// The upload in progress, and the number of its newest place.
    pub(crate) upload: Option<Vec<u8>>,
    pub(crate) place: u32,
}

impl Repository {
    pub(crate) fn answer(&mut self, request: &Request) -> Reply {
        let rest = request.target.strip_prefix("/v2/r/").unwrap();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        if let Some(tag) = path.strip_prefix("manifests/") {
            if request.method == "PUT" {
                self.manifests.insert(tag.to_owned(), request.body.clone());
                return reply(201);
            }
            return file(request, self.manifests.get(tag));
        }
        match (&*request.method, path) {
            ("POST", "blobs/uploads/") => self.upload = Some(Vec::new()),
            ("GET", _) if !path.contains("uploads") => return file(request, self.blobs.get(path)),
            _ if path != format!("blobs/uploads/{}", self.place) || self.upload.is_none() => {
                return reply(404);
            }
            ("PUT", _) => {
                let bytes = [self.upload.take().unwrap(), request.body.clone()].concat();
                let named = query.strip_prefix("digest=").unwrap().replace("%3A", ":");
                if named != format!("sha256:{}", Sha256::of(&bytes)) {
                    return reply(400);
                }
                self.blobs.insert(format!("blobs/{named}"), bytes);
                return reply(201);
            }
            ("PATCH", _) => self.upload.as_mut().unwrap().extend(&request.body),
            _ => {}
        }
        // Every answer names a new place.
        self.place += 1;
        let held = self.upload.as_ref().unwrap().len().saturating_sub(1);
        let headers =
            vec![("location", format!("/v2/r/blobs/uploads/{}", self.place)), ("range", format!("0-{held}"))];
        let status = if request.method == "GET" { 204 } else { 202 };
        Reply { status, headers, ..Reply::default() }
    }
}
