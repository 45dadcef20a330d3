//! What becomes of a found block.

/// What a node made of a block.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BlockOutcome {
    /// It is in the node's best chain.
    Accepted,
    /// The node knows it and it is valid, but another block won.
    Stale,
    /// The node refuses it, in its own words.
    Rejected(String),
    /// No verdict yet: the node is down, busy, or still checking. It is asked again.
    Unanswered(String),
}

impl BlockOutcome {
    /// The name in metrics and the database.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Stale => "stale",
            Self::Rejected(_) => "rejected",
            Self::Unanswered(_) => "unanswered",
        }
    }

    /// From [`Self::name`] and [`Self::reason`]; a name of a later version is no verdict.
    pub(crate) fn of_name(name: &str, reason: String) -> Self {
        match name {
            "accepted" => Self::Accepted,
            "stale" => Self::Stale,
            "rejected" => Self::Rejected(reason),
            _ => Self::Unanswered(reason),
        }
    }

    /// In the node's own words; empty when there is nothing to say.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Accepted | Self::Stale => "",
            Self::Rejected(reason) | Self::Unanswered(reason) => reason,
        }
    }

    /// The same, if there is something to say.
    pub(crate) fn reason_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Accepted | Self::Stale => None,
            Self::Rejected(reason) | Self::Unanswered(reason) => Some(reason),
        }
    }

    /// True when asking again would change nothing.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Unanswered(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_read_as_it_was_written() {
        for outcome in [
            BlockOutcome::Accepted,
            BlockOutcome::Stale,
            BlockOutcome::Rejected("high-hash".into()),
            BlockOutcome::Unanswered("down".into()),
        ] {
            let reason = outcome.reason().to_owned();
            assert_eq!(BlockOutcome::of_name(outcome.name(), reason), outcome);
        }
    }
}
