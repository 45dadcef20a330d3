//! The source of templates from real nodes, without the rest of the gateway.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bitcoin::Network;
use gatewayd::{
    node::{NodeConfig, NodeKind},
    template::{TemplateConfig, Templates},
    work::Template,
};
use tokio::runtime::Runtime;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::bitcoind::Bitcoind;

/// Templates of several nodes; keeps every one that was passed on.
pub struct RunningTemplates {
    runtime: Runtime,
    token: CancellationToken,
    pub templates: Templates,
    pub seen: Arc<Mutex<Vec<Arc<Template>>>>,
}

impl RunningTemplates {
    pub fn start(nodes: &[(&str, &Bitcoind)]) -> Self {
        let runtime = Runtime::new().unwrap();
        let token = CancellationToken::new();
        let node = |(name, node): &(&str, &Bitcoind)| NodeConfig {
            name: (*name).into(),
            rpc_url: node.rpc_url().parse().unwrap(),
            auth: node.auth(),
            zmq_hashblock: node.zmq_url(),
            submit_only: false,
            kind: NodeKind::Bitcoind,
        };
        let config = TemplateConfig {
            nodes: nodes.iter().map(node).collect(),
            refresh: Duration::from_secs(40),
            allow_rules: Vec::new().into(),
            chains: vec![Network::Regtest],
        };
        let seen: Arc<Mutex<Vec<Arc<Template>>>> = Arc::default();
        let guard = runtime.enter();
        let templates = gatewayd::template::spawn(config, &token, &TaskTracker::new());
        let (mut news, keep) = (templates.templates.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            while news.changed().await.is_ok() {
                keep.lock().unwrap().extend(news.borrow_and_update().clone());
            }
        });
        drop(guard);
        Self { runtime, token, templates, seen }
    }
}

impl Drop for RunningTemplates {
    fn drop(&mut self) {
        self.token.cancel();
        // Without waiting for anything.
        let runtime = std::mem::replace(&mut self.runtime, Runtime::new().unwrap());
        runtime.shutdown_background();
    }
}
