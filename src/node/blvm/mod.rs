//! blvm-node's dialect.
//!
//! Two layers: the NodeAPI (`session`, `message`, `wire`; a Unix socket, owned by `conn`) announces
//! tips and is a second opinion; JSON-RPC (`rpc`) provides the work. The NodeAPI's own templates
//! have no witnesses, and it cannot accept blocks: when it can, `rpc::full_template` and
//! `blocks::verdict::submit_to_blvm` will change.

pub(crate) mod conn;
pub(crate) mod message;
pub(crate) mod rpc;
mod session;
mod wire;

pub use self::message::NodeApiRequest;
pub use self::session::{NodeApiMessage, NodeApiSession};
