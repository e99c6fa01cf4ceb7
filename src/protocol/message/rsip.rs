//! The bridge to rsip's typed headers: messages that the proxy makes from scratch, and the oracle of the tests.
//!
//! Not on the way of forwarded messages: rsip refuses unknown methods and schemes, IPv6 hosts and folded lines,
//! and writes bodies, reason phrases and parameters other than they came. Nothing that has gone through it may go
//! back on the wire in the place of what a peer has sent.

use rsip::Method;
use rsip::headers::UntypedHeader as _;
use rsip::typed::Allow;

use super::name::Name;
use super::reply::Reply;

/// What the proxy itself can do: the answer to an OPTIONS for it (RFC 3261 §11.2).
pub fn capabilities() -> Reply {
    let methods = vec![
        Method::Invite,
        Method::Ack,
        Method::Cancel,
        Method::Bye,
        Method::Register,
        Method::Options,
        Method::Message,
        Method::Subscribe,
        Method::Notify,
        Method::Publish,
        Method::Refer,
        Method::Update,
        Method::Info,
        Method::PRack,
    ];
    let allow = rsip::headers::Allow::from(Allow::from(methods));
    Reply::new(200)
        .row("Allow", allow.value().to_owned())
        .row(Name::Supported.as_str(), "path, outbound, gruu".to_owned())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rsip::prelude::*;

    use super::*;
    use crate::protocol::message::{Carriage, Message, MessageLimits};

    /// Messages within what rsip understands.
    const SAMPLES: [&str; 3] = [
        "INVITE sip:bob@biloxi.example:5062;transport=tcp SIP/2.0\r\nVia: SIP/2.0/TCP client.example:5060;branch=z9hG4bK74bf9\r\n\
         Max-Forwards: 70\r\nFrom: Alice <sip:alice@atlanta.example>;tag=9fxced76sl\r\nTo: Bob <sip:bob@biloxi.example>\r\n\
         Call-ID: 3848276298220188511@atlanta.example\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@client.example;transport=tcp>\r\n\
         Content-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0",
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.101:5060;branch=z9hG4bKnashds7;received=192.0.2.4\r\n\
         From: <sip:carol@chicago.example>;tag=456248\r\nTo: <sip:carol@chicago.example>;tag=37GkEhwl6\r\n\
         Call-ID: 843817637684230@998sdasdh09\r\nCSeq: 1826 REGISTER\r\nContent-Length: 0\r\n\r\n",
        "NOTIFY sip:watcher@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKn\r\nMax-Forwards: 1\r\n\
         From: <sip:p@example.org>;tag=a\r\nTo: <sip:w@example.org>;tag=b\r\nCall-ID: n\r\nCSeq: 4294 NOTIFY\r\n\
         Event: presence\r\nSubscription-State: active;expires=60\r\nContent-Length: 0\r\n\r\n",
    ];

    #[test]
    fn the_index_and_rsip_read_the_same() {
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        for sample in SAMPLES {
            let ours =
                Message::parse(Bytes::from_static(sample.as_bytes()), Carriage::Datagram, limits).unwrap();
            let theirs = rsip::SipMessage::try_from(sample.as_bytes()).unwrap();
            assert_eq!(ours.fault(), None);
            assert_eq!(ours.call_id(), theirs.call_id_header().unwrap().value().as_bytes());
            assert_eq!(ours.body(), &theirs.body()[..]);
            assert_eq!(ours.all_rows().count(), theirs.headers().iter().count());
            let cseq = theirs.cseq_header().unwrap().typed().unwrap();
            assert_eq!(ours.cseq().unwrap().number, cseq.seq);
            assert_eq!(ours.cseq().unwrap().method, cseq.method.to_string().as_bytes());
            let tag = theirs.from_header().unwrap().tag().unwrap().unwrap();
            assert_eq!(ours.from().unwrap().tag(), Some(tag.value().as_bytes()));
            let via = theirs.via_header().unwrap().typed().unwrap();
            assert_eq!(ours.top_via().unwrap().branch, via.branch().map(|branch| branch.value().as_bytes()));
            match &theirs {
                rsip::SipMessage::Request(request) => {
                    // rsip changes the case of what it knows.
                    assert!(ours.request_uri().eq_ignore_ascii_case(request.uri.to_string().as_bytes()));
                    assert_eq!(ours.method_token(), request.method.to_string().as_bytes());
                }
                rsip::SipMessage::Response(response) => {
                    assert_eq!(ours.status(), Some(response.status_code.code()));
                }
            }
        }
    }

    #[test]
    fn the_capabilities_name_methods_and_extensions() {
        let reply = capabilities();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.rows[1].1, crate::protocol::location::EXTENSIONS.join(", "));
        let allow = &reply.rows[0].1;
        assert!(
            ["INVITE", "MESSAGE", "SUBSCRIBE", "PRACK"].iter().all(|method| allow.contains(method)),
            "{allow}"
        );
    }
}
