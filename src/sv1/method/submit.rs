//! `mining.submit`: username, job id, extranonce2, ntime, nonce, and the version bits if rolled.

use crate::{
    sv1::{hex::parse_hex_u32, notify::WireJobId},
    work::{Reject, Submission, SubmittedVersion},
};

/// A claim, before its job is known.
#[derive(Debug)]
pub(in crate::sv1) struct Submit<'a> {
    pub(in crate::sv1) username: &'a str,
    pub(in crate::sv1) job: WireJobId,
    pub(in crate::sv1) submission: Submission,
}

impl<'a> Submit<'a> {
    pub(in crate::sv1) fn read(
        fields: &[&'a str],
        extranonce1: [u8; 4],
        rollable: u32,
    ) -> Result<Self, Reject> {
        let [username, job, extranonce2, ntime, nonce, rest @ ..] = fields else {
            return Err(Reject::Malformed);
        };
        let mut extranonce = [0; 12];
        extranonce[..4].copy_from_slice(&extranonce1);
        if extranonce2.is_empty() {
            return Err(Reject::Malformed);
        }
        if extranonce2.len() != 2 * EXTRANONCE2_LEN {
            return Err(Reject::BadExtranonce);
        }
        faster_hex::hex_decode(&zero_padded(extranonce2), &mut extranonce[4..])
            .map_err(|_| Reject::Malformed)?;
        let number = |hex: &str| parse_hex_u32(hex).ok_or(Reject::Malformed);
        // Empty: null, from proxies that always send six fields.
        let rolled = rest.first().filter(|bits| !bits.is_empty());
        let rolled = rolled.map(|bits| number(bits)).transpose()?;
        let submission = Submission {
            extranonce,
            ntime: number(ntime)?,
            nonce: number(nonce)?,
            version: rolled.map_or(SubmittedVersion::Job, SubmittedVersion::Rolled),
            version_mask: rollable,
        };
        // An id that we never sent is a job that we never gave out.
        let job = WireJobId::parse(job).ok_or(Reject::UnknownJob)?;
        Ok(Self { username, job, submission })
    }
}

/// With zeros in place of leading spaces: NerdMiner 1.7.0 sends those, and hashes zeros.
fn zero_padded(extranonce2: &str) -> [u8; 2 * EXTRANONCE2_LEN] {
    let mut digits = [b'0'; 2 * EXTRANONCE2_LEN];
    let given = extranonce2.trim_start_matches(' ').as_bytes();
    // Nothing else has another length here.
    if let Some(at) = digits.len().checked_sub(given.len()) {
        digits[at..].copy_from_slice(given);
    }
    digits
}

/// With extranonce1's 4: the 12 that a DATUM pool demands.
pub(in crate::sv1) const EXTRANONCE2_LEN: usize = 8;
