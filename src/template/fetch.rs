//! A request for a template, and its result.

use std::time::Duration;

use crate::node::gbt::Parsed;

/// A request for a template.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct FetchRequest {
    /// Who fetches it.
    pub(super) lane: usize,
    /// This request's number within its lane.
    pub(super) id: u64,
    /// The generation of [`Progress`](super::progress::Progress) when it was made.
    pub(super) generation: u64,
}

/// A template that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The request that it answers.
    pub(super) request: FetchRequest,
    pub(super) parsed: Box<Parsed>,
    pub(super) took: Duration,
}
