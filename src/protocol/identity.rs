//! Which domain a certificate proves (RFC 5922 §7, and what federations of unified communications do beside it).
//!
//! That a certificate is good, and the names that it has, are found elsewhere. Here it is decided what these names
//! are worth: for the domain of a `From`, for the domain that a request goes to, for an account.
//!
//! Names are compared whole and without case, and a wildcard proves nothing (RFC 5922 §7.2).

use std::net::IpAddr;
use std::sync::Arc;

use super::account::{AccountId, Accounts, Secret};
use super::message::uri::Uri;

/// The profile by which a certificate proves a SIP domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// `"rfc5922"`: the certificate names the domain itself (RFC 5922 §7.1).
    Rfc5922,
    /// `"federation"`: that, or it names the domain's server (the target of its SRV record, or the access server of
    /// its route), and that is the domain or directly under it.
    #[default]
    Federation,
}

/// Who a connection that we open has to lead to. Names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expected {
    /// The host name that the addresses were found by; of a server that is given by its address, the domain. It goes
    /// out as SNI (RFC 6066 §3), so it is never an address.
    pub server_name: Arc<str>,
    /// The domain that the certificate has to prove, with `server_name` as its server. `None`: the certificate has
    /// to name `server_name`.
    pub domain: Option<Arc<str>>,
}

/// The names of a peer's certificate, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerNames {
    /// URIs among the alternative names.
    pub uris: Vec<String>,
    /// DNS names among the alternative names.
    pub dns: Vec<String>,
    /// Addresses among the alternative names.
    pub addresses: Vec<IpAddr>,
    /// The subject's common name, where there are no alternative names: only then it counts (RFC 5922 §7.1).
    pub common_name: Option<String>,
}

impl PeerNames {
    /// Whether they prove `domain`, whose servers are called `servers`.
    pub fn proves<S: AsRef<str>>(&self, domain: &str, profile: Profile, servers: &[S]) -> bool {
        let is_ours = |server: &str| is_at_most_directly_under(server, domain) && self.has_host(server);
        self.has_domain(domain)
            || profile == Profile::Federation && servers.iter().any(|server| is_ours(server.as_ref()))
    }

    /// Whether they prove `domain`, or may do so once its servers are known ([`Profile::Federation`]): one of them is
    /// the domain or directly under it.
    pub fn may_prove(&self, domain: &str) -> bool {
        self.has_domain(domain) || self.hosts().any(|host| is_at_most_directly_under(host, domain))
    }

    /// Whether the certificate has the host name `host`.
    pub fn has_host(&self, host: &str) -> bool {
        self.hosts().any(|name| is_same(name, host))
    }

    /// Whether the certificate has the address `address`.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }

    /// Every host or domain that they name, once or several times.
    pub fn hosts_and_domains(&self) -> impl Iterator<Item = &str> {
        self.sip_domains().chain(self.hosts())
    }

    /// The account whose certificate this is: the first that has any of the names.
    pub fn account(&self, accounts: &Accounts) -> Option<AccountId> {
        let is_ours = |account: &str| self.hosts_and_domains().any(|name| is_same(name, account));
        let found =
            accounts.find(|account| matches!(&account.secret, Secret::Certificate(name) if is_ours(name)));
        found.map(|(id, _)| id)
    }

    /// RFC 5922 §7.1: the domains of SIP URIs; if there are none, the DNS names; if there are no alternative names
    /// at all, the common name.
    fn has_domain(&self, domain: &str) -> bool {
        let mut domains = self.sip_domains().peekable();
        if domains.peek().is_some() {
            domains.any(|name| is_same(name, domain))
        } else {
            self.has_host(domain)
        }
    }

    fn hosts(&self) -> impl Iterator<Item = &str> {
        self.dns.iter().chain(&self.common_name).map(String::as_str)
    }

    /// The domains that SIP URIs name. One with a user part names that user, and no domain (RFC 5922 §7.1).
    fn sip_domains(&self) -> impl Iterator<Item = &str> {
        self.uris.iter().filter_map(|uri| {
            let parsed = Uri::parse(uri.as_bytes()).ok()?;
            std::str::from_utf8(parsed.host_text).ok().filter(|_| !parsed.is_secure && parsed.user.is_none())
        })
    }
}

fn is_same(name: &str, other: &str) -> bool {
    // Whoever writes a star into a domain or an SRV record does not mean the certificate's.
    !other.contains('*') && name.eq_ignore_ascii_case(other)
}

/// Whether `host` is `domain`, or has one label more.
pub fn is_at_most_directly_under(host: &str, domain: &str) -> bool {
    let parent =
        host.split_once('.').map(|(label, parent)| (!label.contains('*') && !label.is_empty(), parent));
    is_same(host, domain) || parent.is_some_and(|(is_name, parent)| is_name && is_same(parent, domain))
}

