//! The operator's nodes.

use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::{self, Nodes},
    },
    template::{NodeState, NodeStatus},
};

pub(crate) fn nodes(handles: &Handles, moment: &Moment) -> Nodes {
    let templates = &handles.templates;
    let (status, submit_only) = (templates.status.borrow(), templates.submit_only.borrow());
    let submit_only = submit_only.iter().map(|status| {
        let node = node(status, moment);
        match node.state {
            shapes::NodeState::Ready => {
                shapes::Node { state: shapes::NodeState::SubmitOnly, ..node }
            }
            _ => node,
        }
    });
    Nodes { nodes: status.iter().map(|it| node(it, moment)).chain(submit_only).collect() }
}

fn node(status: &NodeStatus, moment: &Moment) -> shapes::Node {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    shapes::Node {
        name: status.name.to_string(),
        state: match status.state {
            NodeState::Starting => shapes::NodeState::Starting,
            NodeState::Ready => shapes::NodeState::Ready,
            NodeState::Syncing => shapes::NodeState::Syncing,
            NodeState::Down => shapes::NodeState::Down,
            NodeState::Behind => shapes::NodeState::Behind,
            NodeState::WrongChain => shapes::NodeState::WrongChain,
        },
        is_active: status.is_active,
        version: text(&status.version),
        network: status.network.map(|network| network.to_string()),
        height: status.height,
        is_in_initial_download: status.is_in_initial_download,
        template_age_s: status.template_at.map(|at| moment.age_s(at)),
        template_fetch_ms: status.template_fetch.map(|took| took.as_secs_f64() * 1000.0),
        answer_age_s: status.answered_at.map(|at| moment.age_s(at)),
        last_error: text(&status.last_error),
    }
}
