//! A miner's books: its shares judged, counted and attributed, whichever protocol carried them.

use std::{sync::Arc, time::Instant};

use super::{Config, Effects, Origin, UsernameCache};
use crate::{
    books::{
        MinerProtocol, Roster,
        client_mistakes::ClientMistake,
        roster::{Miner, RosterEntry},
    },
    validate::{self, Assignment, RootSource, SeenShares, ShareContext},
    work::{CoinbaseClass, Job, Reject, Share, Submission, Username, Work, hash_difficulty},
};

/// One miner's entry in the roster and the names that it uses. Owned by its session.
#[derive(Debug)]
pub(crate) struct MinerAccount {
    roster: Arc<Roster>,
    presence: RosterEntry,
    names: UsernameCache,
}

/// What a miner claims to have found, and the terms on which it was asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShareClaim<'a> {
    pub(crate) job: &'a Arc<Job>,
    pub(crate) assignment: &'a Assignment,
    /// When the miner got the job.
    pub(crate) given_at: Instant,
    pub(crate) source: RootSource<'a>,
    pub(crate) submission: &'a Submission,
    /// Empty: the operator's own.
    pub(crate) username: &'a str,
}

impl MinerAccount {
    /// Enters a miner from `origin` in the roster.
    pub(crate) fn open(
        origin: &Origin,
        protocol: MinerProtocol,
        user_agent: &str,
        class: CoinbaseClass,
        now: Instant,
    ) -> Self {
        let presence = origin.enter(protocol, user_agent, class, now);
        Self { roster: Arc::clone(&origin.roster), presence, names: UsernameCache::default() }
    }

    pub(crate) fn miner(&self) -> &Miner {
        self.presence.miner()
    }

    /// Judges a claim. A block and a share go to `effects` and are counted; a refusal is not: that
    /// is up to [`Self::refuse`].
    pub(crate) fn judge(
        &mut self,
        claim: &ShareClaim<'_>,
        seen: &mut SeenShares,
        config: &Config,
        work: &Work,
        now: Instant,
        effects: &mut Effects,
    ) -> Result<(), Reject> {
        let life = config.stale_after + config.refresh;
        let moment = ShareContext {
            tip: work.tip(),
            expired: now.duration_since(claim.given_at) > life || work.is_void(claim.job),
            ntime_max: claim.job.template.curtime.saturating_add(NTIME_AHEAD_S),
        };
        let own = &*config.default_username.0;
        let name = if claim.username.is_empty() { own } else { claim.username };
        let miner = self.presence.miner();
        let is_named = self.names.intern(name).is_some() && !self.names.is_refused(config);
        // A block without a username is a block too.
        let name = if is_named { name } else { own };
        let named = self.names.intern(name).ok_or(Reject::Unauthorized)?;
        let verdict = validate::check(
            claim.job,
            claim.assignment,
            claim.source,
            claim.submission,
            &moment,
            &named.username,
            seen,
            &mut effects.scratch,
        );
        if let Some(block) = verdict.block {
            effects.tally.blocks += u64::from(verdict.is_new_block);
            effects.blocks.push(block);
        }
        let by = |share: Share| Share { miner: miner.id, ..share };
        // The pool gets the block whatever the miner is told.
        effects.shares.extend(verdict.refused_block.map(by));
        let share = match verdict.share.map(by) {
            Ok(share) if is_named => share,
            Ok(block) if block.is_block => {
                effects.shares.push(block);
                return Err(Reject::Unauthorized);
            }
            Ok(_) => return Err(Reject::Unauthorized),
            Err(reject) => return Err(if is_named { reject } else { Reject::Unauthorized }),
        };
        let Share { difficulty, hash, is_block, .. } = &share;
        effects.tally.accept(miner.protocol, *difficulty);
        if let Some(worker) = self.names.account(&self.roster, miner) {
            self.presence.accept(worker, *difficulty, hash_difficulty(hash), *is_block, now);
        }
        effects.shares.push(share);
        Ok(())
    }

    /// Tells the operator what this miner gets wrong.
    pub(crate) fn report_mistake(&self, mistake: ClientMistake, now: Instant) {
        self.roster.client_mistakes().note(self.miner().peer, mistake, now);
    }

    /// Takes note of the name that a miner logs in with; false: it may not mine by it.
    pub(crate) fn log_in(&self, name: &str, config: &Config, now: Instant) -> bool {
        let Some(rule) = config.broken_by(name) else {
            self.miner().set_unpayable(None);
            return true;
        };
        let name = Username::heard(name);
        self.miner().set_unpayable(Some(name.clone()));
        self.report_mistake(ClientMistake::NoAddress { name, is_refused: rule.refuses }, now);
        !rule.refuses
    }

    /// The rules are others now: what names are worth is looked at anew.
    pub(crate) fn forget_rules(&mut self) {
        self.names.forget_rules();
    }

    /// Counts a refusal.
    pub(crate) fn refuse(&self, reject: Reject, effects: &mut Effects) {
        let miner = self.miner();
        effects.tally.reject(miner.protocol, reject, miner.difficulty());
        self.presence.reject(self.names.known_account(), reject);
    }
}

/// Nodes accept blocks up to two hours ahead of their clock.
const NTIME_AHEAD_S: u32 = 7200;
