//! Mishaps.

use crate::world::{Event, World};

impl World {
    pub fn on_trouble(&mut self) {
        let wait = self.chance.wait(self.plan.trouble_each);
        self.after(wait, Event::Trouble);
        if self.is_calm {
            return;
        }
        self.tally.troubles += 1;
        let pool = self.chance.index(self.pools.len().max(1));
        match self.chance.below(16) {
            0 if self.chance.one_in(4) => self.restart(),
            1 if self.chance.one_in(4) => self.sleep(),
            2 => self.wrong_clock(),
            3 => {
                self.tally.mishap("blocks get harder or easier on the same tip");
                self.node.change_bits(self.plan.hardness + 1 - self.chance.word() % 2);
            }
            4 => {
                let rig = self.chance.index(self.rigs.len());
                self.tally.mishap("a miner's connection breaks");
                self.drop_rig(rig);
            }
            5 => {
                // A template that was held back: perhaps of a tip that is no longer one.
                let template = self.node.full_template(self.unix(), &mut self.chance);
                self.tally
                    .mishap("a template comes up to two minutes late, perhaps for an old tip");
                let wait = self.chance.below(120_000);
                self.after(wait, Event::Template(template));
            }
            _ if self.pools.is_empty() => {}
            6 | 7 => self.cut_main(),
            8 | 9 => {
                let what = self.pools[pool].misbehave(&mut self.chance);
                self.tally.mishap(what);
                self.heal_later(pool);
            }
            10 => {
                self.tally.mishap("a pool is away for a while");
                self.pools[pool].is_away = true;
                self.cut_pool(pool);
                self.heal_later(pool);
            }
            11 => {
                self.tally.mishap("a pool restarts and has forgotten everything");
                self.cut_pool(pool);
                self.pools[pool].forget();
            }
            12 => {
                // With a new process: within one, answers come in the order of their requests.
                self.tally.mishap("a pool restarts with other habits");
                self.cut_pool(pool);
                self.pools[pool].change_habits(&mut self.chance);
            }
            13 => {
                self.tally.mishap("a pool changes its terms: script, tag or splits");
                self.pools[pool].change_terms(&mut self.chance);
                self.pool_acts(pool);
            }
            14 => {
                self.tally.mishap("a pool says that there is a new block");
                self.pools[pool].control.new_blocks += 1;
                self.pool_acts(pool);
            }
            _ => self.change_pools(),
        }
    }

    /// The machine sleeps: only its clock goes on.
    fn sleep(&mut self) {
        self.tally.mishap("the machine sleeps for minutes or hours");
        self.now += 60_000 * (1 + self.chance.below(300));
        self.woke = self.unix();
    }

    fn wrong_clock(&mut self) {
        let offsets = [0, 0, 30, -30, 3000, -3000, 20_000];
        self.tally.mishap("the node's clock is set wrong, or corrected");
        self.node.clock_off = offsets[self.chance.index(offsets.len())];
        self.node.was_off |= self.node.clock_off != 0;
    }

    fn heal_later(&mut self, pool: usize) {
        let wait = self.chance.wait(120_000.0);
        self.after(wait, Event::Heal(pool));
    }

    /// All of a pool's connections break.
    fn cut_pool(&mut self, pool: usize) {
        self.pools[pool].control.cuts += 1;
        self.pool_acts(pool);
    }

    pub fn heal(&mut self, pool: usize) {
        let it = &mut self.pools[pool];
        it.is_away = false;
        it.control.fault = None;
    }
}
