//! Stratum V1 over TLS, on the port that serves everything else too.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use gatewayd::devnet::miner::{Miner, MinerOptions};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::{ADDRESS, SOON, SUBSCRIBE, node, peers, toml};
use crate::common::{
    eventually,
    gateway::Gateway,
    haproxy::{HaProxy, ProxyEntry},
    http::get,
};

const CA: &str = "/api/v1/stratum/ca.pem";
const ENABLED: &str = "[stratum.tls]\nenabled = true\n";

/// Trusts this authority and no other.
fn trusting(pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A client that knows the gateway by this authority and name.
type Client = BufReader<StreamOwned<ClientConnection, TcpStream>>;

fn connect(addr: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Client {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = ClientConnection::new(Arc::clone(config), name).unwrap();
    BufReader::new(StreamOwned::new(session, socket))
}

/// The first line of the answer, or what went wrong.
fn answer(client: &mut Client, said: &[u8]) -> Result<String, String> {
    let mut line = String::new();
    client.get_mut().write_all(said).map_err(|error| error.to_string())?;
    client.read_line(&mut line).map_err(|error| error.to_string())?;
    Ok(line)
}

/// The certificate that the gateway presented.
fn shown(client: &mut Client) -> Vec<u8> {
    client.get_ref().conn.peer_certificates().unwrap()[0].to_vec()
}

/// Wraps plain connections in TLS, like `stunnel`, for miners that do not speak it.
async fn bridge(to: SocketAddr, config: Arc<ClientConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut plain, _)) = listener.accept().await {
            let connector = TlsConnector::from(Arc::clone(&config));
            tokio::spawn(async move {
                let socket = tokio::net::TcpStream::connect(to).await.unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                let mut tls = connector.connect(name, socket).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut plain, &mut tls).await;
            });
        }
    });
    addr
}

