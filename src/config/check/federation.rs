//! `[federation]` and `[open_federation]`.

use std::time::Duration;

use super::interfaces::{ANY, Switches};
use crate::config::reader::Section;
use crate::config::rules::{address, choice, domain, duration, flag, range, set};
use crate::config::{Federation, Interface, OpenFederation, Policy, Protocol, Side};
use crate::protocol::federation::guard::GuardLimits;
use crate::protocol::flow::InterfaceId;
use crate::protocol::identity::Profile;

/// `[federation]`: no domain on both lists, nor one of our own on either.
pub(super) fn read(mut section: Section<'_>, presence_domains: &[String]) -> Federation {
    let identities = choice(&[("rfc5922", Profile::Rfc5922), ("federation", Profile::Federation)]);
    let policies = choice(&[("open", Policy::Open), ("closed", Policy::Closed)]);
    let federation = Federation {
        enabled: section.get("enabled", flag, true),
        identity: section.get("identity", identities, Profile::Federation),
        policy: section.get("policy", policies, Policy::Open),
        blocked_domains: section.get("blocked_domains", set(domain), Vec::new()),
        allowed_domains: section.get("allowed_domains", set(domain), Vec::new()),
    };
    refuse_shared(
        &section,
        "blocked_domains",
        &federation.blocked_domains,
        presence_domains,
        "a presence domain",
    );
    refuse_shared(
        &section,
        "allowed_domains",
        &federation.allowed_domains,
        presence_domains,
        "a presence domain",
    );
    refuse_shared(
        &section,
        "allowed_domains",
        &federation.allowed_domains,
        &federation.blocked_domains,
        "blocked",
    );
    federation
}

/// `[federation_guard]`.
pub(super) fn read_guard(mut section: Section<'_>) -> GuardLimits {
    let window = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);
    GuardLimits {
        window: section.get("window", duration(window), Duration::from_secs(600)),
        requests: section.get("requests", range(0..=1_000_000), 12_000),
        users: section.get("users", range(0..=1_000_000), 1000),
        failures: section.get("failures", range(0..=100), 50),
    }
}

/// `[open_federation]`; its interface joins `interfaces`, unless the same one is there already.
pub(super) fn read_open(
    mut section: Section<'_>,
    federation: &Federation,
    interfaces: &mut Switches,
) -> OpenFederation {
    let enabled = section.get("enabled", flag, false);
    let interface = Interface {
        id: InterfaceId(0),
        side: Side::Wan,
        ip_address: section.get("bind_to_ip_address", address, ANY),
        port: section.get("port", range(0..=u16::MAX), 5061),
        protocol: Protocol::Mtls,
        key: section.path().to_owned(),
    };
    let messages_per_second = section.get("messages_per_second", range(0..=1_000_000), 20);
    if enabled && !federation.enabled {
        section.warn("enabled", "has no effect while `federation.enabled` is false");
    }
    let enabled = enabled && federation.enabled;
    let same = |other: &Interface| {
        other.side == Side::Wan
            && other.protocol == Protocol::Mtls
            && other.socket_address() == interface.socket_address()
    };
    if !enabled || !interfaces.on.iter().any(same) {
        interfaces.add(enabled, interface);
    }
    OpenFederation { enabled, messages_per_second }
}

/// Reports the elements of a list that stand on `others`, too.
fn refuse_shared(section: &Section<'_>, key: &str, domains: &[String], others: &[String], what: &str) {
    let others: std::collections::HashSet<_> = others.iter().collect();
    for (index, domain) in domains.iter().enumerate().filter(|(_, domain)| others.contains(domain)) {
        section.fault(&format!("{key}[{index}]"), format!("`{domain}` is {what}, allowed: one of the two"));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{assert_any, assert_only, config, faults, warnings};
    use crate::config::{Policy, Protocol, Side};
    use crate::protocol::identity::Profile;

    #[test]
    fn a_domain_stands_on_one_list() {
        let text = "[service]\npresence_domains = [\"own.example\"]\n[federation]\nidentity = \"rfc5922\"\n\
                    policy = \"closed\"\nblocked_domains = [\"a.example\", \"Own.example\"]\nallowed_domains = [\"A.example\"]";
        let found = faults(text);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert_any(&found, &["6: federation.blocked_domains[1]: `own.example` is a presence domain"]);
        assert_any(&found, &["7: federation.allowed_domains[0]: `a.example` is blocked"]);
        assert_only(
            &faults("[federation]\nblocked_domains = [\"-a.example\"]"),
            &["`-a.example` is no domain name"],
        );
        let federation =
            config(&text[text.find("[fed").unwrap()..].replace("A.example", "c.example")).federation;
        assert_eq!((federation.identity, federation.policy), (Profile::Rfc5922, Policy::Closed));
    }

    #[test]
    fn the_guard_has_limits_that_can_be_lifted() {
        let guard =
            config("[federation_guard]\nwindow = \"1m\"\nrequests = 0\nfailures = 0").federation_guard;
        assert_eq!((guard.window.as_secs(), guard.requests, guard.users, guard.failures), (60, 0, 1000, 0));
        assert_only(
            &faults("[federation_guard]\nfailures = 101"),
            &["2: federation_guard.failures: 101 is out of range, allowed: 0 to 100"],
        );
    }

    #[test]
    fn open_federation_joins_the_interfaces_once() {
        let joined = config("[open_federation]\nenabled = true\nport = 5071\n");
        let last = joined.interfaces.last().unwrap();
        assert_eq!(
            (last.key.as_str(), last.side, last.protocol),
            ("open_federation", Side::Wan, Protocol::Mtls)
        );
        assert!(joined.open_federation.enabled);
        assert_eq!(config("[open_federation]\nenabled = true\n").interfaces, config("").interfaces);
        let clash = "[open_federation]\nenabled = true\nbind_to_ip_address = \"127.0.0.1\"\nport = 5060";
        assert_only(&faults(clash), &["4: open_federation.port: mtls 127.0.0.1:5060 is taken by `lan`"]);
    }

    #[test]
    fn open_federation_needs_federation() {
        let text = "[federation]\nenabled = false\n[open_federation]\nenabled = true\nport = 5071\n";
        assert!(!config(text).open_federation.enabled);
        assert_eq!(config(text).interfaces.len(), 2);
        assert_any(&warnings(text), &["4: open_federation.enabled: has no effect"]);
    }
}
