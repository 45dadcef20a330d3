//! A real bitcoind on a chain of its own, ended when dropped.
//!
//! Knots from `.ci/bitcoind`, or what `BITCOIND` names: any Bitcoin Core, even one built without a
//! wallet, which nothing here needs, or without ZeroMQ. What a test asserts about ZeroMQ holds
//! where [`has_zmq`] is true; elsewhere it asserts what happens instead.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bitcoin::{
    Address, Amount, BlockHash, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    Txid, WPubkeyHash, Witness, absolute::LockTime, hashes::Hash as _, opcodes::OP_TRUE,
    script::Builder, transaction::Version,
};
use bitcoincore_rpc::{Auth, Client, RpcApi, jsonrpc};
use tempfile::TempDir;

use super::eventually;

/// A node process with its data directory and ports, which survive restarts.
pub struct Bitcoind {
    program: PathBuf,
    network: Network,
    extra_args: Vec<String>,
    dir: TempDir,
    rpc_port: u16,
    zmq_port: u16,
    child: Option<Child>,
    /// Mature coinbases that `make_segwit_mempool` has spent.
    coinbases_spent: u64,
}

impl Bitcoind {
    /// Starts a node on regtest: blocks cost nothing.
    pub fn regtest() -> Self {
        Self::start_with(Network::Regtest, &[])
    }

    /// Starts a node on a signet of its own, whose challenge anyone can satisfy: a block costs
    /// about five million hashes.
    pub fn signet() -> Self {
        Self::start_with(Network::Signet, &[])
    }

    /// Starts a node with additional arguments, such as `-rpcuser=a`, `-rpcpassword=b`,
    /// `-blocknotify=…`.
    pub fn start_with(network: Network, extra_args: &[&str]) -> Self {
        let mut node = Self::prepare(network, extra_args);
        node.start();
        node
    }

    /// Chooses the directory and the ports of a node without starting it.
    pub fn prepare(network: Network, extra_args: &[&str]) -> Self {
        let dir = TempDir::with_prefix("gatewayd-bitcoind-").unwrap();
        // Knots makes small blocks unless told otherwise. Core does not know this option, which it
        // tolerates in a file.
        fs::write(dir.path().join("bitcoin.conf"), "blockmaxsize=4000000\n").unwrap();
        Self {
            program: program(),
            network,
            extra_args: extra_args.iter().map(ToString::to_string).collect(),
            dir,
            rpc_port: free_port(),
            zmq_port: free_port(),
            child: None,
            coinbases_spent: 0,
        }
    }

    /// Starts the node and waits until it answers.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Starts the node without waiting for it.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "bitcoind is already running");
        let mut command = Command::new(&self.program);
        command
            .arg(format!("-datadir={}", self.dir.path().display()))
            .arg(format!("-rpcport={}", self.rpc_port))
            .args(["-server", "-listen=0", "-connect=0", "-dnsseed=0", "-txindex=0"])
            .args(self.zmq_url().map(|url| format!("-zmqpubhashblock={url}")))
            .args(["-printtoconsole=0", "-dbcache=64", "-rpcthreads=8"])
            // On regtest the node checks its whole mempool after each transaction by default.
            .args(["-checkmempool=0", "-checkblockindex=0", "-blockmaxweight=3996000"])
            .args(match self.network {
                Network::Signet => &["-signet", "-signetchallenge=51"][..],
                Network::Testnet4 => &["-testnet4"],
                _ => &["-regtest"],
            })
            .args(&self.extra_args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(self.stderr_file()).unwrap());
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until the node answers its RPC; panics with its log if it exits instead.
    pub fn wait_ready(&mut self) {
        eventually("bitcoind answers", START_TIMEOUT, || {
            if let Some(status) = self.child.as_mut()?.try_wait().unwrap() {
                panic!("bitcoind exited with {status}:\n{}", self.log_tail());
            }
            // There may still be the cookie of an earlier run, or none yet.
            self.try_rpc().ok()?.get_block_count().ok()
        });
    }

    /// Stops the node cleanly, as `bitcoin-cli stop` does.
    pub fn stop(&mut self) {
        self.rpc().stop().unwrap();
        let child = self.child.as_mut().unwrap();
        let status = eventually("bitcoind stops", STOP_TIMEOUT, || child.try_wait().unwrap());
        assert!(status.success(), "bitcoind stopped with {status}:\n{}", self.log_tail());
        self.child = None;
    }

    /// Stops and starts, with the same directory and ports.
    pub fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Switches to another network, with the same directory and ports.
    pub fn move_to(&mut self, network: Network) {
        self.stop();
        self.network = network;
        self.start();
    }

    /// Ends the node as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Freezes the node: its ports stay open, and it answers nothing until `thaw`.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// A new RPC client, with a timeout long enough for slow calls.
    pub fn rpc(&self) -> Client {
        self.try_rpc().unwrap()
    }

