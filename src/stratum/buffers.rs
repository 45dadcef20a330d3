//! What a thread reads into and writes from, for the connection that it is working for.

use std::cell::RefCell;

use super::Effects;

pub(super) struct Buffers {
    pub(super) inbox: Box<[u8]>,
    pub(super) out: Vec<u8>,
    pub(super) effects: Effects,
}

thread_local! {
    pub(super) static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        inbox: vec![0; INBOX_LEN].into(),
        out: Vec::with_capacity(INBOX_LEN),
        effects: Effects::default(),
    });
}

/// The longest line or frame that a session may wait for the end of. Sessions refuse theirs earlier,
/// in better words.
pub(super) const PARTIAL_MAX: usize = 16_384;
/// What is read at once: some sixty shares.
pub(super) const READ_LEN: usize = 8192;
/// Room for a partial line and what is read behind it.
const INBOX_LEN: usize = PARTIAL_MAX + READ_LEN;
