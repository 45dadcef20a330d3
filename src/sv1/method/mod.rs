//! The parameters of each `mining.*` method, and the answers that are more than true or an error.

pub(super) mod authorize;
pub(super) mod configure;
pub(super) mod submit;
pub(super) mod subscribe;
pub(super) mod suggest_difficulty;
