//! Asserted and private identities, both ways (RFC 3325).

use super::super::network::Peer;
use super::super::text::{answer_with, request, values, with};
use super::{B, bench, dialled, from_outside, proof, server};

#[test]
fn identities_of_who_is_not_trusted_do_not_pass() {
    let (mut bench, ucs) = bench();
    let asserted = "P-Asserted-Identity: <sip:ceo@a.test>\r\nP-Preferred-Identity: <sip:x@b.test>\r\n\
                    ms-edge-proxy-message-trust: ms-source-type=AuthorizedServer";
    let rows = |text: &str| {
        ["P-Asserted-Identity", "P-Preferred-Identity", "ms-edge-proxy-message-trust"]
            .map(|name| values(text, name).len())
    };
    // From outside: of a stranger nothing, of a trusted route what it asserts.
    for (names, from, expected) in
        [("b.test", "sip:bob@b.test", [0, 0, 0]), ("sip.m.test", "sip:bob@m.test", [1, 0, 0])]
    {
        let peer = Peer::outside(7000);
        let text = with(&from_outside("MESSAGE", peer, from, names), asserted);
        bench.receive_proven(peer, proof(&[names]), text.as_bytes());
        let asked = bench.one(ucs, "MESSAGE");
        assert_eq!(rows(&asked), expected, "{names}");
        // What is private does not leave in the answer either, but to a trusted route.
        bench.receive(ucs, &answer_with(&asked, 200, "t", &format!("{asserted}\r\nPrivacy: id\r\n")));
        assert_eq!(rows(&bench.one(peer, "200")), expected, "{names}");
    }
    // To the outside: what is to be private stays here, unless the route is trusted.
    let table = [
        ("", B, [1, 0, 0]),
        ("\r\nPrivacy: none", B, [1, 0, 0]),
        ("\r\nPrivacy: header;id", B, [0, 0, 0]),
        ("\r\nPrivacy: id", "sip:x@m.test", [1, 0, 0]),
    ];
    for (n, (privacy, uri, expected)) in table.into_iter().enumerate() {
        let text = with(&request("MESSAGE", uri, ucs, &n.to_string()), &format!("{asserted}{privacy}"));
        bench.receive(ucs, &text);
        bench.resolve(Ok(vec![server("sip.m.test", &["127.0.0.9:5061"])]));
        let sent = bench.one(dialled(5061), "MESSAGE");
        assert_eq!(rows(&sent), expected, "{privacy}");
        let ok = answer_with(&sent, 200, "t", "P-Asserted-Identity: <sip:x@b.test>\r\n");
        bench.receive(Peer::outside(5061), &ok);
        let believed = usize::from(uri != B);
        assert_eq!(values(&bench.one(ucs, "200"), "P-Asserted-Identity").len(), believed);
    }
}
