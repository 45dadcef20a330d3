//! Endless logins: connect, handshake, open, first job, one share, hang up, repeat.
//!
//! What they get is compared with the node's own report of its tips, which does not come through
//! the gateway.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    task::{JoinSet, yield_now},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    board::Board,
    conn::{LOGIN_MAX, LoadClient, LoadConn, LoadError, READ_AT_ONCE, send},
    report::Table,
};
use crate::{clock::now, work::Hash256};

/// The results of many logins.
#[derive(Debug, Default)]
pub(super) struct Churn {
    pub(super) time: Duration,
    pub(super) cpu: Option<Duration>,
    /// From connecting to a job that can be worked on; sorted.
    first_work: Vec<Duration>,
    /// From connecting to the end; sorted.
    whole: Vec<Duration>,
    /// How old the tip of the first job was: the node's latest or a newer one, the one before, an
    /// older one, or a tip that the node never had.
    ages: [u64; 4],
    /// Shares that a new tip made stale on their way: solved once more, on the new tip.
    overtaken: u64,
    failures: BTreeMap<String, u64>,
    /// The node's new tips; none if they are not known.
    tips: Option<usize>,
    steady: Option<Steady>,
}

/// Miners that stay while others come and go.
#[derive(Clone, Debug, Default)]
struct Steady {
    miners: usize,
    connected: usize,
    disconnects: u64,
    accepted: u64,
    rejects: BTreeMap<String, u64>,
    tips: usize,
}

/// One successful login.
struct Login {
    first_work: Duration,
    whole: Duration,
    tip: Hash256,
    /// How many tips the node had reported when the miner requested its first job.
    told: usize,
    overtaken: u64,
}

/// What is known about the node's tips.
#[derive(Default)]
struct Ground {
    /// Oldest first.
    tips: Mutex<Vec<Hash256>>,
}

impl Ground {
    fn tips(&self) -> MutexGuard<'_, Vec<Hash256>> {
        self.tips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows `file` as it grows after its first `used` bytes: each line with `hash=…` is a tip.
    async fn follow(self: Arc<Self>, file: PathBuf, mut used: usize, stop: CancellationToken) {
        while !stop.is_cancelled() {
            used += self.read(&file, used).await;
            sleep(FOLLOW_EACH).await;
        }
    }

    /// Reads whole lines after the first `used` bytes.
    async fn read(&self, file: &Path, used: usize) -> usize {
        let Ok(text) = tokio::fs::read_to_string(file).await else { return 0 };
        let fresh = text.get(used..).unwrap_or_default();
        let end = fresh.rfind('\n').map_or(0, |end| end + 1);
        let hash = |line: &str| Hash256::from_display_hex(line.split_once(" hash=")?.1.get(..64)?);
        self.tips().extend(fresh[..end].lines().filter_map(hash));
        end
    }
}

/// The settings.
pub(super) struct Plan {
    pub(super) run_for: Duration,
    /// The file with the node's tips.
    pub(super) tips_from: Option<PathBuf>,
    /// Miners that stay.
    pub(super) steady: Vec<LoadConn>,
}

/// Lets each of `conns` log in again and again.
pub(super) async fn run(conns: Vec<LoadConn>, plan: Plan, board: &Board) -> Churn {
    let ground = Arc::new(Ground::default());
    let stop = CancellationToken::new();
    let following = plan.tips_from.is_some();
    if let Some(file) = plan.tips_from {
        let used = ground.read(&file, 0).await;
        tokio::spawn(Arc::clone(&ground).follow(file, used, stop.clone()));
    }
    let old_tips = ground.tips().len();
    let mut staying = JoinSet::new();
    let miners = plan.steady.len();
    for conn in plan.steady {
        staying.spawn(conn.run());
    }
    let began = now();
    let end = began + plan.run_for;
    let mut churning = JoinSet::new();
    for conn in conns {
        churning.spawn(repeat(conn, Arc::clone(&ground), end));
    }
    let mut churn = Churn::default();
    let mut logins = Vec::new();
    while let Some(done) = churning.join_next().await {
        let Ok((well, failed)) = done else { continue };
        logins.extend(well);
        for (what, count) in failed {
            *churn.failures.entry(what).or_default() += count;
        }
    }
    churn.time = now().duration_since(began);
    // The node's last lines arrive in the file a little later.
    sleep(FOLLOW_EACH * 10).await;
    stop.cancel();
    churn.settle(&logins, &ground.tips());
    churn.tips = following.then(|| ground.tips().len() - old_tips);
    churn.steady = (miners > 0).then(|| Steady {
        miners,
        connected: board.connected.load(Relaxed),
        disconnects: board.disconnects.load(Relaxed) + board.connect_failures.load(Relaxed),
        accepted: board.accepted.load(Relaxed),
        rejects: board.rejects().clone(),
        tips: board.tips().count(),
    });
    churn
}

