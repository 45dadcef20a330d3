//! What a blvm-node is asked besides templates: one query at a time, on the one connection that a
//! source keeps for that, so that the task waits for no answer.

use std::time::Duration;

use tokio::{
    pin,
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    clock::now,
    node::{
        NodeConfig, NodeError, TipHint,
        blvm::rpc::tip_header,
        budget::Purpose,
        conn::RpcClient,
        header::Header,
        rpc::{NodeInfo, best_hash, node_info},
    },
    template::{SourceOutput, bitcoind::queries::QUESTIONS_MAX, probe::LATE_AFTER},
    work::Hash256,
};

/// What the task wants to know.
#[derive(Debug)]
enum Query {
    /// The tip, and its header unless it is the one already known.
    Tip {
        hint: TipHint,
        known: Option<Hash256>,
    },
    Info,
}

#[derive(Debug)]
pub(super) enum QueryResult {
    Tip(TipHint, Result<Tip, NodeError>),
    Info(Result<NodeInfo, NodeError>),
}

/// The node's best block. Its events also report blocks on other branches.
#[derive(Debug)]
pub(super) struct Tip {
    pub(super) hash: Hash256,
    /// None: it is already known, or the node does not have it yet.
    pub(super) header: Option<Box<Header>>,
}

/// Where the task's queries go.
pub(super) struct QueryTask {
    questions: mpsc::Sender<Query>,
    answers: mpsc::Receiver<QueryResult>,
    is_tip_asked: bool,
    /// What came up after the query that is on its way.
    again: Option<TipHint>,
}

impl QueryTask {
    pub(super) fn spawn(
        node: &NodeConfig,
        output: SourceOutput,
        helpers: &mut JoinSet<()>,
    ) -> Self {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let (said, answers) = mpsc::channel(QUESTIONS_MAX + 1);
        helpers.spawn(answer(RpcClient::new(node, Purpose::Templates), output, asked, said));
        Self { questions, answers, is_tip_asked: false, again: None }
    }

    /// Asks for the tip. A pending answer is enough, unless there was a new hint since the query.
    pub(super) fn ask_tip(&mut self, hint: TipHint, known: Option<Hash256>, is_news: bool) {
        if !self.is_tip_asked {
            self.is_tip_asked = self.questions.try_send(Query::Tip { hint, known }).is_ok();
        } else if is_news {
            self.again = Some(hint);
        }
    }

    /// Skipped if too much is pending already.
    pub(super) fn ask_info(&self) {
        let _ = self.questions.try_send(Query::Info);
    }

    /// None once the answering task has ended.
    pub(super) async fn next(&mut self) -> Option<QueryResult> {
        let answer = self.answers.recv().await;
        if let Some(QueryResult::Tip(..)) = answer {
            self.is_tip_asked = false;
        }
        answer
    }

    /// The hint since the last query about the tip.
    pub(super) fn news(&mut self) -> Option<TipHint> {
        self.again.take()
    }

    /// Asks who the node is; earlier queries are of no use any more.
    pub(super) async fn meet(&mut self) -> Result<NodeInfo, NodeError> {
        self.again = None;
        let _ = self.questions.send(Query::Info).await;
        loop {
            match self.next().await {
                Some(QueryResult::Info(info)) => return info,
                Some(QueryResult::Tip(..)) => {}
                None => return Err(NodeError::Answer("information")),
            }
        }
    }
}

/// Answers one query after another, for as long as somebody asks.
async fn answer(
    mut client: RpcClient,
    output: SourceOutput,
    mut questions: mpsc::Receiver<Query>,
    answers: mpsc::Sender<QueryResult>,
) {
    while let Some(question) = questions.recv().await {
        let (answer, is_too_much) = match question {
            Query::Tip { hint, known } => {
                let tip = look(&mut client, known, &output).await;
                let is_too_much = tip.as_ref().is_err_and(is_too_much);
                (QueryResult::Tip(hint, tip), is_too_much)
            }
            Query::Info => {
                let info = node_info(&mut client).await;
                let is_too_much = info.as_ref().is_err_and(is_too_much);
                (QueryResult::Info(info), is_too_much)
            }
        };
        if answers.send(answer).await.is_err() {
            return;
        }
        if is_too_much {
            sleep(PAUSE_TOO_MANY).await;
        }
    }
}

async fn look(
    client: &mut RpcClient,
    known: Option<Hash256>,
    output: &SourceOutput,
) -> Result<Tip, NodeError> {
    let hash = ask_hash(client, output).await?;
    let header = if known == Some(hash) { None } else { tip_header(client, hash).await? };
    let header = header.map(Box::new);
    Ok(Tip { hash, header })
}

/// Asks for the tip, and reports when the answer is late, so that other nodes may take over.
async fn ask_hash(client: &mut RpcClient, output: &SourceOutput) -> Result<Hash256, NodeError> {
    let asked_at = now();
    let call = best_hash(client);
    pin!(call);
    let tip = match timeout(LATE_AFTER, &mut call).await {
        Ok(tip) => tip,
        Err(_) => {
            output.update(|status| status.late_since = Some(asked_at));
            call.await
        }
    }?;
    output.update(|status| {
        status.answered_at = Some(now());
        status.late_since = None;
    });
    Ok(tip)
}

/// True if the node answers, and its last work is still valid: it is then asked less for a while.
pub(super) fn is_too_much(error: &NodeError) -> bool {
    matches!(error, NodeError::Rpc(error) if error.is_too_much())
}

/// By default the node allows 5 calls a second, and 50 at once.
pub(super) const PAUSE_TOO_MANY: Duration = Duration::from_secs(1);
