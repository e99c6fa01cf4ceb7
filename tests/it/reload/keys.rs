//! Which test shows what a reload does with a key: none is left out.

use std::collections::BTreeMap;
use std::path::Path;

/// Each test with the keys that it changes by a reload, and whose effect it waits for; one of them has the reload
/// refused.
const TESTS: [(&str, &str); 54] = [
    (
        "what_only_a_restart_can_change_is_refused_by_name_and_nothing_is_changed",
        "service.state_directory service.control_socket service.worker_threads",
    ),
    ("presence_domains_are_added_and_go", "service.presence_domains"),
    ("an_end_waits_as_long_as_the_file_has_it_now", "service.drain_timeout"),
    (
        "a_certificate_that_is_renewed_on_disk_is_shown_by_new_connections_and_old_ones_stay",
        "certificate.chain certificate.private_key",
    ),
    ("others_are_trusted_who_come_afterwards_and_nobody_who_is_there_has_to_go", "certificate.trusted_cas"),
    (
        "a_second_pair_for_peers_comes_is_renewed_and_goes",
        "certificate.client_chain certificate.client_private_key",
    ),
    ("connections_of_a_revoked_peer_end_and_others_stay", "certificate.revocation_lists"),
    ("old_versions_of_tls_are_refused_and_let_in_as_the_file_has_it_now", "certificate.minimum_tls_version"),
    (
        "what_the_proxy_is_known_as_outside_changes_for_what_leaves_afterwards",
        "wan.public_address.enabled wan.public_address.ip_address wan.public_address.port wan.public_address.host_name",
    ),
    (
        "interfaces_of_either_list_are_switched_and_moved",
        "wan.network_interface.enabled wan.network_interface.ip_address wan.network_interface.port wan.network_interface.protocol lan.network_interface.enabled lan.network_interface.ip_address lan.network_interface.port lan.network_interface.protocol",
    ),
    (
        "the_interface_of_the_lan_section_is_moved_and_switched_off_with_its_account",
        "lan.enabled lan.port lan.bind_to_ip_address lan.transport_protocol",
    ),
    (
        "an_account_of_any_list_is_proven_in_each_way_that_it_is_given",
        "lan.user_name lan.password lan.password_file lan.ha1_md5 lan.ha1_sha256 lan.ha1_sha512_256 lan.certificate lan.account.user_name lan.account.password lan.account.password_file lan.account.ha1_md5 lan.account.ha1_sha256 lan.account.ha1_sha512_256 lan.account.certificate registrar.account.user_name registrar.account.password registrar.account.password_file registrar.account.ha1_md5 registrar.account.ha1_sha256 registrar.account.ha1_sha512_256 registrar.account.certificate",
    ),
    ("whose_scope_is_changed_speaks_for_those_of_now", "lan.users lan.account.users"),
    ("a_registrant_comes_has_another_scope_and_goes", "registrar.account.users"),
    ("what_counts_as_the_lan_changes_for_those_who_are_connected", "lan.allowed_networks"),
    (
        "policy_and_lists_of_domains_hold_for_what_comes_and_goes_afterwards",
        "federation.enabled federation.policy federation.blocked_domains federation.allowed_domains",
    ),
    ("a_domain_is_proven_by_the_rules_of_now", "federation.identity"),
    (
        "the_guard_on_discovered_peers_goes_by_its_new_limits_and_begins_to_count_anew",
        "federation_guard.window federation_guard.requests federation_guard.users federation_guard.failures",
    ),
    (
        "open_federation_is_switched_and_its_interface_moved",
        "open_federation.enabled open_federation.bind_to_ip_address open_federation.port",
    ),
    (
        "discovered_peers_are_sent_as_much_a_second_as_the_file_has_it_now",
        "open_federation.messages_per_second",
    ),
    ("routes_lead_out_and_in_while_static_routes_are_switched_on", "static_routes.enabled"),
    ("routes_are_probed_as_often_as_the_file_has_it_now", "static_routes.probe_interval"),
    (
        "a_route_is_switched_off_and_leads_by_another_port_protocol_and_address_of_ours",
        "static_routes.route.enabled static_routes.route.domain_name static_routes.route.port static_routes.route.transport_protocol static_routes.route.bind_to_ip_address",
    ),
    ("routes_come_go_and_are_pointed_elsewhere", "static_routes.route.access_server"),
    ("who_comes_by_a_route_is_believed_while_it_is_trusted", "static_routes.route.trusted"),
    ("a_route_has_authorities_of_its_own_from_now_on_and_not_any_more", "static_routes.route.trusted_cas"),
    ("stun_servers_are_asked_as_soon_as_they_are_named", "stun.servers"),
    ("stun_servers_are_asked_as_often_as_the_file_has_it_now", "stun.interval"),
    ("other_name_servers_are_asked_afterwards", "dns.name_servers"),
    ("look_ups_have_the_time_that_the_file_gives_them_now", "dns.timeout"),
    ("an_invite_is_given_up_after_64_of_the_new_t1", "sip.t1"),
    ("a_request_is_repeated_at_the_new_t2", "sip.t2"),
    ("a_transaction_that_is_over_is_kept_for_the_new_t4", "sip.t4"),
    ("what_rings_for_ever_is_ended_by_the_new_timer_c", "sip.timer_c"),
    ("what_is_longer_than_the_new_udp_mtu_leaves_by_a_stream", "sip.udp_mtu"),
    ("redirections_are_followed_or_passed_on_as_the_file_has_it_now", "sip.follow_redirections"),
    ("other_extensions_are_tolerated_in_proxy_require", "sip.tolerated_proxy_require"),
    ("the_registrar_goes_by_its_new_bounds", "registrar.minimum_expires"),
    (
        "registrations_last_as_long_as_the_file_has_it_now",
        "registrar.default_expires registrar.maximum_expires",
    ),
    ("an_address_of_record_may_have_another_number_of_contacts", "registrar.maximum_contacts"),
    ("registrations_are_as_durable_as_the_file_has_it_now", "registrar.durability"),
    ("a_path_needs_support_or_does_not_as_the_file_has_it_now", "registrar.accept_path_without_support"),
    ("challenges_offer_the_algorithms_of_now_and_no_other_is_accepted", "registrar.digest_algorithms"),
    ("nonces_live_for_the_time_of_now", "registrar.nonce_lifetime"),
    (
        "credentials_are_as_strictly_looked_at_as_the_file_has_it_now",
        "registrar.accept_digest_without_qop registrar.accept_digest_for_other_uri",
    ),
    ("who_guesses_is_banned_by_the_numbers_of_now", "registrar.failed_log_ons registrar.ban_time"),
    (
        "limits_hold_for_messages_and_connections_afterwards",
        "limits.maximum_message_bytes limits.maximum_header_bytes",
    ),
    (
        "connections_are_limited_anew_and_those_that_are_open_stay",
        "limits.maximum_connections limits.maximum_connections_per_address",
    ),
    ("transactions_are_limited_anew_and_those_that_have_begun_end", "limits.maximum_transactions"),
    (
        "handshakes_messages_and_silence_have_their_new_times",
        "limits.handshake_timeout limits.message_timeout limits.idle_timeout",
    ),
    ("strangers_are_slowed_down_and_let_go_again", "limits.requests_per_second_per_address"),
    ("log_levels_change_at_once", "diagnostics.log_level"),
    (
        "log_files_come_move_and_have_the_form_size_and_number_that_the_file_says_now",
        "diagnostics.log_file_directory diagnostics.format diagnostics.maximum_log_file_size_mb diagnostics.kept_log_files diagnostics.delete_log_files_daily",
    ),
    ("the_admin_interface_opens_moves_and_asks_for_the_token_of_now", "admin.listen admin.token_file"),
];

