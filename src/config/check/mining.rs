//! Whom blocks pay, and how long work is valid: [mining], and the times in [template] and
//! [stratum].

use std::{sync::Arc, time::Duration};

use bitcoin::Network;

use super::{Check, address};
use crate::{
    config::{PayoutAddress, raw},
    datum::DatumConfig,
    work::{AssemblerConfig, Payout, WhenDown},
};

/// Times that several parts use.
#[derive(Clone, Copy)]
pub(super) struct Times {
    /// `template.refresh`.
    pub(super) refresh: Duration,
    /// `template.stale_after`: when the template is older, miners are disconnected.
    template_stale_after: Duration,
    /// `stratum.stale_after`: a job lives this long after its successor is due.
    pub(super) job_stale_after: Duration,
}

impl Check {
    pub(super) fn times(&mut self, raw: &raw::Raw) -> Option<Times> {
        let refresh = self.duration("template.refresh", &raw.template.refresh);
        let template = self.duration("template.stale_after", &raw.template.stale_after);
        let job = self.duration("stratum.stale_after", &raw.stratum.stale_after);
        let (refresh, template_stale_after, job_stale_after) = (refresh?, template?, job?);
        if refresh < Duration::from_secs(1) {
            return self.note(
                "template.refresh",
                "must be at least 1s: more often only burdens the \
                              node",
            );
        }
        if template_stale_after < refresh * 2 {
            return self.note(
                "template.stale_after",
                "should be at least twice template.refresh, or miners are disconnected between two \
                 templates",
            );
        }
        let times = Times { refresh, template_stale_after, job_stale_after };
        self.job_life(times);
        Some(times)
    }

    /// Jobs must be valid for as long as miners are kept on them, but no longer than they are
    /// remembered.
    fn job_life(&mut self, times: Times) {
        let Times { refresh, template_stale_after, job_stale_after } = times;
        let life = job_stale_after + refresh;
        if template_stale_after > life {
            self.note::<()>(
                "template.stale_after",
                &format!(
                    "is longer than shares are accepted for a job ({life:?}: stratum.stale_after \
                     plus one template.refresh), so miners would be kept on work that is refused: \
                     make it at most that, or stratum.stale_after longer"
                ),
            );
        }
        if life > refresh * REFRESHES_MAX {
            let most = refresh * (REFRESHES_MAX - 1);
            self.note::<()>(
                "stratum.stale_after",
                &format!(
                    "keeps jobs for more than {REFRESHES_MAX} times template.refresh, which is \
                     longer than they are remembered: make it at most {most:?}, or \
                     template.refresh longer"
                ),
            );
        }
    }

    /// `mining.address`. None: it is not set, or it is wrong, which is noted.
    pub(super) fn mining(&mut self, raw: &raw::Mining) -> Option<PayoutAddress> {
        if raw.unique_id == 0 {
            self.note::<()>("mining.unique_id", "must be 1 to 65535");
        }
        for (key, tag) in [
            ("mining.coinbase_tag", &raw.coinbase_tag),
            ("mining.coinbase_tag_secondary", &raw.coinbase_tag_secondary),
        ] {
            if tag.len() > TAG_LEN_MAX {
                self.note::<()>(
                    key,
                    &format!("has {} bytes; a tag may have at most {TAG_LEN_MAX}", tag.len()),
                );
            }
        }
        if raw.address.trim().is_empty() {
            return None;
        }
        address::read(&raw.address).map_or_else(|why| self.note("mining.address", &why), Some)
    }

    /// The configuration for turning templates into jobs. None: there is nobody to pay yet, or a
    /// problem was noted.
    pub(super) fn work(
        &mut self,
        raw: &raw::Raw,
        address: Option<&PayoutAddress>,
        times: Option<Times>,
        datum: Option<&DatumConfig>,
    ) -> Option<AssemblerConfig> {
        let when_down = self.choice(
            "pooling.when_down",
            &raw.pooling.when_down,
            &[("disconnect", WhenDown::Disconnect), ("solo", WhenDown::Solo)],
        );
        let reconnect_grace =
            self.duration("pooling.reconnect_grace", &raw.pooling.reconnect_grace);
        let Times { refresh, template_stale_after, job_stale_after } = times?;
        Some(AssemblerConfig {
            solo: Arc::new(solo(&raw.mining, address?)),
            pooled: !raw.pool.is_empty(),
            when_down: when_down?,
            grace: datum?.hold_shares,
            reconnect_grace: reconnect_grace?,
            refresh,
            stale_after: template_stale_after,
            // Known once the node's network is.
            halving_interval: None,
            job_life: job_stale_after + refresh,
            propose: raw.template.propose,
        })
    }
}

fn solo(raw: &raw::Mining, address: &PayoutAddress) -> Payout {
    Payout {
        script: address.script(),
        tag_primary: raw.coinbase_tag.as_bytes().into(),
        tag_secondary: raw.coinbase_tag_secondary.as_bytes().into(),
        unique_id: raw.unique_id,
        own_script: None,
        pooled: None,
    }
}

/// The networks that this address is valid on.
pub(super) fn chains(address: Option<&PayoutAddress>) -> Vec<Network> {
    let fits = |chain: &Network| address.is_none_or(|it| it.address.is_valid_for_network(*chain));
    CHAINS.into_iter().filter(fits).collect()
}

/// All networks that a node may be on.
const CHAINS: [Network; 5] =
    [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet, Network::Regtest];
/// For each tag; together they are cut to 86 bytes.
const TAG_LEN_MAX: usize = 60;
/// How many templates a job may outlive: of the 32 jobs that are kept, this leaves some for new
/// tips and new terms from the pool.
const REFRESHES_MAX: u32 = 28;
