//! What every request finds.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{
    auth::{Gatekeeper, Password},
    clock::moment,
    compat::Notices,
    events::Hub,
    handles::Handles,
    shapes::{Status, Warning},
    view,
};

pub(super) struct State {
    pub(super) handles: Handles,
    pub(super) keeper: Gatekeeper,
    pub(super) hub: Hub,
    /// How often the nodes may be asked for a new block by whoever is in the house.
    pub(super) notices: Notices,
    /// Why there is no admin password though one was asked for.
    admin_problem: Mutex<Option<String>>,
}

impl State {
    pub(super) fn new(handles: Handles) -> Self {
        Self {
            handles,
            keeper: Gatekeeper::default(),
            hub: Hub::default(),
            notices: Notices::default(),
            admin_problem: Mutex::default(),
        }
    }

    /// Takes what became of reading the password file.
    pub(super) fn set_password(&self, read: Result<Option<Password>, String>) {
        let (password, problem) = match read {
            Ok(password) => (password, None),
            Err(problem) => (None, Some(problem)),
        };
        self.keeper.set_password(password);
        *self.problem() = problem;
    }

    pub(super) fn status(&self) -> Status {
        view::status(&self.handles, self.warnings(), &moment())
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
