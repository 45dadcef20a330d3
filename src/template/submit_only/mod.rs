//! A node that only gets found blocks: it is only asked whether it is up. Without that, a wrong
//! password would go unnoticed until a block is lost.

mod task;

pub(super) use self::task::SubmitOnly;
