//! What Microsoft's peers do that no RFC has: extensions of theirs, compression, keep-alive (MS-SIP, MS-SIPCOMP,
//! MS-CONMGMT).

use super::bench::Bench;
use super::network::Peer;
use super::text::{answer, answer_with, request, value, values, with};

const ASKS: &str = "ms-keep-alive: UAC;hop-hop=yes";
const PROMISE: &str = "UAS;tcp=no;hop-hop=yes;end-end=no;timeout=540";

fn bench(peers: &[Peer]) -> Bench {
    let mut bench = Bench::new();
    bench.log_on_all(peers);
    bench
}

#[test]
fn their_extensions_pass_unchanged() {
    for (a, b) in [(Peer::udp(5070), Peer::tcp(5072)), (Peer::tls(5070), Peer::udp(5072))] {
        let mut bench = bench(&[a, b]);
        let tags = "ms-benotify, ms-piggyback-first-notify";
        let subscribe = request("SUBSCRIBE", "sip:bob@a.test", a, "c");
        bench.receive(a, &with(&subscribe, &format!("Proxy-Require: {tags}")));
        let asked = bench.one(b, "SUBSCRIBE");
        assert_eq!(values(&asked, "Proxy-Require"), [tags]);
        bench.receive(b, &answer(&asked, 200));
        bench.one(a, "200");
    }
}

#[test]
fn what_else_is_required_is_named_without_them() {
    let a = Peer::tcp(5070);
    let mut bench = bench(&[a, Peer::tcp(5072)]);
    let text = with(&request("SUBSCRIBE", "sip:bob@a.test", a, "c"), "Proxy-Require: ms-benotify, foo");
    bench.receive(a, &text);
    assert_eq!(value(&bench.one(a, "420"), "Unsupported"), "foo");
    bench.nothing_more();
}

#[test]
fn compression_is_refused_to_everybody_and_goes_no_further() {
    let (known, stranger) = (Peer::tcp(5070), Peer::outside(7000));
    for peer in [known, stranger] {
        for uri in ["sip:bob@a.test", "sip:127.0.0.1:5060", "sip:bob@elsewhere.test"] {
            let mut bench = bench(&[known, Peer::tcp(5072)]);
            let offer = with(&request("NEGOTIATE", uri, peer, "c"), "Compression: LZ77-64K");
            // Nothing else about it counts.
            bench.receive(peer, &offer.replace("Max-Forwards: 70", "Max-Forwards: 0"));
            bench.one(peer, "405");
            bench.nothing_more();
            assert_eq!(bench.proxy.load().servers, 0);
        }
    }
}

#[test]
fn the_first_hop_answers_for_keep_alive_and_nobody_behind_it() {
    let (a, b) = (Peer::tls(5070), Peer::tcp(5072));
    let theirs = "ms-keep-alive: UAS;tcp=no;hop-hop=yes;end-end=no;timeout=7\r\n";
    for status in [200, 404] {
        let mut bench = bench(&[a, b]);
        bench.receive(a, &with(&request("MESSAGE", "sip:bob@a.test", a, "c"), ASKS));
        let asked = bench.one(b, "MESSAGE");
        assert!(values(&asked, "ms-keep-alive").is_empty());
        bench.receive(b, &answer_with(&asked, status, "bob", theirs));
        assert_eq!(values(&bench.one(a, &status.to_string()), "ms-keep-alive"), [PROMISE]);
    }
}

#[test]
fn our_own_answers_tell_as_well_how_long_a_stream_may_be_silent() {
    let a = Peer::tcp(5070);
    let mut bench = bench(&[a, Peer::tcp(5072)]);
    let table = [
        ("REGISTER", "sip:a.test", "200"),
        ("OPTIONS", "sip:a.test", "200"),
        ("MESSAGE", "sip:bob@elsewhere.test", "404"),
        ("NEGOTIATE", "sip:a.test", "405"),
    ];
    for (method, uri, status) in table {
        let text = request(method, uri, a, method).replace("<sip:bob@a.test>", "<sip:alice@a.test>");
        bench.receive(a, &with(&text, ASKS));
        assert_eq!(values(&bench.one(a, status), "ms-keep-alive"), [PROMISE], "{method}");
        // Who does not ask is told nothing.
        bench.receive(a, &text.replace("z9hG4bK", "z9hG4bK-x").replace("Call-ID: ", "Call-ID: x"));
        assert!(values(&bench.one(a, status), "ms-keep-alive").is_empty(), "{method}");
    }
}

#[test]
fn datagrams_have_nothing_to_keep_alive() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = bench(&[a, b]);
    bench.receive(a, &with(&request("MESSAGE", "sip:bob@a.test", a, "c"), ASKS));
    let asked = bench.one(b, "MESSAGE");
    assert_eq!(values(&asked, "ms-keep-alive"), ["UAC;hop-hop=yes"]);
    bench.receive(b, &answer(&asked, 200));
    assert!(values(&bench.one(a, "200"), "ms-keep-alive").is_empty());
}
