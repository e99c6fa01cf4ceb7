//! Whether other organisations find us by `_sipfederationtls._tcp`, and believe what they find.
//!
//! It judges as a peer would, by either profile of identity.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::federation_resolver::Inquiry;
use super::finding::{Finding, Grade};
use super::tls::peer_names;
use crate::config::{Config, Protocol, PublicAddress, Side};
use crate::protocol::identity::{PeerNames, Profile, is_at_most_directly_under};
use crate::protocol::interface::Interfaces;
use crate::protocol::message::uri::Host;
use crate::protocol::next_hop::Unresolved;
use crate::protocol::next_hop::records::{Answer, RecordType, Records, Srv};

/// What a record has to fit.
#[derive(Debug)]
pub struct Ours {
    /// The names of our certificate, where there is one.
    names: Option<PeerNames>,
    /// By which mutual TLS is offered on the WAN.
    ports: BTreeSet<u16>,
    /// Whether the system chooses one of them.
    chooses_port: bool,
    interfaces: Arc<Interfaces>,
    public: Option<PublicAddress>,
    /// Whether domains that have no route to us are served.
    is_open: bool,
}

/// What a peer thinks of one record.
#[derive(Debug, Default)]
struct Opinion {
    /// Why nobody gets here by it, with the remedy.
    faults: Vec<(String, String)>,
    /// What keeps some away.
    doubts: Vec<(String, String)>,
}

impl Opinion {
    fn fault(&mut self, what: String, remedy: impl Into<String>) {
        self.faults.push((what, remedy.into()));
    }

    fn doubt(&mut self, what: String, remedy: impl Into<String>) {
        self.doubts.push((what, remedy.into()));
    }
}

impl Ours {
    /// What `config` says, and `interfaces` that are ours.
    pub fn new(config: &Config, interfaces: Arc<Interfaces>) -> Self {
        let secure = config.interfaces.iter().filter(|interface| {
            interface.side == Side::Wan && matches!(interface.protocol, Protocol::Mtls | Protocol::Tls)
        });
        let (chosen, ports): (BTreeSet<u16>, BTreeSet<u16>) =
            secure.map(|interface| interface.port).partition(|port| *port == 0);
        let public = config.wan_public_address.clone();
        let leaf = config.certificate.as_ref().and_then(|certificate| certificate.chain.first());
        Self {
            names: leaf.and_then(peer_names),
            ports: ports.into_iter().chain(public.as_ref().map(|public| public.port)).collect(),
            chooses_port: !chosen.is_empty(),
            interfaces,
            public,
            is_open: config.open_federation.enabled,
        }
    }

    /// All that is to be said of a domain.
    pub fn judge(&self, domain: &str, inquiry: &Inquiry) -> Vec<Finding> {
        let records = records(inquiry);
        // Where only routes are used, nobody has to find us.
        let worst = if self.is_open { Grade::Failed } else { Grade::Warning };
        if records.is_empty() {
            let cause = inquiry.resolution.as_ref().err().copied().unwrap_or(Unresolved::NoRecord);
            return vec![self.without_record(domain, cause).at_most(worst)];
        }
        let mut findings = Vec::new();
        let mut fits = false;
        for srv in records {
            let opinion = self.opinion(domain, srv, inquiry);
            fits |= opinion.faults.is_empty();
            findings.extend(rows(domain, srv, inquiry, opinion));
        }
        if !fits {
            findings.push(Finding::failed(
                domain,
                "DNS host IP and DNS port: none, since no record fits",
                format!("one record that does is enough: {}", self.proposal(domain)),
            ));
        }
        findings.into_iter().map(|finding| finding.at_most(worst)).collect()
    }

    /// *DNS host IP* and *DNS port*: those of the first record that fits.
    pub fn place(&self, domain: &str, inquiry: &Inquiry) -> Option<(IpAddr, u16)> {
        let fits = |srv: &&Srv| self.opinion(domain, srv, inquiry).faults.is_empty();
        let srv = records(inquiry).into_iter().find(fits)?;
        Some((*addresses_of(&srv.target, inquiry).first()?, srv.port))
    }

    fn without_record(&self, domain: &str, cause: Unresolved) -> Finding {
        let what =
            format!("_sipfederationtls._tcp.{domain}: {}; no DNS host IP and DNS port", cause.as_str());
        match cause {
            Unresolved::Timeout | Unresolved::ServerFailure | Unresolved::Overload => {
                Finding::failed(domain, what, "check dns.name_servers and the way there").at("dns")
            }
            _ if !self.is_open => {
                Finding::ok(domain, format!("{what}; none is needed while open federation is off"))
            }
            _ => Finding::failed(domain, what, format!("have it set up: {}", self.proposal(domain))),
        }
    }

    /// A record as it should be.
    fn proposal(&self, domain: &str) -> String {
        let names = self.names.iter().flat_map(PeerNames::hosts_and_domains);
        let host = names.map(str::to_ascii_lowercase).find(|name| is_at_most_directly_under(name, domain));
        let host = host.unwrap_or_else(|| format!("sip.{domain}"));
        let public = self.public.as_ref().map(|public| public.port);
        let port = public.or_else(|| self.ports.first().copied()).unwrap_or(5061);
        format!("_sipfederationtls._tcp.{domain}. IN SRV 0 0 {port} {host}.")
    }

