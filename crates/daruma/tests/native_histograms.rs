//! Native histograms through the running program: pushed, stored, asked for, recorded by rules.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use daruma_model::wire::write::{bytes, double, number, signed, varint, zigzag};
use serde_json::{Value, json};
use support::{Daruma, until};

const RULES: &str = "groups:
- name: latency
  interval: 1s
  rules:
  - { record: 'job:latency', expr: 'sum by (job) (latency)' }
  - { record: 'job:latency:median', expr: 'histogram_quantile(0.5, job:latency)' }
  - { alert: Slow, expr: 'job:latency:median > 1' }
";

/// `count` observations between 1 and 2, as many between 2 and 4; in the flavour of version 2 as floats.
fn histogram(ms: i64, count: u64, floats: bool) -> Vec<u8> {
    let span = bytes(11, &[signed(1, 1), number(2, 2)].concat());
    let sum = double(3, 4.5 * count as f64);
    let counts = if floats {
        let packed = [count as f64, count as f64].map(f64::to_le_bytes).concat();
        [double(2, 2.0 * count as f64), bytes(13, &packed)].concat()
    } else {
        [number(1, 2 * count), bytes(12, &[zigzag(count as i64), zigzag(0)].concat())].concat()
    };
    [counts, sum, span, number(15, ms as u64)].concat()
}

/// Both versions of remote write: status, what it says, and how many samples and histograms it wrote.
fn push(daruma: &Daruma, version: u8, histograms: &[Vec<u8>]) -> (u16, String) {
    let labels = [("__name__", "latency"), ("job", "api")];
    let request = if version == 1 {
        let label = |(name, value): (&str, &str)| {
            bytes(1, &[bytes(1, name.as_bytes()), bytes(2, value.as_bytes())].concat())
        };
        let all = histograms.iter().flat_map(|one| bytes(4, one));
        bytes(1, &labels.into_iter().flat_map(label).chain(all).collect::<Vec<_>>())
    } else {
        let symbols =
            [""].into_iter().chain(labels.into_iter().flat_map(|(name, value)| [name, value]));
        let symbols: Vec<u8> = symbols.flat_map(|text| bytes(4, text.as_bytes())).collect();
        let all = histograms.iter().flat_map(|one| bytes(3, one));
        let series: Vec<u8> = bytes(1, &[1, 2, 3, 4]).into_iter().chain(all).collect();
        [symbols, bytes(5, &series)].concat()
    };
    // Valid snappy, though nothing is compressed.
    let mut body = varint(request.len() as u64);
    for part in request.chunks(60) {
        body.push((part.len() as u8 - 1) << 2);
        body.extend_from_slice(part);
    }
    let proto =
        if version == 1 { "prometheus.WriteRequest" } else { "io.prometheus.write.v2.Request" };
    let head = format!(
        "POST /api/v1/write HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-encoding: snappy\r\n\
         content-type: application/x-protobuf;proto={proto}\r\ncontent-length: {}\r\n\r\n",
        daruma.address,
        body.len()
    );
    let mut stream = TcpStream::connect(daruma.address).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer.to_lowercase())
}

fn ask(daruma: &Daruma, path: &str) -> Value {
    let (status, answer) = daruma.get(path);
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["data"]["result"].clone()
}

/// A number as the API writes it, but for its last digits.
fn near(said: &Value, want: f64) -> bool {
    said.as_str().unwrap().parse::<f64>().is_ok_and(|said| (said - want).abs() < 1e-9)
}

