//! What a node is asked besides templates: one call at a time on a separate connection, so that a
//! slow answer delays nothing else.

use bitcoin::Network;
use tokio::{sync::mpsc, task::JoinSet};

use super::meet::see_move;
use crate::{
    node::{
        Fork, NodeError, TipHint, TipHintSource,
        conn::RpcClient,
        header::Header,
        rpc::{self, NodeInfo, Reported},
    },
    work::Hash256,
};

/// What the session wants to know.
#[derive(Debug)]
pub(super) enum Query {
    Tip(TipQuery),
    Header(Hash256, TipQuery),
    /// The size of the mempool, for a template of this weight.
    Mempool(u32),
    Info,
    /// Which other chain it will change to.
    Fork,
}

/// What caused a query about the tip.
#[derive(Clone, Copy, Debug)]
pub(super) struct TipQuery {
    pub(super) hint: TipHint,
    /// Tips known before the query are not new afterwards.
    pub(super) generation: u64,
    /// How often to ask again if the answer is not the tip.
    pub(super) tries: usize,
}

impl TipQuery {
    pub(super) fn new(hint: TipHint) -> Self {
        Self { hint, generation: 0, tries: TRIES }
    }
}

#[derive(Debug)]
pub(super) enum QueryResult {
    Tip(Hash256, TipQuery),
    /// None: the node does not know the block.
    Header(Hash256, Option<Header>, TipQuery),
    Mempool(u32, Result<u64, NodeError>),
    Info(NodeInfo),
    Fork(Reported<Option<Fork>>),
}

/// Where queries go.
pub(super) struct QueryTasks {
    tips: mpsc::Sender<Query>,
    headers: mpsc::Sender<Query>,
    is_tip_asked: bool,
    /// What came up after the query that is on its way.
    again: Option<TipQuery>,
    /// The block whose header is being requested.
    header_asked: Option<Hash256>,
    /// The next one: the latest of those that came up meanwhile.
    header_next: Option<(Hash256, TipQuery)>,
}

impl QueryTasks {
    /// Starts the tasks that answer, each with its own client.
    pub(super) fn spawn(
        (client, second): (RpcClient, RpcClient),
        network: Network,
        helpers: &mut JoinSet<()>,
        answers: mpsc::Sender<Result<QueryResult, NodeError>>,
    ) -> Self {
        let (tips, about_tips) = mpsc::channel(QUESTIONS_MAX);
        let (headers, about_headers) = mpsc::channel(QUESTIONS_MAX);
        helpers.spawn(answer(client, network, about_tips, answers.clone()));
        helpers.spawn(answer(second, network, about_headers, answers));
        Self {
            tips,
            headers,
            is_tip_asked: false,
            again: None,
            header_asked: None,
            header_next: None,
        }
    }

    /// Asks for the tip. A pending answer is enough for a poll, but not for a new hint.
    pub(super) fn ask_tip(&mut self, look: TipQuery) {
        if !self.is_tip_asked {
            self.is_tip_asked = self.tips.try_send(Query::Tip(look)).is_ok();
        } else if look.hint.from != TipHintSource::SlowPoll {
            self.again = Some(look);
        }
    }

    /// An answer about the tip has arrived; returns what to ask next.
    pub(super) fn on_tip(&mut self) -> Option<TipQuery> {
        self.is_tip_asked = false;
        self.again.take()
    }

    pub(super) fn ask_header(&mut self, hash: Hash256, look: TipQuery) {
        if self.header_asked.is_some() {
            self.header_next = Some((hash, look));
        } else if self.headers.try_send(Query::Header(hash, look)).is_ok() {
            self.header_asked = Some(hash);
        }
    }

    /// Whether a header is being requested, of this block or of any.
    pub(super) fn is_asking(&self, hash: Option<Hash256>) -> bool {
        let next = self.header_next.map(|(next, _)| next);
        let is_it = |asked: Hash256| hash.is_none_or(|hash| hash == asked);
        self.header_asked.is_some_and(is_it) || next.is_some_and(is_it)
    }

    /// An answer about a header has arrived and was handled.
    pub(super) fn on_header(&mut self, generation: u64) {
        self.header_asked = None;
        if let Some((hash, look)) = self.header_next.take() {
            self.ask_header(hash, TipQuery { generation, ..look });
        }
    }

    /// Asks something that can wait; skipped if too much is pending already.
    pub(super) fn ask_aside(&self, question: Query) {
        let _ = self.tips.try_send(question);
    }
}

/// Answers one query after another. Ends at the first error.
async fn answer(
    mut client: RpcClient,
    network: Network,
    mut questions: mpsc::Receiver<Query>,
    answers: mpsc::Sender<Result<QueryResult, NodeError>>,
) {
    let mut connections = client.connections();
    while let Some(question) = questions.recv().await {
        let answer = match ask(&mut client, network, question).await {
            // A new connection may be to another node.
            Ok(answer @ QueryResult::Tip(..)) => {
                see_move(&mut client, &mut connections, network).await.map(|()| answer)
            }
            answer => answer,
        };
        let is_end = answer.is_err();
        if answers.send(answer).await.is_err() || is_end {
            return;
        }
    }
}

async fn ask(
    client: &mut RpcClient,
    network: Network,
    question: Query,
) -> Result<QueryResult, NodeError> {
    Ok(match question {
        Query::Tip(look) => QueryResult::Tip(rpc::best_hash(client).await?, look),
        Query::Header(hash, look) => {
            QueryResult::Header(hash, rpc::header(client, hash).await?, look)
        }
        Query::Mempool(weight) => QueryResult::Mempool(weight, rpc::mempool_vbytes(client).await),
        Query::Info => QueryResult::Info(rpc::node_info(client).await?),
        Query::Fork => QueryResult::Fork(rpc::fork(client, network).await?),
    })
}

/// How often to follow a tip that changes while it is asked about.
const TRIES: usize = 3;
/// Besides the one being answered.
pub(in crate::template) const QUESTIONS_MAX: usize = 2;
