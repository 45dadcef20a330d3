//! Addresses as people write them.

use crate::config::Config;

const REST: &str = "[[node]]\n[mining]\naddress = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"\n";

#[track_caller]
fn problem(toml: &str) -> String {
    let error = Config::parse(toml).expect_err("it is a problem");
    assert_eq!(error.problems.len(), 1, "{error}");
    error.to_string()
}

#[test]
fn a_pool_may_be_written_with_its_port() {
    let pool = |keys: &str| {
        let config = Config::parse(&format!("{REST}[[pool]]\n{keys}\n")).map(|mut config| {
            let pool = config.datum.pools.remove(0);
            (pool.host, pool.port)
        });
        config.unwrap_or_else(|error| panic!("{error}"))
    };
    let is = |host: &str, port| (host.to_owned(), port);
    assert_eq!(pool("host = \"pool.example\""), is("pool.example", 28_915));
    assert_eq!(pool("host = \" pool.example:3000 \""), is("pool.example", 3000));
    assert_eq!(pool("host = \"pool.example:3000\"\nport = 3000"), is("pool.example", 3000));
    assert_eq!(pool("host = \"[::1]\"\nport = 3000"), is("::1", 3000));
    assert_eq!(pool("host = \"[::1]:3000\""), is("::1", 3000));
    assert_eq!(pool("host = \"::1\""), is("::1", 28_915));
    assert_eq!(pool("host = \"10.0.0.1/\""), is("10.0.0.1", 28_915));
}

#[test]
fn a_pool_that_is_no_host_is_explained_in_its_line() {
    for (keys, advice) in [
        ("host = \"stratum+tcp://pool.example:3333\"", "host = \"pool.example\""),
        ("host = \"STRATUM2+TCP://pool.example:3333\"", "the pool over DATUM"),
        ("host = \"https://pool.example/datum\"", "is a URL"),
        ("host = \"http://[::1]:3000\"", "host = \"::1\""),
        ("host = \"pool.example/datum\"", "is a URL"),
        ("host = \"pool.example:3000\"\nport = 3001", "another port than pool.port = 3001"),
        ("host = \"pool.example:none\"", "has an invalid port"),
        ("host = \"pool.example:0\"", "has an invalid port"),
        ("host = \"pool.example:99999\"", "has an invalid port"),
        ("host = \"fe80::1:2:3:4:5:6:7:28915\"", "in brackets"),
        ("host = \"pool,example\"", "invalid host name"),
        ("host = \"pool example\"", "invalid host name"),
        ("host = \"[::1\"", "invalid host name"),
        ("host = \"[::1]3000\"", "has an invalid port"),
        ("host = \"\"", "must name the pool's DATUM server"),
    ] {
        let told = problem(&format!("{REST}[[pool]]\n{keys}\n"));
        assert!(told.starts_with("configuration:5: pool.host ") && told.contains(advice), "{told}");
    }
    let told = problem(&format!("{REST}[[pool]]\nhost = \"me:hunter2@pool.example\"\n"));
    assert!(told.contains("contains a '@'") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_node_may_be_written_without_its_scheme() {
    for (url, expected) in [
        ("127.0.0.1:8332", "http://127.0.0.1:8332"),
        ("localhost:8332/", "http://localhost:8332"),
        ("HTTP://node:8332/wallet/x", "http://node:8332/wallet/x"),
        (" http://[::1]:8332/ ", "http://[::1]:8332"),
        ("[::1]:8332", "http://[::1]:8332"),
    ] {
        let toml = REST.replace("[[node]]", &format!("[[node]]\nrpc_url = \"{url}\""));
        let node = Config::parse(&toml).unwrap().template.nodes.remove(0);
        assert_eq!(node.rpc_url.to_string(), expected, "{url}");
        assert_eq!(format!("http://{}", node.name), expected, "{url}");
    }
}

#[test]
fn a_node_that_is_no_url_is_explained_in_its_line() {
    for (url, advice) in [
        ("http://127.0.0.1", "bitcoind's is 8332 (testnet4 48332"),
        ("127.0.0.1", "it has no port"),
        ("https://127.0.0.1:8332", "nodes only speak plain HTTP"),
        ("tcp://127.0.0.1:8332", "zmq_hashblock"),
        ("http://::1:8332", "in brackets"),
        ("http://127.0.0.1:8332?x", "has an invalid port"),
        ("http://http://127.0.0.1:8332", "should read http://host:port"),
        ("http//127.0.0.1:8332", "should read http://host:port"),
        ("", "should read http://host:port"),
    ] {
        let toml = REST.replace("[[node]]", &format!("[[node]]\nrpc_url = \"{url}\""));
        let told = problem(&toml);
        assert!(
            told.starts_with("configuration:2: node.rpc_url ") && told.contains(advice),
            "{told}"
        );
    }
}

#[test]
fn zeromq_may_be_written_without_its_scheme() {
    let toml =
        |url: &str| REST.replace("[[node]]", &format!("[[node]]\nzmq_hashblock = \"{url}\""));
    for (url, expected) in [
        ("127.0.0.1:28332", "tcp://127.0.0.1:28332"),
        ("tcp://node:28332/", "tcp://node:28332"),
        ("tcp://[::1]:28332", "tcp://[::1]:28332"),
        ("ipc:///run/bitcoin/zmq", "ipc:///run/bitcoin/zmq"),
    ] {
        let node = Config::parse(&toml(url)).unwrap().template.nodes.remove(0);
        assert_eq!(node.zmq_hashblock.as_deref(), Some(expected), "{url}");
    }
    for (url, advice) in [
        ("tcp://*:28332", "'*' is for the node to listen on"),
        ("tcp://127.0.0.1", "it has no port"),
        ("http://127.0.0.1:28332", "it is not a ZeroMQ address"),
        ("tcp://::1:28332", "in brackets"),
    ] {
        let told = problem(&toml(url));
        let is_there = told.starts_with("configuration:2: node.zmq_hashblock ");
        assert!(is_there && told.contains(advice), "{told}");
    }
}

#[test]
fn addresses_to_listen_on_are_understood_or_explained() {
    let api = |text: &str| format!("{REST}[api]\nlisten = \"{text}\"\n");
    for (text, expected) in [
        ("http://127.0.0.1:7152/", "127.0.0.1:7152"),
        ("localhost:7152", "127.0.0.1:7152"),
        (" [::1]:7152", "[::1]:7152"),
    ] {
        let listen = Config::parse(&api(text)).unwrap().api.listen;
        assert_eq!(listen, Some(expected.parse().unwrap()), "{text}");
    }
    for (text, advice) in [
        ("7152", "127.0.0.1:7152 for this machine alone, 0.0.0.0:7152 for your whole network"),
        (":7152", "127.0.0.1:7152 for this machine alone, 0.0.0.0:7152 for your whole network"),
        ("*:7152", "127.0.0.1:7152 for this machine alone, 0.0.0.0:7152 for your whole network"),
        ("127.0.0.1", "it has no port"),
        ("::1:7152", "in brackets"),
        ("::1", "it has no port"),
        ("my.machine:7152", "it contains a name"),
        ("https://127.0.0.1:7152", "a scheme that is not served here"),
        ("127.0.0.1:71520", "has an invalid port"),
    ] {
        let told = problem(&api(text));
        assert!(
            told.starts_with("configuration:5: api.listen ") && told.contains(advice),
            "{told}"
        );
    }
    let stratum = format!("{REST}[stratum]\nlisten = [\"stratum+tcp://0.0.0.0:23334\"]\n");
    assert_eq!(Config::parse(&stratum).unwrap().stratum.listen.len(), 1);
}
