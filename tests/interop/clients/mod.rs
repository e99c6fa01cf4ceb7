//! Real clients without screen, microphone or keyboard: what a test tells them and what it sees of them.

mod baresip;
mod linphone;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub(crate) use baresip::Baresip;
pub(crate) use linphone::Linphone;

use super::uc_server::Transport;
use crate::common::eventually;

/// How long a client may take for one step. Both look after their sockets by polling, and a busy machine slows them.
const STEP_LIMIT: Duration = Duration::from_secs(20);

/// Who a client is and where its UC server is.
pub(crate) struct Subscriber<'a> {
    pub(crate) user: &'a str,
    pub(crate) domain: &'a str,
    /// Address and port of the client's own.
    pub(crate) local: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) transport: Transport,
    /// Whose presence it subscribes to.
    pub(crate) buddy: &'a str,
    /// PEM file of the authority that the server's certificate is checked with.
    pub(crate) authority: &'a Path,
    /// For its files.
    pub(crate) directory: &'a Path,
}

impl Subscriber<'_> {
    /// The URI of the UC server.
    pub(crate) fn server_uri(&self) -> String {
        format!("sip:{};transport={}", self.server, self.transport.parameter())
    }

    /// The password that every UC server of these tests expects.
    pub(crate) fn password(&self) -> String {
        format!("pw-{}", self.user)
    }
}

/// What both clients can do.
pub(crate) trait Client {
    /// Starts it; it registers by itself.
    fn start(subscriber: &Subscriber<'_>) -> Self;

    /// Sends a MESSAGE.
    fn send_message(&mut self, uri: &str, text: &str);

    /// Sends an INVITE.
    fn call(&mut self, uri: &str);

    /// Ends the call.
    fn hang_up(&mut self);

    /// What the client has shown to its user so far.
    fn screen(&self) -> String;

    /// SIP messages that it has sent and received so far.
    fn trace(&self) -> String;

    /// Whether a piece of screen shows an incoming message with this text.
    fn shows_message(screen: &str, text: &str) -> bool;

    /// Whether a piece of screen shows that a call is up.
    fn shows_call(screen: &str) -> bool;

    /// Whether a piece of screen shows that a call has ended.
    fn shows_end(screen: &str) -> bool;
}

/// Waits until the screen, from `mark` on, shows what is wanted.
async fn shows<C: Client>(client: &C, mark: usize, what: &str, wanted: impl Fn(&str) -> bool) {
    eventually(STEP_LIMIT, what, || {
        let screen = client.screen();
        screen.get(mark..).is_some_and(&wanted).then_some(())
    })
    .await;
}

/// Waits until the client has received a NOTIFY that says that `uri` is online.
async fn sees_online<C: Client>(client: &C, uri: &str) {
    eventually(STEP_LIMIT, &format!("a NOTIFY says that {uri} is online"), || {
        let trace = client.trace();
        let mut documents =
            trace.split("<presence").skip(1).filter_map(|rest| rest.split("</presence>").next());
        documents.any(|document| document.contains(uri) && document.contains("open</")).then_some(())
    })
    .await;
}

/// Presence, MESSAGE and calls, each both ways, between two users and their URIs.
pub(crate) async fn converse<A: Client, B: Client>(one: (&mut A, &str), other: (&mut B, &str)) {
    let ((alice, alice_uri), (bob, bob_uri)) = (one, other);
    sees_online(alice, bob_uri).await;
    sees_online(bob, alice_uri).await;

    alice.send_message(bob_uri, "from alice to bob");
    shows(bob, 0, "bob reads a message", |screen| B::shows_message(screen, "from alice to bob")).await;
    bob.send_message(alice_uri, "from bob to alice");
    shows(alice, 0, "alice reads a message", |screen| A::shows_message(screen, "from bob to alice")).await;

    call(alice, bob, bob_uri).await;
    call(bob, alice, alice_uri).await;
}

/// A call that the caller begins and the callee ends.
async fn call<A: Client, B: Client>(caller: &mut A, callee: &mut B, uri: &str) {
    let (here, there) = (caller.screen().len(), callee.screen().len());
    caller.call(uri);
    shows(caller, here, "the caller's call is up", A::shows_call).await;
    shows(callee, there, "the callee's call is up", B::shows_call).await;
    callee.hang_up();
    shows(callee, there, "the callee's call has ended", B::shows_end).await;
    shows(caller, here, "the caller's call has ended", A::shows_end).await;
}
