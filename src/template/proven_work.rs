//! How much work the nodes' chains are credited with: as much as their headers prove. Pure.
//!
//! All work is counted from one block, where counting began. A node whose tip does not connect to
//! the known headers is asked for the headers below it, until they meet.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bitcoin::Network;

use crate::{
    node::{
        ChainWork, HeaderFault,
        headers::{HeaderChain, ProvenHeader, bits_follow},
    },
    work::{Hash256, Template},
};

/// Blocks that are known to exist.
#[derive(Debug, Default)]
pub(super) struct ProvenWork {
    known: HashMap<Hash256, KnownBlock>,
}

#[derive(Clone, Debug)]
struct KnownBlock {
    work: ChainWork,
    /// None for a block that is only known as another one's parent.
    shown: Option<ProvenHeader>,
}

/// What a source claims.
#[derive(Debug)]
pub(super) struct SourceClaim {
    pub(super) is_ready: bool,
    /// What its latest template builds on.
    pub(super) tip: Hash256,
    pub(super) chain: Option<Arc<HeaderChain>>,
    /// It can be asked for the headers below its tip.
    pub(super) can_walk: bool,
}

impl SourceClaim {
    /// There are no more headers to get from its chain.
    fn is_walked(&self) -> bool {
        !self.can_walk || self.chain.as_ref().is_none_or(|chain| chain.is_whole())
    }

    /// The work of all the headers that it has shown.
    fn work_shown(&self) -> ChainWork {
        let headers = self.chain.iter().flat_map(|chain| chain.iter());
        headers.fold(ChainWork::NONE, |sum, shown| sum.saturating_add(shown.work()))
    }

    /// The last block whose position is known, for a source with this standing.
    pub(super) fn placed_at(&self, standing: Standing) -> Option<Hash256> {
        match standing {
            Standing::Placed { is_tip: true, .. } => Some(self.tip),
            Standing::Placed { is_tip: false, .. } => {
                self.chain.as_ref().map(|chain| chain.tip().hash)
            }
            _ => None,
        }
    }

    fn height(&self) -> Option<u32> {
        self.chain.as_ref().map(|chain| chain.tip().height)
    }
}

/// How far a source is believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    /// The work up to its tip, or up to the last block before it whose header is known.
    Placed { work: ChainWork, is_tip: bool },
    /// Its headers do not connect to the known ones, so far.
    Apart,
    /// It has shown none.
    Unshown,
    /// Its headers contradict what is known.
    False(HeaderFault),
}

impl Standing {
    fn is_placed(self) -> bool {
        matches!(self, Self::Placed { .. })
    }

    /// The header that its work builds on is known.
    pub(super) fn is_shown(self) -> bool {
        matches!(self, Self::Placed { is_tip: true, .. })
    }

    /// For choosing. If others show their headers, unproven work counts as none; if nobody does,
    /// heights have to do.
    pub(super) fn work(self, do_others_show: bool) -> Option<ChainWork> {
        match self {
            Self::Placed { work, .. } => Some(work),
            _ => do_others_show.then_some(ChainWork::NONE),
        }
    }
}

/// Why a source's work cannot be used, whatever others say.
pub(super) fn doubt(
    claim: &SourceClaim,
    standing: Standing,
    template: Option<&Template>,
    network: Network,
) -> Option<String> {
    if let Standing::False(fault) = standing {
        return Some(format!(
            "a header of its chain contradicts those of other nodes: {fault}; {SEE_WHAT}"
        ));
    }
    let (template, chain) = (template?, claim.chain.as_ref()?);
    let tip = Some(chain.tip()).filter(|tip| tip.hash == template.prevhash)?;
    let (height, bits) = (template.height, template.nbits);
    if tip.height.checked_add(1) != Some(height) {
        let at = tip.height;
        return Some(format!(
            "its work is for block {height}, but builds on block {at}; \
                             {SEE_WHAT}"
        ));
    }
    // On test networks the bits depend on the time, which the node decides.
    if !bits_follow(bits, (height, u32::MAX), tip, network) {
        let before = tip.bits;
        return Some(format!(
            "its work for block {height} has the bits {bits}, which cannot follow {before}; \
             {SEE_WHAT}"
        ));
    }
    None
}

