//! What is known about a node's tip, and how each header and template changes it. Pure.

use std::sync::Arc;

use bitcoin::Network;

use crate::{
    node::header::{self, Header, Learned},
    work::{Hash256, Template},
};

/// How far work on a node's tip has progressed.
#[derive(Debug)]
pub(super) struct Progress {
    source: Arc<str>,
    network: Network,
    tip: Option<Hash256>,
    tip_height: Option<u32>,
    learned: Option<Learned>,
    /// Counts tips; a template requested before the tip changed may be on the old one.
    generation: u64,
}

/// What a header means.
#[derive(Debug)]
pub(super) enum HeaderNews {
    /// It is not the tip, or not any more.
    NotTip,
    Known,
    /// A new tip, with work on it unless only the node's template can tell.
    NewTip(Option<Template>),
}

/// What a full template means.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum FullNews {
    /// Work to publish; `is_new`: on a tip that was not known before.
    Fresh { is_new_tip: bool },
    /// Made before the tip changed.
    Outdated,
}

impl Progress {
    /// `learned` before; what was learnt from another chain does not apply here.
    pub(super) fn new(
        source: Arc<str>,
        network: Network,
        learned: Option<(Network, Learned)>,
    ) -> Self {
        let learned = learned.filter(|(of, _)| *of == network).map(|(_, learned)| learned);
        Self { source, network, tip: None, tip_height: None, learned, generation: 0 }
    }

    pub(super) fn tip(&self) -> Option<Hash256> {
        self.tip
    }

    /// Whether a template is for the block after the tip: compares the previous hash and the
    /// height.
    pub(super) fn is_next(&self, template: &Template) -> bool {
        self.tip == Some(template.prevhash)
            && self.tip_height.and_then(|height| height.checked_add(1)) == Some(template.height)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// What was learnt from full templates, and on which chain.
    pub(super) fn learned(&self) -> Option<(Network, Learned)> {
        self.learned.map(|learned| (self.network, learned))
    }

    /// The height of the tip, once known from a template.
    pub(super) fn on_header(&mut self, header: &Header, unix_now: u32) -> HeaderNews {
        if header.confirmations != 1 {
            return HeaderNews::NotTip;
        }
        if self.tip == Some(header.hash) {
            return HeaderNews::Known;
        }
        self.tip = Some(header.hash);
        self.tip_height = Some(header.height);
        self.generation += 1;
        let next = self
            .learned
            .and_then(|learned| header::next_block(header, &learned, self.network, unix_now));
        HeaderNews::NewTip(next.map(|next| Template::tip(Arc::clone(&self.source), &next)))
    }

    /// `generation` is its value when the template was requested.
    pub(super) fn on_full(&mut self, template: &Template, generation: u64) -> FullNews {
        let is_new_tip = self.tip != Some(template.prevhash);
        if is_new_tip && generation != self.generation {
            return FullNews::Outdated;
        }
        if is_new_tip {
            self.tip = Some(template.prevhash);
            self.tip_height = template.height.checked_sub(1);
            self.generation += 1;
        }
        self.learned = Some(Learned::of(template));
        FullNews::Fresh { is_new_tip }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{BlockLimits, Nbits, TemplateKind};

    fn header(hash: u8, confirmations: i64) -> Header {
        let bits = Nbits::new(0x207f_ffff).unwrap();
        Header {
            hash: Hash256([hash; 32]),
            confirmations,
            height: 10,
            bits,
            mediantime: 100,
            time: 0,
            work: None,
            is_foreign: false,
            shown: None,
        }
    }

    fn full(prevhash: u8) -> Template {
        Template {
            source: "n".into(),
            kind: TemplateKind::Full,
            height: 11,
            version: 0x2000_0000,
            prevhash: Hash256([prevhash; 32]),
            nbits: Nbits::new(0x207f_ffff).unwrap(),
            curtime: 200,
            mintime: 101,
            coinbase_value: 50_0000_0100,
            fees: 100,
            witness_commitment: None,
            transactions: Box::default(),
            merkle_branches: Box::default(),
            total_size: 0,
            total_weight: 0,
            total_sigops: 0,
            limits: BlockLimits::CONSENSUS,
        }
    }

    fn progress() -> Progress {
        Progress::new("n".into(), Network::Regtest, None)
    }

    #[test]
    fn a_tip_is_worked_on_once_the_subsidy_is_known() {
        let mut progress = progress();
        assert!(matches!(progress.on_header(&header(1, 1), 0), HeaderNews::NewTip(None)));
        assert_eq!(progress.on_full(&full(1), 1), FullNews::Fresh { is_new_tip: false });
        assert!(matches!(progress.on_header(&header(1, 1), 0), HeaderNews::Known));
        let HeaderNews::NewTip(Some(tip)) = progress.on_header(&header(2, 1), 0) else {
            panic!("no work")
        };
        assert_eq!((tip.kind, tip.coinbase_value), (TemplateKind::Tip, 50_0000_0000));
    }

    #[test]
    fn what_another_chain_taught_is_forgotten() {
        let mut before = progress();
        before.on_full(&full(1), 0);
        let news = |network| {
            let mut progress = Progress::new("n".into(), network, before.learned());
            progress.on_header(&header(2, 1), 0)
        };
        assert!(matches!(news(Network::Regtest), HeaderNews::NewTip(Some(_))));
        assert!(matches!(news(Network::Bitcoin), HeaderNews::NewTip(None)));
    }

    #[test]
    fn headers_below_the_tip_or_beside_it_are_not_worked_on() {
        let mut progress = progress();
        for confirmations in [-1, 0, 2] {
            let news = progress.on_header(&header(1, confirmations), 0);
            assert!(matches!(news, HeaderNews::NotTip));
        }
    }

    #[test]
    fn a_template_is_next_by_hash_and_height() {
        let mut progress = progress();
        progress.on_header(&header(1, 1), 0);
        assert!(progress.is_next(&full(1)));
        assert!(!progress.is_next(&full(2)));
        assert!(!progress.is_next(&Template { height: 10, ..full(1) }));
    }

    #[test]
    fn a_template_asked_for_before_the_tip_changed_is_outdated() {
        let mut progress = progress();
        assert_eq!(progress.on_full(&full(1), 0), FullNews::Fresh { is_new_tip: true });
        let asked_at = progress.generation();
        progress.on_header(&header(2, 1), 0);
        assert_eq!(progress.on_full(&full(1), asked_at), FullNews::Outdated);
        // The node answered late, but for the new tip.
        assert_eq!(progress.on_full(&full(2), asked_at), FullNews::Fresh { is_new_tip: false });
        // It knows better than what was heard: a reorganisation.
        let asked_at = progress.generation();
        assert_eq!(progress.on_full(&full(1), asked_at), FullNews::Fresh { is_new_tip: true });
    }
}
