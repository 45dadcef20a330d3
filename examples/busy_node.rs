//! A real bitcoind on regtest with 4,000 transactions waiting, for `benches/load`. Runs until its
//! standard input ends. Needs `BITCOIND`.

#[path = "../tests/it/common/mod.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the tests' harness, of which this needs a part"
)]
mod common;

use std::io::{Read, Write};

use common::bitcoind::Bitcoind;

fn main() -> std::io::Result<()> {
    let mut node = Bitcoind::regtest();
    node.generate(101);
    node.make_segwit_mempool(4000);
    let mut out = std::io::stdout();
    // Two parts, each ended by an empty line: the [[node]] section, and what makes a new tip
    // without taking the transactions away.
    writeln!(out, "{}\n", node.node_toml().trim_end())?;
    writeln!(
        out,
        "curl -s -u $(cat {}) -d '{{\"method\":\"generateblock\",\"params\":[\"raw(51)\",[]]}}' {}\n",
        node.cookie_file().display(),
        node.rpc_url()
    )?;
    out.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
