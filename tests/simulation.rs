//! Gatewayd's sans-IO parts in a simulated world: a node, pools and miners of each protocol, with
//! delay, loss, restarts, lies and clocks that jump. A seed is a run; each is the same every time.
//!
//! After each step it is checked that every share is accounted for, that each answer to a miner is
//! the one that a model of its own expects, that no block is lost, that each miner mines on the tip,
//! that job ids are unique and no split is used for another tip or value, that nothing grows, and
//! that deadlines pass; a strict pool checks all that it is sent. By hand, with more time:
//! `benches/simulation`.
#![cfg(feature = "devnet")]
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
#[path = "simulation/record.rs"]
mod record;
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
use record::Tally;
use world::World;

/// A run; what it says when it fails names the seed.
fn run(plan: Plan, days: f64) -> Result<Tally, String> {
    let seed = plan.seed;
    let told = format!("seed {seed}, {days} days: {plan:?}");
    let outcome = std::panic::catch_unwind(|| {
        let mut world = World::new(plan);
        world.run_until(Duration::from_secs_f64(days * 86_400.0));
        world.finish();
        world.tally
    });
    outcome.map_err(|_| told)
}

/// Each seed, and what happened; then all together. All are run, whatever comes of one.
fn run_all(seeds: Range<u64>, days: f64) -> Tally {
    run_plans(seeds, days, Plan::of)
}

fn run_plans(seeds: Range<u64>, days: f64, plan: fn(u64) -> Plan) -> Tally {
    let (mut sum, mut failed) = (Tally::default(), Vec::new());
    for seed in seeds.clone() {
        match run(plan(seed), days) {
            Ok(tally) => {
                println!("seed {seed}: {} steps, {} mishaps", tally.events, tally.troubles);
                sum.add(&tally);
            }
            Err(told) => {
                println!("failed: {told}");
                failed.push(seed);
            }
        }
    }
    println!("seeds {seeds:?}, {days} days each: {} failed", failed.len());
    print!("{sum}");
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
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

/// Blocks each second or two, with 20 s to the pool: the splits of some tips were taken for those of
/// others when a seventeenth was asked for.
#[test]
fn splits_are_told_apart_however_far_the_pool_is() {
    run_all(82..83, 0.005);
}

/// The machine slept for hours, and a template that had been on its way had the time of before.
#[test]
fn a_template_that_was_slept_over_may_be_too_old_for_the_pool() {
    run_plans(794..795, 0.25, Plan::of_days);
}

#[test]
#[ignore = "as long as one likes: benches/simulation"]
fn promises_hold_for_as_long_as_one_likes() {
    let seeds = std::env::var("SIMULATE_SEEDS").unwrap();
    let (first, last) = seeds.split_once("..").expect("as in 0..1000");
    let days = std::env::var("SIMULATE_DAYS").unwrap().parse().unwrap();
    let is_busy = std::env::var("SIMULATE_BUSY").is_ok();
    let plan = if is_busy { Plan::of } else { Plan::of_days };
    run_plans(first.parse().unwrap()..last.parse().unwrap(), days, plan);
}

/// Hours in which everything happens that can.
const DAYS: f64 = 0.1;
