//! Gatewayd's sans-IO parts in a simulated world: a node, pools and miners of each protocol, with
//! delay, loss, restarts, lies and clocks that jump. Each seed is a run, and runs the same every
//! time.
//!
//! After each step it checks that every share is accounted for, that each answer to a miner is the
//! one an independent model expects, that no block is lost, that each miner mines on the tip, that
//! job ids are unique and no split is used for another tip or value, that nothing grows, and that
//! deadlines pass; a strict pool checks all that it is sent. For longer runs by hand see
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

/// Runs a plan; the error of a failed run names the seed.
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

/// Prints each seed and what happened, then the total. All are run, even if one fails.
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

/// A late answer was once taken for the split of another tip of the same value, and the pool
/// refused the shares.
#[test]
fn a_late_split_is_not_used_on_the_next_tip() {
    run_all(17..18, 0.02);
}

/// Blocks every second or two, with a pool 20 s away: the splits of some tips were once taken for
/// those of others when a seventeenth was requested.
#[test]
fn splits_are_not_confused_however_far_away_the_pool_is() {
    run_all(82..83, 0.005);
}

/// The machine slept for hours, and a template in flight still had the time from before.
#[test]
fn a_template_received_before_sleep_may_be_too_old_for_the_pool() {
    run_plans(794..795, 0.25, Plan::of_days);
}

#[test]
#[ignore = "as long as you like: benches/simulation"]
fn promises_hold_for_as_long_as_you_like() {
    let seeds = std::env::var("SIMULATE_SEEDS").unwrap();
    let (first, last) = seeds.split_once("..").expect("like 0..1000");
    let days = std::env::var("SIMULATE_DAYS").unwrap().parse().unwrap();
    let is_busy = std::env::var("SIMULATE_BUSY").is_ok();
    let plan = if is_busy { Plan::of } else { Plan::of_days };
    run_plans(first.parse().unwrap()..last.parse().unwrap(), days, plan);
}

/// A few hours in which everything that can happen does.
const DAYS: f64 = 0.1;
