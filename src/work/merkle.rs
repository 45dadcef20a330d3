//! The coinbase's path to the merkle root.

use super::Hash256;

/// Sibling hashes of the coinbase, leaf to root, given the txids of all other transactions in order.
pub fn branches(txids: impl Iterator<Item = Hash256>) -> Box<[Hash256]> {
    let mut level: Vec<Hash256> = txids.collect();
    let mut branches = Vec::new();
    // `level` holds a row of the tree without its leftmost node, which depends on the coinbase.
    while !level.is_empty() {
        branches.push(level[0]);
        if level.len().is_multiple_of(2) {
            level.push(level[level.len() - 1]); // An odd row repeats its last node.
        }
        level = level[1..].chunks_exact(2).map(|pair| pair[0].merkle_step(&pair[1])).collect();
    }
    branches.into()
}

/// The merkle root for a coinbase `txid`.
pub fn root(txid: Hash256, branches: &[Hash256]) -> Hash256 {
    branches.iter().fold(txid, |left, right| left.merkle_step(right))
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash, sha256d};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn root_agrees_with_rust_bitcoin(txids in prop::collection::vec(any::<[u8; 32]>(), 1..70)) {
            let ours = root(
                Hash256(txids[0]),
                &branches(txids[1..].iter().copied().map(Hash256)),
            );
            let theirs = txids.iter().map(|id| sha256d::Hash::from_byte_array(*id));
            let theirs = bitcoin::merkle_tree::calculate_root(theirs).unwrap();
            prop_assert_eq!(ours.0, theirs.to_byte_array());
        }
    }
}