    fn try_rpc(&self) -> Result<Client, bitcoincore_rpc::Error> {
        let (user, password) = self.auth().get_user_pass()?;
        let transport = jsonrpc::minreq_http::Builder::new()
            .timeout(RPC_TIMEOUT)
            .url(&self.rpc_url())
            .expect("our own address is one")
            .basic_auth(user.unwrap_or_default(), password)
            .build();
        Ok(Client::from_jsonrpc(jsonrpc::Client::with_transport(transport)))
    }

    /// What a client must present: `-rpcuser` and `-rpcpassword` if they were given, otherwise the
    /// cookie.
    pub fn auth(&self) -> Auth {
        let value = |name: &str| {
            self.extra_args.iter().find_map(|arg| Some(arg.strip_prefix(name)?.to_owned()))
        };
        match (value("-rpcuser="), value("-rpcpassword=")) {
            (Some(user), Some(password)) => Auth::UserPass(user, password),
            _ => Auth::CookieFile(self.cookie_file()),
        }
    }

    pub fn cookie_file(&self) -> PathBuf {
        self.chain_dir().join(".cookie")
    }

    pub fn rpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.rpc_port)
    }

    /// Where it announces blocks over ZeroMQ; none if it was built without.
    pub fn zmq_url(&self) -> Option<String> {
        has_zmq().then(|| format!("tcp://127.0.0.1:{}", self.zmq_port))
    }

    /// The `[[node]]` section that points a gateway at this node.
    pub fn node_toml(&self) -> String {
        let credentials = match self.auth() {
            Auth::UserPass(user, password) => {
                format!("rpc_user = \"{user}\"\nrpc_password = \"{password}\"")
            }
            _ => format!("rpc_cookie_file = \"{}\"", self.cookie_file().display()),
        };
        let zmq = self.zmq_url().map(|url| format!("zmq_hashblock = \"{url}\"\n"));
        format!(
            "[[node]]\nkind = \"bitcoind\"\nrpc_url = \"{}\"\n{credentials}\n{}",
            self.rpc_url(),
            zmq.unwrap_or_default(),
        )
    }

    pub fn network(&self) -> Network {
        self.network
    }

    pub fn height(&self) -> u64 {
        self.rpc().get_block_count().unwrap()
    }

    pub fn best_hash(&self) -> BlockHash {
        self.rpc().get_best_block_hash().unwrap()
    }

    /// Mines `count` blocks whose coinbases anyone can spend.
    pub fn generate(&self, count: u64) -> Vec<BlockHash> {
        let address = Address::from_script(&anyone_can_spend(), self.network).unwrap();
        // The node gives up after a million hashes unless told otherwise; a signet block needs
        // more.
        let args = [count.into(), address.to_string().into(), HASHES_MAX.into()];
        self.rpc().call("generatetoaddress", &args).unwrap()
    }

    /// An address that nobody else has, and whose key nobody has.
    pub fn new_address(&self) -> Address {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let place = format!("{}/{count}", self.dir.path().display());
        let script = ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(place.as_bytes()));
        Address::from_script(&script, self.network).unwrap()
    }

    /// Fills the mempool with `count` segwit transactions: half of them alone, half in chains of
    /// parents and children, with fees that differ. Mines the blocks that this takes. For regtest.
    pub fn make_segwit_mempool(&mut self, count: usize) -> Vec<Txid> {
        let chains = count / 2 / CHAIN_LEN;
        let mut coins = self.fan_out(count - chains * (CHAIN_LEN - 1));
        let rpc = self.rpc();
        let mut txids = Vec::with_capacity(count);
        for (index, coin) in coins.drain(..).enumerate() {
            let mut coin = coin;
            for _ in 0..if index < chains { CHAIN_LEN } else { 1 } {
                let fee = Amount::from_sat(FEE_SATS_MIN + (txids.len() as u64 * 997) % 20_000);
                let child = spend(&coin, &[coin.value - fee]);
                txids.push(rpc.send_raw_transaction(&child).unwrap());
                coin = Coin::all_of(&child).remove(0);
            }
        }
        txids
    }

    /// Confirmed coins, as many as asked for, split from mature coinbases.
    fn fan_out(&mut self, count: usize) -> Vec<Coin> {
        let rpc = self.rpc();
        let fan_outs = count.div_ceil(FAN_OUT) as u64;
        let mature_height = self.coinbases_spent + fan_outs + COINBASE_MATURITY;
        self.generate(mature_height.saturating_sub(self.height()));
        let mut coins = Vec::new();
        while coins.len() < count {
            self.coinbases_spent += 1;
            let hash = rpc.get_block_hash(self.coinbases_spent).unwrap();
            let coinbase = &rpc.get_block(&hash).unwrap().txdata[0];
            let Some(coin) = Coin::all_of(coinbase).into_iter().next() else {
                // Mined by someone else, most likely a gateway under test.
                self.generate(1);
                continue;
            };
            let outputs = FAN_OUT.min(count - coins.len());
            let fee = Amount::from_sat(50 * outputs as u64 + 1_000);
            let parent = spend(&coin, &vec![(coin.value - fee) / outputs as u64; outputs]);
            rpc.send_raw_transaction(&parent).unwrap();
            coins.extend(Coin::all_of(&parent));
        }
        self.generate(1);
        coins
    }

    /// Takes the tip back, as in a reorganisation, and returns it for `reconsider`.
    pub fn invalidate_tip(&self) -> BlockHash {
        let tip = self.best_hash();
        self.rpc().invalidate_block(&tip).unwrap();
        tip
    }

    pub fn reconsider(&self, hash: &BlockHash) {
        self.rpc().reconsider_block(hash).unwrap();
    }

    /// The end of the node's own log, and of its standard error.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.chain_dir().join("debug.log")).unwrap_or_default();
        let skipped = log.lines().count().saturating_sub(LOG_TAIL_LINES);
        let tail: Vec<_> = log.lines().skip(skipped).collect();
        tail.join("\n") + "\n" + &fs::read_to_string(self.stderr_file()).unwrap_or_default()
    }

    fn stderr_file(&self) -> PathBuf {
        self.dir.path().join("stderr")
    }

    fn chain_dir(&self) -> PathBuf {
        self.dir.path().join(match self.network {
            Network::Signet => "signet",
            Network::Testnet4 => "testnet4",
            _ => "regtest",
        })
    }

    fn signal(&self, name: &str) {
        super::gateway::signal(self.child.as_ref().unwrap().id(), name);
    }
}

