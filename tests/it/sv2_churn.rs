//! Stratum V2 miners that log in without pause while new tips arrive: this broke another
//! implementation.
//!
//! Node, gateway and miners are processes of their own, as in `benches/load`; this is its short
//! form.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use crate::common::{eventually, gateway::Gateway};

/// A node on which somebody else mines ten blocks a second. Its output goes to a file.
struct BusyNode {
    child: Child,
    said: PathBuf,
    addr: String,
}

impl BusyNode {
    fn start(folder: &Path) -> Self {
        let said = folder.join("node");
        let mut command = Gateway::command();
        // No share is a block by chance.
        let args = ["devnet", "node", "--listen", "127.0.0.1:0", "--nbits", "1d00ffff"];
        command.args(args).args(["--block-every", "100ms"]);
        command.stdin(Stdio::null()).stdout(File::create(&said).unwrap());
        let child = command.spawn().unwrap();
        let addr = eventually("the node listens", Duration::from_secs(30), || {
            let text = fs::read_to_string(&said).unwrap();
            let line = text.lines().find(|line| line.contains("listening"))?;
            Some(line.split_once("addr=")?.1.to_owned())
        });
        Self { child, said, addr }
    }
}

impl Drop for BusyNode {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn logins_without_pause_get_valid_work_whatever_the_tip_does() {
    let folder = tempfile::tempdir().unwrap();
    let node = BusyNode::start(folder.path());
    let gateway = Gateway::start(&format!(
        r#"
        [[node]]
        rpc_url = "http://{}"
        rpc_user = "devnet"
        rpc_password = "devnet"
        [mining]
        address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
        [stratum]
        listen = ["127.0.0.1:0"]
        difficulty_min = 1e-9
        difficulty_start = 1e-9
        shares_per_minute = 4294967295
        [ledger]
        data_dir = "{{dir}}"
        "#,
        node.addr
    ));
    let key = gateway.wait_for_line("authority key public_key=", Duration::from_secs(30));
    let key = key.split_once("public_key=").unwrap().1;
    let addr = gateway.addr("stratum").to_string();
    for protocol in ["sv2-standard", "sv2-extended"] {
        let mut load = Gateway::command();
        load.args(["devnet", "load", "--connect", &addr, "--protocol", protocol]);
        load.args(["--churn", "--miners", "32", "--steady", "4", "--for", "5s"]);
        load.args(["--authority-key", key, "--tips-from", node.said.to_str().unwrap()]);
        let load = load.output().unwrap();
        let said = String::from_utf8_lossy(&load.stdout);
        // The load generator itself reports a failed login, old work, or a miner that was sent
        // away.
        assert!(load.status.success(), "{protocol}:\n{said}");
        let value = |what: &str| {
            let line = said.lines().find(|line| line.starts_with(&format!("| {what} |"))).unwrap();
            line.split('|').nth(2).unwrap().trim().parse::<u64>().unwrap()
        };
        assert!(value("logins") > 100, "{said}");
        assert!(value("new tips meanwhile") > 20, "{said}");
        assert!(value("tips they saw") > 20, "{said}");
    }
}
