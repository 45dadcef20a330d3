//! Choosing among nodes that come and go, fall behind and reorganise, in no order that anybody
//! chose. Each choice is checked.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

struct Node {
    is_ready: bool,
    /// The block that it has got to: its number in `Walk::blocks`.
    at: usize,
    is_full: bool,
    ready_since: Instant,
}

struct Walk {
    rng: StdRng,
    chooser: Chooser,
    now: Instant,
    nodes: Vec<Node>,
    /// Height and work of each block that there is.
    blocks: Vec<(u32, u8)>,
    /// Heights are all that is known, or works.
    by_work: bool,
    /// Since when the one in use is not ready.
    lost_since: Option<Instant>,
    active: Option<usize>,
    switches: usize,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        #[expect(clippy::disallowed_methods, reason = "any origin will do")]
        let now = Instant::now();
        let nodes: Vec<Node> = (0..rng.gen_range(1..5))
            .map(|_| Node { is_ready: false, at: 0, is_full: true, ready_since: now })
            .collect();
        let mut chooser = Chooser::default();
        chooser.rearrange(&vec![None; nodes.len()]);
        let by_work = rng.gen_bool(0.7);
        let blocks = vec![(1, 1)];
        let (lost_since, active, switches) = (None, None, 0);
        Self { rng, chooser, now, nodes, blocks, by_work, lost_since, active, switches }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.happen();
            self.choose();
        }
        // All is well again: the most preferred one is taken back, though it was lost many times.
        let best = self.best();
        for node in &mut self.nodes {
            (node.is_ready, node.at, node.is_full) = (true, best, true);
        }
        for _ in 0..800 {
            self.now += Duration::from_millis(500);
            self.choose();
        }
        assert_eq!(self.active, Some(0), "the preferred one is not used");
    }

    fn best(&self) -> usize {
        (0..self.blocks.len()).max_by_key(|at| self.blocks[*at].1).unwrap()
    }

    fn happen(&mut self) {
        self.now += Duration::from_millis(self.rng.gen_range(1..1500));
        let at = self.rng.gen_range(0..self.nodes.len());
        let (now, best) = (self.now, self.best());
        match self.rng.gen_range(0..40) {
            0 if self.blocks[best].1 < 250 => {
                // A block more; at times one that has work without being higher.
                let (height, work) = self.blocks[best];
                let is_higher = !self.by_work || self.rng.gen_bool(0.9);
                self.blocks.push((height + u32::from(is_higher), work + 1));
            }
            1 => {
                let node = &mut self.nodes[at];
                node.is_ready = !node.is_ready;
                node.ready_since = now;
            }
            2..=15 => {
                let node = &mut self.nodes[at];
                node.is_full = self.rng.gen_bool(0.6) && node.at == best;
                node.at = best;
            }
            16 => self.nodes[at].at = self.rng.gen_range(0..self.blocks.len()),
            17..=30 => self.nodes[at].is_full = true,
            31 if !self.nodes[at].is_ready => {
                let node = &mut self.nodes[at];
                (node.is_ready, node.ready_since) = (true, now);
            }
            _ => {}
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let of = |node: &Node| {
            let (height, work) = self.blocks[node.at];
            let tip = Hash256([u8::try_from(node.at).unwrap(); 32]);
            let work = self.by_work.then(|| ChainWork::of(work));
            let place = WorkPosition { height, tip, work, is_full: node.is_full };
            Candidate { is_ready: node.is_ready, place }
        };
        self.nodes.iter().map(of).collect()
    }

    fn choose(&mut self) {
        let candidates = self.candidates();
        let before = self.active;
        self.active = self.chooser.choose(&candidates, self.now);
        self.switches += usize::from(self.active != before);
        let ready = || candidates.iter().filter(|it| it.is_ready);
        let Some(active) = self.active else {
            assert!(before.is_none() && ready().next().is_none(), "one is ready, and none is used");
            return;
        };
        let chosen = candidates[active];
        if active != before.unwrap_or(active) {
            assert!(chosen.is_ready, "gone over to one that is not ready");
            self.check_way_back(&candidates, before.unwrap(), active);
        }
        if chosen.is_ready {
            self.lost_since = None;
            // One of several that were lost at once may have to be left a moment later.
            let better = ready().find(|it| it.place.is_ahead_of(&chosen.place));
            let is_new = before != Some(active);
            assert!(better.is_none() || is_new, "a better tip is not mined on: {better:?}");
            return;
        }
        let lost = *self.lost_since.get_or_insert(self.now);
        let is_due = |node: &&Node| {
            node.is_ready && self.now.duration_since(node.ready_since.max(lost)) > LOW_MAX
        };
        assert!(!self.nodes.iter().any(|node| is_due(&node)), "dead work is kept for too long");
    }

    /// One that comes and goes is not gone back to for nothing.
    fn check_way_back(&self, candidates: &[Candidate], from: usize, to: usize) {
        let (old, new) = (candidates[from], candidates[to]);
        let is_thin = !old.place.is_full && new.place.is_full;
        if !old.is_ready || new.place.is_ahead_of(&old.place) || is_thin {
            return;
        }
        assert!(to < from && new.place.is_level_with(&old.place), "gone over without a reason");
        let well = self.now.duration_since(self.nodes[to].ready_since);
        assert!(well >= STEADY_AFTER, "taken back after {well:?}");
    }
}

#[test]
fn the_best_that_is_ready_is_used_whatever_comes() {
    let mut switches = 0;
    for seed in 0..100 {
        let mut walk = Walk::new(seed);
        walk.run(1500);
        switches += walk.switches;
    }
    assert!(switches > 1000, "{switches}");
}
