//! Against a scripted server that accepts everything except one share in eight.

use std::path::PathBuf;

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

#[tokio::test]
async fn everything_is_measured_and_rejects_are_not_hidden() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tip = folder.path().join("tip");
    let args = LoadArgs {
        connect: listener.local_addr().unwrap().to_string(),
        protocol: Speaks::Sv1,
        authority_key: None,
        miners: 6,
        channels_per_connection: 1,
        churn: false,
        tips_from: None,
        steady: 0,
        in_flight: 4,
        run_for: Duration::from_millis(200),
        pid: Some(std::process::id()),
        tip_command: Some(format!("touch {}", tip.display())),
        tips: 1,
        sources: Some(3),
        user: "load".into(),
        user_agent: "test".into(),
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, tip.clone()));
        }
    });
    let report = run(&args).await.unwrap();
    assert_eq!(report.arrivals.len(), 6);
    assert_eq!((report.connected, report.disconnects, report.connect_failures), (6, 0, 0));
    assert!(report.submit_answered > 10);
    let rejected = report.rejects["23 high-hash"];
    assert_eq!(report.submitted, report.accepted + rejected);
    assert!(rejected >= report.submitted / 8 - 6);
    let [tip] = &report.tips[..] else { panic!("{:?}", report.tips) };
    assert_eq!((tip.without_clean, tip.without_full), (0, 0));
    assert!(tip.first_clean <= tip.last_clean && Some(tip.last_clean) <= tip.last_full);
    assert!(!report.is_clean(), "shares were rejected");
    let table = report.to_string();
    for row in ["| server CPU per submit |", "| rejected: 23 high-hash |", "| tip command → last"]
    {
        assert!(table.contains(row), "{table}");
    }
}

/// Sends work on another block, empty first, as soon as the file `tip` exists.
async fn serve(stream: TcpStream, tip: PathBuf) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut poll = tokio::time::interval(Duration::from_millis(5));
    let mut told = false;
    loop {
        let answer = tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => answer(&line),
                _ => return,
            },
            _ = poll.tick(), if !told => {
                told = tip.exists();
                if told { job("N2", 'b', true) + &job("3", 'b', false) } else { String::new() }
            }
        };
        if write.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(line: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Request {
        id: u64,
        method: String,
    }
    let Request { id, method } = serde_json::from_str(line).unwrap();
    match &*method {
        "mining.subscribe" => format!(
            "{{\"id\":{id},\"result\":[[],\"01020304\",8],\"error\":null}}\n\
             {{\"id\":null,\"method\":\"mining.set_difficulty\",\"params\":[1e-9]}}\n{}",
            job("1", 'a', true)
        ),
        "mining.submit" if id % 8 == 0 => {
            format!("{{\"id\":{id},\"result\":null,\"error\":[23,\"high-hash\",null]}}\n")
        }
        _ => format!("{{\"id\":{id},\"result\":true,\"error\":null}}\n"),
    }
}

fn job(id: &str, prevhash: char, clean: bool) -> String {
    let prevhash = prevhash.to_string().repeat(64);
    format!(
        "{{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"{id}\",\"{prevhash}\",\"00\",\"11\",[],\"20000000\",\"207fffff\",\"66000000\",{clean}]}}\n"
    )
}
