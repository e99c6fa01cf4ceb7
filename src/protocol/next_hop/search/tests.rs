//! Tables of RFC 3263 §4.1 and §4.2: which look-ups follow each other, and what comes out.

use super::*;
use crate::protocol::next_hop::records::MAXIMUM_TARGETS;

/// What a DNS has: `NAME TYPE = DATA, DATA` in a line; `-` is NXDOMAIN, `?` no answer, `!` a failure. Names that are
/// not there have no such record.
fn zone(text: &str) -> Vec<(Key, Answer)> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(entry).collect()
}

fn entry(line: &str) -> (Key, Answer) {
    let (key, data) = line.split_once(" = ").unwrap();
    let (name, kind) = key.split_once(' ').unwrap();
    let kind = kind_of(kind);
    let rows: Vec<Vec<&str>> = data.split(", ").map(|row| row.split(' ').collect()).collect();
    let answer = match (data, kind) {
        ("-", _) => Err(Failure::NoSuchName),
        ("?", _) => Err(Failure::Timeout),
        ("!", _) => Err(Failure::ServerFailure),
        (_, RecordType::Srv) => Ok(Records::Srv(rows.iter().map(|row| srv(row)).collect())),
        (_, RecordType::Naptr) => Ok(Records::Naptr(rows.iter().map(|row| naptr(row)).collect())),
        (_, RecordType::A | RecordType::Aaaa) => {
            Ok(Records::Addresses(rows.iter().map(|row| row[0].parse().unwrap()).collect()))
        }
    };
    (Key { name: name.into(), kind }, answer)
}

fn kind_of(kind: &str) -> RecordType {
    match kind {
        "NAPTR" => RecordType::Naptr,
        "SRV" => RecordType::Srv,
        "A" => RecordType::A,
        "AAAA" => RecordType::Aaaa,
        _ => panic!("{kind}"),
    }
}

fn srv(row: &[&str]) -> Srv {
    let number = |index: usize| row[index].parse().unwrap();
    Srv {
        priority: number(0),
        weight: number(1),
        port: number(2),
        target: row[3].trim_end_matches('.').into(),
    }
}

fn naptr(row: &[&str]) -> Naptr {
    Naptr {
        order: row[0].parse().unwrap(),
        preference: row[1].parse().unwrap(),
        flags: row[2].into(),
        service: row[3].into(),
        has_regexp: row[4] != "-",
        replacement: row[5].into(),
    }
}

/// The look-ups, those of one step with `+` between them, and the outcome in words.
fn run(query: &Query, zone: &[(Key, Answer)]) -> (String, String) {
    let mut random = Random::new([1; 16], 0);
    let (mut made, mut steps): (Vec<Key>, Vec<String>) = (Vec::new(), Vec::new());
    loop {
        let mut known = |key: &Key| {
            let found = zone.iter().find(|(other, _)| other == key).map(|(_, answer)| answer.clone());
            made.contains(key).then(|| Arc::new(found.unwrap_or(Err(Failure::NoRecord))))
        };
        match search(query, &mut random, &mut known) {
            Found::Missing(keys) => {
                assert!(!keys.is_empty() && steps.len() < 10, "it comes to an end");
                steps.push(keys.iter().map(said).collect::<Vec<_>>().join("+"));
                made.extend(keys);
            }
            Found::Servers(servers) => {
                let told: Vec<_> = servers.iter().map(told).collect();
                return (steps.join(" "), told.join(" "));
            }
            Found::Unresolved(cause) => return (steps.join(" "), format!("{cause:?}")),
        }
    }
}

fn said(key: &Key) -> String {
    let kind = match key.kind {
        RecordType::Naptr => "naptr",
        RecordType::Srv => "srv",
        RecordType::A => "a",
        RecordType::Aaaa => "aaaa",
    };
    format!("{kind}:{}", key.name)
}

fn told(server: &Server) -> String {
    let addresses: Vec<_> = server.addresses.iter().map(ToString::to_string).collect();
    format!("{}/{}/{}", server.transport, server.host, addresses.join(","))
}

fn uri(host: &str, port: Option<u16>, transport: Option<Transport>, is_secure: bool) -> Query {
    Query::Server { host: host.into(), port, transport, is_secure }
}

fn assert_all(table: &[(Query, &str, &str, &str)]) {
    for (query, records, look_ups, outcome) in table {
        let (made, found) = run(query, &zone(records));
        assert_eq!((made.as_str(), found.as_str()), (*look_ups, *outcome), "{query:?} {records}");
    }
}

const ADDRESSES: &str = "aaaa:h.test+a:h.test";

