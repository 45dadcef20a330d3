//! Chooses the block chain to mine on when nodes are on several. Pure; `now` is an argument.

use std::time::{Duration, Instant};

use bitcoin::Network;

/// Chooses once. A single node that later changes its chain is not followed; all of them together
/// are.
#[derive(Debug, Default)]
pub(super) struct ChainChoice {
    chosen: Option<Network>,
    /// When the first node on an eligible chain answered.
    since: Option<Instant>,
}

impl ChainChoice {
    /// The chain to mine on: the one among `allowed` (any, if that is empty) that most nodes are
    /// on, or in a tie that of the most preferred node. `known` has each node's answer, in order of
    /// preference. If there is a choice, all nodes get some time to answer.
    pub(super) fn choose(
        &mut self,
        allowed: &[Network],
        known: &[Option<Network>],
        now: Instant,
    ) -> Option<Network> {
        let fits = |network: &Network| allowed.is_empty() || allowed.contains(network);
        let is_left = |chosen: Network| {
            let others = |node: &Option<Network>| node.is_some_and(|it| it != chosen);
            !known.is_empty() && known.iter().all(others) && known.iter().flatten().any(fits)
        };
        if self.chosen.is_none_or(|chosen| !fits(&chosen) || is_left(chosen)) {
            self.chosen = None;
            let fitting: Vec<Network> = known.iter().flatten().copied().filter(fits).collect();
            if fitting.is_empty() {
                self.since = None;
                return None;
            }
            let since = *self.since.get_or_insert(now);
            let is_settled = allowed.len() == 1
                || known.iter().all(Option::is_some)
                || now.duration_since(since) >= WAIT_MAX;
            if is_settled {
                self.chosen = most_common(&fitting);
            }
        }
        self.chosen
    }
}

/// The first of the most frequent ones.
fn most_common(all: &[Network]) -> Option<Network> {
    let count = |network: &Network| all.iter().filter(|other| *other == network).count();
    // In a tie, `max_by_key` returns the last one.
    all.iter().rev().max_by_key(|network| count(network)).copied()
}

/// A running node answers within this time.
const WAIT_MAX: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use Network::{Bitcoin, Regtest, Signet, Testnet4};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "any moment will do")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_address_decides_where_it_can() {
        let mut chain = ChainChoice::default();
        let start = start();
        assert_eq!(chain.choose(&[Bitcoin], &[Some(Regtest), None], start), None);
        let known = [Some(Regtest), None, Some(Bitcoin)];
        assert_eq!(chain.choose(&[Bitcoin], &known, start), Some(Bitcoin));
        // It stays, also when the node goes over to another chain.
        let known = [Some(Regtest), Some(Regtest), Some(Regtest)];
        assert_eq!(chain.choose(&[Bitcoin], &known, start), Some(Bitcoin));
        assert_eq!(chain.choose(&[Regtest], &known, start), Some(Regtest));
    }

    #[test]
    fn nodes_that_have_all_moved_are_followed_where_the_address_allows() {
        let mut chain = ChainChoice::default();
        let (allowed, start) = ([Signet, Testnet4], start());
        let mut choose = |known: &[Option<Network>]| chain.choose(&allowed, known, start);
        assert_eq!(choose(&[Some(Testnet4), Some(Testnet4)]), Some(Testnet4));
        // One may be a mistake, and one that is away may come back.
        assert_eq!(choose(&[Some(Signet), Some(Testnet4)]), Some(Testnet4));
        assert_eq!(choose(&[Some(Signet), None]), Some(Testnet4));
        assert_eq!(choose(&[]), Some(Testnet4));
        assert_eq!(choose(&[Some(Regtest), Some(Regtest)]), Some(Testnet4));
        assert_eq!(choose(&[Some(Regtest), Some(Signet)]), Some(Signet));
    }

    #[test]
    fn else_most_nodes_do_and_the_preferred_one_of_equals() {
        let decide = |allowed: &[Network], known: &[Network]| {
            let known: Vec<_> = known.iter().copied().map(Some).collect();
            ChainChoice::default().choose(allowed, &known, start())
        };
        assert_eq!(decide(&[Signet, Testnet4], &[Signet, Testnet4]), Some(Signet));
        assert_eq!(decide(&[Signet, Testnet4], &[Signet, Testnet4, Testnet4]), Some(Testnet4));
        assert_eq!(decide(&[Signet, Testnet4], &[Regtest, Regtest, Signet]), Some(Signet));
        assert_eq!(decide(&[], &[Regtest, Signet]), Some(Regtest));
        assert_eq!(decide(&[], &[]), None);
    }

    #[test]
    fn a_late_node_is_waited_for_a_while() {
        let mut chain = ChainChoice::default();
        let start = start();
        let allowed = [Signet, Testnet4];
        assert_eq!(chain.choose(&allowed, &[None, Some(Testnet4)], start), None);
        let later = start + WAIT_MAX;
        assert_eq!(chain.choose(&allowed, &[None, Some(Testnet4)], later), Some(Testnet4));
        let known = [Some(Signet), Some(Testnet4)];
        assert_eq!(chain.choose(&allowed, &known, later), Some(Testnet4));
    }
}
