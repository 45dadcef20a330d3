//! Who is banned.

use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::{self, Bans, Crossed},
    },
    work::limits::{Ban, Limit},
};

pub(crate) fn bans(handles: &Handles, moment: &Moment) -> Bans {
    let limiter = handles.roster.limiter();
    let (latest, view) = (limiter.bans(BANS_MAX, moment.now), limiter.view(moment.now));
    let crossed = Limit::ALL.into_iter().zip(view.crossed);
    Bans {
        total: view.banned as u64,
        bans: latest.iter().map(|it| ban(it, moment)).collect(),
        crossed: crossed.map(|(limit, times)| Crossed { limit: limit.name(), times }).collect(),
        bans_session: view.bans,
    }
}

fn ban(ban: &Ban, moment: &Moment) -> shapes::Ban {
    let left = ban.until.saturating_duration_since(moment.now);
    shapes::Ban {
        address: ban.network.to_string(),
        limit: ban.limit.name(),
        since_at_unix_s: moment.unix_s_of(ban.since),
        // Never 0 while it is in force.
        ends_in_s: left.as_secs() + 1,
        row: ban.row,
        refused: ban.refused,
    }
}

/// Per answer: nobody reads more.
const BANS_MAX: usize = 1000;