#[test]
fn numeric_hosts_need_no_look_up() {
    assert_all(&[
        (uri("192.0.2.1", None, None, false), "", "", "udp/192.0.2.1/192.0.2.1:5060"),
        (uri("192.0.2.1", None, None, true), "", "", "tls/192.0.2.1/192.0.2.1:5061"),
        (
            uri("[2001:db8::1]", Some(7), Some(Transport::Tcp), false),
            "",
            "",
            "tcp/[2001:db8::1]/[2001:db8::1]:7",
        ),
        (uri("192.0.2.1", None, Some(Transport::Tcp), true), "", "", "tls/192.0.2.1/192.0.2.1:5061"),
        (uri("192.0.2.1", None, Some(Transport::Udp), true), "", "", "NoService"),
    ]);
}

#[test]
fn with_a_port_only_addresses_are_looked_up() {
    let records = "h.test A = 192.0.2.1";
    let tcp = Some(Transport::Tcp);
    assert_all(&[
        (uri("h.test", Some(5060), None, false), records, ADDRESSES, "udp/h.test/192.0.2.1:5060"),
        (uri("h.test", Some(5070), None, true), records, ADDRESSES, "tls/h.test/192.0.2.1:5070"),
        (uri("h.test", Some(5070), tcp, false), records, ADDRESSES, "tcp/h.test/192.0.2.1:5070"),
        (uri("h.test", Some(5070), tcp, true), records, ADDRESSES, "tls/h.test/192.0.2.1:5070"),
        (uri("h.test", Some(1), None, false), "", ADDRESSES, "NoRecord"),
        (uri("h.test", Some(1), None, false), "h.test A = -\nh.test AAAA = -", ADDRESSES, "NoSuchName"),
        (uri("h.test", Some(1), None, false), "h.test A = ?", ADDRESSES, "Timeout"),
        (uri("h.test", Some(1), None, false), "h.test AAAA = !", ADDRESSES, "ServerFailure"),
        (
            uri("h.test", Some(1), None, false),
            "h.test AAAA = ?\nh.test A = 192.0.2.1",
            ADDRESSES,
            "udp/h.test/192.0.2.1:1",
        ),
    ]);
}

#[test]
fn a_transport_without_a_port_asks_for_its_srv_record_and_then_for_addresses() {
    let none = "h.test A = 192.0.2.1";
    let with = |name: &str| format!("{name}.h.test SRV = 1 1 7 a.test\na.test A = 192.0.2.7");
    for (transport, is_secure, name, found) in [
        (Transport::Udp, false, "_sip._udp", "udp"),
        (Transport::Tcp, false, "_sip._tcp", "tcp"),
        (Transport::Tls, false, "_sips._tcp", "tls"),
        (Transport::Tls, true, "_sips._tcp", "tls"),
        (Transport::Tcp, true, "_sips._tcp", "tls"),
    ] {
        let query = uri("h.test", None, Some(transport), is_secure);
        let port = if found == "tls" { 5061 } else { 5060 };
        let without = run(&query, &zone(none));
        assert_eq!(without.0, format!("srv:{name}.h.test {ADDRESSES}"));
        assert_eq!(without.1, format!("{found}/h.test/192.0.2.1:{port}"));
        let by_srv = run(&query, &zone(&with(name)));
        assert_eq!(by_srv.0, format!("srv:{name}.h.test aaaa:a.test+a:a.test"));
        assert_eq!(by_srv.1, format!("{found}/a.test/192.0.2.7:7"));
    }
    let tcp = || uri("h.test", None, Some(Transport::Tcp), false);
    assert_all(&[
        (tcp(), "_sip._tcp.h.test SRV = 0 0 0 .\nh.test A = 192.0.2.1", "srv:_sip._tcp.h.test", "NoService"),
        (tcp(), "_sip._tcp.h.test SRV = ?\nh.test A = 192.0.2.1", "srv:_sip._tcp.h.test", "Timeout"),
        (tcp(), "_sip._tcp.h.test SRV = !\nh.test A = 192.0.2.1", "srv:_sip._tcp.h.test", "ServerFailure"),
        (
            tcp(),
            "_sip._tcp.h.test SRV = -\nh.test A = 192.0.2.1",
            "srv:_sip._tcp.h.test aaaa:h.test+a:h.test",
            "tcp/h.test/192.0.2.1:5060",
        ),
        (uri("h.test", None, Some(Transport::Wss), false), none, ADDRESSES, "wss/h.test/192.0.2.1:443"),
    ]);
}

/// The example of §4.1, in another order and case.
const NAPTR: &str =
    "h.test NAPTR = 90 50 S sip+d2t - _sip._tcp.e.test, 50 50 s SIPS+D2T - _sips._tcp.e.test, \
                     100 50 s SIP+D2U - _sip._udp.e.test
                     _sips._tcp.e.test SRV = 0 1 5061 s.test
                     _sip._tcp.e.test SRV = 0 1 5060 t.test
                     s.test A = 192.0.2.1
                     t.test A = 192.0.2.2";

