//! Challenges and credentials (§22, RFC 7616, RFC 8760), as far as the proxy carries them.

mod credentials;
mod guesses;
mod senders;

use super::bench::Bench;
use super::network::{Peer, UCS};
use super::text::{request, values, with};

const A: fn() -> Peer = || Peer::udp(5070);
const B: fn() -> Peer = || Peer::tcp(5072);

/// B is logged on, A is not.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.log_on(B(), UCS);
    bench
}

/// The challenges that `method` gets.
fn challenges(bench: &mut Bench, method: &str, call: &str) -> Vec<String> {
    let text = request(method, "sip:bob@a.test", A(), call);
    bench.receive(A(), &text);
    let (status, name) =
        if method == "REGISTER" { ("401", "WWW-Authenticate") } else { ("407", "Proxy-Authenticate") };
    let challenge = bench.one(A(), status);
    values(&challenge, name).into_iter().map(str::to_owned).collect()
}

/// A MESSAGE with this value of Proxy-Authorization.
fn message(call: &str, credentials: &str) -> String {
    with(&request("MESSAGE", "sip:bob@a.test", A(), call), &format!("Proxy-Authorization: {credentials}"))
}