/// The keys of the sample, which shows all that there are; lists without indices.
fn keys() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("etc/sip-proxy.toml")).expect("the sample");
    let (mut section, mut keys) = (String::new(), Vec::new());
    // Examples are commented out, once or twice.
    for line in text.lines().map(|line| line.trim_start_matches("# ")) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_matches(['[', ']']).to_owned();
        } else if let Some((name, _)) = line.split_once(" = ")
            && name.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_')
        {
            keys.push(format!("{section}.{name}"));
        }
    }
    keys
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The tests of reloads, each with the text of its file.
fn tests() -> BTreeMap<String, String> {
    let files = std::fs::read_dir(root().join("tests/it/reload")).expect("the tests");
    let mut tests = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a text");
        for part in text.split("#[test]\nfn ").skip(1) {
            tests.insert(part.split('(').next().unwrap_or_default().to_owned(), text.clone());
        }
    }
    tests
}

#[test]
fn each_key_is_changed_by_a_test() {
    let tests = tests();
    let mut shown = BTreeMap::new();
    for (test, keys) in TESTS {
        let text = tests.get(test).unwrap_or_else(|| panic!("there is no test {test}"));
        for key in keys.split(' ') {
            let name = key.rsplit('.').next().unwrap_or_default();
            assert!(text.contains(name), "nothing is said of {key} where {test} is");
            assert_eq!(shown.insert(key, test), None, "{key} twice");
        }
    }
    let keys = keys();
    let missing: Vec<_> = keys.iter().filter(|key| !shown.contains_key(key.as_str())).collect();
    assert!(missing.is_empty(), "no test changes {missing:?}");
    let unknown: Vec<_> = shown.keys().filter(|key| !keys.iter().any(|known| known == *key)).collect();
    assert!(unknown.is_empty(), "there is no {unknown:?}");
}