    fn opinion(&self, domain: &str, srv: &Srv, inquiry: &Inquiry) -> Opinion {
        let mut opinion = Opinion::default();
        self.look_at_addresses(srv, inquiry, &mut opinion);
        self.look_at_port(srv, &mut opinion);
        self.look_at_names(domain, srv, &mut opinion);
        opinion
    }

    fn look_at_addresses(&self, srv: &Srv, inquiry: &Inquiry, opinion: &mut Opinion) {
        let addresses = addresses_of(&srv.target, inquiry);
        if addresses.is_empty() {
            opinion.fault(format!("{} has no address", srv.target), "add an A or AAAA record for it");
        }
        let is_public = |ip: &IpAddr| match &self.public {
            Some(PublicAddress { ip_address: Some(public), .. }) => public == ip,
            // STUN tells it, while the proxy runs.
            Some(PublicAddress { ip_address: None, .. }) => true,
            None => false,
        };
        let ports = self.ports.iter().copied().chain([srv.port]);
        let is_ours =
            |ip: &IpAddr| ports.clone().any(|port| self.interfaces.is_ours(&Host::Address(*ip), Some(port)));
        for ip in addresses.iter().filter(|ip| !is_public(ip) && !is_ours(ip)) {
            opinion.doubt(
                format!("{} is at {ip}, which is no address of an interface on this machine", srv.target),
                "behind a NAT, give it as wan.public_address.ip_address; else correct the record",
            );
        }
    }

    fn look_at_port(&self, srv: &Srv, opinion: &mut Opinion) {
        if self.ports.contains(&srv.port) || self.chooses_port {
            return;
        }
        let ports: Vec<_> = self.ports.iter().map(ToString::to_string).collect();
        let have = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
        opinion.fault(
            format!("port {} is none of ours: TLS on the WAN has {have}", srv.port),
            "correct the record, or open_federation.port; behind a NAT, wan.public_address.port",
        );
    }

    fn look_at_names(&self, domain: &str, srv: &Srv, opinion: &mut Opinion) {
        let target = &srv.target;
        let Some(names) = &self.names else {
            return opinion
                .fault("we have no certificate to show".to_owned(), "give certificate.chain and its key");
        };
        let proves = |profile| names.proves(domain, profile, &[target]);
        let is_near = is_at_most_directly_under(target, domain);
        let known: Vec<_> = names.hosts_and_domains().collect();
        let known = known.join(", ");
        match (proves(Profile::Rfc5922), proves(Profile::Federation)) {
            (true, _) => {}
            (false, true) => opinion.doubt(
                format!(
                    "peers by the profile \"rfc5922\" refuse us: the certificate names {target}, not {domain}"
                ),
                format!("have a certificate with {domain} among its names"),
            ),
            (false, false) => opinion.fault(
                format!("peers by either profile refuse us: the certificate names {known}"),
                format!("have a certificate with {domain} among its names"),
            ),
        }
        if !names.has_host(target) {
            opinion.doubt(
                format!(
                    "the certificate does not name {target}: peers that compare it with the server refuse us"
                ),
                format!("have {target} among its names, or let the record name one of {known}"),
            );
        }
        if !is_near {
            opinion.doubt(
                format!(
                    "{target} is neither {domain} nor directly under it: some peers follow no such record"
                ),
                format!("name a server directly under {domain}"),
            );
        }
    }
}

/// Those that lead anywhere.
fn records(inquiry: &Inquiry) -> Vec<&Srv> {
    inquiry.srv().into_iter().filter(|srv| !srv.target.is_empty() && srv.port != 0).collect()
}

fn rows(domain: &str, srv: &Srv, inquiry: &Inquiry, opinion: Opinion) -> Vec<Finding> {
    let addresses = addresses_of(&srv.target, inquiry);
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let record = format!("SRV {} {} {} {}", srv.priority, srv.weight, srv.port, srv.target);
    let mut findings = Vec::new();
    if opinion.faults.is_empty() {
        let shown = format!("DNS host IP {}, DNS port {}", addresses.join(", "), srv.port);
        findings.push(Finding::ok(domain, format!("{shown} ({record})")));
    }
    let failed = |(what, remedy)| Finding::failed(domain, format!("{record}: {what}"), remedy);
    let doubtful = |(what, remedy)| Finding::warning(domain, format!("{record}: {what}"), remedy);
    findings.extend(opinion.faults.into_iter().map(failed));
    findings.extend(opinion.doubts.into_iter().map(doubtful));
    findings
}

/// The addresses that were found for a name.
fn addresses_of(name: &str, inquiry: &Inquiry) -> Vec<IpAddr> {
    let found = inquiry
        .looked_up
        .iter()
        .filter(|(key, _)| *key.name == *name && matches!(key.kind, RecordType::A | RecordType::Aaaa));
    let addresses = found.filter_map(|(_, answer): &(_, Answer)| match answer {
        Ok(Records::Addresses(addresses)) => Some(addresses.iter().copied()),
        _ => None,
    });
    addresses.flatten().collect()
}

#[cfg(test)]
mod tests;
