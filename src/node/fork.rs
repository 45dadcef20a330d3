//! Whether a node is on, or will change to, a chain that SHA-256 miners cannot mine. Pure.
//!
//! Bitcoin Knots follows one since 29.4.1: from a certain height on, its blocks use BLAKE2b and
//! have longer headers. Chain work keeps its scale across the fork, so comparing it means nothing
//! there.

use std::sync::Arc;

use bitcoin::Network;
use serde::{Deserialize, de::IgnoredAny};

/// A chain that is not the SHA-256 chain, or will not be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fork {
    /// The node knows a height from which blocks need another proof of work; `is_here`: its next
    /// block already does.
    Blake2b { from: Option<u32>, is_here: bool },
    /// The node enforces RDTS (BIP-110), by which it left the main network's chain at some height.
    Rdts,
}

impl Fork {
    /// True if the node has no work for SHA-256 miners.
    pub(crate) fn is_here(self) -> bool {
        matches!(self, Self::Blake2b { is_here: true, .. })
    }

    /// The first block that needs another proof of work, once known.
    pub(crate) fn height(self) -> Option<u32> {
        if let Self::Blake2b { from, .. } = self { from } else { None }
    }

    /// True if a block at `height` cannot be mined with SHA-256.
    pub(crate) fn takes(self, height: u32) -> bool {
        self.is_here() || self.height().is_some_and(|from| height >= from)
    }

    /// What it means, as the end of a sentence after the node's name.
    pub(crate) fn what(self) -> String {
        match self {
            Self::Blake2b { from, is_here: true } => {
                let from = from.map_or_else(String::new, |from| format!(", from block {from} on"));
                format!("follows the BLAKE2b chain{from}: it has no work for SHA-256 miners")
            }
            Self::Blake2b { from, is_here: false } => {
                let from =
                    from.map_or_else(|| "soon".into(), |from| format!("from block {from} on"));
                format!(
                    "will follow the BLAKE2b chain {from}: it has no work for SHA-256 miners then"
                )
            }
            Self::Rdts => format!(
                "enforces RDTS (BIP-110), by which it left the chain that everybody else mines at \
                 block {RDTS_FROM}"
            ),
        }
    }

    /// What the owner can do.
    pub(crate) const ADVICE: &str = "SHA-256 miners need Bitcoin Core 30 or newer (or Knots up to \
                                     29.3.knots20260210), with its own data directory";
}

/// `getdeploymentinfo`, the part that matters.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RawDeployments {
    blake2b: Option<RawFork>,
    #[serde(default)]
    deployments: Known,
}

#[derive(Debug, Default, Deserialize)]
struct Known {
    /// Where the release candidates put it.
    blake2b: Option<RawFork>,
    reduced_data: Option<IgnoredAny>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct RawFork {
    height: Option<u32>,
    /// Of the next block.
    #[serde(default)]
    active: bool,
}

impl RawDeployments {
    pub(crate) fn fork(&self, network: Network) -> Option<Fork> {
        if let Some(fork) = self.blake2b.or(self.deployments.blake2b) {
            return Some(Fork::Blake2b { from: fork.height, is_here: fork.active });
        }
        let is_apart = network == Network::Bitcoin && self.deployments.reduced_data.is_some();
        is_apart.then_some(Fork::Rdts)
    }
}

/// The rule's name in a node's refusal: "Support for 'blake2b' rule requires explicit client
/// support".
pub(crate) fn refused_rule(message: &str) -> Option<Arc<str>> {
    let (_, rest) = message.split_once("Support for '")?;
    let (rule, rest) = rest.split_once('\'')?;
    rest.contains("requires explicit client support").then(|| rule.into())
}

/// The rule's name in templates and refusals.
pub(crate) const BLAKE2B: &str = "blake2b";
/// The first block that had to signal for it, on the main network; most did not.
const RDTS_FROM: u32 = 961_632;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(json: &str, network: Network, expected: Option<Fork>) {
        let raw: RawDeployments = serde_json::from_str(json).unwrap();
        assert_eq!(raw.fork(network), expected, "{json}");
    }

    #[test]
    fn the_fork_is_found_where_any_release_says_it() {
        let fork = |from, is_here| Some(Fork::Blake2b { from: Some(from), is_here });
        let top = r#"{"deployments":{"csv":{}},"blake2b":{"height":5,"active":true}}"#;
        case(top, Network::Regtest, fork(5, true));
        let inner =
            r#"{"deployments":{"blake2b":{"type":"buried","height":961640,"active":false}}}"#;
        case(inner, Network::Bitcoin, fork(961_640, false));
        case(r#"{"deployments":{"segwit":{}}}"#, Network::Bitcoin, None);
        case("{}", Network::Bitcoin, None);
    }

    #[test]
    fn rdts_alone_parts_the_main_network() {
        let rdts = r#"{"deployments":{"reduced_data":{"type":"bip9","active":true}}}"#;
        case(rdts, Network::Bitcoin, Some(Fork::Rdts));
        case(rdts, Network::Regtest, None);
        assert!(!Fork::Rdts.takes(1_000_000));
    }

    #[test]
    fn blocks_from_its_height_on_are_of_the_fork() {
        let ahead = Fork::Blake2b { from: Some(20), is_here: false };
        assert!(!ahead.takes(19) && ahead.takes(20) && ahead.takes(21));
        assert!(Fork::Blake2b { from: None, is_here: true }.takes(1));
        assert!(!Fork::Blake2b { from: None, is_here: false }.takes(1));
    }

    #[test]
    fn a_refusal_names_its_rule() {
        let refusal = "Support for 'blake2b' rule requires explicit client support";
        assert_eq!(refused_rule(refusal).as_deref(), Some(BLAKE2B));
        let segwit = "getblocktemplate must be called with the segwit rule set";
        assert_eq!(refused_rule(segwit), None);
        assert_eq!(refused_rule("Support for 'x"), None);
    }
}