#[test]
fn pushed_histograms_are_stored_and_answered_as_prometheus_answers() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), RULES).unwrap();
    let config = "collect: {}\ndetect: { rule_files: [ rules.yml ] }\n";
    let daruma = Daruma::start(config, &dir.path().join("data"));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_secs()).unwrap();
    let start = now - 300;
    let at = |i: i64| (start + 15 * i) * 1000;

    let first: Vec<_> = (0..10).map(|i| histogram(at(i), 30 * i as u64, false)).collect();
    let (status, said) = push(&daruma, 1, &first);
    assert_eq!(status, 204, "{said}");
    let second: Vec<_> = (10..20).map(|i| histogram(at(i), 30 * i as u64, true)).collect();
    let (status, said) = push(&daruma, 2, &second);
    assert_eq!(status, 204, "{said}");
    assert!(said.contains("x-prometheus-remote-write-histograms-written: 10"), "{said}");
    assert!(said.contains("x-prometheus-remote-write-samples-written: 0"), "{said}");

    // Sent again: there already. Another value for its time, a count that lies, a time gone by: refused.
    let (status, said) = push(&daruma, 2, &second[9..]);
    assert!(status == 204 && said.contains("histograms-written: 1"), "{said}");
    for (histogram, why) in [
        (histogram(at(19), 999, true), "out of order"),
        (histogram(at(3), 90, false), "out of order"),
        (
            [histogram(at(20), 9, false), number(1, 5)].concat(),
            "its buckets hold 18 observations, of 5",
        ),
        ([histogram(at(20), 9, false), signed(4, 60)].concat(), "schema 60 is unknown"),
        (histogram(at(2000), 9, false), "ahead of this host's clock"),
    ] {
        let (status, said) = push(&daruma, 2, &[histogram]);
        assert_eq!(status, 400, "{said}");
        assert!(said.contains(why) && said.contains("histograms-written: 0"), "{why}: {said}");
    }

    let (from, to) = (start + 60, start + 285);
    let found = ask(&daruma, &format!("/api/v1/query?query=latency&time={to}"));
    let want = json!({
        "count": "1140", "sum": "2565", "buckets": [[0, "1", "2", "570"], [0, "2", "4", "570"]],
    });
    assert_eq!(found[0]["histogram"], json!([to, want]));
    let rate = "rate(latency%5B1m%5D)";
    let found = ask(&daruma, &format!("/api/v1/query?query=histogram_count({rate})&time={to}"));
    assert!(near(&found[0]["value"][1], 4.0), "{found}");
    let path = format!(
        "/api/v1/query_range?query=histogram_quantile(0.5,{rate})&start={from}&end={to}&step=15"
    );
    let found = ask(&daruma, &path);
    let values = found[0]["values"].as_array().unwrap();
    assert!(values.len() == 16 && values.iter().all(|value| near(&value[1], 2.0)), "{values:?}");
    let path = format!("/api/v1/query_range?query={rate}&start={from}&end={to}&step=75");
    let found = ask(&daruma, &path);
    let histograms = found[0]["histograms"].as_array().unwrap();
    assert!(histograms.len() == 4 && found[0]["values"].is_null(), "{found}");
    assert!(
        histograms.iter().all(|one| near(&one[1]["count"], 4.0) && near(&one[1]["sum"], 9.0)),
        "{found}"
    );
    let (_, series) =
        daruma.get(&format!("/api/v1/series?match%5B%5D=latency&start={from}&end={to}"));
    assert!(series.contains(r#""job":"api""#), "{series}");

    // Rules: the sum is recorded as a histogram, read by the next rule of its group, and the alert sees that.
    let recorded = until("the sum is recorded", || {
        let found = ask(&daruma, "/api/v1/query?query=job:latency");
        found.pointer("/0/histogram/1").cloned()
    });
    assert_eq!(recorded, want);
    until("the median is recorded", || {
        let found = ask(&daruma, "/api/v1/query?query=job:latency:median");
        (near(found.pointer("/0/value/1")?, 2.0)).then_some(())
    });
    until("the alert fires", || {
        let found = ask(&daruma, "/api/v1/query?query=ALERTS%7Balertname=%22Slow%22%7D");
        (found.pointer("/0/value/1")? == "1").then_some(())
    });
    let (_, rules) = daruma.get("/api/v1/rules");
    assert!(!rules.contains(r#""health":"err""#), "{rules}");
}
