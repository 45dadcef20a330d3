//! Who may change things: the password, browser sessions, and limits on attempts. Pure: `now` is an
//! argument, and no file or socket is touched.
//!
//! A browser signs in with the password and gets a cookie that no script can read (HttpOnly,
//! SameSite=Strict) and, this once, a token that only its page knows. Both are sent with each
//! request that needs them: cookies go to every port of a host, so other programs there see this
//! one, which is why it is not enough by itself. Scripts send the password itself as a bearer token
//! instead. Before there is a password, a code from the log lets in whoever makes the first
//! settings.

mod attempts;
mod code;
mod password;
mod sessions;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub(crate) use self::attempts::{Guest, network};
pub(crate) use self::code::SetupCode;
pub(crate) use self::password::{Password, PasswordError};
pub(crate) use self::sessions::Bound;
use self::{attempts::Attempts, password::Recent, sessions::Sessions};

/// Decides who may change things. Shared by all requests.
#[derive(Debug, Default)]
pub(crate) struct Gatekeeper {
    state: Mutex<State>,
    /// The code for the first settings.
    code: Option<Arc<SetupCode>>,
    /// Passwords being checked right now.
    checking: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    password: Option<Arc<Password>>,
    /// A password that was right: scripts send it with each request, and argon2 is slow by design.
    recent: Option<Recent>,
    sessions: Sessions,
    attempts: Attempts,
}

/// Why somebody may not sign in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Denied {
    /// There is no password: nothing can be changed by anybody.
    ReadOnly,
    WrongPassword,
    /// Set-up is not finished yet, and takes the code from the log.
    WrongCode,
    /// Too many wrong passwords from that address.
    Wait(Duration),
    /// Too many passwords are being checked at once.
    Busy,
}

/// What a browser stores.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SignedIn {
    /// The cookie's value; nobody else knows it.
    pub(crate) cookie: String,
    pub(crate) csrf_token: String,
    pub(crate) expires_in: Duration,
}

/// A session that a request belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Known {
    pub(crate) csrf_token: String,
    pub(crate) expires_in: Duration,
    pub(crate) bound: Bound,
}

/// A password that may be checked now: [`Check::run`] takes a while and must not block other
/// requests.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    keeper: &'a Gatekeeper,
    password: Arc<Password>,
    guest: Guest,
    given: &'a str,
}

impl Gatekeeper {
    pub(crate) fn new(code: Option<Arc<SetupCode>>) -> Self {
        Self { code, ..Self::default() }
    }

    /// Changes the password; everybody who signed in with the previous one is signed out.
    pub(crate) fn set_password(&self, password: Option<Password>) {
        let mut state = self.state();
        if password.is_none() && state.password.is_none() {
            return;
        }
        state.password = password.map(Arc::new);
        state.recent = None;
        state.sessions = Sessions::default();
    }

    pub(crate) fn has_password(&self) -> bool {
        self.state().password.is_some()
    }

    /// Allows `given` to be checked, unless it is already known to be right.
    pub(crate) fn begin<'a>(
        &'a self,
        guest: impl Into<Guest>,
        given: &'a str,
        now: Instant,
    ) -> Result<Option<Check<'a>>, Denied> {
        let guest = guest.into();
        let mut state = self.state();
        let password = state.password.clone().ok_or(Denied::ReadOnly)?;
        if given.len() > PASSWORD_LEN_MAX {
            return Err(Denied::WrongPassword);
        }
        if state.recent.as_ref().is_some_and(|recent| recent.is(given)) {
            return Ok(None);
        }
        // Counted before it is known to be wrong, so that guessing in parallel gains nothing.
        state.attempts.begin(guest, now).map_err(Denied::Wait)?;
        drop(state);
        if self.checking.fetch_add(1, Relaxed) >= CHECKING_MAX {
            self.checking.fetch_sub(1, Relaxed);
            self.state().attempts.forgive(guest);
            return Err(Denied::Busy);
        }
        Ok(Some(Check { keeper: self, password, guest, given }))
    }

    /// Whether `given` is the code for the first settings.
    pub(crate) fn check_code(
        &self,
        guest: impl Into<Guest>,
        given: &str,
        now: Instant,
    ) -> Result<(), Denied> {
        let guest = guest.into();
        let mut state = self.state();
        state.attempts.begin(guest, now).map_err(Denied::Wait)?;
        if !self.code.as_ref().is_some_and(|code| code.is(given)) {
            return Err(Denied::WrongCode);
        }
        state.attempts.forget(guest);
        Ok(())
    }

    /// Opens a session for somebody who knows the password, or the code.
    pub(crate) fn sign_in(&self, bound: Bound, now: Instant) -> SignedIn {
        self.state().sessions.open(bound, now)
    }

    pub(crate) fn session(&self, cookie: &str, now: Instant) -> Option<Known> {
        self.state().sessions.find(cookie, now)
    }

    pub(crate) fn sign_out(&self, cookie: &str) {
        self.state().sessions.close(cookie);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check<'_> {
    /// Takes tens of milliseconds.
    pub(crate) fn run(self) -> Result<(), Denied> {
        if !self.password.is(self.given) {
            return Err(Denied::WrongPassword);
        }
        let mut state = self.keeper.state();
        state.attempts.forget(self.guest);
        // The password may have been changed meanwhile.
        if state.password.as_ref().is_some_and(|now| Arc::ptr_eq(now, &self.password)) {
            state.recent = Some(Recent::new(self.given));
            return Ok(());
        }
        Err(Denied::WrongPassword)
    }
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        self.keeper.checking.fetch_sub(1, Relaxed);
    }
}

/// Each takes 19 MiB and a core for a moment.
const CHECKING_MAX: usize = 2;
/// Longer passwords are not hashed at all.
const PASSWORD_LEN_MAX: usize = 1024;

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
