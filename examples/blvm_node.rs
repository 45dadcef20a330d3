//! A real blvm-node on regtest, for `benches/tips`. Runs until its standard input ends. Needs what
//! `.ci/blvm-node` builds.

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

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use bitcoin::{Address, ScriptBuf};
use common::blvm::BlvmNode;

fn main() -> io::Result<()> {
    let node = BlvmNode::regtest();
    let anyone = ScriptBuf::from_bytes(vec![0x51]).to_p2wsh();
    let address = Address::from_script(&anyone, node.network()).map_err(io::Error::other)?;
    node.generate(110, &address);
    let bell = TcpListener::bind("127.0.0.1:0")?;
    let mut out = io::stdout();
    // Two parts, each ended by an empty line: the [[node]] section, and what makes a new tip. That
    // is done here: the node takes ten connections a minute.
    writeln!(out, "{}\n", node.node_toml().trim_end())?;
    writeln!(out, "bash -c 'read < /dev/tcp/127.0.0.1/{}'\n", bell.local_addr()?.port())?;
    out.flush()?;
    let ended = Arc::new(AtomicBool::new(false));
    let bell_addr = bell.local_addr()?;
    thread::spawn({
        let ended = Arc::clone(&ended);
        move || {
            let _ = io::stdin().read_to_end(&mut Vec::new());
            ended.store(true, Ordering::SeqCst);
            TcpStream::connect(bell_addr)
        }
    });
    for caller in bell.incoming() {
        if ended.load(Ordering::SeqCst) {
            break;
        }
        node.generate(1, &address);
        caller?.write_all(b"done\n")?;
    }
    Ok(())
}
