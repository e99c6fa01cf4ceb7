//! Who may ask what.
//!
//! The Unix socket has its mode. Over TCP whoever reaches it may, where no token is configured, which is allowed on
//! loopback alone; and there every web page that the administrator looks at can send requests, too. So:
//!
//! - `Host` is an address, `localhost`, or a name that the proxy goes by: a page whose own name was turned to our address
//!   (DNS rebinding) brings that name;
//! - `Origin` and `Sec-Fetch-Site`, which pages cannot choose, say that the page is ours;
//! - what changes something has a header that no form can send and, without CORS, no script of another site.
//!
//! Whoever has shown the token has proven more than `Host` could.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::{Method, StatusCode};

use crate::config::Token;
use crate::protocol::message::uri::{Host, parse_host_port};

/// What POST and PUT need over TCP.
const OURS: HeaderName = HeaderName::from_static("x-sip-proxy");

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Which way a request has come in.
#[derive(Debug)]
pub(super) enum Door {
    /// The Unix socket.
    Socket,
    /// `[admin] listen`.
    Network {
        /// What has to be shown.
        token: Option<Token>,
    },
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: &'static str,
}

const fn refuse(status: StatusCode, why: &'static str) -> Result<(), Refusal> {
    Err(Refusal { status, why })
}

impl Door {
    /// Whether a request with these headers may pass. `names` are those that the proxy goes by.
    pub(super) fn check(
        &self,
        method: &Method,
        headers: &HeaderMap,
        names: &[String],
    ) -> Result<(), Refusal> {
        let Self::Network { token } = self else { return Ok(()) };
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        match token {
            Some(token) if !shows(headers, token) => {
                return refuse(
                    StatusCode::UNAUTHORIZED,
                    "the token of admin.token_file is needed: Authorization: Bearer TOKEN",
                );
            }
            None if !is_known(host, names) => {
                return refuse(
                    StatusCode::FORBIDDEN,
                    "the Host header names somebody else: use the address, localhost, or a name of the certificate",
                );
            }
            Some(_) | None => {}
        }
        if !is_same_site(headers, host) {
            return refuse(StatusCode::FORBIDDEN, "the request comes from a page of another site");
        }
        if !matches!(*method, Method::GET | Method::HEAD)
            && headers.get(OURS).is_none_or(|value| value != "1")
        {
            return refuse(StatusCode::FORBIDDEN, "what changes something needs the header X-Sip-Proxy: 1");
        }
        Ok(())
    }
}

fn shows(headers: &HeaderMap, token: &Token) -> bool {
    let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let Some((scheme, shown)) = shown.split_at_checked("Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && verify_slices_are_equal(shown, token.0.as_bytes()).is_ok()
}

/// Whether `host`, perhaps with a port, is an address or a name of ours.
fn is_known(host: &str, names: &[String]) -> bool {
    match parse_host_port(host.as_bytes()) {
        Some((_, Host::Address(_), _)) => true,
        Some((name, Host::Name(_), _)) => {
            let mut known = names.iter().map(String::as_str).chain(["localhost"]);
            known.any(|known| known.as_bytes().eq_ignore_ascii_case(name))
        }
        None => false,
    }
}

/// Whether the request comes from a page of ours, or from none.
fn is_same_site(headers: &HeaderMap, host: &str) -> bool {
    let site = headers.get(FETCH_SITE).is_none_or(|site| site == "same-origin" || site == "none");
    let origin = headers.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        origin.is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
    });
    site && origin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&str, &str)]) -> HeaderMap {
        let row = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<hyper::header::HeaderValue>().unwrap())
        };
        rows.iter().map(row).collect()
    }

    fn status(door: &Door, method: &Method, rows: &[(&str, &str)]) -> u16 {
        match door.check(method, &headers(rows), &["sip.example.org".to_owned()]) {
            Ok(()) => 200,
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn on_loopback_pages_of_others_do_not_get_in() {
        let open = Door::Network { token: None };
        for (rows, expected) in [
            (&[("host", "127.0.0.1:8061")][..], 200),
            (&[("host", "[::1]:8061")], 200),
            (&[("host", "[::1]")], 200),
            (&[("host", "LocalHost:8061")], 200),
            (&[("host", "Sip.example.org:8061")], 200),
            (&[("host", "evil.test:8061")], 403),
            (&[("host", "127.0.0.1.evil.test")], 403),
            (&[("host", "localhost.evil.test")], 403),
            (&[("host", "")], 403),
            (&[], 403),
            (&[("host", "localhost:1"), ("origin", "http://localhost:1")], 200),
            (&[("host", "localhost:1"), ("origin", "http://localhost:2")], 403),
            (&[("host", "localhost:1"), ("origin", "null")], 403),
            (&[("host", "localhost:1"), ("sec-fetch-site", "same-origin")], 200),
            (&[("host", "localhost:1"), ("sec-fetch-site", "none")], 200),
            (&[("host", "localhost:1"), ("sec-fetch-site", "same-site")], 403),
            (&[("host", "localhost:1"), ("sec-fetch-site", "cross-site")], 403),
        ] {
            assert_eq!(status(&open, &Method::GET, rows), expected, "{rows:?}");
        }
    }

    #[test]
    fn what_changes_something_needs_a_header_that_no_form_sends() {
        let open = Door::Network { token: None };
        let host = ("host", "127.0.0.1");
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(status(&open, &method, &[host]), 403);
            assert_eq!(status(&open, &method, &[host, ("x-sip-proxy", "0")]), 403);
            assert_eq!(status(&open, &method, &[host, ("x-sip-proxy", "1")]), 200);
            assert_eq!(status(&Door::Socket, &method, &[]), 200);
        }
        assert_eq!(status(&open, &Method::HEAD, &[host]), 200);
    }

    #[test]
    fn a_token_is_asked_for_and_makes_up_for_the_host() {
        let door = Door::Network { token: Some(Token("t0ken".to_owned())) };
        for (shown, expected) in [
            ("Bearer t0ken", 200),
            ("bearer t0ken", 200),
            ("Bearer t0ke", 401),
            ("Bearer t0kenn", 401),
            ("Bearer ", 401),
            ("Basic t0ken", 401),
            ("t0ken", 401),
            ("", 401),
        ] {
            let rows = [("host", "proxy.test"), ("authorization", shown)];
            assert_eq!(status(&door, &Method::GET, &rows), expected, "{shown}");
        }
        assert_eq!(status(&door, &Method::GET, &[("host", "127.0.0.1")]), 401);
    }
}
