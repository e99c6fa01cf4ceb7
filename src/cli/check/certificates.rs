//! `check certificates`: what peers will say of ours, and whom we believe.

use std::time::SystemTime;

use super::findings::{Finding, Findings};
use super::{MARGIN, SOON};
use crate::actors::tls::TlsFault;
use crate::actors::tls::audit::{ChainEnd, Purposes, Validity, authorities, chain_end, lists, purposes};
use crate::actors::tls::peer_names;
use crate::cli::table::validity;
use crate::config::{Certificate, Config, TrustedCas, days};
use crate::protocol::identity::Profile;

pub(super) fn check(config: &Config, findings: &mut Findings) -> Result<(), TlsFault> {
    let now = SystemTime::now();
    match &config.certificate {
        Some(certificate) => {
            let pair = Pair { certificate, config, subject: "certificate", key: "certificate.chain" };
            findings.extend(pair.judge(now)?);
            findings.extend(presence_domains(config, certificate));
        }
        None => findings.add(without_certificate(config)),
    }
    if let Some(certificate) = &config.tls.client_certificate {
        let pair = Pair { certificate, config, subject: "client pair", key: "certificate.client_chain" };
        findings.extend(pair.judge(now)?);
    }
    findings.extend(trust(&config.tls.trusted_cas, "trusted CAs", "certificate.trusted_cas", now));
    for route in &config.static_routes {
        if let Some(trusted) = &route.trusted_cas {
            let key = format!("{}.trusted_cas", route.key);
            findings.extend(trust(trusted, &route.domain_name, &key, now));
        }
    }
    findings.extend(lists(&config.tls).iter().map(|list| revocation_list(list, now)));
    Ok(())
}

fn without_certificate(config: &Config) -> Finding {
    let is_needed = config.interfaces.iter().any(|interface| interface.protocol.is_secure())
        || config.static_routes.iter().any(|route| route.transport_protocol.is_secure());
    if !is_needed {
        return Finding::ok("certificate", "there is none, and nothing needs one");
    }
    let text = "there is none: interfaces and routes with TLS, MTLS or WSS do not work";
    let remedy = "give certificate.chain and certificate.private_key";
    Finding::warning("certificate", text, remedy).at("certificate.chain")
}

/// A certificate of ours.
struct Pair<'a> {
    certificate: &'a Certificate,
    config: &'a Config,
    subject: &'static str,
    key: &'static str,
}

impl Pair<'_> {
    fn judge(&self, now: SystemTime) -> Result<Vec<Finding>, TlsFault> {
        let Certificate { not_before, not_after, issuer, names, .. } = self.certificate;
        let mut findings = vec![self.age(*not_before, *not_after, now), self.chain(issuer)?];
        let key = self.ok("the private key belongs to it");
        let named = if names.is_empty() {
            self.failed("it has no name", "have one with the presence domains among its names")
        } else {
            self.ok(format!("names: {}", names.join(", ")))
        };
        findings.extend([key, named]);
        findings.extend(self.purposes());
        Ok(findings)
    }

    fn age(&self, not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> Finding {
        let date = humantime::format_rfc3339_seconds;
        let left = days(now, not_after);
        let text = format!("valid from {} to {}: {}", date(not_before), date(not_after), validity(left));
        match left {
            _ if not_before > now => self.failed(
                format!("not valid before {}", date(not_before)),
                "check the clock of this machine; else wait",
            ),
            ..0 => self.failed(text, "renew it: peers refuse it"),
            0..SOON => self.warning(text, format!("renew it {MARGIN}")),
            _ => self.ok(text),
        }
    }

    fn chain(&self, issuer: &str) -> Result<Finding, TlsFault> {
        let tls = &self.config.tls;
        let mut end = chain_end(self.certificate, &tls.trusted_cas, tls)?;
        // Our peers need not believe whom we believe: the authorities of the system are those of most of them.
        if matches!(end, ChainEnd::Untrusted | ChainEnd::Incomplete(_))
            && chain_end(self.certificate, &TrustedCas::System, tls)? == ChainEnd::Trusted
        {
            end = ChainEnd::Trusted;
        }
        Ok(match end {
            ChainEnd::Trusted => self.ok(format!("the chain is complete; issued by {issuer}")),
            ChainEnd::Untrusted => self.warning(
                format!("the chain is complete; its authority is none that we trust; issued by {issuer}"),
                "peers must have its authority; where you run it, add it to certificate.trusted_cas",
            ),
            ChainEnd::Incomplete(missing) => self.failed(
                format!("the chain is not complete: {missing} is missing, or is no authority that we trust"),
                "append the intermediate certificates to the file; a private authority to certificate.trusted_cas",
            ),
            ChainEnd::Revoked => self.failed("its authority has revoked it", "have a new one issued"),
            ChainEnd::WrongPurpose => {
                self.failed("it is for none of servers, clients, SIP domains", "have another one issued")
            }
            ChainEnd::Faulty(fault) => {
                self.failed(format!("the chain is faulty: {fault}"), "have another one issued")
            }
        })
    }

    /// A certificate may be for servers and clients, and a pair may be shown to either.
    fn purposes(&self) -> Vec<Finding> {
        let Purposes { is_any, server, client, others } = purposes(self.certificate);
        let is_main = self.subject == "certificate";
        let has_pair = self.config.tls.client_certificate.is_some();
        let named = [(server, "serverAuth"), (client, "clientAuth")];
        let mut named: Vec<_> =
            named.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name).collect();
        named.extend(others.iter().map(String::as_str));
        let text = match named.join(", ") {
            _ if is_any => "purposes: any".to_owned(),
            named => format!("purposes: {named}"),
        };
        let mut findings = Vec::new();
        if is_main && !is_any && !server {
            findings.push(self.warning(
                format!("{text}; without serverAuth some peers do not connect to us"),
                "have one issued for servers",
            ));
        }
        if !is_any && !client && (!is_main || !has_pair) {
            findings.push(self.warning(
                format!("{text}; without clientAuth some peers refuse mutual TLS from us"),
                "have one issued for clients, as well or as certificate.client_chain",
            ));
        }
        if findings.is_empty() {
            findings.push(self.ok(text));
        }
        findings
    }

    fn ok(&self, text: impl Into<String>) -> Finding {
        Finding::ok(self.subject, text)
    }

    fn warning(&self, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::warning(self.subject, text, remedy).at(self.key)
    }

    fn failed(&self, text: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::failed(self.subject, text, remedy).at(self.key)
    }
}

