//! The effect of a [`Fault`] on an answer, in two pure steps.
//!
//! `prepare` changes the request and the file before the honest answer is made, so that the answer is consistent in
//! itself: a changed `ETag` is also the one that `If-Range` is compared with. `corrupt` changes the answer that was
//! made.

use crate::answer::{
    Answer, Close, Ending, Framing, HeadFault, Part, RequestedRange, Resource, content_range,
};
use crate::content::Content;
use crate::fault::{Claim, Fault, LOGIN_PAGE, ResetAt};

impl Fault {
    /// Changes the request and the file.
    pub(crate) fn prepare(&self, asked: &mut RequestedRange, resource: &mut Resource) {
        match self {
            Self::IgnoreRange { .. } | Self::WholeAsRange => asked.range = None,
            Self::IgnoreIfRange if asked.if_range.is_some() => asked.range = None,
            Self::Etag(etag) => resource.etag.clone_from(etag),
            Self::WeakEtag if !resource.etag.starts_with("W/") => resource.etag.insert_str(0, "W/"),
            Self::ErrorText { at, text } => resource.content = resource.content.replaced(*at, text.clone()),
            Self::FlippedBit { at, bit } => resource.content = resource.content.flipped(*at, *bit),
            Self::OtherContent(content) => resource.content = content.clone(),
            Self::All(faults) => faults.iter().for_each(|fault| fault.prepare(asked, resource)),
            _ => {}
        }
    }

    /// Changes the answer. Faults that replace it do so with any answer.
    pub(crate) fn corrupt(&self, answer: &mut Answer) {
        match self {
            Self::All(faults) => faults.iter().for_each(|fault| fault.corrupt(answer)),
            Self::IgnoreRange { accept_ranges: false } => answer.remove("Accept-Ranges"),
            Self::ContentEncoding(name) => answer.set("Content-Encoding", name),
            Self::ContentType(name) => answer.set("Content-Type", name),
            Self::Headers(headers) => answer.set_all(headers),
            Self::WholeAsRange => {
                if let Some(part) = answer.file.clone() {
                    answer.status = 206;
                    answer.put_range(part);
                }
            }
            Self::RangeNotSatisfiable { content_range } => {
                *answer = Answer::empty(416);
                if let Some(text) = content_range {
                    answer.set("Content-Range", text);
                }
            }
            Self::LoginPage => *answer = Answer::text(200, "text/html; charset=utf-8", LOGIN_PAGE),
            Self::RetryAfter { status, value } => {
                *answer = Answer::text(*status, "text/plain", "later\n").with("Retry-After", value);
            }
            Self::Status { code, headers, body } => {
                *answer = Answer::text(*code, "text/plain", body.clone());
                answer.set_all(headers);
            }
            Self::Redirect { status, location } => {
                *answer = Answer::empty(*status);
                if let Some(location) = location {
                    answer.set("Location", location);
                }
            }
            _ => {
                if let Some(part) = answer.file.clone() {
                    self.corrupt_file(answer, part);
                }
                self.corrupt_transport(answer);
            }
        }
    }

    /// Changes the answer with a file, of which `part` is the honest range.
    fn corrupt_file(&self, answer: &mut Answer, mut part: Part) {
        match self {
            Self::LongerRange { extra, claim } => lengthen(answer, part, *extra, *claim),
            Self::WrongLength { delta } => {
                let length = part.length();
                let declared = length.saturating_add_signed(*delta);
                part.range.end = part.range.start + length.min(declared);
                answer.put(part);
                answer.set("Content-Length", declared.to_string());
                if declared > length {
                    answer.close = Close::Silent;
                }
            }
            Self::Endless { chunked } => {
                answer.remove("Content-Length");
                answer.body.push(Part { content: Content::generated(28, u64::MAX), range: 0..u64::MAX });
                answer.close = Close::Silent;
                if *chunked {
                    chunk(answer, true);
                }
            }
            _ if answer.status == 206 => self.corrupt_range(answer, part),
            _ => {}
        }
    }