/// What `openssl s_client` reads after sending a subscribe, and its messages.
fn openssl(addr: SocketAddr, ca: &Path, words: &str) -> (String, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-verify_return_error", "-connect", &addr.to_string()]);
    command.arg("-CAfile").arg(ca).args(words.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("no openssl here: install it (apt-get install openssl)");
    // It may have hung up by then.
    let _ = child.stdin.as_mut().unwrap().write_all(SUBSCRIBE);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    drop(child.stdin.take());
    let _ = child.kill();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    (line, said)
}

fn run(dir: &Path, words: &str) {
    let output = Command::new("openssl").args(words.split_whitespace()).current_dir(dir).output();
    let output = output.unwrap();
    assert!(output.status.success(), "openssl {words}: {output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn miners_mine_over_tls_next_to_others_and_through_haproxy() {
    let node = node().await;
    let proxied = format!("trusted_proxies = [\"127.0.0.9\"]\n{ENABLED}");
    let gateway = Gateway::start(&toml(&node, &proxied));
    let stratum = gateway.addr("stratum");
    let api = gateway.addr("http");
    let ca = eventually("the authority", SOON, || Some(get(api, CA)).filter(|it| it.status == 200));
    assert_eq!(ca.header("content-type"), Some("application/x-pem-file"));
    // As AxeOS requires: nothing before it, no more than 3,000 characters.
    assert!(ca.text().starts_with("-----BEGIN CERTIFICATE-----\n") && ca.text().len() < 1000);
    let file = gateway.dir().join("stratum-ca.pem");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let status = get(api, "/api/v1/status").json();
    assert_eq!(status["stratum"]["tls"]["own_authority"], true, "{status}");

    let server = "source 127.0.0.9 send-proxy-v2 check inter 100ms";
    let proxy = HaProxy::start(&[ProxyEntry { to: stratum, server }]);
    let config = trusting(ca.text());
    let through = bridge(proxy.addrs[0], Arc::clone(&config)).await;
    let ways = [stratum, bridge(stratum, config).await, through];
    let start = |(at, addr): (usize, &SocketAddr)| {
        let options = MinerOptions {
            connect: addr.to_string(),
            username: format!("{ADDRESS}.way{at}"),
            hashrate_max: Some(100_000.0),
            ..MinerOptions::default()
        };
        Miner::start(options).unwrap()
    };
    let miners: Vec<_> = ways.iter().enumerate().map(start).collect();
    eventually("shares by every way", SOON, || {
        miners.iter().all(|miner| miner.stats().accepted > 0).then_some(())
    });
    let table = get(api, "/api/v1/miners").json();
    let mut protocols: Vec<_> = table["miners"].as_array().unwrap().iter().collect();
    protocols.sort_by_key(|row| row["workers"][0].as_str().unwrap().to_owned());
    let protocols: Vec<_> = protocols.iter().map(|row| row["protocol"].as_str().unwrap()).collect();
    assert_eq!(protocols, ["sv1", "sv1+tls", "sv1+tls"]);
    assert!(peers(api).iter().all(|peer| peer.starts_with("127.0.0.1:")));
    let figures = get(api, "/metrics");
    assert!(figures.text().contains("protocol=\"sv1+tls\""), "{}", figures.text());
    for miner in miners {
        let stats = miner.stop().await;
        assert_eq!((stats.disconnects, stats.rejected), (0, 0), "{stats:?}");
    }
}

/// What ESP-IDF's mbedTLS offers, as on a Bitaxe: it sends even an address as the server's name.
const ESP: [&str; 3] = [
    "-tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256 -groups P-256 -sigalgs ECDSA+SHA256:RSA+SHA256 \
     -servername 127.0.0.1 -verify_ip 127.0.0.1",
    "-tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256 -groups P-256 -sigalgs ECDSA+SHA256:RSA-PSS+SHA256 \
     -servername 127.0.0.1 -verify_ip 127.0.0.1",
    "-verify_hostname localhost -maxfraglen 512",
];

#[tokio::test(flavor = "multi_thread")]
async fn openssl_connects_with_what_a_bitaxe_offers() {
    let node = node().await;
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(&toml(&node, ENABLED));
    let (stratum, api) = (gateway.addr("stratum"), gateway.addr("http"));
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, get(api, CA).text()).unwrap();
    for words in ESP {
        let (line, said) = openssl(stratum, &ca, words);
        assert!(line.contains("\"result\""), "{words}: {said}");
    }
    let (line, _) = openssl(stratum, &ca, "-verify_hostname somebody.else");
    assert_eq!(line, "");

    // An RSA key, from files.
    run(
        dir.path(),
        "req -x509 -newkey rsa:2048 -nodes -keyout rsa.key -out rsa.crt -days 9 -subj /CN=farm \
         -addext subjectAltName=IP:127.0.0.1",
    );
    let rsa = dir.path().join("rsa.crt");
    let files = format!(
        "{ENABLED}certificate_file = \"{}\"\nkey_file = \"{}\"\n",
        rsa.display(),
        dir.path().join("rsa.key").display()
    );
    let gateway = Gateway::start(&toml(&node, &files));
    let stratum = gateway.addr("stratum");
    for words in ESP[..2].iter().map(|it| it.replace("ECDHE-ECDSA", "ECDHE-RSA")) {
        let (line, said) = openssl(stratum, &rsa, &words);
        assert!(line.contains("\"result\""), "{words}: {said}");
    }
    let api = gateway.addr("http");
    assert_eq!(get(api, CA).status, 404);
    assert_eq!(get(api, "/api/v1/status").json()["stratum"]["tls"]["own_authority"], false);
}

fn pair(dir: &Path) -> String {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(dir.join("tls.crt"), made.cert.pem()).unwrap();
    fs::write(dir.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_and_nobody_is_dropped() {
    let node = node().await;
    let dir = tempfile::tempdir().unwrap();
    let first = pair(dir.path());
    let files = format!(
        "{ENABLED}certificate_file = \"{0}/tls.crt\"\nkey_file = \"{0}/tls.key\"\n",
        dir.path().display()
    );
    let gateway = Gateway::start(&toml(&node, &files));
    let stratum = gateway.addr("stratum");
    let config = trusting(&first);
    let mut stays = connect(stratum, "localhost", &config);
    assert!(answer(&mut stays, SUBSCRIBE).unwrap().contains("result"));
    let old = shown(&mut stays);

    // Nothing announces that the files have changed.
    let second = pair(dir.path());
    let mut new = eventually("the new certificate", SOON, || {
        let mut client = connect(stratum, "localhost", &trusting(&second));
        answer(&mut client, SUBSCRIBE).ok().map(|_| client)
    });
    assert_ne!(shown(&mut new), old);

    // An unusable one changes nothing.
    fs::write(dir.path().join("tls.key"), "none").unwrap();
    gateway.signal("HUP");
    let line = gateway.wait_for_line("keeps using the old certificate", SOON);
    assert!(line.contains("tls.key") && line.contains("stratum.tls.key_file"), "{line}");
    eventually("the page says so", SOON, || {
        let status = get(gateway.addr("http"), "/api/v1/status").json();
        status["warnings"].to_string().contains("tls-certificate").then_some(())
    });
    let mut more = connect(stratum, "localhost", &trusting(&second));
    assert!(answer(&mut more, SUBSCRIBE).unwrap().contains("result"));

    let authorize = format!(
        "{{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"{ADDRESS}.a\",\"x\"]}}\n"
    );
    stays.get_mut().write_all(authorize.as_bytes()).unwrap();
    let mut lines = stays.lines().map(|line| line.unwrap());
    assert!(lines.any(|line| line.contains("\"id\":2") && line.contains("true")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_client_is_not_told_to_switch_tls_on_where_only_the_certificate_is_missing() {
    let node = node().await;
    let files = "certificate_file = \"/none.crt\"\nkey_file = \"/none.key\"\n";
    let gateway = Gateway::start(&toml(&node, &format!("{ENABLED}{files}")));
    let (stratum, api) = (gateway.addr("stratum"), gateway.addr("http"));
    gateway.wait_for_line("/none.crt", SOON);
    let mut miner = TcpStream::connect(stratum).unwrap();
    miner.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    let line = gateway.wait_for_line("speaks TLS", SOON);
    assert!(line.contains("certificate") && !line.contains("enabled"), "{line}");
    let status = get(api, "/api/v1/status").json()["warnings"].to_string();
    assert!(status.contains("tls-is-off") && !status.contains("tls.enabled"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_why_a_client_cannot_use_tls() {
    let node = node().await;
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let stranger = trusting(&other.cert.pem());
    let gateway = Gateway::start(&toml(&node, ""));
    let (stratum, api) = (gateway.addr("stratum"), gateway.addr("http"));
    assert!(answer(&mut connect(stratum, "localhost", &stranger), SUBSCRIBE).is_err());
    let line = gateway.wait_for_line("speaks TLS", SOON);
    assert!(line.contains("stratum.tls.enabled"), "{line}");
    let status = get(api, "/api/v1/status").json();
    assert!(status["warnings"].to_string().contains("tls-is-off"), "{status}");
    assert_eq!(get(api, CA).status, 404);

    // With missing files, none of the new settings takes effect.
    let change = |tls: &str| {
        let toml = toml(&node, &format!("login_timeout = \"2s\"\n{tls}"));
        let toml = toml.replace("{dir}", gateway.dir().to_str().unwrap());
        fs::write(gateway.dir().join("gatewayd.toml"), toml).unwrap();
        gateway.signal("HUP");
    };
    change(&format!("{ENABLED}certificate_file = \"/none.crt\"\nkey_file = \"/none.key\"\n"));
    let line = gateway.wait_for_line("/none.crt", SOON);
    assert!(line.contains("stratum.tls.certificate_file) cannot be read"), "{line}");

    // Switched on while it runs, for clients that trust the authority.
    change(ENABLED);
    let ca = eventually("the authority", SOON, || Some(get(api, CA)).filter(|it| it.status == 200));
    assert!(answer(&mut connect(stratum, "localhost", &stranger), SUBSCRIBE).is_err());
    let line = gateway.wait_for_line("does not know who signed", SOON);
    assert!(line.contains("dashboard"), "{line}");

    // V2 is encrypted by itself; and a client that never completes a handshake is disconnected.
    let config = trusting(ca.text());
    assert_eq!(answer(&mut connect(stratum, "localhost", &config), &[0xE7; 64]), Ok(String::new()));
    let mut half = TcpStream::connect(stratum).unwrap();
    half.set_read_timeout(Some(SOON)).unwrap();
    half.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    assert_eq!(half.read(&mut [0; 1]).unwrap(), 0);
    let mut long = TcpStream::connect(stratum).unwrap();
    long.set_read_timeout(Some(SOON)).unwrap();
    let _ =
        long.write_all(&[b"\x16\x03\x01\x3F\xFF\x01\x00\x3F\xFB".as_slice(), &[3; 9000]].concat());
    assert!(matches!(long.read(&mut [0; 1]), Ok(0) | Err(_)));
    // Others are served as before.
    assert!(
        answer(&mut connect(stratum, "localhost", &config), SUBSCRIBE).unwrap().contains("result")
    );
    let mut plain = TcpStream::connect(stratum).unwrap();
    plain.set_read_timeout(Some(SOON)).unwrap();
    plain.write_all(SUBSCRIBE).unwrap();
    let mut line = String::new();
    BufReader::new(plain).read_line(&mut line).unwrap();
    assert!(line.contains("result"), "{line}");
}
