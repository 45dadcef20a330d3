//! What strangers may send, produced by a fuzzer: a function for each target in `fuzz_targets`.
//!
//! Each takes bytes as they would come from a socket, a file or a browser, and hands them to the
//! part that reads them. None may panic, and each checks what else must hold for the answer.
//! Sequences of events that only make sense together are in `tests/simulation`.

mod datum;
mod miners;
mod nodes;
mod operator;
mod work;

pub use datum::{datum_frames, datum_messages, datum_relay};
pub use miners::{proxy, sv1_session, sv2_messages, sv2_noise, sv2_session};
pub use nodes::{nodeapi, template, zmtp};
pub use operator::{config, settings};

/// The input as a socket would deliver it: whole, or in pieces whose length the first byte gives.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = data.split_first().unwrap_or((&0, data));
    let len = if *first == 0 { rest.len() } else { usize::from(*first) };
    rest.chunks(len.max(1))
}
