use std::time::Duration;

use super::super::findings::Grade;
use super::*;
use crate::actors::testing::Authority;
use crate::config::tests::config;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[test]
fn the_last_month_of_a_certificate_is_a_warning_and_what_is_over_or_to_come_a_failure() {
    let config = config("");
    let certificate = Authority::new().issue(&["dns:a.test"], &[]);
    let pair =
        Pair { certificate: &certificate, config: &config, subject: "certificate", key: "certificate.chain" };
    let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
    let hour = Duration::from_secs(3600);
    let table = [
        (now - DAY, now + 90 * DAY, Grade::Ok, "90 days left"),
        (now - DAY, now + 30 * DAY, Grade::Ok, "30 days left"),
        (now - DAY, now + 30 * DAY - hour, Grade::Warning, "29 days left"),
        (now - DAY, now + hour, Grade::Warning, "expires within a day"),
        (now - DAY, now - hour, Grade::Failed, "expired"),
        (now + DAY, now + 90 * DAY, Grade::Failed, "not valid before 2024-10-05"),
    ];
    for (not_before, not_after, grade, text) in table {
        let finding = pair.age(not_before, not_after, now);
        assert_eq!(finding.grade, grade, "{finding:?}");
        assert!(finding.text.contains(text), "{finding:?}");
    }
}

#[test]
fn lists_that_are_late_and_authorities_that_end_are_warnings() {
    let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
    let until = |until| Validity { name: "CN=X".to_owned(), until };
    assert_eq!(revocation_list(&until(Some(now + DAY)), now).grade, Grade::Ok);
    assert_eq!(revocation_list(&until(None), now).grade, Grade::Ok);
    let late = revocation_list(&until(Some(now - DAY)), now);
    assert_eq!((late.grade, late.key.as_deref()), (Grade::Warning, Some("certificate.revocation_lists")));
    let judged = |end| expiring(&until(Some(end)), "x", "certificate.trusted_cas", now);
    assert_eq!(judged(now + 31 * DAY), None);
    assert_eq!(judged(now + 2 * DAY).map(|finding| finding.grade), Some(Grade::Warning));
    assert!(judged(now - DAY).is_some_and(|finding| finding.text == "CN=X: expired"));
}

#[test]
fn a_pair_for_clients_makes_up_for_a_certificate_that_is_for_servers_alone() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let authority = Authority::new();
    let [server, client] =
        [ServerAuth, ClientAuth].map(|purpose| authority.issue(&["dns:a.test"], &[purpose]));
    let alone = config("");
    let mut paired = config("");
    paired.tls.client_certificate = Some(client.clone());
    let worst = |certificate: &Certificate, config: &Config, subject| {
        let pair = Pair { certificate, config, subject, key: "certificate.chain" };
        pair.purposes().iter().map(|finding| finding.grade).max().unwrap()
    };
    let table = [
        (&server, &alone, "certificate", Grade::Warning),
        (&server, &paired, "certificate", Grade::Ok),
        (&client, &alone, "certificate", Grade::Warning),
        (&client, &paired, "client pair", Grade::Ok),
        (&server, &paired, "client pair", Grade::Warning),
    ];
    for (certificate, config, subject, grade) in table {
        assert_eq!(worst(certificate, config, subject), grade, "{subject}");
    }
}
