//! The state shared by all requests.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tracing::{info, warn};

use super::{
    auth::{Denied, Gatekeeper, Guest, Password},
    budget::Budget,
    clock::moment,
    compat::Notices,
    events::Hub,
    handles::Handles,
    lan::Lan,
    shapes::{Status, Warning},
    tries::task::TryGate,
    view,
};
use crate::work::{Admission, LogRation, Work};

pub(super) struct State {
    pub(super) handles: Handles,
    pub(super) keeper: Gatekeeper,
    pub(super) hub: Hub,
    /// The memory that answers may use until they are read.
    pub(super) budget: Arc<Budget>,
    /// How often anybody on the local network may have the nodes asked for a new block.
    pub(super) notices: Mutex<Notices>,
    /// How often new settings may be tried.
    pub(super) tries: TryGate,
    /// What this machine is called by in its network.
    lan: Lan,
    /// Limits log lines about failed sign-ins.
    refusals: Mutex<[LogRation; 2]>,
    /// Why there is no admin password although one is configured.
    admin_problem: Mutex<Option<String>>,
}

impl State {
    pub(super) fn new(handles: Handles) -> Self {
        Self {
            keeper: Gatekeeper::new(Some(Arc::clone(&handles.setup_code))),
            handles,
            hub: Hub::default(),
            budget: Arc::default(),
            notices: Mutex::default(),
            tries: TryGate::default(),
            lan: Lan::default(),
            refusals: Mutex::default(),
            admin_problem: Mutex::default(),
        }
    }

    /// Whether the settings have brought work. Looked at here too, so that whoever is told that there
    /// is work also finds set-up closed.
    pub(super) fn is_set_up(&self) -> bool {
        let settings = &self.handles.settings;
        let is_open = |work: &Work| work.admission == Admission::Open;
        if !settings.is_set_up() && self.handles.work.borrow().as_deref().is_some_and(is_open) {
            settings.set_up();
        }
        settings.is_set_up()
    }

    /// Whether somebody has given the right set-up code.
    pub(super) fn check_code(&self, guest: Guest, code: &str) -> Result<(), Denied> {
        let checked = self.keeper.check_code(guest, code, moment().now);
        checked.inspect_err(|denied| self.log_denied(guest.client, *denied))
    }

    /// Logs now and then that somebody failed to sign in.
    pub(super) fn log_denied(&self, ip: IpAddr, denied: Denied) {
        let mut rations = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let [wrong, early] = &mut *rations;
        let now = moment().now;
        match denied {
            Denied::WrongPassword | Denied::WrongCode => {
                let what =
                    if denied == Denied::WrongCode { "set-up code" } else { "admin password" };
                if let Some(similar_not_logged) = wrong.may_say(now) {
                    warn!(%ip, similar_not_logged, "API: a wrong {what}");
                }
            }
            Denied::Wait(wait) => {
                if let Some(similar_not_logged) = early.may_say(now) {
                    info!(%ip, ?wait, similar_not_logged, "API: too many wrong admin passwords");
                }
            }
            Denied::ReadOnly | Denied::Busy => {}
        }
    }

    /// Takes the result of reading the password file.
    pub(super) fn set_password(&self, read: Result<Option<Password>, String>) {
        let (password, problem) = match read {
            Ok(password) => (password, None),
            Err(problem) => (None, Some(problem)),
        };
        self.keeper.set_password(password);
        *self.problem() = problem;
    }

    pub(super) fn status(&self) -> Status {
        let (now, warnings) = (moment(), self.warnings());
        let mut status = view::status(&self.handles, warnings, &now);
        status.setup_unfinished = !self.is_set_up();
        status.stratum.addresses = self.lan.addresses(&status.stratum.listen, now.now);
        status
    }

    pub(super) fn warnings(&self) -> Vec<Warning> {
        let problem = self.problem().clone();
        view::warnings(&self.handles, problem.as_deref(), &moment())
    }

    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        // Nothing under the lock can leave it half done.
        self.admin_problem.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