/// One connection's logins, and the errors of those that failed.
async fn repeat(
    conn: LoadConn,
    ground: Arc<Ground>,
    end: Instant,
) -> (Vec<Login>, BTreeMap<String, u64>) {
    let mut logins = Vec::new();
    let mut failures = BTreeMap::new();
    while now() < end {
        match login(&conn, &ground).await {
            Ok(login) => logins.push(login),
            Err(error) => {
                *failures.entry(error.to_string()).or_default() += 1;
                sleep(FAILED_PAUSE).await;
            }
        }
    }
    (logins, failures)
}

async fn login(conn: &LoadConn, ground: &Ground) -> Result<Login, LoadError> {
    let began = now();
    let stalled = |state: String| move |_| LoadError::Stalled(state);
    let connected = timeout(LOGIN_MAX, conn.connect()).await;
    let mut stream = connected.map_err(stalled("connecting".into()))??;
    // These miners do not count as arrivals: there is no end to them.
    let mut client = conn.client(usize::MAX)?;
    let mut input = BytesMut::with_capacity(READ_AT_ONCE);
    let mut overtaken = 0;
    let mut told = 0;
    let mut first = None;
    loop {
        let log = client.log();
        if let (None, Some(tip)) = (first, log.first_tip) {
            first = Some((tip, told, now().duration_since(began)));
        }
        if let Some(kind) = log.refused.take() {
            overtaken += 1;
            if !kind.contains("stale") || overtaken > OVERTAKEN_MAX {
                return Err(LoadError::Refused(kind));
            }
        }
        let miners = conn.users.len();
        let unpaid = log.accepted < miners as u64;
        if let Some((tip, told, first_work)) = first
            && log.working == miners
            && !(conn.submits && unpaid)
        {
            let whole = now().duration_since(began);
            return Ok(Login { first_work, whole, tip, told, overtaken });
        }
        let hungry = client.submit(usize::from(conn.submits && unpaid))?;
        // Before the server can answer: it is not to blame for how long its answer then waits here.
        told = ground.tips().len();
        send(&mut *client, &mut stream).await?;
        if hungry {
            yield_now().await;
        } else {
            let left = LOGIN_MAX.saturating_sub(now().duration_since(began));
            let read = timeout(left, read(&mut *client, &mut stream, &mut input)).await;
            read.map_err(stalled(client.state()))??;
        }
    }
}

async fn read(
    client: &mut dyn LoadClient,
    stream: &mut TcpStream,
    input: &mut BytesMut,
) -> Result<(), LoadError> {
    input.reserve(READ_AT_ONCE);
    if stream.read_buf(input).await? == 0 {
        return Err(LoadError::HungUp);
    }
    client.on_input(input)
}

impl Churn {
    fn settle(&mut self, logins: &[Login], tips: &[Hash256]) {
        let place: BTreeMap<_, _> = tips.iter().zip(1..).collect();
        for login in logins {
            self.overtaken += login.overtaken;
            // There was another tip before the first one reported.
            let place = place.get(&login.tip).copied();
            let age = match place {
                Some(place) => login.told.saturating_sub(place).min(2),
                None if login.told <= 1 => login.told,
                None => UNKNOWN,
            };
            self.ages[age] += 1;
        }
        let sorted = |of: fn(&Login) -> Duration| {
            let mut times: Vec<_> = logins.iter().map(of).collect();
            times.sort_unstable();
            times
        };
        self.first_work = sorted(|login| login.first_work);
        self.whole = sorted(|login| login.whole);
    }

    /// True if every login got work on the latest tip or the one before, and its share was
    /// accepted.
    pub(super) fn is_clean(&self) -> bool {
        let steady = self.steady.as_ref();
        !self.whole.is_empty()
            && self.failures.is_empty()
            && (self.tips.is_none() || self.ages[2..] == [0, 0])
            && steady.is_none_or(Steady::is_clean)
    }