/// Whether the certificate proves the domains that are served here.
fn presence_domains(config: &Config, certificate: &Certificate) -> Vec<Finding> {
    let names = certificate.chain.first().and_then(peer_names).unwrap_or_default();
    let judge = |domain: &String| {
        if names.proves::<&str>(domain, Profile::Rfc5922, &[]) {
            Finding::ok(domain, "the certificate names the domain: peers by either profile accept it")
        } else if names.may_prove(domain) {
            let text = "the certificate names a server directly under the domain: \
                        peers by the profile \"federation\" accept it, others do not";
            Finding::warning(domain, text, format!("have {domain} among its names")).at("certificate.chain")
        } else {
            let text =
                "the certificate names neither the domain nor a server directly under it: peers refuse it";
            Finding::warning(domain, text, format!("have {domain} among its names")).at("certificate.chain")
        }
    };
    config.service.presence_domains.iter().map(judge).collect()
}

/// The authorities of a file, or of the system.
fn trust(trusted: &TrustedCas, subject: &str, key: &str, now: SystemTime) -> Vec<Finding> {
    let all = authorities(trusted);
    if all.is_empty() {
        let text = "no authority is trusted: every certificate is refused";
        return vec![Finding::failed(subject, text, "install the system's, or name a file").at(key)];
    }
    let whence = match trusted {
        TrustedCas::System => "of the system".to_owned(),
        TrustedCas::File { path, .. } => format!("of {}", path.display()),
    };
    let count = match all.len() {
        1 => "1 authority".to_owned(),
        count => format!("{count} authorities"),
    };
    let mut findings = vec![Finding::ok(subject, format!("{count} {whence}"))];
    // What the system trusts is kept current by the system.
    if matches!(trusted, TrustedCas::File { .. }) {
        findings.extend(all.iter().filter_map(|authority| expiring(authority, subject, key, now)));
    }
    findings
}

fn expiring(authority: &Validity, subject: &str, key: &str, now: SystemTime) -> Option<Finding> {
    let left = days(now, authority.until?);
    let text = format!("{}: {}", authority.name, validity(left));
    (left < SOON).then(|| Finding::warning(subject, text, "get the authority's next certificate").at(key))
}

fn revocation_list(list: &Validity, now: SystemTime) -> Finding {
    let date = |time| humantime::format_rfc3339_seconds(time);
    match list.until {
        Some(until) if until <= now => Finding::warning(
            "revocation list",
            format!("of {}: its successor is due since {}", list.name, date(until)),
            "fetch the next one: what was revoked since then is accepted",
        )
        .at("certificate.revocation_lists"),
        Some(until) => {
            Finding::ok("revocation list", format!("of {}: current until {}", list.name, date(until)))
        }
        None => Finding::ok("revocation list", format!("of {}: does not say until when", list.name)),
    }
}

#[cfg(test)]
mod tests;
