//! Who gets what from a coinbase.

use bitcoin::{Address, Network, Script, Transaction, TxOut, consensus::encode::deserialize};

use super::class;
use crate::{
    api::shapes::{self, Output, OutputKind},
    work::{Coinbase, CoinbaseClass, Payout, Variant},
};

/// Classifies the outputs.
#[derive(Clone, Copy)]
pub(super) struct Payees<'a> {
    pub(super) payout: &'a Payout,
    /// `mining.address`.
    pub(super) own_script: Option<&'a [u8]>,
    pub(super) network: Option<Network>,
}

/// `miners` is how many live miners get it.
pub(super) fn decode(
    coinbase: &Coinbase,
    miners: u64,
    parties: Payees<'_>,
) -> Option<shapes::Coinbase> {
    let mut bytes = Vec::with_capacity(coinbase.len());
    coinbase.write(Variant { target_byte: 0, quickdiff: false }, &[0; 12], &mut bytes);
    let transaction: Transaction = deserialize(&bytes).ok()?;
    let outputs: Vec<_> = transaction.output.iter().map(|it| output(it, parties)).collect();
    let sum = |wanted: Option<OutputKind>| {
        let of = outputs.iter().filter(|output| wanted.is_none_or(|kind| output.kind == kind));
        of.map(|output| output.value_sats).sum()
    };
    let limit = coinbase.id.limit() as u64;
    Some(shapes::Coinbase {
        class: class(coinbase.id),
        miners,
        size_bytes: bytes.len() as u64,
        size_limit_bytes: (limit > 0 && coinbase.id != CoinbaseClass::Empty).then_some(limit),
        value_sats: sum(None),
        yours_sats: sum(Some(OutputKind::Yours)),
        outputs,
    })
}

fn output(output: &TxOut, parties: Payees<'_>) -> Output {
    let script = &output.script_pubkey;
    Output {
        kind: kind(output, parties),
        value_sats: output.value.to_sat(),
        address: parties.network.and_then(|network| address(script.as_bytes(), network)),
        script_hex: faster_hex::hex_string(script.as_bytes()),
    }
}

fn kind(output: &TxOut, parties: Payees<'_>) -> OutputKind {
    let script = output.script_pubkey.as_bytes();
    let is_data = output.value.to_sat() == 0 && output.script_pubkey.is_op_return();
    if is_data && script.starts_with(&COMMITMENT) {
        OutputKind::Commitment
    } else if is_data {
        OutputKind::Extranonce
    } else if parties.own_script == Some(script) {
        OutputKind::Yours
    } else if parties.payout.pooled.is_none() {
        // The job may have been made before the settings changed.
        OutputKind::Yours
    } else if *parties.payout.script == *script {
        OutputKind::Pool
    } else {
        OutputKind::Split
    }
}

/// None for scripts without an address.
pub(super) fn address(script: &[u8], network: Network) -> Option<String> {
    let address = Address::from_script(Script::from_bytes(script), network).ok()?;
    Some(address.to_string())
}

/// BIP 141: OP_RETURN, a push of 36 bytes, and a four-byte marker.
const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

#[cfg(test)]
#[path = "coinbase_tests.rs"]
mod tests;
