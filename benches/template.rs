//! Parsing the node's answer into a template: 4,000 transactions of about 500 bytes, 2 MB in all.
#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

use std::{fmt::Write, hint::black_box};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gatewayd::node::gbt::RawTemplate;

fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("template");
    for transactions in [1, 4_000] {
        let json = answer(transactions);
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(format!("parse {transactions} transactions"), |bencher| {
            bencher.iter(|| {
                let raw: RawTemplate<'_> = serde_json::from_str(black_box(&json)).unwrap();
                raw.into_template("bench".into()).unwrap()
            });
        });
    }
    group.finish();
}

fn answer(transactions: usize) -> String {
    let mut json = String::from(
        r#"{"capabilities":["proposal"],"version":536870912,"rules":["csv","!segwit","taproot"],
        "previousblockhash":"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
        "coinbasevalue":5000000000,"longpollid":"x","mintime":1296688603,"curtime":1700000000,
        "bits":"207fffff","height":1,"sigoplimit":80000,"sizelimit":4000000,"weightlimit":4000000,
        "default_witness_commitment":
        "6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9",
        "transactions":["#,
    );
    for at in 0..transactions {
        let comma = if at > 0 { "," } else { "" };
        let data = "0123456789abcdef".repeat(50 + at % 25);
        let weight = data.len() / 2 * 2 - 12;
        write!(
            json,
            r#"{comma}{{"data":"{data}","txid":"{at:064x}","hash":"{:064x}","depends":[],
            "fee":1000,"sigops":1,"weight":{weight}}}"#,
            at + 1_000_000
        )
        .unwrap();
    }
    json + "]}"
}

criterion_group!(benches, parse);
criterion_main!(benches);