#[test]
fn the_naptr_record_that_the_domain_likes_best_chooses_the_transport() {
    let sip = || uri("h.test", None, None, false);
    let to_s = "naptr:h.test srv:_sips._tcp.e.test aaaa:s.test+a:s.test";
    let to_t = "naptr:h.test srv:_sip._tcp.e.test aaaa:t.test+a:t.test";
    let prefers_tcp = NAPTR.replace("90 50 S", "50 49 S");
    let other_order = NAPTR.replace("50 50 s", "91 0 s");
    assert_all(&[
        (sip(), NAPTR, to_s, "tls/s.test/192.0.2.1:5061"),
        (sip(), &prefers_tcp, to_t, "tcp/t.test/192.0.2.2:5060"),
        (sip(), &other_order, to_t, "tcp/t.test/192.0.2.2:5060"),
        (uri("h.test", None, None, true), &other_order, to_s, "tls/s.test/192.0.2.1:5061"),
    ]);
    // What is not for us is as good as not there: other transports, other flags, rules, and names without SRV records.
    for useless in ["s SIPS+D2S -", "a SIP+D2U -", "s SIP+D2U !^.*$!sip:x!", "s E2U+sip -", "s SIPS+D2U -"] {
        let records = NAPTR.replace("h.test NAPTR = ", &format!("h.test NAPTR = 1 1 {useless} _x.test, "));
        assert_eq!(
            run(&sip(), &zone(&records)),
            (to_s.into(), "tls/s.test/192.0.2.1:5061".into()),
            "{useless}"
        );
    }
}

#[test]
fn a_naptr_record_that_leads_nowhere_leaves_the_word_to_the_next() {
    let records = NAPTR.replace("_sips._tcp.e.test SRV = 0 1 5061 s.test", "");
    let look_ups = "naptr:h.test srv:_sips._tcp.e.test srv:_sip._tcp.e.test aaaa:t.test+a:t.test";
    let nowhere = "h.test NAPTR = 1 1 s SIP+D2T - _sip._tcp.e.test\nh.test A = 192.0.2.9";
    let sip = || uri("h.test", None, None, false);
    assert_all(&[
        (sip(), &records, look_ups, "tcp/t.test/192.0.2.2:5060"),
        (
            sip(),
            nowhere,
            "naptr:h.test srv:_sip._tcp.e.test aaaa:h.test+a:h.test",
            "tcp/h.test/192.0.2.9:5060",
        ),
        (sip(), "h.test NAPTR = !", "naptr:h.test", "ServerFailure"),
        (sip(), "h.test NAPTR = ?", "naptr:h.test", "Timeout"),
    ]);
}

#[test]
fn without_naptr_records_every_transport_is_asked_for() {
    let all = "naptr:h.test srv:_sips._tcp.h.test+srv:_sip._tcp.h.test+srv:_sip._udp.h.test";
    let secure = "naptr:h.test srv:_sips._tcp.h.test";
    let udp = "_sip._udp.h.test SRV = 1 1 5060 u.test\nu.test A = 192.0.2.3";
    let both = format!("{udp}\n_sip._tcp.h.test SRV = 1 1 5060 u.test");
    let host = "h.test AAAA = 2001:db8::1";
    let sip = || uri("h.test", None, None, false);
    let sips = || uri("h.test", None, None, true);
    let then = |first: &str, then: &str| format!("{first} aaaa:{then}+a:{then}");
    assert_all(&[
        (sip(), udp, &then(all, "u.test"), "udp/u.test/192.0.2.3:5060"),
        (sip(), &both, &then(all, "u.test"), "tcp/u.test/192.0.2.3:5060"),
        (sip(), host, &then(all, "h.test"), "udp/h.test/[2001:db8::1]:5060"),
        (sips(), host, &then(secure, "h.test"), "tls/h.test/[2001:db8::1]:5061"),
        (sips(), &both, &then(secure, "h.test"), "NoRecord"),
        (sip(), &format!("{host}\n_sip._udp.h.test SRV = 0 0 0 ."), all, "NoService"),
        (sip(), &format!("{host}\n_sip._tcp.h.test SRV = ?"), all, "Timeout"),
        (
            sip(),
            &format!("{udp}\n_sip._tcp.h.test SRV = ?"),
            &then(all, "u.test"),
            "udp/u.test/192.0.2.3:5060",
        ),
    ]);
    let nothing = "h.test NAPTR = -\n_sips._tcp.h.test SRV = -\n_sip._tcp.h.test SRV = -\n_sip._udp.h.test SRV = -\n\
                   h.test A = -\nh.test AAAA = -";
    assert_all(&[(sip(), nothing, &then(all, "h.test"), "NoSuchName")]);
}

