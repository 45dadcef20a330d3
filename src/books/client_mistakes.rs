//! Clients that misunderstand something: they connect to the wrong port, or ask for what they
//! cannot get. The latest of each kind is kept for the operator.

use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::info;

use crate::work::{Difficulty, Username, printable};

/// What a client got wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClientMistake {
    /// A web browser opened a port for miners. `dashboard`: its address, if there is one.
    Browser { dashboard: Option<SocketAddr> },
    /// A miner connected to the dashboard's port: in which protocol, and the port that it should
    /// use.
    MinerAtDashboard { protocol: &'static str, port: Option<u16> },
    /// A miner speaks TLS, which is off, or on but without a certificate.
    Tls { is_enabled: bool },
    /// A proxy that is not trusted sends a PROXY header.
    ProxyHeader,
    /// A miner asks for a lower difficulty than it can have.
    LowWish { wanted: Difficulty, floor: Difficulty, is_pools: bool },
    /// A miner floods the gateway at a fixed difficulty, which was raised; `is_set`: the difficulty
    /// comes from the operator's settings, not from its password.
    Flood { fixed: Difficulty, raised: Difficulty, each_s: f64, is_set: bool },
    /// A miner's name begins with no address, and the pool goes by it; `is_refused`: so it may not mine.
    NoAddress { name: Username, is_refused: bool },
}

/// The latest of one kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MistakeRecord {
    pub(crate) peer: SocketAddr,
    pub(crate) mistake: ClientMistake,
    pub(crate) at: Instant,
    /// Since the process began.
    pub(crate) count: u64,
    said: Instant,
    unsaid: u64,
}

/// The latest of each kind.
#[derive(Debug, Default)]
pub(crate) struct ClientMistakes {
    latest: Mutex<[Option<MistakeRecord>; KINDS]>,
    /// Names without an address that are in the log already.
    names: Mutex<VecDeque<Username>>,
}

impl ClientMistake {
    const fn kind(&self) -> usize {
        match self {
            Self::Browser { .. } => 0,
            Self::MinerAtDashboard { .. } => 1,
            Self::LowWish { .. } => 2,
            Self::Flood { .. } => 3,
            Self::ProxyHeader => 4,
            Self::Tls { .. } => 5,
            Self::NoAddress { .. } => 6,
        }
    }

    /// The code that warnings use.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Browser { .. } => "browser-at-stratum",
            Self::MinerAtDashboard { .. } => "miner-at-dashboard",
            Self::LowWish { .. } => "difficulty-wish",
            Self::Flood { .. } => "difficulty-flood",
            Self::ProxyHeader => "proxy-not-trusted",
            Self::Tls { .. } => "tls-is-off",
            Self::NoAddress { .. } => "name-without-address",
        }
    }

    /// What to change.
    pub(crate) fn advice(&self) -> String {
        match self {
            Self::Browser { dashboard: Some(addr) } => {
                format!("the dashboard is on port {} (api.listen)", addr.port())
            }
            Self::Browser { dashboard: None } => {
                "set api.listen, like \"127.0.0.1:7152\", for a dashboard".into()
            }
            Self::MinerAtDashboard { port: Some(port), .. } => {
                format!("set the miner's port to {port} (stratum.listen)")
            }
            Self::MinerAtDashboard { port: None, .. } => {
                "set the miner's port to that of stratum.listen".into()
            }
            Self::Tls { is_enabled: true } => "fix its certificate: the log and the dashboard say what is wrong \
                                               with it (stratum.tls)"
                .into(),
            Self::Tls { .. } => "set stratum.tls.enabled = true, or give the miner an address that begins \
                          with stratum+tcp://"
                .into(),
            Self::ProxyHeader => "if that is your proxy, add its address to \
                                  stratum.trusted_proxies, else switch the header off there"
                .into(),
            Self::NoAddress { .. } => "give the miner a user name that begins with your address, like \
                                       bc1q….garage; or set pooling.usernames = \"worker\", and \
                                       mining.address stands before all names"
                .into(),
            Self::LowWish { is_pools: true, .. } => {
                "the pool takes no less, so a miner that is too small for it mines solo or elsewhere"
                    .into()
            }
            Self::LowWish { .. } => "for small miners lower stratum.difficulty_min, or give them a \
                                     [[stratum.port]] with a difficulty_min of its own"
                .into(),
            Self::Flood { raised, is_set: true, .. } => format!(
                "set its worker to {raised} or more in stratum.worker_difficulty, or remove it \
                 there: vardiff finds what fits"
            ),
            Self::Flood { raised, .. } => format!(
                "set fd={raised} or more in the miner's password, or remove fd= there: vardiff \
                 finds what fits"
            ),
        }
    }
}

/// Reads on after the client's address.
impl fmt::Display for ClientMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Browser { .. } => f.write_str("opened a port for miners with a web browser"),
            Self::MinerAtDashboard { protocol, .. } => {
                write!(f, "speaks {protocol}, as miners do, to the dashboard's port (api.listen)")
            }
            Self::Tls { is_enabled: true } => {
                f.write_str("speaks TLS, for which there is no certificate here (stratum.tls)")
            }
            Self::Tls { .. } => f.write_str("speaks TLS, which is off here (stratum.tls.enabled)"),
            Self::NoAddress { name, is_refused } => {
                let name = printable(&name.0, NAME_SHOWN_MAX);
                let end = if *is_refused { ": it is refused" } else { " for its shares" };
                write!(
                    f,
                    "mines as \"{name}\", which begins with no address of this network, so the pool \
                     can pay nobody{end}"
                )
            }
            Self::ProxyHeader => {
                f.write_str("sends a PROXY header from an address that is not trusted")
            }
            Self::LowWish { wanted, floor, .. } => {
                write!(f, "asks for shares of difficulty {wanted}, but {floor} is the least here")
            }
            Self::Flood { fixed, raised, each_s, .. } => write!(
                f,
                "sends {each_s:.0} shares a second at the difficulty {fixed} that is fixed for it, \
                 which is {raised} now"
            ),
        }
    }
}

