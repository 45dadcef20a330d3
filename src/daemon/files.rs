//! How many files this process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

use crate::listener::ConnectionLimits;

/// Raises the soft limit to the hard one.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        debug!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// As many connections as wanted, but leaving files for nodes, pools and found blocks.
pub(super) fn held(wanted: ConnectionLimits) -> ConnectionLimits {
    ConnectionLimits { connections: room_for(wanted.connections), ..wanted }
}

fn room_for(wanted: usize) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(RESERVED).max(1).min(wanted)
}

/// Logs when there is no room for as many as wanted.
pub(super) fn log_room_for(wanted: usize) {
    let room = room_for(wanted);
    if room < wanted {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        warn!(
            "only {room} miners can connect, fewer than stratum.max_connections = {wanted}: this \
             process may open {files} files. Raise `ulimit -n`, or LimitNOFILE of the service"
        );
    }
}

/// A found block always needs files for its copy on disk and for every node.
const RESERVED: usize = 256;
