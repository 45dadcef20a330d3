//! Who may change things: the password, sessions of browsers, tries that are counted. Pure: `now` is
//! an argument, and no file or socket is touched.
//!
//! A browser signs in with the password and gets a cookie that no script can read (HttpOnly,
//! SameSite=Strict), and a token that no other site can know (CSRF), which goes back in a header of
//! each change. Scripts send the password itself as a bearer token instead. So a page that reaches
//! this server under a name of its own (DNS rebinding) gains nothing: it has neither.

mod attempts;
mod password;
mod sessions;

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

pub use self::password::{Password, PasswordError};
use self::{attempts::Attempts, password::Recent, sessions::Sessions};

/// The one at the door. Shared by all requests.
#[derive(Debug, Default)]
pub struct Gatekeeper {
    state: Mutex<State>,
    /// Passwords that are being checked now.
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

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Denied {
    /// There is no password: nothing can be changed by anybody.
    ReadOnly,
    WrongPassword,
    /// Too many wrong ones from there.
    Wait(Duration),
    /// Too many are being checked at once.
    Busy,
}

/// What a browser keeps.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SignedIn {
    /// For the cookie; it is known to nobody else.
    pub cookie: String,
    pub csrf_token: String,
    pub expires_in: Duration,
}

/// A session that a request belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Known {
    pub csrf_token: String,
    pub expires_in: Duration,
}

/// A password that may be checked now: [`Check::run`] takes a while and must not be in the way of
/// other requests.
#[derive(Debug)]
pub struct Check<'a> {
    keeper: &'a Gatekeeper,
    password: Arc<Password>,
    ip: IpAddr,
    given: &'a str,
}

impl Gatekeeper {
    /// Takes another password; those who signed in with the one before are out.
    pub fn set_password(&self, password: Option<Password>) {
        let mut state = self.state();
        state.password = password.map(Arc::new);
        state.recent = None;
        state.sessions = Sessions::default();
    }

    pub fn has_password(&self) -> bool {
        self.state().password.is_some()
    }

    /// Lets `given` be checked for somebody at `ip`, unless it is known to be right already.
    pub fn begin<'a>(
        &'a self,
        ip: IpAddr,
        given: &'a str,
        now: Instant,
    ) -> Result<Option<Check<'a>>, Denied> {
        let mut state = self.state();
        let password = state.password.clone().ok_or(Denied::ReadOnly)?;
        if given.len() > PASSWORD_LEN_MAX {
            return Err(Denied::WrongPassword);
        }
        if state.recent.as_ref().is_some_and(|recent| recent.is(given)) {
            return Ok(None);
        }
        // Counted before it is known to be wrong, so that guessing in parallel gains nothing.
        state.attempts.begin(ip, now).map_err(Denied::Wait)?;
        drop(state);
        if self.checking.fetch_add(1, Relaxed) >= CHECKING_MAX {
            self.checking.fetch_sub(1, Relaxed);
            self.state().attempts.forgive(ip);
            return Err(Denied::Busy);
        }
        Ok(Some(Check { keeper: self, password, ip, given }))
    }

    /// Opens a session for somebody who knows the password.
    pub fn sign_in(&self, now: Instant) -> SignedIn {
        self.state().sessions.open(now)
    }

    pub fn session(&self, cookie: &str, now: Instant) -> Option<Known> {
        self.state().sessions.find(cookie, now)
    }

    pub fn sign_out(&self, cookie: &str) {
        self.state().sessions.close(cookie);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check<'_> {
    /// Takes tens of milliseconds.
    pub fn run(self) -> Result<(), Denied> {
        if !self.password.is(self.given) {
            return Err(Denied::WrongPassword);
        }
        let mut state = self.keeper.state();
        state.attempts.forget(self.ip);
        // It may have been replaced meanwhile.
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
/// Longer ones are not hashed at all.
const PASSWORD_LEN_MAX: usize = 1024;

#[cfg(test)]
#[path = "auth_tests.rs"]
mod tests;
