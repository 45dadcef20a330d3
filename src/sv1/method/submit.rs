//! `mining.submit`: username, job id, extranonce2, ntime, nonce, and the version bits if rolled.

use crate::{
    sv1::notify::{WireJobId, parse_hex_u32},
    work::{Reject, Submission, VERSION_ROLLING_MASK, Version},
};

/// A claim, before its job is known.
#[derive(Debug)]
pub(in crate::sv1) struct Submit<'a> {
    pub(in crate::sv1) username: &'a str,
    pub(in crate::sv1) job: WireJobId,
    pub(in crate::sv1) submission: Submission,
}

impl<'a> Submit<'a> {
    pub(in crate::sv1) fn read(fields: &[&'a str], extranonce1: [u8; 4]) -> Result<Self, Reject> {
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
        faster_hex::hex_decode(extranonce2.as_bytes(), &mut extranonce[4..])
            .map_err(|_| Reject::Malformed)?;
        let number = |hex: &str| parse_hex_u32(hex).ok_or(Reject::Malformed);
        // Empty: null, from proxies that always send six fields.
        let rolled = rest.first().filter(|bits| !bits.is_empty());
        let rolled = rolled.map(|bits| number(bits)).transpose()?;
        let submission = Submission {
            extranonce,
            ntime: number(ntime)?,
            nonce: number(nonce)?,
            version: rolled.map_or(Version::Job, Version::Rolled),
            version_mask: VERSION_ROLLING_MASK,
        };
        // An id that we never wrote is a job that we never gave.
        let job = WireJobId::parse(job).ok_or(Reject::UnknownJob)?;
        Ok(Self { username, job, submission })
    }
}

/// With extranonce1's 4: the 12 that a DATUM pool demands.
pub(in crate::sv1) const EXTRANONCE2_LEN: usize = 8;
