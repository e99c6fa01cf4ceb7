use super::*;
use crate::protocol::flow::{InterfaceId, Transport};
use crate::protocol::interface::Interface;
use crate::protocol::next_hop::records::{Failure, Key};

/// `_sipfederationtls._tcp.a.test` has this target and port, and the target these addresses.
fn found(target: &str, port: u16, addresses: &[&str]) -> Inquiry {
    let key = |name: &str, kind| Key { name: Arc::from(name), kind };
    let srv = Srv { priority: 0, weight: 0, port, target: Arc::from(target) };
    let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    let known =
        if addresses.is_empty() { Err(Failure::NoSuchName) } else { Ok(Records::Addresses(addresses)) };
    Inquiry {
        resolution: Err(Unresolved::NoAddress),
        looked_up: vec![
            (key("_sipfederationtls._tcp.a.test", RecordType::Srv), Ok(Records::Srv(vec![srv]))),
            (key(target, RecordType::A), known),
            (key(target, RecordType::Aaaa), Err(Failure::NoRecord)),
        ],
    }
}

/// We listen at 192.0.2.1:5061.
fn ours(names: &[&str]) -> Ours {
    let interface = Interface {
        id: InterfaceId(0),
        side: Side::Wan,
        transport: Transport::Tls,
        bound: "192.0.2.1:5061".parse().unwrap(),
        public: None,
    };
    let dns = names.iter().map(|name| (*name).to_owned()).collect();
    Ours {
        names: Some(PeerNames { dns, ..PeerNames::default() }),
        ports: BTreeSet::from([5061]),
        chooses_port: false,
        interfaces: Arc::new(Interfaces::new(vec![interface], vec!["192.0.2.1".parse().unwrap()])),
        public: None,
        is_open: true,
    }
}

/// The worst grade, and all texts.
fn verdict(ours: &Ours, inquiry: &Inquiry) -> (Grade, String) {
    let findings = ours.judge("a.test", inquiry);
    let texts: Vec<_> = findings.iter().map(|finding| finding.text.as_str()).collect();
    (findings.iter().map(|finding| finding.grade).max().unwrap(), texts.join("\n"))
}

#[test]
fn a_record_is_judged_as_peers_of_both_profiles_would() {
    let table: [(&[&str], &str, Grade, &str); 8] = [
        (&["a.test", "sip.a.test"], "sip.a.test", Grade::Ok, "DNS host IP 192.0.2.1, DNS port 5061"),
        (&["A.test"], "a.test", Grade::Ok, "DNS host IP"),
        (
            &["sip.a.test"],
            "sip.a.test",
            Grade::Warning,
            "\"rfc5922\" refuse us: the certificate names sip.a.test",
        ),
        (&["a.test"], "sip.a.test", Grade::Warning, "does not name sip.a.test"),
        (&["a.test", "sip.c.test"], "sip.c.test", Grade::Warning, "nor directly under it"),
        (
            &["sip.c.test"],
            "sip.c.test",
            Grade::Failed,
            "either profile refuse us: the certificate names sip.c.test",
        ),
        (&["x.sip.a.test"], "x.sip.a.test", Grade::Failed, "either profile refuse us"),
        (&["*.a.test"], "sip.a.test", Grade::Failed, "either profile refuse us"),
    ];
    for (names, target, grade, text) in table {
        let (found, texts) = verdict(&ours(names), &found(target, 5061, &["192.0.2.1"]));
        assert_eq!(found, grade, "{names:?} {target}: {texts}");
        assert!(texts.contains(text), "{names:?} {target}: {texts}");
        assert_eq!(texts.contains("DNS host IP 192.0.2.1"), grade != Grade::Failed, "{texts}");
    }
}

#[test]
fn port_and_address_are_ours_or_those_of_the_nat() {
    let nat = |ip_address: Option<&str>| Ours {
        public: Some(PublicAddress {
            ip_address: ip_address.map(|ip| ip.parse().unwrap()),
            port: 443,
            host_name: None,
        }),
        ports: BTreeSet::from([443, 5061]),
        ..ours(&["a.test"])
    };
    let any_port = Ours { ports: BTreeSet::new(), chooses_port: true, ..ours(&["a.test"]) };
    let table = [
        (ours(&["a.test"]), 5061, "192.0.2.9", Grade::Warning, "is at 192.0.2.9, which is no address"),
        (
            ours(&["a.test"]),
            5062,
            "192.0.2.1",
            Grade::Failed,
            "port 5062 is none of ours: TLS on the WAN has 5061",
        ),
        (nat(Some("198.51.100.1")), 443, "198.51.100.1", Grade::Ok, "DNS port 443"),
        (nat(Some("198.51.100.1")), 443, "198.51.100.2", Grade::Warning, "is at 198.51.100.2"),
        (nat(None), 443, "198.51.100.2", Grade::Ok, "DNS host IP 198.51.100.2"),
        (any_port, 40_000, "192.0.2.1", Grade::Warning, "is at 192.0.2.1"),
        (Ours { names: None, ..ours(&[]) }, 5061, "192.0.2.1", Grade::Failed, "no certificate to show"),
    ];
    for (ours, port, ip, grade, text) in table {
        let (found, texts) = verdict(&ours, &found("a.test", port, &[ip]));
        assert_eq!(found, grade, "{port} {ip}: {texts}");
        assert!(texts.contains(text), "{port} {ip}: {texts}");
    }
}

#[test]
fn without_a_record_or_an_address_nobody_finds_us_which_matters_where_federation_is_open() {
    let closed = Ours { is_open: false, ..ours(&["a.test"]) };
    let absent = |cause| Inquiry { resolution: Err(cause), looked_up: Vec::new() };
    let table = [
        (absent(Unresolved::NoRecord), [Grade::Failed, Grade::Ok]),
        (absent(Unresolved::NoService), [Grade::Failed, Grade::Ok]),
        (absent(Unresolved::Timeout), [Grade::Failed, Grade::Warning]),
        (found("a.test", 5061, &[]), [Grade::Failed, Grade::Warning]),
    ];
    for (inquiry, grades) in table {
        let found = [&ours(&["a.test"]), &closed].map(|ours| verdict(ours, &inquiry).0);
        assert_eq!(found, grades, "{inquiry:?}");
    }
    let proposal = ours(&["sip.c.test", "edge.A.test"]).proposal("a.test");
    assert_eq!(proposal, "_sipfederationtls._tcp.a.test. IN SRV 0 0 5061 edge.a.test.");
}
