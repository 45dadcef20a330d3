//! What is being mined.

use std::{collections::HashMap, sync::Arc};

use super::{
    coinbase::{Payees, decode},
    finite, mode,
};
use crate::{
    api::{
        handles::{Handles, Moment},
        shapes::{self, TemplateKind},
    },
    template::NodeStatus,
    work::{self, Admission, CoinbaseClass, printable_bytes},
};

pub(crate) fn work(handles: &Handles, moment: &Moment) -> shapes::Work {
    let work = handles.work.borrow().clone();
    let waiting_for = match work.as_deref().map(|work| &work.admission) {
        Some(Admission::Open) => None,
        Some(Admission::Closed(reason)) => Some(reason.to_string()),
        None => Some("there has been no work yet".into()),
    };
    let job = work.as_deref().map(|work| job(handles, work.latest(), moment));
    shapes::Work { mode: mode(work.as_deref()), waiting_for, job }
}

fn job(handles: &Handles, job: &Arc<work::Job>, moment: &Moment) -> shapes::Job {
    let mut miners: HashMap<CoinbaseClass, u64> = HashMap::new();
    for miner in handles.roster.miners() {
        // Which of this job's coinbases its class gets.
        *miners.entry(job.coinbase(miner.class()).id).or_default() += 1;
    }
    let config = handles.config();
    let parties = Payees {
        payout: &job.payout,
        own_script: config.own_script(),
        network: handles.templates.network(),
    };
    let coinbases = job.coinbases().iter();
    shapes::Job {
        id: job.id.to_string(),
        is_empty: job.is_empty(),
        template: describe(&job.template, &handles.templates.status.borrow(), moment),
        payout: payout(&job.payout),
        coinbases: coinbases
            .filter_map(|it| decode(it, miners.get(&it.id).copied().unwrap_or(0), parties))
            .collect(),
    }
}

/// The template being mined.
pub(crate) fn template(handles: &Handles, moment: &Moment) -> Option<shapes::Template> {
    let work = handles.work.borrow().clone()?;
    let nodes = handles.templates.status.borrow();
    Some(describe(&work.latest().template, &nodes, moment))
}

fn describe(template: &work::Template, nodes: &[NodeStatus], moment: &Moment) -> shapes::Template {
    let source = nodes.iter().find(|node| node.name == template.source);
    shapes::Template {
        source: template.source.to_string(),
        kind: match template.kind {
            work::TemplateKind::Tip => TemplateKind::Tip,
            work::TemplateKind::Full => TemplateKind::Full,
        },
        height: template.height,
        prevhash: template.prevhash.to_string(),
        version: format!("{:08x}", template.version),
        nbits: format!("{:08x}", template.nbits.get()),
        network_difficulty: finite(template.nbits.target().difficulty()).unwrap_or(f64::MAX),
        curtime_unix_s: template.curtime,
        age_s: source.and_then(|node| node.template_at).map(|at| moment.age_s(at)),
        transactions: template.transactions.len() as u64,
        size_bytes: template.total_size,
        weight: template.total_weight,
        weight_limit: template.limits.weight,
        sigops: template.total_sigops,
        sigops_limit: template.limits.sigops,
        subsidy_sats: template.subsidy(),
        fees_sats: template.fees,
        coinbase_value_sats: template.coinbase_value,
    }
}

fn payout(payout: &work::Payout) -> shapes::Payout {
    let terms = payout.pooled.as_ref();
    let split = terms.and_then(|terms| terms.coinbaser.as_ref());
    shapes::Payout {
        pool: terms.map(|terms| terms.pool.to_string()),
        prime_id: terms.map(|terms| terms.prime_id),
        pool_difficulty_min: terms.map(|terms| terms.min_difficulty),
        split_outputs: split.map(|split| split.outputs.len() as u64),
        tag_primary: text(&payout.tag_primary),
        tag_secondary: text(&payout.tag_secondary),
        unique_id: payout.unique_id,
    }
}

/// A tag may be any bytes.
pub(super) fn text(tag: &[u8]) -> String {
    printable_bytes(tag, tag.len())
}