impl ClientMistakes {
    /// Keeps it, and logs it unless one of its kind was logged a moment ago.
    pub(crate) fn note(&self, peer: SocketAddr, mistake: ClientMistake, now: Instant) {
        let mut all = self.all();
        let Some(slot) = all.get_mut(mistake.kind()) else { return };
        let name = match &mistake {
            ClientMistake::NoAddress { name, .. } => Some(name.clone()),
            _ => None,
        };
        // A name that has been said keeps no other one from being said.
        if let (Some(record), Some(name)) = (&mut *slot, &name)
            && self.is_known(name)
        {
            (record.peer, record.mistake, record.at) = (peer, mistake, now);
            record.count += 1;
            return;
        }
        let (count, said, unsaid) = match slot {
            Some(MistakeRecord { count, said, unsaid, .. }) if now < *said + SAY_EACH => {
                (*count, Some(*said), *unsaid + 1)
            }
            Some(MistakeRecord { count, unsaid, .. }) => (*count, None, *unsaid),
            None => (0, None, 0),
        };
        let odd = slot.insert(MistakeRecord {
            peer,
            mistake,
            at: now,
            count: count + 1,
            said: said.unwrap_or(now),
            unsaid: if said.is_some() { unsaid } else { 0 },
        });
        if said.is_none() {
            name.into_iter().for_each(|name| self.remember(name));
            info!(%peer, similar_not_logged = unsaid, "somebody {}: {}", odd.mistake, odd.mistake.advice());
        }
    }

    /// Each name is said once, as long as there are few: a miner logs in again and again.
    fn is_known(&self, name: &Username) -> bool {
        self.names().contains(name)
    }

    fn remember(&self, name: Username) {
        let mut names = self.names();
        if names.len() == NAMES_MAX {
            names.pop_front();
        }
        names.push_back(name);
    }

    fn names(&self) -> MutexGuard<'_, VecDeque<Username>> {
        // Nothing under the lock can leave it half done.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of the last hour.
    pub(crate) fn recent(&self, now: Instant) -> Vec<MistakeRecord> {
        let all = self.all();
        all.iter().flatten().filter(|odd| now < odd.at + RECENT).cloned().collect()
    }

    fn all(&self) -> MutexGuard<'_, [Option<MistakeRecord>; KINDS]> {
        // Nothing under the lock can leave it half done.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const KINDS: usize = 7;
/// A household's miners; of a stranger's millions only the last ones.
const NAMES_MAX: usize = 256;
const NAME_SHOWN_MAX: usize = 60;
/// A scanner, or a hundred small miners that keep coming back, must not fill the log.
const SAY_EACH: Duration = Duration::from_secs(300);
const RECENT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_kind_is_kept_for_an_hour() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        let client_mistakes = ClientMistakes::default();
        let peer = |last| SocketAddr::from(([192, 168, 1, last], 5));
        let miner =
            |port| ClientMistake::MinerAtDashboard { protocol: "Stratum V1", port: Some(port) };
        client_mistakes.note(peer(1), miner(1), start);
        client_mistakes.note(peer(2), ClientMistake::Browser { dashboard: None }, start);
        for at in 0..100_000 {
            client_mistakes.note(peer(3), miner(2), start + Duration::from_millis(at));
        }
        let recent = client_mistakes.recent(start + Duration::from_secs(100));
        let kept: Vec<_> = recent.iter().map(|odd| (odd.peer, odd.count)).collect();
        assert_eq!(kept, [(peer(2), 1), (peer(3), 100_001)]);
        assert_eq!(recent[1].unsaid, 100_000, "logged once in five minutes");
        let recent = client_mistakes.recent(start + RECENT + Duration::from_secs(1));
        assert_eq!(recent.len(), 1);
        let low = ClientMistake::LowWish {
            wanted: Difficulty::ONE,
            floor: Difficulty::pow2(14),
            is_pools: false,
        };
        let said = format!("{low}: {}", low.advice());
        assert!(said.contains("difficulty 1, but 16384 is the least"), "{said}");
        assert!(said.contains("stratum.difficulty_min"), "{said}");
    }

    #[test]
    fn a_name_that_was_not_said_is_said_later() {
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let start = Instant::now();
        let mistakes = ClientMistakes::default();
        let log_in = |name: &str, s| {
            let mistake =
                ClientMistake::NoAddress { name: Username::heard(name), is_refused: false };
            mistakes.note(([192, 168, 1, 2], 5).into(), mistake, start + Duration::from_secs(s));
        };
        let said = |name| mistakes.is_known(&Username::heard(name));
        log_in("garage", 0);
        log_in("attic", 1);
        assert_eq!((said("garage"), said("attic")), (true, false), "one line in five minutes");
        // A known name's next login holds up no other name.
        log_in("garage", 301);
        log_in("attic", 302);
        assert!(said("attic"));
        assert_eq!(mistakes.recent(start + Duration::from_secs(302))[0].count, 4);
    }
}
