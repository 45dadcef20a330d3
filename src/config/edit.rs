//! Edits gatewayd.toml over the API: comments stay, secrets are never sent. Pure.

mod json;
mod keys;
mod mask;

pub use self::json::Json;
pub(crate) use self::keys::changed;
pub use self::keys::set_keys;
pub(crate) use self::mask::{MASK, with_password as hide_in_url};
pub use self::mask::{hide, reveal};

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