/// The message about a source that has not shown its tip's header since then, while others have.
pub(super) fn unshown(
    claim: &SourceClaim,
    standing: Standing,
    since: Option<Instant>,
    now: Instant,
) -> Option<String> {
    let is_walking =
        standing == Standing::Apart && claim.chain.as_ref().is_some_and(|chain| !chain.is_whole());
    let limit = if is_walking { WALK_TIME_MAX } else { UNSHOWN_MAX };
    since.filter(|since| now.saturating_duration_since(*since) >= limit)?;
    let tip = claim.tip;
    Some(match standing {
        Standing::Apart => format!(
            "its chain up to block {tip} does not connect to that of the other nodes; {SEE_WHAT}"
        ),
        _ => format!(
            "it gives work on block {tip}, but for more than {limit:?} it has not shown that \
             block's header (getblockheader), and other nodes do not know it; {SEE_WHAT}"
        ),
    })
}

impl ProvenWork {
    /// Starts over: another chain says nothing about this one.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// How far each source is believed, in order of preference, and whether those that are ready
    /// should be asked for more headers.
    pub(super) fn judge(
        &mut self,
        claims: &[SourceClaim],
        network: Network,
    ) -> (Vec<Standing>, bool) {
        let standings = self.place_all(claims, network);
        let is_apart = |(claim, standing): &(&SourceClaim, &Standing)| {
            claim.is_ready && **standing == Standing::Apart
        };
        let apart: Vec<&SourceClaim> =
            claims.iter().zip(&standings).filter(is_apart).map(|(claim, _)| claim).collect();
        let Some(first) = apart.first() else { return (standings, false) };
        if !claims.iter().filter(|claim| claim.is_ready).all(SourceClaim::is_walked) {
            return (standings, true);
        }
        // They have nothing in common.
        let is_placed =
            |(claim, standing): &(&SourceClaim, &Standing)| claim.is_ready && standing.is_placed();
        let placed: Vec<&SourceClaim> =
            claims.iter().zip(&standings).filter(is_placed).map(|(claim, _)| claim).collect();
        if are_righter(claims, &apart, &placed) {
            self.known.clear();
            self.begin(first);
            return (self.place_all(claims, network), false);
        }
        (standings, false)
    }

    /// The work up to a block, if it is known.
    pub(super) fn work(&self, block: &Hash256) -> Option<ChainWork> {
        self.known.get(block).map(|known| known.work)
    }

    fn place_all(&mut self, claims: &[SourceClaim], network: Network) -> Vec<Standing> {
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
        if self.known.is_empty()
            && let Some(first) = claims.iter().find(|claim| claim.is_ready && claim.chain.is_some())
        {
            self.begin(first);
        }
        claims.iter().map(|claim| self.place(claim, network)).collect()
    }

    /// Starts counting at the tip of this source.
    fn begin(&mut self, claim: &SourceClaim) {
        if let Some(chain) = &claim.chain {
            let tip = chain.tip();
            let known = KnownBlock { work: ChainWork::MIDDLE, shown: Some(tip.clone()) };
            self.known.insert(tip.hash, known);
        }
    }

    fn place(&mut self, claim: &SourceClaim, network: Network) -> Standing {
        let own = claim.chain.as_deref().map(|chain| self.join(chain, network));
        if let Some(Standing::False(fault)) = own {
            return Standing::False(fault);
        }
        match (self.known.get(&claim.tip), own) {
            // Whichever source showed its header.
            (Some(known), _) => Standing::Placed { work: known.work, is_tip: true },
            (None, Some(Standing::Placed { work, .. })) => Standing::Placed { work, is_tip: false },
            (None, Some(other)) => other,
            (None, None) => Standing::Unshown,
        }
    }

    /// Adds a chain's headers, if they connect to the known ones.
    fn join(&mut self, chain: &HeaderChain, network: Network) -> Standing {
        let is_learned = |known: Option<&KnownBlock>| known.is_some_and(|it| it.shown.is_some());
        let bottom = chain.iter().next_back();
        let is_old = is_learned(self.known.get(&chain.tip().hash))
            && bottom.is_some_and(|last| self.known.contains_key(&last.prevhash));
        if !is_old && let Err(standing) = self.learn(chain, network) {
            return standing;
        }
        match self.known.get(&chain.tip().hash) {
            Some(known) => Standing::Placed { work: known.work, is_tip: true },
            None => Standing::Apart,
        }
    }

