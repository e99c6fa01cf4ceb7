//! Dialogs of peers (RFC 3261 §12): what they say in them goes to the other end.

use std::time::Duration;

use super::{Alarm, Draft, Purpose};
use crate::coverage::Count;
use crate::model::Ends;
use crate::text::{Header, Text, uri_of};
use crate::world::World;

/// One end of a dialog.
#[derive(Clone, Debug)]
pub(super) struct Dialog {
    call_id: String,
    local: String,
    remote: String,
    target: String,
    pub(super) routes: Vec<String>,
    cseq: u32,
    ends: Ends,
    pub(super) is_caller: bool,
    /// It was made by SUBSCRIBE.
    is_subscription: bool,
    /// How much is left to say; then it is ended.
    turns: u32,
    is_over: bool,
    begun_in: u32,
}

impl Dialog {
    /// By the message that makes it: `local` and `remote` are the rows with the ends.
    pub(super) fn new(text: &Text, local: Header, remote: Header, ends: Ends, cseq: u32) -> Self {
        Self {
            call_id: text.value(Header::CallId).to_owned(),
            local: text.value(local).to_owned(),
            remote: text.value(remote).to_owned(),
            target: uri_of(text.value(Header::Contact)).to_owned(),
            routes: text.values(Header::RecordRoute).map(str::to_owned).collect(),
            cseq,
            ends,
            is_caller: false,
            is_subscription: text.method() == "SUBSCRIBE",
            turns: 0,
            is_over: false,
            begun_in: 0,
        }
    }

    /// Of the callee, who has given it this tag.
    pub(super) fn tagged(mut self, tag: &str) -> Self {
        self.local = format!("{};tag={tag}", self.local);
        self
    }
}

impl World<'_> {
    pub(super) fn keeps_dialog(&mut self, peer: usize, mut dialog: Dialog) -> usize {
        dialog.turns = self.random.below(3) as u32;
        dialog.begun_in = self.engine.process;
        // Each end numbers its requests by itself.
        if !dialog.is_caller {
            dialog.cseq = 100;
        }
        let number = self.peers[peer].dialogs.len();
        self.peers[peer].dialogs.push(dialog);
        let wait = self.pause();
        self.remind(peer, wait, Alarm::Talk { dialog: number });
        self.count(Count::Dialogs);
        number
    }

    /// Between two requests in a dialog: long enough now and then for the proxy to be another.
    fn pause(&mut self) -> Duration {
        let longest = self.random.pick(&[1000, 10_000, 40_000]);
        self.random.millis(50, longest)
    }

    /// Something in a dialog; at last its end.
    pub(super) fn talks(&mut self, peer: usize, dialog: usize) {
        let Some(state) = self.peers[peer].dialogs.get_mut(dialog).filter(|dialog| !dialog.is_over) else {
            return;
        };
        if state.turns == 0 {
            return self.hangs_up(peer, dialog);
        }
        state.turns -= 1;
        let methods: &[&'static str] = match (state.is_subscription, state.is_caller) {
            (true, true) => &["SUBSCRIBE"],
            (true, false) => &["NOTIFY", "NOTIFY", "BENOTIFY"],
            (false, _) => &["INFO", "INVITE", "UPDATE", "MESSAGE"],
        };
        let method = self.random.pick(methods);
        self.says_in_dialog(peer, dialog, method);
        let wait = self.pause();
        self.remind(peer, wait, Alarm::Talk { dialog });
    }

    pub(super) fn hangs_up(&mut self, peer: usize, dialog: usize) {
        let state = &mut self.peers[peer].dialogs[dialog];
        if std::mem::replace(&mut state.is_over, true) {
            return;
        }
        let method = match (state.is_subscription, state.is_caller) {
            (false, _) => "BYE",
            (true, true) => "SUBSCRIBE",
            (true, false) => "NOTIFY",
        };
        self.says_in_dialog(peer, dialog, method);
    }

    fn says_in_dialog(&mut self, peer: usize, dialog: usize, method: &'static str) {
        let state = &mut self.peers[peer].dialogs[dialog];
        state.cseq += 1;
        let is_of_before = state.begun_in != self.engine.process;
        let draft = self.in_dialog(peer, dialog, method);
        if self.asks(peer, draft).is_some() {
            self.count(Count::InDialog);
            if is_of_before {
                self.count(Count::InDialogOfBefore);
            }
        }
    }

    /// A request in a dialog.
    pub(super) fn in_dialog(&mut self, peer: usize, dialog: usize, method: &'static str) -> Draft {
        let state = &self.peers[peer].dialogs[dialog];
        let body = if method == "NOTIFY" { b"<presence/>".to_vec() } else { Vec::new() };
        Draft {
            from: state.local.clone(),
            to: state.remote.clone(),
            call_id: state.call_id.clone(),
            cseq: state.cseq,
            routes: state.routes.clone(),
            ends: Some(state.ends),
            body,
            ..Draft::new(method, &state.target, Purpose::InDialog(dialog))
        }
    }
}
