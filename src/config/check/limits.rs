//! [limits].

use super::Check;
use crate::{
    config::raw,
    work::{
        limits::LimitRules,
        networks::{Network, Networks},
    },
};

impl Check {
    pub(super) fn limits(&mut self, raw: &raw::Limits) -> Option<LimitRules> {
        let ban_first = self.duration("limits.ban_first", &raw.ban_first);
        let ban_longest = self.duration("limits.ban_longest", &raw.ban_longest);
        let [allow, deny] = [("limits.allow", &raw.allow), ("limits.deny", &raw.deny)].map(
            |(key, written)| -> Networks {
                self.networks(key, written).into_iter().map(Network::from).collect()
            },
        );
        let (ban_first, ban_longest) = (ban_first?, ban_longest?);
        if ban_longest < ban_first {
            return self.note(
                "limits.ban_longest",
                "is shorter than limits.ban_first: each ban is twice as long as the one before, up \
                 to ban_longest; ban_first = \"0s\" turns bans off",
            );
        }
        Some(LimitRules {
            connections_per_minute: raw.connections_per_minute,
            logins_per_minute: raw.logins_per_minute,
            bad_shares_per_minute: raw.bad_shares_per_minute,
            bytes_per_second: raw.bytes_per_second,
            ban_first,
            ban_longest,
            allow,
            deny,
            gateways: Vec::new(),
        })
    }
}
