//! What is asked of a node besides templates: one call at a time on a connection of its own, so that
//! an answer that is long on its way keeps nothing else waiting.

use bitcoin::Network;
use tokio::{sync::mpsc, task::JoinSet};

use super::meet::see_move;
use crate::{
    node::{
        Fork, NodeError, TipHint, TipHintSource,
        conn::RpcClient,
        header::Header,
        rpc::{self, NodeInfo, Told},
    },
    work::Hash256,
};

/// What the session wants to know.
#[derive(Debug)]
pub(super) enum Query {
    Tip(TipQuery),
    Header(Hash256, TipQuery),
    /// What waits in the mempool, besides a template of this weight.
    Mempool(u32),
    Info,
    /// Which other chain it goes to.
    Fork,
}

/// What a question about the tip came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct TipQuery {
    pub(super) hint: TipHint,
    /// Tips of before the question are no news afterwards.
    pub(super) generation: u64,
    /// How often to ask again where the answer is no tip.
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
    Fork(Told<Option<Fork>>),
}

/// Who is asked.
pub(super) struct QueryTasks {
    tips: mpsc::Sender<Query>,
    headers: mpsc::Sender<Query>,
    is_tip_asked: bool,
    /// What came after the question that is on its way.
    again: Option<TipQuery>,
    /// The block whose header is asked for.
    header_asked: Option<Hash256>,
    /// And the one that comes next: the latest of all that came meanwhile.
    header_next: Option<(Hash256, TipQuery)>,
}

impl QueryTasks {
    /// Starts those who answer, each with a client of its own.
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

    /// Asks for the tip. An answer on its way will do for a poll, not for news.
    pub(super) fn ask_tip(&mut self, look: TipQuery) {
        if !self.is_tip_asked {
            self.is_tip_asked = self.tips.try_send(Query::Tip(look)).is_ok();
        } else if look.hint.from != TipHintSource::SlowPoll {
            self.again = Some(look);
        }
    }

    /// An answer about the tip is here; gives what is to be asked after it.
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

    /// A header is asked for, of this block or of any.
    pub(super) fn is_asking(&self, hash: Option<Hash256>) -> bool {
        let next = self.header_next.map(|(next, _)| next);
        let is_it = |asked: Hash256| hash.is_none_or(|hash| hash == asked);
        self.header_asked.is_some_and(is_it) || next.is_some_and(is_it)
    }

    /// An answer about a header is here, and what it means is known.
    pub(super) fn on_header(&mut self, generation: u64) {
        self.header_asked = None;
        if let Some((hash, look)) = self.header_next.take() {
            self.ask_header(hash, TipQuery { generation, ..look });
        }
    }

    /// Asks what can wait, and is left out where too much is asked already.
    pub(super) fn ask_aside(&self, question: Query) {
        let _ = self.tips.try_send(question);
    }
}

/// Answers one question after another. Ends at the first error.
async fn answer(
    mut client: RpcClient,
    network: Network,
    mut questions: mpsc::Receiver<Query>,
    answers: mpsc::Sender<Result<QueryResult, NodeError>>,
) {
    let mut connections = client.connections();
    while let Some(question) = questions.recv().await {
        let answer = match ask(&mut client, network, question).await {
            // On a new connection there may be another node.
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
/// Beside the one that is being answered.
pub(in crate::template) const QUESTIONS_MAX: usize = 2;
