//! Gatewayd's sans-IO parts in a simulated world: a node, pools and miners of each protocol, with
//! delay, loss, restarts, lies and clocks that jump. A seed is a run; each is the same every time.
//!
//! After each step it is checked that every share is accounted for, that each answer to a miner is
//! the one that a model of its own expects, that no block is lost, that each miner mines on the tip,
//! that job ids are unique and no split is used for another tip or value, that nothing grows, and
//! that deadlines pass; a strict pool checks all that it is sent. By hand, with more time:
//! `benches/simulation`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a panic is how a test fails")]
#![allow(unreachable_pub, reason = "modules of one test")]

#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/floor.rs"]
mod floor;
#[path = "simulation/lane.rs"]
mod lane;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/pools.rs"]
mod pools;
#[path = "simulation/trouble.rs"]
mod trouble;
#[path = "simulation/uplink.rs"]
mod uplink;
#[path = "simulation/v1.rs"]
mod v1;
#[path = "simulation/v2.rs"]
mod v2;
#[path = "simulation/world.rs"]
mod world;

use std::{ops::Range, time::Duration};

use plan::Plan;
use world::{Tally, World};

/// A run; what it says when it fails names the seed.
fn run(seed: u64, days: f64) -> Tally {
    let plan = Plan::of(seed);
    let told = format!("seed {seed}, {days} days: {plan:?}");
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(plan);
        world.run_until(Duration::from_secs_f64(days * 86_400.0));
        world.finish();
        world.tally
    });
    outcome.unwrap_or_else(|why| {
        println!("failed: {told}");
        std::panic::resume_unwind(why)
    })
}

/// Each seed, and what happened; then all together.
fn run_all(seeds: Range<u64>, days: f64) -> Tally {
    let mut sum = Tally::default();
    for seed in seeds {
        let tally = run(seed, days);
        println!("seed {seed}: {tally:?}");
        sum.add(&tally);
    }
    println!("in all: {sum:?}");
    sum
}

#[test]
fn promises_hold_in_the_first_eight_worlds() {
    let tally = run_all(0..8, DAYS);
    assert!(tally.accepted > 1000 && tally.tips > 100 && tally.troubles > 100, "{tally:?}");
}

#[test]
fn promises_hold_in_the_next_eight_worlds() {
    let tally = run_all(8..16, DAYS);
    assert!(tally.blocks > 100 && tally.restarts > 0 && tally.pool_accepted > 1000, "{tally:?}");
}

/// A late answer was taken for the split of another tip of the same value, and the pool refused the shares.
#[test]
fn a_late_split_is_not_used_on_the_next_tip() {
    run_all(17..18, 0.02);
}

#[test]
#[ignore = "as long as one likes: benches/simulation"]
fn promises_hold_for_as_long_as_one_likes() {
    let seeds = std::env::var("SIMULATE_SEEDS").unwrap();
    let (first, last) = seeds.split_once("..").expect("as in 0..1000");
    let days = std::env::var("SIMULATE_DAYS").unwrap().parse().unwrap();
    run_all(first.parse().unwrap()..last.parse().unwrap(), days);
}

/// Hours in which everything happens that can.
const DAYS: f64 = 0.1;
