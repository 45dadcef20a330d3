//! Browsers that are signed in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use rand::Rng;
use sha2::{Digest, Sha256};

use super::{Known, SignedIn};

/// Oldest first; few enough for a linear search.
#[derive(Debug, Default)]
pub(super) struct Sessions(VecDeque<Session>);

#[derive(Debug)]
struct Session {
    /// A hash of the cookie, so that the time for looking it up reveals nothing.
    digest: [u8; 32],
    csrf_token: String,
    until: Instant,
    bound: Bound,
}

/// What a session allows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Bound {
    /// Its page's origin, as the browser reported at sign-in: scheme, host and port. A cookie goes
    /// to every port of a host; none: it was not a browser.
    pub(crate) origin: Option<Box<str>>,
    /// May only make the first settings.
    pub(crate) sets_up: bool,
}

impl Sessions {
    pub(super) fn open(&mut self, bound: Bound, now: Instant) -> SignedIn {
        self.0.retain(|session| now < session.until);
        if self.0.len() == SESSIONS_MAX {
            self.0.pop_front();
        }
        let (cookie, csrf_token) = (token(), token());
        let session = Session {
            digest: digest(&cookie),
            csrf_token: csrf_token.clone(),
            until: now + SESSION_LIFE,
            bound,
        };
        self.0.push_back(session);
        SignedIn { cookie, csrf_token, expires_in: SESSION_LIFE }
    }

    pub(super) fn find(&self, cookie: &str, now: Instant) -> Option<Known> {
        let digest = digest(cookie);
        let session = self.0.iter().find(|session| session.digest == digest)?;
        let expires_in = session.until.checked_duration_since(now).filter(|it| !it.is_zero())?;
        let (csrf_token, bound) = (session.csrf_token.clone(), session.bound.clone());
        Some(Known { csrf_token, expires_in, bound })
    }

    pub(super) fn close(&mut self, cookie: &str) {
        let digest = digest(cookie);
        self.0.retain(|session| session.digest != digest);
    }
}

fn token() -> String {
    faster_hex::hex_string(&rand::thread_rng().r#gen::<[u8; 32]>())
}

fn digest(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

/// Enough for a household's browsers; one more signs the oldest out.
const SESSIONS_MAX: usize = 32;
const SESSION_LIFE: Duration = Duration::from_secs(24 * 3600);
