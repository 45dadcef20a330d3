//! A real bitcoind on regtest in its own folder, for `demo --bitcoind`.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A bitcoind that we started. Killed when dropped; its folder belongs to the caller.
#[derive(Debug)]
pub(super) struct RealNode {
    process: Child,
    rpc_port: u16,
    data_dir: PathBuf,
}

impl RealNode {
    /// Starts `bitcoind`. It takes a moment until it answers; gatewayd waits for that by itself.
    pub(super) fn start(bitcoind: &Path, data_dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(data_dir)?;
        // Free now, and nothing else is likely to take it in the next second.
        let rpc_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let process = Command::new(bitcoind)
            .args(["-regtest", "-server", "-listen=0", "-connect=0", "-printtoconsole=0"])
            .arg(format!("-datadir={}", data_dir.display()))
            .arg(format!("-rpcport={rpc_port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { process, rpc_port, data_dir: data_dir.to_owned() })
    }

    pub(super) fn rpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc_port)
    }

    pub(super) fn cookie_file(&self) -> PathBuf {
        self.data_dir.join("regtest").join(".cookie")
    }
}

impl Drop for RealNode {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