    fn learn(&mut self, chain: &HeaderChain, network: Network) -> Result<(), Standing> {
        let meets = |shown: &ProvenHeader| self.known.contains_key(&shown.hash);
        let (at, known) = match chain.iter().position(meets) {
            Some(at) => {
                let shown = chain.iter().nth(at).ok_or(Standing::Apart)?;
                let known = self.known.get(&shown.hash).ok_or(Standing::Apart)?;
                let height = known.shown.as_ref().map(|it| it.height);
                if height.is_some_and(|height| height != shown.height) {
                    return Err(Standing::False(HeaderFault::Height));
                }
                (at, known)
            }
            None => {
                let last = chain.iter().next_back().ok_or(Standing::Apart)?;
                let known = self.known.get(&last.prevhash).ok_or(Standing::Apart)?;
                // Not even its bits are known: its header has to be shown first.
                let parent = known.shown.as_ref().ok_or(Standing::Apart)?;
                last.follows(parent, network).map_err(Standing::False)?;
                (chain.iter().len(), known)
            }
        };
        let meeting = known.work;
        let mut work = meeting;
        for shown in chain.iter().take(at).rev() {
            work = work.saturating_add(shown.work());
            self.insert(shown, work);
        }
        let mut work = meeting;
        for shown in chain.iter().skip(at) {
            self.insert(shown, work);
            work = work.saturating_sub(shown.work());
            let parent = KnownBlock { work, shown: None };
            self.known.entry(shown.prevhash).or_insert(parent);
        }
        Ok(())
    }

    fn insert(&mut self, shown: &ProvenHeader, work: ChainWork) {
        let known = self.known.entry(shown.hash).or_insert(KnownBlock { work, shown: None });
        known.shown.get_or_insert_with(|| shown.clone());
    }
}

/// Whether to believe `these` rather than `those`, when their chains have nothing in common: they
/// have shown more work, or else are more, or else are preferred. A source that cannot be asked for
/// headers could not show more, so heights have to do.
fn are_righter(claims: &[SourceClaim], these: &[&SourceClaim], those: &[&SourceClaim]) -> bool {
    let best = |side: &[&SourceClaim]| {
        let all_walk = these.iter().chain(those).all(|claim| claim.can_walk);
        let height = side.iter().filter_map(|claim| claim.height()).max().filter(|_| !all_walk);
        let work = side.iter().map(|claim| claim.work_shown()).max().filter(|_| all_walk);
        (height, work, side.len())
    };
    let first = |side: &[&SourceClaim]| side.first().and_then(|claim| position(claims, claim));
    match best(these).cmp(&best(those)) {
        Ordering::Equal => first(these) < first(those),
        order => order == Ordering::Greater,
    }
}

fn position(claims: &[SourceClaim], claim: &SourceClaim) -> Option<usize> {
    claims.iter().position(|it| std::ptr::eq(it, claim))
}

const SEE_WHAT: &str = "it may be far behind or on another branch (see `bitcoin-cli \
                        getchaintips`), or what answers at its rpc_url is not a Bitcoin node on \
                        this chain";
