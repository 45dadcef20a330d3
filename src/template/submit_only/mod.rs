//! A node that only gets found blocks: nothing is asked of it but whether it is there. Without that a
//! wrong password would show when a block is lost.

mod task;

pub(super) use self::task::SubmitOnly;
