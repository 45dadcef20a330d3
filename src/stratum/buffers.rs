//! The buffers of a thread, used by the connection that it is serving.

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

/// The longest incomplete line or frame that a session may keep. Sessions refuse theirs earlier,
/// with a better message.
pub(super) const PARTIAL_MAX: usize = 16_384;
/// How much is read at once: some sixty shares.
pub(super) const READ_LEN: usize = 8192;
/// Room for a partial line and what is read after it.
const INBOX_LEN: usize = PARTIAL_MAX + READ_LEN;
