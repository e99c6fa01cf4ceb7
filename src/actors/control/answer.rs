//! What goes back to who asks, with its headers.

use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, VARY,
    WWW_AUTHENTICATE,
};
use hyper::{Method, Response, StatusCode};
use serde::Serialize;

use super::access::Refusal;
use super::exposition::Format;
use super::page::{self, Asset};
use super::report::Problem;

/// Whatever a browser makes of an answer, it makes nothing of it but what it says it is, and for nobody but us.
const GUARDS: [(HeaderName, &str); 6] = [
    (HeaderName::from_static("content-security-policy"), page::CONTENT_POLICY),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (HeaderName::from_static("x-frame-options"), "DENY"),
    (HeaderName::from_static("referrer-policy"), "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// What goes back: a whole, or a stream without end.
pub(super) type Body = Either<Full<Bytes>, StreamBody<Endless>>;
/// The stream.
pub(super) type Endless = LocalBoxStream<'static, Result<Frame<Bytes>, std::convert::Infallible>>;

/// An answer, before it has headers.
pub(super) enum Answer {
    Json(Vec<u8>),
    Faulty(Vec<u8>),
    Text(StatusCode, String),
    Metrics(Format, String),
    /// Of the status page.
    File(&'static Asset),
    /// The same, which the browser has.
    Known,
    /// One JSON object each line, as they come.
    Lines(Endless),
    /// There is nothing to say.
    Done,
    Problem(StatusCode, String),
}

impl Answer {
    pub(super) fn json(value: &impl Serialize) -> Self {
        Self::Json(serde_json::to_vec(value).expect("reports have names for keys"))
    }

    /// What was asked is not done, and this says why in detail.
    pub(super) fn faulty(value: &impl Serialize) -> Self {
        Self::Faulty(serde_json::to_vec(value).expect("reports have names for keys"))
    }

    /// Somebody who would know does not answer.
    pub(super) fn silent(who: &str) -> Self {
        Self::Problem(StatusCode::SERVICE_UNAVAILABLE, format!("the {who} does not answer; try again later"))
    }

    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self::Problem(StatusCode::BAD_REQUEST, why.into())
    }
}

pub(super) fn refused(refusal: &Refusal) -> Response<Body> {
    let mut response = finish(Answer::Problem(refusal.status, refusal.why.to_owned()));
    if refusal.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A file of the status page, unless the browser has it.
pub(super) fn page_file(asset: &'static Asset, method: &Method, headers: &HeaderMap) -> Response<Body> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return not_allowed(method, &[Method::GET]);
    }
    let known = headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    let is_known = known.split(',').any(|known| known.trim() == asset.etag);
    let mut response = finish(if is_known { Answer::Known } else { Answer::File(asset) });
    let tag = HeaderValue::from_str(&asset.etag).expect("a hash in hexadecimal and quotation marks");
    response.headers_mut().insert(ETAG, tag);
    // Kept, and asked for again each time: after an upgrade no file is of another version than the rest.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

pub(super) fn not_allowed(method: &Method, allowed: &[Method]) -> Response<Body> {
    let mut names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    if allowed.contains(&Method::GET) {
        names.push("HEAD".to_owned());
    }
    let names = names.join(", ");
    let why = format!("{method} is not possible here, allowed: {names}");
    let mut response = finish(Answer::Problem(StatusCode::METHOD_NOT_ALLOWED, why));
    if let Ok(names) = HeaderValue::try_from(names) {
        response.headers_mut().insert(ALLOW, names);
    }
    response
}

/// Gives an answer its headers.
pub(super) fn finish(answer: Answer) -> Response<Body> {
    let whole = |octets: Vec<u8>| Either::Left(Full::from(octets));
    let has_forms = matches!(answer, Answer::Metrics(..));
    let (status, kind, body) = match answer {
        Answer::Json(octets) => (StatusCode::OK, "application/json", whole(octets)),
        Answer::Faulty(octets) => (StatusCode::UNPROCESSABLE_ENTITY, "application/json", whole(octets)),
        Answer::Text(status, text) => (status, "text/plain; charset=utf-8", whole(text.into_bytes())),
        Answer::Metrics(format, text) => {
            (StatusCode::OK, format.content_type(), whole(format.write(text).into_bytes()))
        }
        Answer::Lines(lines) => {
            (StatusCode::OK, "application/x-ndjson", Either::Right(StreamBody::new(lines)))
        }
        Answer::File(asset) => {
            (StatusCode::OK, asset.content_type, Either::Left(Full::from(Bytes::from_static(asset.content))))
        }
        Answer::Known => (StatusCode::NOT_MODIFIED, "", whole(Vec::new())),
        Answer::Done => (StatusCode::NO_CONTENT, "", whole(Vec::new())),
        Answer::Problem(status, error) => {
            let octets = serde_json::to_vec(&Problem { error }).expect("a string has a form in JSON");
            (status, "application/json", whole(octets))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if !kind.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if has_forms {
        headers.insert(VARY, HeaderValue::from_static("accept"));
    }
    for (name, value) in GUARDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