    /// Changes a 206, of which `part` is the honest range.
    fn corrupt_range(&self, answer: &mut Answer, mut part: Part) {
        let (length, size) = (part.length(), part.content.size());
        match self {
            Self::OkWithContentRange { whole } => {
                answer.status = 200;
                if *whole {
                    answer.put(Part::whole(part.content));
                }
            }
            Self::NoContentRange => answer.remove("Content-Range"),
            Self::OtherStart { shift } => {
                let start = part.range.start.saturating_add_signed(*shift).min(size - 1);
                part.range = start..(start + length).min(size);
                answer.put_range(part);
            }
            Self::ShorterRange { length: most } => {
                part.range.end = part.range.start + length.min((*most).max(1));
                answer.put_range(part);
            }
            Self::WrongTotal(total) => answer.set("Content-Range", content_range(&part.range, total)),
            Self::UnknownTotal => answer.set("Content-Range", content_range(&part.range, '*')),
            Self::Multipart => {
                let before = format!(
                    "--BOUNDARY\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
                    content_range(&part.range, size)
                );
                let frame = |text: String| Part::whole(Content::bytes(text));
                answer.remove("Content-Range");
                answer.set("Content-Type", "multipart/byteranges; boundary=BOUNDARY");
                answer.body = vec![frame(before), part, frame("\r\n--BOUNDARY--\r\n".to_owned())];
                answer.set("Content-Length", answer.body_length().to_string());
            }
            _ => {}
        }
    }

    fn corrupt_transport(&self, answer: &mut Answer) {
        let cut_head = |after, ending| Some(HeadFault::Cut { after, ending });
        match self {
            Self::CutBody(at) => answer.stop = Some((*at, Ending::Fin)),
            Self::LengthAndChunked { delta } => {
                let declared = answer.body_length().saturating_add_signed(*delta);
                chunk(answer, true);
                answer.set("Content-Length", declared.to_string());
            }
            Self::ChunkedCut(at) => {
                chunk(answer, false);
                answer.stop = Some((*at.min(&answer.body_length()), Ending::Fin));
            }
            Self::Chunked => chunk(answer, true),
            Self::NoLength => {
                answer.remove("Content-Length");
                answer.close = Close::Silent;
            }
            Self::Reset(ResetAt::FirstByte) => answer.head_fault = cut_head(0, Ending::Reset),
            Self::Reset(ResetAt::Head) => answer.head_fault = cut_head(usize::MAX, Ending::Reset),
            Self::Reset(ResetAt::Body(at)) => answer.stop = Some((*at, Ending::Reset)),
            Self::Reset(ResetAt::LastByte) => {
                answer.stop = Some((answer.body_length().saturating_sub(1), Ending::Reset));
            }
            Self::Trickle { every } => answer.trickle = Some(*every),
            Self::Stall(at) => answer.stop = Some((*at, Ending::Stall)),
            Self::NoAnswer => answer.head_fault = cut_head(0, Ending::Stall),
            Self::HeaderFlood { lines } => {
                let line = |n| (format!("X-Flood-{n:09}"), "f".repeat(79));
                answer.headers.extend((0..*lines).map(line));
            }
            Self::EndlessHeader => answer.head_fault = Some(HeadFault::Endless),
            Self::SlowHead { every } => answer.head_fault = Some(HeadFault::Slow { every: *every }),
            Self::CloseAfter => answer.close = Close::Silent,
            Self::HangUp => answer.head_fault = cut_head(0, Ending::Fin),
            Self::Raw(bytes) => answer.head_fault = Some(HeadFault::Raw(bytes.clone())),
            _ => {}
        }
    }
}

fn chunk(answer: &mut Answer, last_chunk: bool) {
    answer.remove("Content-Length");
    answer.set("Transfer-Encoding", "chunked");
    answer.framing = Framing::Chunked { last_chunk };
}

fn lengthen(answer: &mut Answer, mut part: Part, extra: u64, claim: Claim) {
    let (length, size) = (part.length(), part.content.size());
    let end = part.range.end.saturating_add(extra).min(size);
    // Past the end of the file the bytes are noise.
    let noise = extra - (end - part.range.end);
    part.range.end = end;
    answer.body = vec![part.clone()];
    match claim {
        Claim::Honest => {
            if answer.status == 206 {
                answer.put_range(part);
            } else {
                answer.put(part);
            }
            return;
        }
        Claim::LengthOnly => answer.set("Content-Length", (length + extra).to_string()),
        Claim::Nothing => answer.close = Close::Silent,
    }
    answer.body.push(Part::whole(Content::generated(7, noise)));
}
