//! gatewayd.toml as people edit it over the API: comments stay, secrets never leave. Pure.

mod json;
mod keys;
mod mask;

pub use self::{
    json::Json,
    keys::{changed, set_keys},
    mask::{MASK, hide, reveal, with_password as hide_in_url},
};

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
