//! blvm-node's dialect.
//!
//! Two layers: the NodeAPI (`session`, `message`, `wire`; a Unix socket, held by `conn`) tells tips and
//! is a second opinion; JSON-RPC (`rpc`) gives the work. The NodeAPI's own templates have no
//! witnesses, and it cannot take blocks: on the day that it can, `rpc::full_template` changes, and
//! `blocks::verdict::submit_to_blvm`.

pub(crate) mod conn;
pub(crate) mod message;
pub(crate) mod rpc;
mod session;
mod wire;

pub use self::message::NodeApiRequest;
pub use self::session::{NodeApiMessage, NodeApiSession};
