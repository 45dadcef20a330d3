//! The integration tests, one module each: what a gateway does for miners, nodes, pools and its
//! owner, seen from outside. One binary, so that SQLite, axum and ring are linked once.
//!
//! `cargo test --test it solo::` runs the tests of one module. All tests share a process, a thread
//! each: they change neither its environment, its working directory nor its limits.
#![cfg(feature = "devnet")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a panic is how a test fails, it has a clock, it reads answers as anybody would, and its \
              figures are for whoever runs it"
)]
#![allow(unreachable_pub, reason = "modules of one test")]

// What they share.
mod blvm_support;
mod common;
mod datum_support;

mod addresses;
mod api;
mod api_paths;
mod bitcoind;
mod blake2b;
mod blocks_bitcoind;
mod blvm_faults;
mod blvm_node;
mod check;
mod check_notices;
mod datum_faults;
mod datum_gateway_api;
mod datum_gateway_peer;
mod datum_loopback;
mod datum_reference;
mod datum_relay;
mod datum_task;
mod first_start;
mod front;
mod harness;
mod healthcheck;
mod ledger;
mod live;
mod miner_gateway;
mod names;
mod network_change;
mod node_gateway;
mod node_rpc;
mod nodes;
mod pool_gateway;
mod pool_habits;
mod pool_tcp;
mod pooled;
mod ports;
mod proxy;
mod readme;
mod secrets;
mod service;
mod shutdown;
mod slow_nodes;
mod solo;
mod sv1_listener;
mod sv2_churn;
mod sv2_codec;
mod sv2_mining_device;
mod sv2_noise;
mod template_bitcoind;
mod template_devnet;
mod template_faults;
mod tries;
