//! Shares and the answers to them: the hot path.

use super::{
    bytes::{Bytes32, Str255},
    extension::{self, Extensions, WorkerName},
    wire::{DecodeError, Field, Message, PayloadReader, message},
};

message! {
    SubmitSharesStandard = 0, 0x1A, true {
        channel_id: u32,
        sequence_number: u32,
        job_id: u32,
        nonce: u32,
        ntime: u32,
        /// The header's whole version, not only the rolled bits.
        version: u32,
    }
}

/// A share of an extended channel, with a name if extension 0x0002 was negotiated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SubmitSharesExtended<'a> {
    /// What a standard channel's share also contains.
    pub share: SubmitSharesStandard,
    pub extranonce: Bytes32<'a>,
    /// Only read if [`Extensions::worker_hashrate`] was negotiated.
    pub worker: Option<WorkerName<'a>>,
}

impl<'a> Message<'a> for SubmitSharesExtended<'a> {
    const NAME: &'static str = "SubmitSharesExtended";
    const EXTENSION: u16 = 0;
    const TYPE: u8 = 0x1B;
    const CHANNEL: bool = true;
    const LEN_MAX: usize =
        SubmitSharesStandard::LEN_MAX + Bytes32::LEN_MAX + extension::WORKER_LEN_MAX;

    #[inline]
    fn decode(payload: &'a [u8], extensions: Extensions) -> Result<Self, DecodeError> {
        let error = |field| move |problem| DecodeError { message: Self::NAME, field, problem };
        let share = SubmitSharesStandard::decode(payload, extensions)
            .map_err(|DecodeError { field, problem, .. }| error(field)(problem))?;
        let mut reader = PayloadReader::new(payload);
        reader.take(SubmitSharesStandard::LEN_MAX).map_err(error("version"))?;
        let extranonce = Field::read(&mut reader).map_err(error("extranonce"))?;
        let worker = if extensions.worker_hashrate {
            extension::read_worker(reader).map_err(error("user_identity"))?
        } else {
            None
        };
        Ok(Self { share, extranonce, worker })
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.share.encode(out);
        self.extranonce.write(out);
        if let Some(worker) = self.worker {
            extension::write_worker(worker, out);
        }
    }
}

message! {
    /// Answers all shares since the last answer, up to one of them.
    SubmitSharesSuccess = 0, 0x1C, true {
        channel_id: u32,
        last_sequence_number: u32,
        new_submits_accepted_count: u32,
        new_shares_sum: u64,
    }
}

message! {
    SubmitSharesError<'a> = 0, 0x1D, true {
        channel_id: u32,
        sequence_number: u32,
        error_code: Str255<'a>,
    }
}
