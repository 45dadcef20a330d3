//! Rebuilds a share's header, as the pool does, from a share message and its contexts.

use super::message::{CoinbaseContext, JobContext, ShareFlags, ShareMessage};
use crate::work::{Hash256, merkle, quickdiff_tail};

/// What a share's miner hashed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rebuilt {
    pub header: [u8; 80],
    /// The coinbase without witness.
    pub coinbase: Vec<u8>,
    pub hash: Hash256,
}

/// Rebuilds the header; none if the target byte's offset is outside coinb1.
pub fn rebuild(
    share: &ShareMessage<'_>,
    job: &JobContext<'_>,
    parts: &CoinbaseContext<'_>,
) -> Option<Rebuilt> {
    let mut coinbase = Vec::with_capacity(parts.coinb1.len() + 12 + parts.coinb2.len());
    coinbase.extend_from_slice(parts.coinb1);
    *coinbase.get_mut(usize::from(job.target_byte_index))? = share.target_byte;
    if share.flags.has(ShareFlags::QUICKDIFF) {
        let tail = quickdiff_tail(&coinbase);
        *coinbase.last_chunk_mut()? = tail;
    }
    coinbase.extend_from_slice(share.extranonce);
    coinbase.extend_from_slice(parts.coinb2);
    let txid = Hash256::sha256d(&coinbase);
    let subsidy_only = share.flags.has(ShareFlags::SUBSIDY_ONLY);
    let branches: &[Hash256] = if subsidy_only { &[] } else { &job.branches };
    let mut header = [0; 80];
    header[..4].copy_from_slice(&share.version.to_le_bytes());
    header[4..36].copy_from_slice(&job.prevhash.0);
    header[36..68].copy_from_slice(&merkle::root(txid, branches).0);
    header[68..72].copy_from_slice(&share.ntime.to_le_bytes());
    header[72..76].copy_from_slice(&job.nbits.to_le_bytes());
    header[76..].copy_from_slice(&share.nonce.to_le_bytes());
    Some(Rebuilt { header, coinbase, hash: Hash256::sha256d(&header) })
}