/// What a peer has proven by its certificate, for as long as its connection lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerProof {
    /// The account whose certificate it is.
    pub account: Option<AccountId>,
    /// The names.
    pub names: PeerNames,
    /// Who vouches for them.
    pub vouchers: Vouchers,
}

impl PeerProof {
    /// Whether the peer is `domain`, whose servers are called `servers`.
    pub fn proves<S: AsRef<str>>(&self, domain: &str, profile: Profile, servers: &[S]) -> bool {
        self.vouchers.may_vouch_for(domain) && self.names.proves(domain, profile, servers)
    }

    /// Whether the peer is `domain`, or may turn out to be once the names of that domain's servers are known
    /// ([`Profile::Federation`]): only then it is worth to ask for these.
    pub fn may_prove(&self, domain: &str) -> bool {
        self.vouchers.may_vouch_for(domain) && self.names.may_prove(domain)
    }

    /// Whether the peer is who was meant.
    pub fn is_expected(&self, expected: &Expected, profile: Profile) -> bool {
        match &expected.domain {
            Some(domain) => self.proves(domain, profile, &[&expected.server_name]),
            None => self.vouchers.is_common && self.names.has_host(&expected.server_name),
        }
    }
}

/// Which authorities vouch for a certificate. A static route may have authorities of its own: these vouch for the
/// route's domain and for no other, and no other authority vouches for that domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vouchers {
    /// Whether the authorities that everybody shares do.
    pub is_common: bool,
    /// The domains whose own authorities do.
    pub routes: Vec<Arc<str>>,
    /// The domains that have authorities of their own, lower case, in order.
    pub reserved: Arc<[Arc<str>]>,
}

