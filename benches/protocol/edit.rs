//! Writing a message that is passed on: what stays is copied, what changes is spliced in.

use std::hint::black_box;

use bytes::Bytes;
use criterion::Criterion;
use sip_proxy::protocol::message::edit::Edit;
use sip_proxy::protocol::message::{Message, Name};

use crate::rig::{parse, texts};

const VIA: &[u8] = b"SIP/2.0/UDP 127.0.0.1:5060;rport;branch=z9hG4bK00000001000000010123456789abcdef";

/// The changes to a request: another Request-URI, one hop less, our Via.
fn forward(request: &Message, scratch: &mut Vec<u8>) -> Bytes {
    let hops = request.span_of(request.row(Name::MaxForwards).expect("it has one"));
    let mut edit = Edit::new(request, scratch);
    edit.replace_request_uri(b"sip:u000002@127.0.0.1:6100");
    edit.insert_row(Name::Via, |out| out.extend_from_slice(VIA));
    edit.replace(hops, |out| out.extend_from_slice(b"69"));
    edit.write()
}

/// The change to a response: our Via goes.
fn send_back(response: &Message, scratch: &mut Vec<u8>) -> Bytes {
    let mut edit = Edit::new(response, scratch);
    edit.remove_first_values(Name::Via, 1);
    edit.write()
}

pub(crate) fn edit(criterion: &mut Criterion) {
    let mut scratch = Vec::new();
    let request = parse(texts::message(1, 2));
    let response = parse(texts::response(&forward(&request, &mut scratch), "200 OK", ""));
    let mut group = criterion.benchmark_group("edit");
    group.bench_function("MESSAGE forwarded", |bencher| {
        bencher.iter(|| forward(black_box(&request), &mut scratch));
    });
    group.bench_function("200 sent back", |bencher| {
        bencher.iter(|| send_back(black_box(&response), &mut scratch));
    });
    group.finish();
}
