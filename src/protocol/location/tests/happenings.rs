//! Whatever happens, in any order: the indices agree, and the events tell the whole story.

use proptest::prelude::*;

use super::*;

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Happening {
    LogOn { flow: u64, account: u16 },
    Register { flow: u64, account: u16, user: u8, contact: u8, cseq: u32, expires: u32 },
    RegisterFlow { flow: u64, user: u8, instance: u8, reg_id: u8, call_id: u8, cseq: u32, expires: u32 },
    EndFlow { flow: u64 },
    Clear { flow: u64, account: u16, user: u8 },
    Close { flow: u64 },
    Pass { seconds: u64 },
}

fn happening() -> impl Strategy<Value = Happening> {
    let (flow, account, user) = (0..6u64, 0..3u16, 0..4u8);
    prop_oneof![
        (flow.clone(), account.clone()).prop_map(|(flow, account)| Happening::LogOn { flow, account }),
        (flow.clone(), account.clone(), user.clone(), 0..4u8, 1..9u32, prop_oneof![Just(0), 50..4000u32])
            .prop_map(|(flow, account, user, contact, cseq, expires)| {
                Happening::Register { flow, account, user, contact, cseq, expires }
            }),
        (flow.clone(), account, user.clone()).prop_map(|(flow, account, user)| Happening::Clear {
            flow,
            account,
            user
        }),
        (flow.clone(), user, 0..2u8, 0..3u8, 0..2u8, 1..9u32, prop_oneof![Just(0), 60..4000u32]).prop_map(
            |(flow, user, instance, reg_id, call_id, cseq, expires)| {
                Happening::RegisterFlow { flow, user, instance, reg_id, call_id, cseq, expires }
            }
        ),
        flow.clone().prop_map(|flow| Happening::EndFlow { flow }),
        flow.prop_map(|flow| Happening::Close { flow }),
        (0..3000u64).prop_map(|seconds| Happening::Pass { seconds }),
    ]
}

impl Fixture {
    fn let_happen(&mut self, what: &Happening) {
        // Half of the flows are streams. A closed one never opens again, as in life.
        let flow = |number: u64| if number < 3 { tcp(number) } else { udp(&format!("10.0.0.3:{number}")) };
        let to = |user: u8| {
            ["sip:alice@a.test", "sip:bob@a.test", "sip:ucserver@a.test", "sip:a.test"][usize::from(user)]
        };
        match *what {
            Happening::LogOn { flow: number, account } => self.log_on(flow(number), AccountId(account)),
            Happening::Register { flow: number, account, user, contact, cseq, expires } => {
                let row = format!("Contact: <sip:{contact}@10.0.0.3>;expires={expires}");
                self.register(flow(number), registration(AccountId(account), to(user), "c", cseq, &[&row]));
            }
            Happening::RegisterFlow { flow: number, user, instance, reg_id, call_id, cseq, expires } => {
                // 0: a user agent that keeps no flows.
                let reg_id = if reg_id == 0 { String::new() } else { format!(";reg-id={reg_id}") };
                let row = format!(
                    "Contact: <sip:{number}@10.0.0.3>;+sip.instance=\"<urn:x:{instance}>\"{reg_id};expires={expires}"
                );
                let rows = [&*row, "Supported: gruu, outbound, path"];
                self.register(
                    flow(number),
                    registration(PARTNER, to(user), &call_id.to_string(), cseq, &rows),
                );
            }
            Happening::EndFlow { flow: number } => self.location.handle_flow_ended(self.now, &flow(number)),
            Happening::Clear { flow: number, account, user } => {
                let rows = ["Contact: *", "Expires: 0"];
                self.register(flow(number), registration(AccountId(account), to(user), "d", 1, &rows));
            }
            Happening::Close { flow: number } => {
                self.location.handle_connection_closed(self.now, &flow(number));
            }
            Happening::Pass { seconds } => {
                self.after(Duration::from_secs(seconds));
            }
        }
    }
}

proptest! {
    #[test]
    fn indices_agree_and_events_tell_the_whole_story(happenings in prop::collection::vec(happening(), 1..60)) {
        let mut at = new();
        let mut standing = std::collections::BTreeMap::new();
        let (mut bound, mut kept) = (0, keeping::Store::new());
        for what in &happenings {
            at.let_happen(what);
            at.keep(&mut kept);
            at.location.flows.check(at.location.bindings.check());
            for event in at.events() {
                match event {
                    LocationEvent::LoggedOn { flow, account, passes } => {
                        let before = standing.insert(flow, (account, passes));
                        prop_assert!(before.is_none_or(|before| before == (account, !passes)), "{:?}", before);
                    }
                    LocationEvent::LoggedOff { flow, account, .. } => {
                        prop_assert_eq!(standing.remove(&flow).map(|(account, _)| account), Some(account));
                    }
                    LocationEvent::Banned { .. } => prop_assert!(false, "nobody has erred"),
                    LocationEvent::BindingAdded { .. } => bound += 1,
                    LocationEvent::BindingRemoved { .. } => bound -= 1,
                }
            }
            let passing = standing.iter().filter(|(_, (_, passes))| *passes);
            let passing: std::collections::BTreeSet<_> = passing.map(|(flow, (account, _))| (*flow, *account)).collect();
            prop_assert_eq!(at.location.standings().collect::<std::collections::BTreeSet<_>>(), passing);
            prop_assert_eq!(at.location.bindings(), bound);
            prop_assert!(at.location.next_timeout().is_none_or(|next| next > at.now));
        }
        prop_assert_eq!(&kept, &at.everything());
        // Another one that begins with what was kept has the same bindings, as long as the connections are there.
        // Here nobody has asked who may register whom.
        let mut everybody = accounts().list().to_vec();
        everybody.iter_mut().for_each(|account| account.scope = Scope::everybody());
        let mut next = with(|settings| settings.accounts = Arc::new(Accounts::new(everybody)));
        let restored = next.restore(&kept, at.unix_millis(), &keeping::interfaces(), &|_| true);
        prop_assert_eq!(restored.bindings, at.location.bindings());
        for to in ["sip:alice@a.test", "sip:bob@a.test", "sip:ucserver@a.test", "sip:a.test"] {
            prop_assert_eq!(next.locate(to, tcp(99)).targets, at.locate(to, tcp(99)).targets);
        }
        at.after(Duration::from_secs(100_000));
        prop_assert_eq!(at.location.bindings(), 0);
        prop_assert_eq!(at.location.next_timeout(), None);
    }

    #[test]
    fn any_value_is_restored_or_counted(value in prop::collection::vec(any::<u8>(), 0..200)) {
        let kept = keeping::Store::from([(b"alice@a.test".to_vec(), [vec![1], value].concat())]);
        let mut at = new();
        let restored = at.restore(&kept, 0, &keeping::interfaces(), &|_| true);
        prop_assert_eq!(restored.bindings, at.location.bindings());
    }

    #[test]
    fn any_register_is_read_or_refused(contact in "[ -~]{0,40}", path in "[ -~]{0,20}", expires in "[ -~]{0,12}") {
        let text = format!(
            "REGISTER sip:a.test SIP/2.0\r\nTo: <sip:x@a.test>\r\nCall-ID: c\r\nCSeq: 1 REGISTER\r\n\
             Contact: {contact}\r\nPath: {path}\r\nExpires: {expires}\r\n\r\n"
        );
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let message = Message::parse(Bytes::from(text), Carriage::Datagram, limits).unwrap();
        if let Err(reply) = Registration::read(&message, None) {
            prop_assert_eq!(reply.status, 400);
        }
    }
}