impl Vouchers {
    fn may_vouch_for(&self, domain: &str) -> bool {
        let find = |domains: &[Arc<str>]| domains.iter().any(|other| is_same(other, domain));
        if find(&self.reserved) { find(&self.routes) } else { self.is_common }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::account::{Account, AccountKind, Scope};

    fn names(names: &[&str]) -> PeerNames {
        let mut all = PeerNames::default();
        for name in names {
            match name.split_once(':').unwrap() {
                ("dns", name) => all.dns.push(name.to_owned()),
                ("uri", uri) => all.uris.push(uri.to_owned()),
                ("ip", address) => all.addresses.push(address.parse().unwrap()),
                ("cn", name) => all.common_name = Some(name.to_owned()),
                other => panic!("{other:?}"),
            }
        }
        all
    }

    const BOTH: [Profile; 2] = [Profile::Rfc5922, Profile::Federation];

    #[test]
    fn sip_uris_come_before_dns_names_and_these_before_the_common_name() {
        let table: [(&[&str], bool); 15] = [
            (&["uri:sip:b.test"], true),
            (&["uri:sip:b.test", "dns:other.test"], true),
            (&["uri:sip:other.test", "uri:SIP:B.TEST"], true),
            (&["uri:sip:other.test", "dns:b.test"], false),
            (&["uri:sip:bob@b.test"], false),
            (&["uri:sip:bob@b.test", "dns:b.test"], true),
            (&["uri:sips:b.test"], false),
            (&["uri:https://b.test", "dns:b.test"], true),
            (&["dns:B.Test"], true),
            (&["dns:other.test", "dns:b.test"], true),
            (&["cn:b.test"], true),
            (&["ip:192.0.2.1"], false),
            (&["dns:*.test"], false),
            (&["dns:x.b.test", "dns:b.test.x"], false),
            (&[], false),
        ];
        for (given, expected) in table {
            for profile in BOTH {
                assert_eq!(names(given).proves("b.test", profile, &["srv.x.test"]), expected, "{given:?}");
            }
        }
    }

    /// Certificate for the domain or its server, server under the domain or not, by each profile.
    #[test]
    fn the_server_proves_its_domain_by_the_federation_profile_if_it_is_directly_under_it() {
        let table = [
            ("dns:b.test", "sip.b.test", [true, true]),
            ("dns:b.test", "sip.host.test", [true, true]),
            ("dns:sip.b.test", "sip.b.test", [false, true]),
            ("dns:sip.host.test", "sip.host.test", [false, false]),
            ("cn:SIP.b.test", "sip.B.test", [false, true]),
            ("dns:b.test", "b.test", [true, true]),
            ("dns:a.sip.b.test", "a.sip.b.test", [false, false]),
            ("dns:xb.test", "xb.test", [false, false]),
            ("dns:test", "test", [false, false]),
            ("dns:other.b.test", "sip.b.test", [false, false]),
            ("dns:*.b.test", "sip.b.test", [false, false]),
            ("dns:*.b.test", "*.b.test", [false, false]),
            ("dns:.b.test", ".b.test", [false, false]),
            ("uri:sip:sip.b.test", "sip.b.test", [false, false]),
        ];
        for (name, server, expected) in table {
            let proven = BOTH.map(|profile| names(&[name]).proves("b.test", profile, &["x.test", server]));
            assert_eq!(proven, expected, "{name} {server}");
            assert!(!names(&[name]).proves("c.test", Profile::Federation, &[server]), "{name} {server}");
        }
        let both = names(&["uri:sip:other.test", "dns:sip.b.test"]);
        assert!(both.proves("b.test", Profile::Federation, &["sip.b.test"]));
        assert!(!both.proves("b.test", Profile::Federation, &[] as &[&str]));
    }

    #[test]
    fn servers_are_looked_up_only_where_that_can_change_something() {
        let table = [
            ("dns:b.test", true),
            ("uri:sip:b.test", true),
            ("dns:SIP.b.test", true),
            ("cn:sip.b.test", true),
            ("dns:a.sip.b.test", false),
            ("dns:*.b.test", false),
            ("dns:test", false),
            ("uri:sip:sip.b.test", false),
            ("ip:192.0.2.1", false),
        ];
        for (name, expected) in table {
            assert_eq!(names(&[name]).may_prove("B.test"), expected, "{name}");
        }
    }

    #[test]
    fn hosts_and_addresses_are_compared_whole() {
        let all = names(&[
            "dns:Sip.Example",
            "dns:*.b.example",
            "ip:192.0.2.1",
            "ip:2001:db8::1",
            "uri:sip:d.example",
        ]);
        for (host, expected) in [
            ("sip.example", true),
            ("a.b.example", false),
            ("*.b.example", false),
            ("example", false),
            ("d.example", false),
        ] {
            assert_eq!(all.has_host(host), expected, "{host}");
        }
        assert!(all.has_address([192, 0, 2, 1].into()) && all.has_address("2001:db8::1".parse().unwrap()));
        assert!(!all.has_address([192, 0, 2, 2].into()));
    }

    #[test]
    fn an_account_is_found_by_any_name() {
        let account = |secret| Account {
            user_name: "name".to_owned(),
            secret,
            scope: Scope::everybody(),
            kind: AccountKind::UcServer,
        };
        let accounts = Accounts::new(vec![
            account(Secret::Password("ucs.example".to_owned())),
            account(Secret::Certificate("other.example".to_owned())),
            account(Secret::Certificate("UCS.example".to_owned())),
        ]);
        let table: [(&[&str], Option<AccountId>); 7] = [
            (&["dns:ucs.example"], Some(AccountId(2))),
            (&["dns:x.example", "dns:Other.example"], Some(AccountId(1))),
            (&["uri:sip:ucs.example"], Some(AccountId(2))),
            (&["uri:sip:user@ucs.example"], None),
            (&["uri:https://ucs.example"], None),
            (&["cn:ucs.example"], Some(AccountId(2))),
            (&["dns:*.example"], None),
        ];
        for (given, expected) in table {
            assert_eq!(names(given).account(&accounts), expected, "{given:?}");
        }
    }

    #[test]
    fn authorities_of_a_route_vouch_for_its_domain_and_they_alone() {
        let reserved: Arc<[Arc<str>]> = Arc::new(["b.test".into(), "c.test".into()]);
        let proof = |is_common, routes: &[&str]| PeerProof {
            names: names(&["dns:a.test", "dns:b.test", "dns:c.test"]),
            vouchers: Vouchers {
                is_common,
                routes: routes.iter().map(|&domain| domain.into()).collect(),
                reserved: Arc::clone(&reserved),
            },
            account: None,
        };
        let table: [(bool, &[&str], [bool; 3]); 5] = [
            (true, &[], [true, false, false]),
            (false, &["b.test"], [false, true, false]),
            (true, &["b.test"], [true, true, false]),
            (false, &["b.test", "c.test"], [false, true, true]),
            (false, &[], [false, false, false]),
        ];
        for (is_common, routes, expected) in table {
            let proof = proof(is_common, routes);
            let none: [&str; 0] = [];
            let domains = ["a.test", "B.test", "c.test"];
            assert_eq!(domains.map(|d| proof.proves(d, Profile::Rfc5922, &none)), expected, "{proof:?}");
            assert_eq!(domains.map(|domain| proof.may_prove(domain)), expected, "{proof:?}");
            let expect =
                |domain: &str| Expected { server_name: "x.test".into(), domain: Some(domain.into()) };
            assert_eq!(domains.map(|d| proof.is_expected(&expect(d), Profile::Federation)), expected);
            let server = Expected { server_name: "a.test".into(), domain: None };
            assert_eq!(proof.is_expected(&server, Profile::Rfc5922), is_common);
        }
    }
}
