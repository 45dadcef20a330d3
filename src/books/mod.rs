//! The live books: who mines here, what they have done, how long answers and tips take, and who
//! connected to the wrong place. Written as things happen, read by whoever looks; nothing here
//! decides anything.
//!
//! Not here: what outlives the process (`ledger`), and who may come in (`work::limits`).

pub(crate) mod client_mistakes;
mod counters;
mod pulse;
pub mod roster;
mod score;
mod timing;

pub use counters::Counters;
pub(crate) use counters::{CountersView, PlacesView};
pub(crate) use pulse::{Heartbeat, PULSE_EACH};
pub use roster::{MinerProtocol, Roster};
pub(crate) use score::{Score, ScoreView};
pub(crate) use timing::{Histogram, HistogramView, TipClock};
