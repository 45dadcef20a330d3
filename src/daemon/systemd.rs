//! Notifies systemd: ready, status, alive. Does nothing when gatewayd was not started by systemd.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, warn};

use crate::work::{Admission, Work};

/// Tells systemd about gatewayd's state, for as long as it runs.
pub(super) struct Systemd {
    phase: watch::Sender<Phase>,
}

#[derive(Clone, Debug)]
enum Phase {
    /// No work yet.
    Starting,
    /// Miners may connect to this address, as long as they are admitted.
    Serving(SocketAddr, watch::Receiver<Option<Arc<Work>>>),
    Stopping,
}

impl Systemd {
    /// Starts notifying, if there is a systemd that listens.
    pub(super) fn new() -> Self {
        let (phase, phases) = watch::channel(Phase::Starting);
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            status("waiting for work from a node");
            tokio::spawn(speak(phases, sd_notify::watchdog_enabled()));
        }
        Self { phase }
    }

    pub(super) fn serving(&self, addr: SocketAddr, work: watch::Receiver<Option<Arc<Work>>>) {
        self.phase.send_replace(Phase::Serving(addr, work));
    }

    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        self.phase.send_replace(Phase::Stopping);
    }
}

/// A line for `systemctl status`.
pub(super) fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// A new configuration is being read, until `reloaded`.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// Reports when gatewayd is ready, and from then on that it is alive.
async fn speak(mut phases: watch::Receiver<Phase>, watchdog: Option<Duration>) {
    let mut ready = false;
    let patience = sleep(READY_PATIENCE);
    tokio::pin!(patience);
    let mut beat = interval(watchdog.unwrap_or(NEVER) / BEATS);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = phases.changed() => {
                if changed.is_err() {
                    return;
                }
                if matches!(*phases.borrow_and_update(), Phase::Serving(..)) {
                    if !ready {
                        tell(&[NotifyState::Ready]);
                    }
                    ready = true;
                    status("serving miners");
                }
            }
            // A node may need hours; `systemctl start` and units that wait for it must not.
            () = &mut patience, if !ready => {
                ready = true;
                tell(&[NotifyState::Ready]);
            }
            _ = beat.tick(), if watchdog.is_some() => {
                let phase = phases.borrow().clone();
                if is_alive(phase).await {
                    tell(&[NotifyState::Watchdog]);
                } else {
                    warn!(
                        "gatewayd does not answer on its own Stratum port; if that goes on, \
                         systemd will restart it"
                    );
                }
            }
        }
    }
}

/// That this runs shows that the runtime works. That miners are served is shown by connecting as
/// one: it connects, closes its side, and must see the connection end.
async fn is_alive(phase: Phase) -> bool {
    let Phase::Serving(addr, work) = phase else { return true };
    let is_open = work.borrow().as_ref().is_some_and(|work| work.admission == Admission::Open);
    !is_open || is_served(addr, DOOR_PATIENCE).await
}

async fn is_served(addr: SocketAddr, patience: Duration) -> bool {
    let visit = async {
        let mut socket = TcpStream::connect(crate::healthcheck::local(addr)).await?;
        socket.shutdown().await?;
        // To the end, whatever is sent before it.
        while socket.read(&mut [0; 512]).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    match timeout(patience, visit).await {
        Ok(Ok(())) => true,
        // Out of files, or cut off while closing: something does answer. Refused: nobody listens.
        Ok(Err(error)) => error.kind() != std::io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "cannot notify systemd");
    }
}

/// Long enough for a node that is up.
const READY_PATIENCE: Duration = Duration::from_secs(10);
/// Several may fail in a row on an overloaded machine.
const BEATS: u32 = 4;
const DOOR_PATIENCE: Duration = Duration::from_secs(10);
/// An interval needs a period; this one is never used.
const NEVER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_millis(200);

    #[tokio::test]
    async fn a_door_that_lets_visitors_out_is_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                let _ = socket.write_all(b"{\"id\":1}\n").await;
                while socket.read(&mut [0; 64]).await.is_ok_and(|len| len > 0) {}
            }
        });
        assert!(is_served(addr, DOOR_PATIENCE).await);
        // As if it listened everywhere.
        let everywhere = SocketAddr::from(([0, 0, 0, 0], addr.port()));
        assert!(is_served(everywhere, DOOR_PATIENCE).await);
    }

    #[tokio::test]
    async fn a_door_that_nobody_opens_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        // The kernel takes the connection, but nobody in here.
        assert!(!is_served(addr, SOON).await);
        drop(listener);
        assert!(!is_served(addr, SOON).await);
    }
}
