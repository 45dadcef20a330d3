//! A template that is asked for, and one that came in.

use std::time::Duration;

use crate::node::gbt::Parsed;

/// For a template.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Request {
    /// Who fetches it.
    pub(super) lane: usize,
    /// Of this one, counted in its lane.
    pub(super) id: u64,
    /// What [`Progress`](super::progress::Progress) counts, when it was made.
    pub(super) generation: u64,
}

/// A template that came in.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The one that it answers.
    pub(super) request: Request,
    pub(super) parsed: Box<Parsed>,
    pub(super) took: Duration,
}