impl Drop for Bitcoind {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An output that anyone can spend, without a signature: P2WSH of the script `OP_TRUE`.
struct Coin {
    outpoint: OutPoint,
    value: Amount,
}

impl Coin {
    fn all_of(tx: &Transaction) -> Vec<Self> {
        let txid = tx.compute_txid();
        let ours = (0..).zip(&tx.output).filter(|(_, out)| out.script_pubkey == anyone_can_spend());
        ours.map(|(vout, out)| Self { outpoint: OutPoint { txid, vout }, value: out.value })
            .collect()
    }
}

fn spend(coin: &Coin, values: &[Amount]) -> Transaction {
    let output = |value: &Amount| TxOut { value: *value, script_pubkey: anyone_can_spend() };
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[witness_script().as_bytes()]),
        }],
        output: values.iter().map(output).collect(),
    }
}

fn anyone_can_spend() -> ScriptBuf {
    witness_script().to_p2wsh()
}

fn witness_script() -> ScriptBuf {
    Builder::new().push_opcode(OP_TRUE).into_script()
}

/// Whether the program that the tests run was built with ZeroMQ. Without it, the options are
/// accepted and do nothing.
pub fn has_zmq() -> bool {
    help_names("-zmqpubhashblock=")
}

/// Whether the program's help mentions this.
pub fn help_names(text: &str) -> bool {
    static HELP: OnceLock<String> = OnceLock::new();
    let help = HELP.get_or_init(|| {
        let help = Command::new(program()).arg("-help-debug").output().unwrap();
        String::from_utf8_lossy(&help.stdout).into_owned()
    });
    help.contains(text)
}

/// `BITCOIND`, otherwise the one that `.ci/bitcoind` has unpacked.
fn program() -> PathBuf {
    if let Some(path) = env::var_os("BITCOIND").filter(|path| !path.is_empty()) {
        return path.into();
    }
    let cache = env::var_os("GATEWAYD_CI_CACHE").map_or_else(
        || Path::new(&env::var_os("HOME").unwrap_or_default()).join(".cache/gatewayd-ci"),
        PathBuf::from,
    );
    let unpacked = cache.join("knots/bitcoind");
    assert!(unpacked.exists(), "no bitcoind here: run `bash tests/run`, which fetches one");
    unpacked
}

/// A port that is free now. It is below the ports that systems give to outgoing connections, from a
/// block that differs between test processes, so that nobody else takes it before the node does.
fn free_port() -> u16 {
    static OFFSET: AtomicU16 = AtomicU16::new(0);
    let place = u16::try_from(std::process::id() % u32::from(PORT_BLOCKS)).unwrap();
    for _ in 0..PORTS_PER_BLOCK {
        let offset = OFFSET.fetch_add(1, Ordering::Relaxed) % PORTS_PER_BLOCK;
        let port = PORT_FIRST + place * PORTS_PER_BLOCK + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const RPC_TIMEOUT: Duration = Duration::from_secs(120);
const HASHES_MAX: i32 = i32::MAX;
const COINBASE_MATURITY: u64 = 100;
/// Outputs of one splitting transaction: 43 bytes each, so well below the standard size.
const FAN_OUT: usize = 500;
/// The node accepts chains of up to 25.
const CHAIN_LEN: usize = 10;
/// For 100 to 150 virtual bytes: above the node's minimum.
const FEE_SATS_MIN: u64 = 500;
const LOG_TAIL_LINES: usize = 40;
const PORT_FIRST: u16 = 12_000;
const PORT_BLOCKS: u16 = 20;
/// Two for each node of each test: none is handed out twice in a run.
const PORTS_PER_BLOCK: u16 = 1_000;
