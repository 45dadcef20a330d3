//! A real blvm-node on a regtest of its own, ended when dropped. `.ci/blvm-node` builds it.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bitcoin::{Address, Network};
use bitcoincore_rpc::jsonrpc::{
    Client,
    serde_json::{Value, value::to_raw_value},
    simple_http::SimpleHttpTransport,
};
use tempfile::TempDir;

use super::eventually;

pub struct BlvmNode {
    dir: TempDir,
    rpc_port: u16,
    child: Child,
    /// Kept open: the node accepts few connections.
    client: Client,
}

impl BlvmNode {
    /// Starts the node as its makers set it up, except for ports, folders and other modules.
    pub fn regtest() -> Self {
        let dir = TempDir::with_prefix("gatewayd-blvm-").unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "[modules]\nenabled = true\nmodules_dir = {:?}\ndata_dir = {:?}\nsocket_dir = {:?}\n\
             enabled_modules = []\nwatch_enabled = false\n",
            path("modules"),
            path("modules-data"),
            path("sockets"),
        );
        fs::write(dir.path().join("blvm.toml"), config).unwrap();
        for folder in ["modules", "data"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let (p2p_port, rpc_port) = (free_port(), free_port());
        let log = File::create(dir.path().join("log")).unwrap();
        let mut child = Command::new(program())
            .arg(dir.path().join("data"))
            .args([p2p_port, rpc_port].map(|port| format!("127.0.0.1:{port}")))
            .arg(dir.path().join("blvm.toml"))
            .current_dir(dir.path())
            // Does not look for peers, for which it would wait at its start.
            .env("BLVM_SERVE_ONLY", "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let cookie = dir.path().join("data/.cookie");
        let cookie = eventually("blvm-node writes its cookie", START_MAX, || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(dir.path().join("log")).unwrap_or_default();
                panic!("blvm-node ended with {status}:\n{log}");
            }
            // Checking whether it listens would cost a connection.
            let log = fs::read_to_string(dir.path().join("log")).ok()?;
            log.contains("RPC server listening").then(|| fs::read_to_string(&cookie).ok())?
        });
        let (user, password) = cookie.trim().split_once(':').unwrap();
        let transport = SimpleHttpTransport::builder()
            .url(&format!("http://127.0.0.1:{rpc_port}"))
            .unwrap()
            .timeout(Duration::from_secs(60))
            .auth(user, Some(password))
            .build();
        let node = Self { dir, rpc_port, child, client: Client::with_transport(transport) };
        eventually("blvm-node answers", START_MAX, || node.try_call("getblockcount", &[]).ok());
        node
    }

    pub fn try_call(&self, method: &str, params: &[Value]) -> Result<Value, String> {
        let params = to_raw_value(params).unwrap();
        self.client.call(method, Some(&params)).map_err(|error| error.to_string())
    }

    #[track_caller]
    pub fn call(&self, method: &str, params: &[Value]) -> Value {
        self.try_call(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub fn height(&self) -> u64 {
        self.call("getblockcount", &[]).as_u64().unwrap()
    }

    /// Mines `count` blocks that pay `address`.
    pub fn generate(&self, count: u64, address: &Address) {
        self.call("generatetoaddress", &[count.into(), address.to_string().into()]);
    }

    /// The ids of a block's transactions.
    pub fn transactions(&self, height: u64) -> Vec<String> {
        let hash = self.call("getblockhash", &[height.into()]);
        let block = self.call("getblock", &[hash, 1.into()]);
        let ids = block["tx"].as_array().unwrap().iter();
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("sockets/node.sock")
    }

    pub fn node_toml(&self) -> String {
        format!(
            "[[node]]\nkind = \"blvm\"\nrpc_url = \"http://127.0.0.1:{}\"\nrpc_cookie_file = {:?}\n\
             nodeapi_socket = {:?}\n",
            self.rpc_port,
            self.dir.path().join("data/.cookie"),
            self.socket(),
        )
    }

    pub fn network(&self) -> Network {
        Network::Regtest
    }
}

impl Drop for BlvmNode {
    fn drop(&mut self) {
        // It ends by itself when its input does; this does not wait for that.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!(
                "the end of blvm-node's log:\n{}",
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
    }
}

/// `BLVM_NODE`, otherwise the newest one that `.ci/blvm-node` has built.
fn program() -> PathBuf {
    if let Some(path) = env::var_os("BLVM_NODE").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let cache = env::var_os("GATEWAYD_CI_CACHE").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache/gatewayd-ci"),
        PathBuf::from,
    );
    let built = fs::read_dir(cache.join("blvm-node")).into_iter().flatten().flatten();
    let built = built.filter(|it| it.file_name().to_string_lossy().starts_with("blvm-node-"));
    let newest = built.max_by_key(|it| it.metadata().and_then(|it| it.modified()).ok());
    newest.expect("no blvm-node here: run `.ci/blvm-node`, which builds one").path()
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

const START_MAX: Duration = Duration::from_secs(60);