/// A header arrives within milliseconds.
const UNSHOWN_MAX: Duration = Duration::from_secs(10);
/// For thousands of headers from a slow node.
const WALK_TIME_MAX: Duration = Duration::from_secs(60);
/// A few walks of two weeks each; beyond that, counting starts over at the tip.
const KNOWN_MAX: usize = 20_000;

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::node::headers::tests::{EASY, mined};

    const NETWORK: Network = Network::Regtest;

    /// Headers upon `parent`, lowest first.
    fn upon(parent: &ProvenHeader, count: u32, mark: u8) -> Vec<ProvenHeader> {
        let mut all: Vec<ProvenHeader> = vec![parent.clone()];
        for height in parent.height + 1..=parent.height + count {
            all.push(mined(all.last().unwrap().hash, height, EASY, mark));
        }
        all.split_off(1)
    }

    /// A source that has shown these, lowest first.
    fn shows(headers: &[ProvenHeader]) -> SourceClaim {
        let mut chain = None;
        for header in headers {
            chain = Some(HeaderChain::with_tip(chain.as_ref(), header.clone(), NETWORK).unwrap());
        }
        let tip = headers.last().unwrap().hash;
        SourceClaim { is_ready: true, tip, chain: chain.map(Arc::new), can_walk: true }
    }

    /// The same source, with what it was asked for below.
    fn walked(headers: &[ProvenHeader]) -> SourceClaim {
        let mut chain =
            HeaderChain::with_tip(None, headers.last().unwrap().clone(), NETWORK).unwrap();
        for header in headers.iter().rev().skip(1) {
            chain.lengthen(header.clone(), NETWORK).unwrap();
        }
        let tip = headers.last().unwrap().hash;
        SourceClaim { is_ready: true, tip, chain: Some(Arc::new(chain)), can_walk: true }
    }

    fn works(standings: &[Standing]) -> Vec<Option<ChainWork>> {
        let work = |standing: &Standing| match standing {
            Standing::Placed { work, .. } => Some(*work),
            _ => None,
        };
        standings.iter().map(work).collect()
    }

    #[test]
    fn a_block_more_is_work_more_at_once() {
        let mut proven = ProvenWork::default();
        let base = mined(Hash256::ZERO, 0, EASY, 0);
        let ours = upon(&base, 5, 0);
        let (standings, walk) = proven.judge(&[shows(&ours[..4]), shows(&ours[3..])], NETWORK);
        let works = works(&standings);
        assert!(works[1] > works[0] && works[0].is_some() && !walk, "{standings:?}");
        // Two that came at the same time are level.
        let rival = mined(ours[3].hash, 5, EASY, 7);
        let rivals = [shows(&ours[3..]), shows(&[ours[3].clone(), rival])];
        let (standings, _) = proven.judge(&rivals, NETWORK);
        assert_eq!(self::works(&standings)[0], self::works(&standings)[1]);
    }

    #[test]
    fn chains_that_parted_are_compared_where_they_meet() {
        let mut proven = ProvenWork::default();
        let base = mined(Hash256::ZERO, 0, EASY, 0);
        let (short, long) = (upon(&base, 3, 1), upon(&base, 6, 2));
        let (standings, walk) = proven.judge(&[shows(&short[2..]), shows(&long[5..])], NETWORK);
        assert!(standings[0].is_placed() && standings[1] == Standing::Apart && walk);
        let whole = |side: &[ProvenHeader]| walked(&[std::slice::from_ref(&base), side].concat());
        let (standings, walk) = proven.judge(&[whole(&short), whole(&long)], NETWORK);
        let works = works(&standings);
        assert!(works[1] > works[0] && works[0].is_some() && !walk, "{standings:?}");
    }

    #[test]
    fn a_tip_that_nobody_shows_is_worth_no_more_than_what_is_below() {
        let mut proven = ProvenWork::default();
        let ours = upon(&mined(Hash256::ZERO, 0, EASY, 0), 4, 0);
        let ahead = SourceClaim { tip: Hash256([9; 32]), ..shows(&ours) };
        let (standings, _) = proven.judge(&[shows(&ours), ahead], NETWORK);
        let Standing::Placed { work, is_tip: true } = standings[0] else { panic!("{standings:?}") };
        assert_eq!(standings[1], Standing::Placed { work, is_tip: false });
        // Nor is one that shows nothing at all, unless others show its tip.
        let silent = |tip| SourceClaim { is_ready: true, tip, chain: None, can_walk: true };
        let claims = [shows(&ours), silent(Hash256([9; 32])), silent(ours[3].hash)];
        let (standings, walk) = proven.judge(&claims, NETWORK);
        assert_eq!((standings[1], walk), (Standing::Unshown, false));
        assert_eq!(standings[2], Standing::Placed { work, is_tip: true });
    }

    #[test]
    fn easier_headers_than_the_chain_has_are_seen_through() {
        let mut proven = ProvenWork::default();
        let base = mined(Hash256::ZERO, 10, 0x1f7f_ffff, 0);
        let easy = mined(base.hash, 11, EASY, 1);
        let claims = |tip| [shows(std::slice::from_ref(&base)), shows(&[tip])];
        let (standings, _) = proven.judge(&claims(easy), NETWORK);
        assert_eq!(standings[1], Standing::False(HeaderFault::Bits));
        // Nor does a height come from nowhere.
        let high = mined(base.hash, 500, 0x1f7f_ffff, 1);
        let (standings, _) = proven.judge(&claims(high), NETWORK);
        assert_eq!(standings[1], Standing::False(HeaderFault::Height));
    }

    /// A preferred node that was stuck for weeks would have kept everybody on its dead tip.
    #[test]
    fn of_chains_with_nothing_in_common_the_one_with_more_work_is_right() {
        let side = |bits, mark| {
            let mut all = vec![mined(Hash256([mark; 32]), 0, bits, mark)];
            for height in 1..4 {
                all.push(mined(all.last().unwrap().hash, height, bits, mark));
            }
            walked(&all)
        };
        let mut proven = ProvenWork::default();
        let claims = [side(EASY, 1), side(0x201f_ffff, 2)];
        let (standings, _) = proven.judge(&claims, NETWORK);
        assert!(standings[0] == Standing::Apart && standings[1].is_placed(), "{standings:?}");
    }

    /// blvm-node's: it is never asked for the headers between.
    #[test]
    fn one_that_cannot_be_asked_for_headers_is_compared_by_height() {
        let base = mined(Hash256::ZERO, 0, EASY, 0);
        let (behind, ahead) = (upon(&base, 3, 0), upon(&base, 9, 0));
        let cannot = |claim: SourceClaim| SourceClaim { can_walk: false, ..claim };
        let mut proven = ProvenWork::default();
        let whole = walked(&[std::slice::from_ref(&base), &behind].concat());
        let (standings, walk) = proven.judge(&[whole, cannot(shows(&ahead[8..]))], NETWORK);
        assert!(standings[1].is_placed() && !walk, "{standings:?}");
        // It has missed blocks while the other one was away.
        let mut proven = ProvenWork::default();
        proven.judge(&[cannot(shows(&behind))], NETWORK);
        let (standings, walk) = proven.judge(&[cannot(shows(&ahead[8..]))], NETWORK);
        assert!(standings[0].is_placed() && !walk, "{standings:?}");
    }

    #[test]
    fn of_chains_with_nothing_in_common_most_or_the_preferred_are_right() {
        let whole = |mark| {
            walked(
                &[
                    &[mined(Hash256::ZERO, 0, EASY, mark)][..],
                    &upon(&mined(Hash256::ZERO, 0, EASY, mark), 3, mark),
                ]
                .concat(),
            )
        };
        let not_ready = |claim: SourceClaim| SourceClaim { is_ready: false, ..claim };
        let mut proven = ProvenWork::default();
        // The liar was there first.
        let (standings, _) = proven.judge(&[not_ready(whole(1)), whole(2)], NETWORK);
        assert!(standings[1].is_placed());
        let (standings, _) = proven.judge(&[whole(1), whole(2)], NETWORK);
        assert!(standings[0].is_placed() && standings[1] == Standing::Apart, "{standings:?}");
        // It is preferred, and alone with what it says.
        let (standings, _) = proven.judge(&[whole(2), whole(1), whole(1)], NETWORK);
        assert!(standings[0] == Standing::Apart && standings[1].is_placed(), "{standings:?}");
    }

    /// Nodes of one chain that fall behind, go over to forks, and are asked for headers a few at a time;
    /// the last one lies.
    struct Walk {
        rng: StdRng,
        proven: ProvenWork,
        blocks: Vec<ProvenHeader>,
        sources: Vec<SourceStanding>,
    }

    struct SourceStanding {
        is_ready: bool,
        chain: Option<Arc<HeaderChain>>,
        lie: Option<Disproof>,
    }

    #[derive(Clone, Copy)]
    enum Disproof {
        /// That there is a block more, whose header it does not show.
        Tip,
        /// That its tip is higher than it is.
        Height,
    }

    impl Walk {
        fn new(seed: u64) -> Self {
            let mut rng = StdRng::seed_from_u64(seed);
            let blocks = vec![mined(Hash256::ZERO, 0, EASY, 0)];
            let lies = [None, None, Some(Disproof::Tip), Some(Disproof::Height)];
            let last = lies[rng.gen_range(0..4)];
            let honest = rng.gen_range(2..5);
            let mut lies = vec![None; honest];
            lies.push(last);
            let sources =
                lies.into_iter().map(|lie| SourceStanding { is_ready: true, chain: None, lie });
            let sources = sources.collect();
            let mut walk = Self { rng, proven: ProvenWork::default(), blocks, sources };
            // Counting begins at an honest one.
            walk.go_to(0, 0);
            walk
        }

        fn best(&self) -> usize {
            (0..self.blocks.len()).max_by_key(|at| self.blocks[*at].height).unwrap()
        }

        fn block(&self, hash: Hash256) -> Option<&ProvenHeader> {
            self.blocks.iter().find(|block| block.hash == hash)
        }

        fn go_to(&mut self, source: usize, block: usize) {
            let mut tip = self.blocks[block].clone();
            let source = &mut self.sources[source];
            if matches!(source.lie, Some(Disproof::Height)) {
                tip.height += 500;
                source.chain = None;
            }
            let chain = HeaderChain::with_tip(source.chain.as_deref(), tip, NETWORK).unwrap();
            source.chain = Some(Arc::new(chain));
        }

        fn happen(&mut self) {
            let source = self.rng.gen_range(0..self.sources.len());
            let best = self.best();
            match self.rng.gen_range(0..8) {
                0 | 1 => {
                    let low = self.blocks.len().saturating_sub(8);
                    let is_fork = self.rng.gen_bool(0.3);
                    let upon =
                        if is_fork { self.rng.gen_range(low..self.blocks.len()) } else { best };
                    let (parent, mark) = (&self.blocks[upon], self.rng.gen_range(1..=255));
                    let block = mined(parent.hash, parent.height + 1, EASY, mark);
                    self.blocks.push(block);
                }
                2..=5 => self.go_to(source, best),
                6 => {
                    let block = self.rng.gen_range(0..self.blocks.len());
                    self.go_to(source, block);
                }
                _ if source > 0 => self.sources[source].is_ready ^= true,
                _ => {}
            }
        }

        /// Each shows a header more, if it is honest.
        fn show_more(&mut self) {
            for at in 0..self.sources.len() {
                let Some(mut chain) = self.sources[at].chain.as_deref().cloned() else { continue };
                let parent = chain.wanted().and_then(|hash| self.block(hash).cloned());
                let Some(parent) = parent.filter(|_| self.sources[at].is_ready) else { continue };
                let shown = chain.lengthen(parent, NETWORK);
                let is_lie = matches!(self.sources[at].lie, Some(Disproof::Height));
                assert_eq!(shown.is_err(), is_lie);
                if shown.is_ok() {
                    self.sources[at].chain = Some(Arc::new(chain));
                }
            }
        }

        /// What is believed; whether more is wanted.
        fn judge(&mut self) -> (Vec<Standing>, bool) {
            let claim = |source: &SourceStanding| {
                let shown = source.chain.as_ref().map_or(Hash256::ZERO, |it| it.tip().hash);
                let tip = if matches!(source.lie, Some(Disproof::Tip)) {
                    Hash256([9; 32])
                } else {
                    shown
                };
                let (is_ready, chain) = (source.is_ready, source.chain.clone());
                SourceClaim { is_ready: is_ready && chain.is_some(), tip, chain, can_walk: true }
            };
            let claims: Vec<SourceClaim> = self.sources.iter().map(claim).collect();
            let (standings, walk) = self.proven.judge(&claims, NETWORK);
            let mut placed = Vec::new();
            for (source, standing) in self.sources.iter().zip(&standings) {
                let Some(chain) = &source.chain else { continue };
                match (source.lie, standing) {
                    (None, Standing::Placed { work, is_tip: true }) => {
                        placed.push((chain.tip().height, *work));
                    }
                    // Its block is known, so what it says of the height does not count.
                    (Some(Disproof::Tip), Standing::Placed { work, is_tip: false })
                    | (Some(Disproof::Height), Standing::Placed { work, is_tip: true }) => {
                        assert_eq!(Some(*work), self.proven.work(&chain.tip().hash));
                    }
                    (_, Standing::Apart) => {}
                    (Some(Disproof::Height), Standing::False(HeaderFault::Height)) => {}
                    other => panic!("{:?}", other.1),
                }
            }
            // Each block has the same work here.
            placed.sort_unstable();
            let is_right =
                |pair: &[(u32, ChainWork)]| (pair[0].0 < pair[1].0) == (pair[0].1 < pair[1].1);
            assert!(placed.windows(2).all(is_right), "works do not follow the heights");
            (standings, walk)
        }
    }

    #[test]
    fn chains_are_compared_rightly_whatever_comes_and_lies_gain_nothing() {
        for seed in 0..60 {
            let mut walk = Walk::new(seed);
            for _ in 0..150 {
                walk.happen();
                if walk.judge().1 {
                    walk.show_more();
                }
            }
            walk.sources.retain(|source| source.lie.is_none() && source.chain.is_some());
            walk.sources.iter_mut().for_each(|source| source.is_ready = true);
            let mut asked = 0;
            let standings = loop {
                let (standings, more) = walk.judge();
                if !more {
                    break standings;
                }
                walk.show_more();
                asked += 1;
                assert!(asked < 1000, "headers are asked for without end");
            };
            let is_placed = |it: &Standing| matches!(it, Standing::Placed { is_tip: true, .. });
            assert!(standings.iter().all(is_placed), "{standings:?}");
        }
    }
}
