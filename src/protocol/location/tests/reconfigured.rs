//! Other settings while it works: what an account takes with it, and what stays.

use super::*;

/// The settings of [`with`], changed.
fn settings(at: &Fixture, change: impl FnOnce(&mut LocationSettings)) -> LocationSettings {
    let mut settings = at.location.settings.clone();
    change(&mut settings);
    settings
}

/// The accounts of [`accounts`], with these changes.
fn changed(change: impl FnOnce(&mut Vec<(AccountId, Account)>)) -> Arc<Accounts> {
    let mut list = accounts().iter().map(|(id, account)| (id, account.clone())).collect();
    change(&mut list);
    Arc::new(Accounts::with_ids(list))
}

fn log_offs(at: &mut Fixture) -> Vec<(Flow, LogOffReason)> {
    let reason = |event| match event {
        LocationEvent::LoggedOff { flow, reason, .. } => Some((flow, reason)),
        _ => None,
    };
    at.events().into_iter().filter_map(reason).collect()
}

#[test]
fn an_account_that_is_gone_takes_its_bindings_and_log_ons_and_nobody_elses() {
    let mut at = new();
    at.log_on(tcp(1), SERVER);
    at.register(tcp(2), registration(OTHER, "sip:bob@b.test", "c", 1, &["Contact: <sip:bob@10.0.0.2>"]));
    at.contact("a", 1, &["Contact: <sip:alice@10.0.0.1>"]);
    at.location.take_changes(Moment { now: at.now, unix_millis: 0 });
    at.events();
    let accounts = changed(|list| drop(list.remove(1)));
    let new = settings(&at, |settings| settings.accounts = accounts);
    at.location.reconfigure(at.now, new, &|_| true);
    let events = at.events();
    let is_removed = |event: &LocationEvent| {
        matches!(event, LocationEvent::BindingRemoved { address_of_record, reason: RemovalReason::AccountRemoved, .. }
            if *address_of_record == name("sip:bob@b.test"))
    };
    assert_eq!(events.iter().filter(|event| is_removed(event)).count(), 1, "{events:?}");
    assert!(events.iter().any(|event| matches!(event,
        LocationEvent::LoggedOff { flow, reason: LogOffReason::AccountRemoved, .. } if *flow == tcp(2))));
    assert_eq!(at.location.changes(), 1, "what is kept follows");
    assert_eq!((at.targets("sip:bob@b.test"), at.targets("sip:alice@a.test").len()), (Vec::new(), 1));
    assert_eq!(at.servers("sip:x@b.test"), [tcp(1)]);
    assert_eq!(at.location.account_name(SERVER), Some("ucserver"));
    // What a Router has admitted a moment before comes too late.
    let late = registration(OTHER, "sip:bob@b.test", "c", 2, &["Contact: <sip:bob@10.0.0.2>"]);
    assert_eq!(refusal(&at.register(tcp(2), late)), (403, "Account Not Configured"));
    at.log_on(tcp(2), OTHER);
    assert_eq!(at.servers("sip:x@b.test"), [tcp(1)]);
}

#[test]
fn whose_proof_has_changed_logs_on_anew_and_keeps_its_bindings() {
    let mut at = new();
    at.register(tcp(2), registration(OTHER, "sip:bob@b.test", "c", 1, &["Contact: <sip:bob@10.0.0.2>"]));
    at.log_on(tcp(1), SERVER);
    at.events();
    let accounts = changed(|list| list[1].1.secret = Secret::Password("y".to_owned()));
    let new = settings(&at, |settings| settings.accounts = accounts);
    at.location.reconfigure(at.now, new, &|_| true);
    assert_eq!(log_offs(&mut at), [(tcp(2), LogOffReason::AccountChanged)]);
    assert_eq!((at.targets("sip:bob@b.test").len(), at.servers("sip:x@b.test")), (1, vec![tcp(1)]));
    at.log_on(tcp(2), OTHER);
    assert_eq!(at.servers("sip:x@b.test"), [tcp(1), tcp(2)]);
}

#[test]
fn an_account_that_speaks_for_fewer_loses_the_bindings_of_the_others_and_stays_logged_on() {
    let mut at = new();
    at.log_on(tcp(2), OTHER);
    for (user, call_id) in [("bob", "c"), ("carol", "d"), ("other", "e")] {
        let contact = format!("Contact: <sip:{user}@10.0.0.2>");
        at.register(tcp(2), registration(OTHER, &format!("sip:{user}@b.test"), call_id, 1, &[&contact]));
    }
    at.contact("a", 1, &["Contact: <sip:alice@10.0.0.1>"]);
    at.events();
    let accounts = changed(|list| list[1].1.scope = Scope::parse(&["carol@b.test"]).unwrap());
    let new = settings(&at, |settings| settings.accounts = accounts);
    at.location.reconfigure(at.now, new, &|_| true);
    let events: Vec<_> = at.events().into_iter().collect();
    let [LocationEvent::BindingRemoved { address_of_record, reason, .. }] = &*events else {
        panic!("one binding is gone, and nobody is logged off: {events:?}")
    };
    assert_eq!((address_of_record, *reason), (&name("sip:bob@b.test"), RemovalReason::AccountChanged));
    assert_eq!(at.targets("sip:bob@b.test"), Vec::<String>::new());
    // The account's own name is in no scope.
    for kept in ["sip:carol@b.test", "sip:other@b.test", "sip:alice@a.test"] {
        assert_eq!(at.targets(kept).len(), 1, "{kept}");
    }
    // Who is not its user is not looked for there either.
    assert_eq!(at.servers("sip:bob@b.test"), [tcp(1)]);
}

#[test]
fn who_is_taken_for_an_account_by_its_address_is_so_no_longer_outside_of_the_networks() {
    let mut at = with(|settings| {
        settings.accounts = changed(|list| list[0].1.secret = Secret::Address);
    });
    at.log_on(tcp(1), SERVER);
    at.log_on(tcp(2), OTHER);
    at.events();
    let same = settings(&at, |_| ());
    at.location.reconfigure(at.now, same.clone(), &|_| true);
    assert_eq!(log_offs(&mut at), []);
    at.location.reconfigure(at.now, same, &|_| false);
    assert_eq!(log_offs(&mut at), [(tcp(1), LogOffReason::AccountChanged)]);
}

#[test]
fn new_bounds_hold_for_what_comes_and_bindings_keep_what_they_were_granted() {
    let mut at = new();
    at.contact("a", 1, &["Contact: <sip:alice@10.0.0.1>;expires=100"]);
    let new = settings(&at, |settings| {
        settings.minimum_expires = Duration::from_secs(600);
        settings.maximum_contacts = 1;
    });
    at.location.reconfigure(at.now, new, &|_| true);
    assert_eq!(at.targets("sip:alice@a.test").len(), 1);
    assert_eq!(at.contact("a", 2, &["Contact: <sip:alice@10.0.0.1>;expires=100"]).status, 423);
    assert_eq!(at.contact("b", 3, &["Contact: <sip:alice@10.0.0.2>;expires=700"]).status, 403);
    at.after(Duration::from_secs(101));
    assert_eq!(at.targets("sip:alice@a.test"), Vec::<String>::new());
}
