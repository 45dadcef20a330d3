//! Pools: gatewayd's own devnet pool, which checks each share as strictly as the real one does,
//! with faults; and the connection between it and the gateway.

use std::sync::Arc;
use std::time::Duration;

use gatewayd::{
    datum::{Identity, message::ShareReason},
    devnet::pool::{
        Coinbasers, Control, Fault, Habits, Ledger, PoolConfig, PoolSession, PoolTime, PrimeIds,
        ValidationPlan,
    },
    work::Difficulty,
};

use crate::chance::Chance;

pub struct SimPool {
    pub identity: Arc<Identity>,
    pub control: Control,
    pub ledger: Ledger,
    pub session: Option<PoolSession>,
    pub is_away: bool,
    /// Everything that it has ever accepted, across restarts.
    accepted_before: u64,
    pub has_forgotten: bool,
    /// The reasons for which it may refuse, given its faults and changes.
    pub allowed: Vec<ShareReason>,
}

impl SimPool {
    pub fn new(number: u8, is_like_ocean: bool, chance: &mut Chance) -> Self {
        let config = PoolConfig {
            tag: format!("pool {number}").into_bytes(),
            prime_id: 1000 + u32::from(number),
            share_floor: Difficulty::new(1e-9),
            splits: PoolConfig::sample_splits(u8::try_from(chance.below(12)).unwrap()),
            validation: ValidationPlan { every: 16, ..ValidationPlan::default() },
            ..PoolConfig::default()
        };
        let mut control = Control::new(config);
        control.habits = if is_like_ocean { Habits::like_ocean() } else { Habits::default() };
        // A pool that keeps ids accepts work of an earlier connection, with that one's split.
        control.habits.bound_splits = is_like_ocean;
        Self {
            identity: Arc::new(Identity::from_secrets(&[number + 1; 32], [number + 101; 32])),
            control,
            ledger: Ledger::default(),
            session: None,
            is_away: false,
            accepted_before: 0,
            has_forgotten: false,
            allowed: vec![ShareReason::STALE_BLOCK, ShareReason::DUPLICATE],
        }
    }

    pub fn keeps_ids(&self) -> bool {
        self.control.habits.prime_ids == PrimeIds::Kept
    }

    pub fn accept(&mut self, seed: u64, now: PoolTime) {
        self.session = Some(PoolSession::new(Arc::clone(&self.identity), seed, now, &self.control));
    }

    /// What it accepted in all.
    pub fn accepted(&self) -> u64 {
        self.accepted_before + self.ledger.stats().accepted
    }

    /// Its process ends, and the new one knows nothing of what the old one knew.
    pub fn forget(&mut self) {
        self.session = None;
        self.accepted_before += self.ledger.stats().accepted;
        self.ledger = Ledger::default();
        self.has_forgotten = true;
        if !self.keeps_ids() {
            // The ids of its connections continue.
            let mut config = PoolConfig::clone(&self.control.config);
            config.prime_id += 10_000;
            self.control.config = Arc::new(config);
        } else {
            self.allowed.extend([ShareReason::BAD_COINBASER_ID, ShareReason::BAD_OUTPUTS]);
        }
    }

    /// From now on it does something wrong, or nothing.
    pub fn misbehave(&mut self, chance: &mut Chance) -> &'static str {
        let faults = [
            (Fault::OverpayingCoinbaser, "a pool's splits pay more than there is"),
            (Fault::LyingCoinbaser, "a pool lies about its splits' length"),
            (Fault::ImpossibleScripts, "a pool's splits have impossible scripts"),
            (Fault::SilentCoinbaser, "a pool gives no splits"),
            (Fault::UnaskedCoinbaser, "a pool sends splits that nobody asked for"),
            (Fault::Silence, "a pool falls silent"),
            (Fault::SilentShares, "a pool leaves shares unanswered"),
            (Fault::DisconnectOnShare, "a pool hangs up at a share"),
            (Fault::RejectShares, "a pool rejects all shares"),
            (Fault::Tentative, "a pool accepts shares tentatively"),
            (Fault::RefuseConnections, "a pool refuses connections"),
            (Fault::BadMac, "a pool's frames are forged"),
            (Fault::BadResponseSignature, "a pool's handshake is signed wrongly"),
            (Fault::WrongEcho, "a pool's handshake echoes another key"),
            (Fault::TruncatedConfiguration, "a pool's configuration is cut off"),
            (Fault::UnsignedConfiguration, "a pool's configuration is not signed"),
        ];
        let (fault, what) = faults[chance.index(faults.len())];
        self.control.fault = Some(fault);
        if self.control.fault == Some(Fault::RejectShares) {
            self.allowed.push(ShareReason::OTHER);
        }
        // Such splits are used as far as possible; the pool finds that they are not what it wanted.
        if self.control.fault == Some(Fault::OverpayingCoinbaser) {
            self.allowed.extend([ShareReason::BAD_OUTPUTS, ShareReason::BAD_COINBASER_ID]);
        }
        what
    }

    /// Habits that are not faults.
    pub fn change_habits(&mut self, chance: &mut Chance) {
        let habits = &mut self.control.habits;
        habits.unanswered_every = [0, 0, 7, 50][chance.index(4)];
        habits.blank_rejections = chance.one_in(2);
        habits.coinbasers = match chance.below(5) {
            0 => Coinbasers::Never,
            1 => Coinbasers::After(Duration::from_millis(chance.below(9000))),
            _ => Coinbasers::AtOnce,
        };
    }

    /// Other terms, which every gateway is sent.
    pub fn change_terms(&mut self, chance: &mut Chance) {
        let mut config = PoolConfig::clone(&self.control.config);
        match chance.below(3) {
            0 => config.script[5] ^= 1,
            1 => config.tag.push(b'!'),
            _ => config.splits = PoolConfig::sample_splits(u8::try_from(chance.below(30)).unwrap()),
        }
        config.tag.truncate(20);
        self.control.config = Arc::new(config);
        self.allowed.extend([ShareReason::MISSING_TAG, ShareReason::BAD_OUTPUTS]);
    }
}