    pub(super) fn rows(&self, table: &mut Table) {
        let logins = self.whole.len();
        let seconds = self.time.as_secs_f64().max(1e-9);
        table.row("logins", logins);
        table.row("logins per second", format!("{:.0}", logins as f64 / seconds));
        if let Some(cpu) = self.cpu {
            let each = cpu.as_secs_f64() * 1e6 / logins.max(1) as f64;
            table.row("server CPU per login", format!("{each:.0} µs"));
            let share = 100.0 * cpu.as_secs_f64() / seconds;
            table.row("server CPU during logins", format!("{share:.0} % of a core"));
        }
        table.spread("connect to first work", &self.first_work);
        table.spread("connect to the end", &self.whole);
        if let Some(tips) = self.tips {
            table.row("new tips meanwhile", tips);
            let [latest, previous, older, unknown] = self.ages;
            let ages = format!("{latest} / {previous} / {older} / {unknown}");
            table.row("first job on the latest tip / the one before / older / unknown", ages);
        }
        table.row("shares made stale by a new tip", self.overtaken);
        table.row("failed logins", self.failures.values().sum::<u64>());
        for (kind, count) in &self.failures {
            table.row(&format!("failed: {kind}"), count);
        }
        if let Some(steady) = &self.steady {
            steady.rows(table);
        }
    }
}

impl Steady {
    fn is_clean(&self) -> bool {
        self.connected == self.miners
            && self.disconnects == 0
            && self.accepted > 0
            && self.rejects.keys().all(|kind| kind.contains("stale"))
    }

    fn rows(&self, table: &mut Table) {
        let Self { miners, connected, disconnects, accepted, rejects, tips } = self;
        table
            .row("miners that stay", format!("{connected} of {miners}, {disconnects} disconnects"));
        table.row("their shares accepted", accepted);
        for (kind, count) in rejects {
            table.row(&format!("their shares rejected: {kind}"), count);
        }
        table.row("tips they saw", tips);
    }
}

const UNKNOWN: usize = 3;
/// Do not hammer a server that refuses everybody.
const FAILED_PAUSE: Duration = Duration::from_millis(100);
const FOLLOW_EACH: Duration = Duration::from_millis(5);
/// New tips come ten times a second at most; losing the race this often means a stall.
const OVERTAKEN_MAX: u64 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_work_is_no_work() {
        let tip = |n| Hash256([n; 32]);
        let login = |tip, told| Login {
            first_work: Duration::ZERO,
            whole: Duration::ZERO,
            tip,
            told,
            overtaken: 0,
        };
        let tips = [tip(1), tip(2), tip(3)];
        let settled = |logins: &[Login]| {
            let mut churn = Churn { tips: Some(3), ..Churn::default() };
            churn.settle(logins, &tips);
            churn
        };
        let good = [
            // On a tip newer than any reported one, on the latest, on the one before.
            login(tip(3), 2),
            login(tip(3), 3),
            login(tip(2), 3),
            // On the tip before any that was reported.
            login(tip(9), 0),
            login(tip(9), 1),
        ];
        let churn = settled(&good);
        assert_eq!(churn.ages, [3, 2, 0, 0]);
        assert!(churn.is_clean());
        assert!(!settled(&[login(tip(1), 3)]).is_clean(), "two tips late");
        assert!(!settled(&[login(tip(9), 3)]).is_clean(), "a tip the node never had");
        assert!(!settled(&[]).is_clean(), "nobody logged in");
    }

    #[tokio::test]
    async fn tips_are_read_as_the_node_writes_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node");
        let line = |n: u8| format!("block height={n} hash={} from=itself\n", Hash256([n; 32]));
        std::fs::write(&file, format!("listening\n{}{}", line(1), &line(2)[..60])).unwrap();
        let ground = Ground::default();
        let used = ground.read(&file, 0).await;
        assert_eq!(*ground.tips(), [Hash256([1; 32])]);
        std::fs::write(&file, format!("listening\n{}{}", line(1), line(2))).unwrap();
        ground.read(&file, used).await;
        assert_eq!(*ground.tips(), [1, 2].map(|n| Hash256([n; 32])));
    }
}
