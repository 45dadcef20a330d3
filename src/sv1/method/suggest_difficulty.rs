//! `mining.suggest_difficulty`: a number, or a number in quotes as some firmware sends it, and
//! `mining.suggest_target`, which says the same in 64 hex digits.

use serde::Deserialize;

use crate::{
    sv1::message::RpcRequest,
    work::{Difficulty, Target},
};

/// A difficulty as miners write one.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Wire {
    Number(f64),
    Text(String),
}

impl Wire {
    /// As a count; 0 when it is not one.
    pub(super) fn count(&self) -> u32 {
        let value = match self {
            Self::Number(value) => *value,
            Self::Text(text) => text.trim().parse().unwrap_or(0.0),
        };
        whole(value)
    }

    pub(super) fn difficulty(&self) -> Option<Difficulty> {
        let value = match self {
            Self::Number(value) => *value,
            Self::Text(text) => text.trim().parse().ok()?,
        };
        bounded(value)
    }
}

/// Limited to what anybody could need.
pub(super) fn bounded(value: f64) -> Option<Difficulty> {
    // `min` would turn NaN into the bound.
    if value.is_nan() {
        return None;
    }
    Difficulty::new(value.min(DIFFICULTY_MOST))
}

/// In a list, or alone, as miningcore sends it.
pub(in crate::sv1) fn difficulty(request: &RpcRequest<'_>) -> Option<Difficulty> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Params {
        List(Vec<Wire>),
        Alone(Wire),
    }
    match request.params()? {
        Params::List(elements) => elements.first()?.difficulty(),
        Params::Alone(wire) => wire.difficulty(),
    }
}

/// The difficulty of a target, which is written as a hash is shown.
pub(in crate::sv1) fn of_target(request: &RpcRequest<'_>) -> Option<Difficulty> {
    let elements: Vec<String> = request.params()?;
    let digits = elements.first().filter(|digits| digits.len() == 64)?;
    let mut target = [0; 32];
    faster_hex::hex_decode(digits.as_bytes(), &mut target).ok()?;
    target.reverse();
    let difficulty = Target::from_le_bytes(&target).difficulty();
    // The target zero has none.
    if difficulty.is_finite() { bounded(difficulty) } else { None }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
const fn whole(value: f64) -> u32 {
    value as u32
}

/// 2^63: more than the whole network finds in a day, and as far as a target byte is tested.
const DIFFICULTY_MOST: f64 = (1_u64 << 63) as f64;
