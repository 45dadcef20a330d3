//! Unix signals.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals, by what they ask for.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    new_block: Signal,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    Stop,
    Reload,
    Notify,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            new_block: signal(SignalKind::user_defined1())?,
        })
    }

    pub(super) async fn next(&mut self) -> Wanted {
        tokio::select! {
            _ = self.terminate.recv() => Wanted::Stop,
            _ = self.interrupt.recv() => Wanted::Stop,
            _ = self.hangup.recv() => Wanted::Reload,
            _ = self.new_block.recv() => Wanted::Notify,
        }
    }
}
