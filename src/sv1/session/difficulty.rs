//! The difficulty that a miner asks for: with its password, by suggestion, by configuration.

use std::time::Instant;

use super::Sv1Session;
use crate::{
    books::client_mistakes::ClientMistake,
    stratum::{Closing, RequestedDifficulty},
    sv1::{
        error::{write_bad_params, write_no_address, write_too_many_logins, write_true},
        message::RpcRequest,
        method::{authorize::AuthorizeParams, suggest_difficulty},
    },
    work::{Difficulty, Work},
};

impl Sv1Session {
    /// Every name is accepted, unless no pool could pay it and the operator refuses such names; the
    /// one in each submit is what counts. The password may set a
    /// difficulty: it is the one field that a renter fills in.
    pub(super) fn on_authorize(
        &mut self,
        request: &RpcRequest<'_>,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<(), Closing> {
        if let Err(why) = self.origin.may_log_in(self.pacing.is_proven(), now) {
            write_too_many_logins(request.id, out);
            return Err(why);
        }
        let AuthorizeParams { name, asked } = AuthorizeParams::read(request);
        if !self.may_mine_as(&name, now) {
            write_no_address(request.id, out);
            return Ok(());
        }
        write_true(request.id, out);
        let before = self.terms;
        self.terms.want(self.config.difficulty_of(&name), asked.or(before.asked));
        self.worker = name;
        if self.terms == before {
            return Ok(());
        }
        self.apply_rules(work, now);
        if let Some(asked) = self.terms.asked.filter(|asked| before.asked != Some(*asked)) {
            self.vardiff.suggest(asked.difficulty(), now);
            self.tell_if_low(asked.difficulty(), work, now);
        }
        self.renew(work, now, out);
        Ok(())
    }

    /// A name that no pool can pay is said, and refused if it is to be.
    fn may_mine_as(&self, name: &str, now: Instant) -> bool {
        match &self.account {
            Some(account) => account.log_in(name, &self.config, now),
            // Some log in before they subscribe: then it is said there.
            None => self.origin.may_mine_as(name, &self.config, now),
        }
    }

    pub(super) fn on_suggest(
        &mut self,
        request: &RpcRequest<'_>,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let Some(wanted) = suggest_difficulty::difficulty(request) else {
            return write_bad_params(request.id, out);
        };
        write_true(request.id, out);
        self.suggest(wanted, work, now, out);
    }

    /// A notification needs no answer: BFGMiner sends one before it subscribes, and takes the first
    /// line it receives as the answer to that.
    pub(super) fn on_suggest_target(
        &mut self,
        request: &RpcRequest<'_>,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let wanted = suggest_difficulty::of_target(request);
        match wanted {
            _ if request.is_notice() => {}
            None => write_bad_params(request.id, out),
            Some(_) => write_true(request.id, out),
        }
        if let Some(wanted) = wanted {
            self.suggest(wanted, work, now, out);
        }
    }

    fn suggest(&mut self, wanted: Difficulty, work: &Work, now: Instant, out: &mut Vec<u8>) {
        // Some firmware repeats it every few seconds to keep the connection alive.
        if self.suggested.replace(wanted) == Some(wanted) {
            return;
        }
        self.vardiff.suggest(wanted, now);
        self.tell_if_low(wanted, work, now);
        self.renew(work, now, out);
    }

    /// A fixed difficulty that is far too low for its miner would keep this machine busy.
    pub(super) fn end_flood(
        &mut self,
        enough: Difficulty,
        work: &Work,
        now: Instant,
        out: &mut Vec<u8>,
    ) {
        let Self { config, terms, vardiff, account: Some(account), .. } = self else { return };
        if let Some(mistake) = config.lift(terms, vardiff, enough, work, now) {
            account.report_mistake(mistake, now);
            self.renew(work, now, out);
        }
    }

    /// The miner's owner wonders why it does not get what it asks for.
    fn tell_if_low(&self, wanted: Difficulty, work: &Work, now: Instant) {
        // Not for strangers: the warning shows only one miner for all.
        if !self.is_subscribed() {
            return;
        }
        let floor = self.vardiff.floor();
        // A floor that it asked for itself is not ours.
        let is_own = self.terms.asked.map(RequestedDifficulty::difficulty) == Some(floor);
        if wanted >= floor || is_own {
            return;
        }
        let pooled = work.latest().payout.pooled.as_ref();
        let is_pools = pooled.is_some_and(|terms| terms.min_difficulty as f64 >= floor.get());
        let mistake = ClientMistake::LowWish { wanted, floor, is_pools };
        self.origin.roster.client_mistakes().note(self.origin.peer, mistake, now);
    }
}