#[test]
fn federation_is_one_srv_record_over_tls_and_nothing_else() {
    let federation = || Query::Federation("d.test".into());
    let srv = "srv:_sipfederationtls._tcp.d.test";
    let name = "_sipfederationtls._tcp.d.test SRV";
    assert_all(&[
        (
            federation(),
            &format!(
                "{name} = 2 0 5061 b.test, 1 0 5062 a.test\na.test A = 192.0.2.1\nb.test AAAA = 2001:db8::2"
            ),
            &format!("{srv} aaaa:b.test+a:b.test+aaaa:a.test+a:a.test"),
            "tls/a.test/192.0.2.1:5062 tls/b.test/[2001:db8::2]:5061",
        ),
        (federation(), "d.test A = 192.0.2.1", srv, "NoRecord"),
        (federation(), &format!("{name} = -"), srv, "NoRecord"),
        (federation(), &format!("{name} = !"), srv, "ServerFailure"),
        (federation(), &format!("{name} = 0 0 0 ."), srv, "NoService"),
        (federation(), &format!("{name} = 0 0 0 a.test"), srv, "NoService"),
        (
            federation(),
            &format!("{name} = 0 0 5061 a.test"),
            &format!("{srv} aaaa:a.test+a:a.test"),
            "NoAddress",
        ),
        (
            federation(),
            &format!("{name} = 0 0 5061 a.test\na.test A = ?"),
            &format!("{srv} aaaa:a.test+a:a.test"),
            "Timeout",
        ),
        (
            Query::Names("d.test".into()),
            &format!("{name} = 2 0 5061 b.test, 1 0 5061 a.test"),
            srv,
            "tls/a.test/ tls/b.test/",
        ),
        (Query::Names("d.test".into()), "", srv, "NoRecord"),
    ]);
}

#[test]
fn a_server_without_an_address_or_with_that_of_another_is_left_out() {
    let records = "_sipfederationtls._tcp.d.test SRV = 1 0 5061 dead.test, 2 0 5061 a.test, 3 0 5061 same.test, 4 0 5062 same.test
                   dead.test A = !
                   a.test A = 192.0.2.1
                   same.test A = 192.0.2.1";
    let (_, found) = run(&Query::Federation("d.test".into()), &zone(records));
    assert_eq!(found, "tls/a.test/192.0.2.1:5061 tls/same.test/192.0.2.1:5062");
}

#[test]
fn the_families_alternate_and_what_is_no_address_of_a_host_is_none() {
    let records = "h.test A = 192.0.2.1, 0.0.0.0, 192.0.2.2, 224.0.0.1, 255.255.255.255, 192.0.2.3
                   h.test AAAA = 2001:db8::1, ::, ff02::1, 2001:db8::2";
    let (_, found) = run(&uri("h.test", Some(1), None, false), &zone(records));
    assert_eq!(found, "udp/h.test/[2001:db8::1]:1,192.0.2.1:1,[2001:db8::2]:1,192.0.2.2:1,192.0.2.3:1");
    let (_, mapped) = run(&uri("h.test", Some(1), None, false), &zone("h.test AAAA = ::ffff:192.0.2.1"));
    assert_eq!(mapped, "udp/h.test/192.0.2.1:1");
}

#[test]
fn of_many_targets_and_addresses_so_many_are_looked_at() {
    let targets: Vec<_> =
        (0..MAXIMUM_TARGETS).map(|number| format!("{number} 0 5061 t{number}.test")).collect();
    let mut records = zone(&format!("_sipfederationtls._tcp.d.test SRV = {}", targets.join(", ")));
    for number in 0..MAXIMUM_TARGETS {
        records.extend(zone(&format!("t{number}.test A = 192.0.2.{number}, 198.51.100.{number}")));
    }
    let mut random = Random::new([1; 16], 0);
    let mut known = |key: &Key| {
        let found = records.iter().find(|(other, _)| other == key).map(|(_, answer)| answer.clone());
        Some(Arc::new(found.unwrap_or(Err(Failure::NoRecord))))
    };
    let Found::Servers(servers) = search(&Query::Federation("d.test".into()), &mut random, &mut known) else {
        panic!("servers");
    };
    assert_eq!(servers.iter().map(|server| server.addresses.len()).sum::<usize>(), MAXIMUM_ADDRESSES);
    assert_eq!(&*servers[31].host, "t31.test");
    let many = Records::Srv(
        (0..90u16).rev().map(|number| srv(&[&number.to_string(), "0", "1", "t.test"])).collect(),
    );
    let Records::Srv(kept) = many.bounded() else { panic!("of one type") };
    assert_eq!((kept.len(), kept[0].priority, kept[49].priority), (MAXIMUM_TARGETS, 0, 49));
}
