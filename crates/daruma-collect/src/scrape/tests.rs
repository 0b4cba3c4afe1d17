//! Endpoints whose metrics come, go and break.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::*;
use crate::testing::{PATIENCE, Running, ended, run, value};
use daruma_model::{SourceState, is_stale};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const TEXT: &str = "content-type: text/plain; version=0.0.4\r\n";

/// An endpoint whose next answer can be set: header fields and body.
#[derive(Clone)]
struct Endpoint {
    address: SocketAddr,
    answer: Arc<Mutex<(String, Vec<u8>)>>,
    asked: Arc<Mutex<String>>,
}

impl Endpoint {
    async fn new(head: &str, body: &str) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new((head.to_owned(), body.as_bytes().to_vec()))),
            asked: Arc::default(),
        };
        let serving = endpoint.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let Ok(length) = stream.read(&mut request).await else { continue };
                *serving.asked.lock().unwrap() =
                    String::from_utf8_lossy(&request[..length]).into_owned();
                let (head, body) = serving.answer.lock().unwrap().clone();
                let head =
                    format!("HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n", body.len());
                // Who asks may hang up before the end of a body that is too large.
                let _hung_up = stream.write_all(head.as_bytes()).await;
                let _hung_up = stream.write_all(&body).await;
            }
        });
        endpoint
    }

    fn exposes(&self, head: &str, body: impl Into<Vec<u8>>) {
        *self.answer.lock().unwrap() = (head.to_owned(), body.into());
    }

    fn scraped(&self, more: &str) -> Running {
        let address = self.address;
        let yaml = format!(
            "{{ job: web, targets: ['{address}'], every: 100ms, labels: {{ zone: a }}{more} }}"
        );
        let source: ScrapeSource = serde_saphyr::from_str(&yaml).unwrap();
        let target = source.into_iter().next().unwrap();
        // A loaded machine is not what these tests are about.
        run(TargetSource { timeout: PATIENCE, ..target })
    }
}

fn is_up(commit: &Commit) -> bool {
    value(commit, "up", &[]) == Some(1.0)
}

#[tokio::test]
async fn a_series_that_vanishes_ends_and_a_broken_line_ends_them_all() {
    let endpoint = Endpoint::new(TEXT, "a 1\nb{x=\"1\"} 2\nb{x=\"2\"} 3\n").await;
    let mut scrape = endpoint.scraped("");
    let commit = scrape.until(is_up).await;
    let own = [("job", "web"), ("instance", &*endpoint.address.to_string()), ("zone", "a")];
    assert_eq!(value(&commit, "a", &own), Some(1.0));
    for (name, want) in [
        ("scrape_samples_scraped", 3.0),
        ("scrape_samples_post_metric_relabeling", 3.0),
        ("scrape_series_added", 3.0),
    ] {
        assert_eq!(value(&commit, name, &own), Some(want), "{name}");
    }
    assert!(value(&commit, "scrape_duration_seconds", &own).is_some());
    let times: BTreeSet<Time> = commit.samples.iter().map(|sample| sample.time).collect();
    assert_eq!(times.len(), 1, "one scrape, one time");
    let asked = endpoint.asked.lock().unwrap().to_lowercase();
    assert!(asked.starts_with("get /metrics http/1.1\r\n"), "{asked}");
    assert!(asked.contains("accept: application/openmetrics-text;version=1.0.0"), "{asked}");

    endpoint.exposes(TEXT, "a 1\nb{x=\"2\"} 3\n");
    let commit = scrape.until(|commit| !ended(commit).is_empty()).await;
    let gone = ended(&commit);
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert!(gone[0].starts_with("b{") && gone[0].contains(r#"x="1""#), "{gone:?}");
    assert_eq!(value(&commit, "b", &[("x", "2")]), Some(3.0));

    endpoint.exposes(TEXT, "a 1\nb{x=\"2\"} three\n");
    let commit = scrape.until(|commit| !is_up(commit)).await;
    assert_eq!(ended(&commit).len(), 2, "{commit:?}");
    assert_eq!(value(&commit, "a", &[]), None, "no partial writes");
    let health = scrape.health(SourceState::Failing).await;
    assert!(health.said.contains("line 2: expected a number, found \"three\""), "{}", health.said);

    endpoint.exposes(TEXT, "a 5\n");
    let commit = scrape.until(is_up).await;
    assert_eq!(value(&commit, "a", &[]), Some(5.0));
    assert!(ended(&commit).is_empty(), "what has ended ends once: {commit:?}");
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_fails_the_scrape_and_says_why() {
    let endpoint = Endpoint::new("", "a 1\n").await;
    let mut scrape = endpoint.scraped(", sample_limit: 100, body_bytes_max: 10000");
    let many: String = (0..101).map(|i| format!("m{i} 1\n")).collect();
    let huge = "# a comment is a body too\n".repeat(1000);
    for (head, body, words) in [
        ("", "a 1\n", "Content-Type \"\" is no known one"),
        ("content-type: text/html\r\n", "a 1\n", "Content-Type \"text/html\" is no known one"),
        ("content-type: text/plain\r\ncontent-encoding: gzip\r\n", "a 1\n", "encoded as \"gzip\""),
        (TEXT, &*many, "101 samples are more than the limit of 100"),
        (TEXT, &*huge, "larger than 10000 bytes"),
        (TEXT, "a{b=\"1\",b=\"2\"} 1\n", "the label \"b\" comes twice"),
        ("content-type: application/openmetrics-text; version=1.0.0\r\n", "a 1\n", "# EOF"),
    ] {
        endpoint.exposes(head, body);
        loop {
            let health = scrape.health(SourceState::Failing).await;
            if health.said.contains(words) {
                break;
            }
        }
        assert!(!is_up(&scrape.commit().await), "{words}");
        endpoint.exposes(TEXT, "a 1\n");
        scrape.until(is_up).await;
    }
}

#[tokio::test]
async fn a_format_that_nobody_names_can_be_agreed_on() {
    let endpoint = Endpoint::new("", "a 1\n").await;
    let mut scrape = endpoint.scraped(", fallback_scrape_protocol: PrometheusText0.0.4");
    assert!(is_up(&scrape.commit().await));
    let endpoint = Endpoint::new("content-type: application/openmetrics-text\r\n", "a 1\n# EOF\n");
    assert!(is_up(&endpoint.await.scraped("").commit().await));
}

fn memory(honor_timestamps: bool) -> Memory {
    let rules =
        Rules { honor_labels: false, honor_timestamps, sample_limit: 1000, body_bytes_max: 1000 };
    Memory::new(Labels::from([("job", "j"), ("instance", "i")]), rules)
}

fn take(memory: &mut Memory, text: &str, at: i64) -> (Commit, Counts, Option<String>) {
    let answer = Ok((Format::Text, text.into()));
    let (commit, counts, failed, _) = digest(memory, answer, Time(at), Duration::from_millis(3));
    (commit, counts, failed)
}

#[test]
fn what_is_said_of_metrics_is_told_where_series_are_new() {
    let mut memory = memory(true);
    let mut said = |text: &str| {
        let answer = Ok((Format::Text, text.as_bytes().to_vec()));
        digest(&mut memory, answer, Time(1000), Duration::ZERO).3
    };
    let text = "# HELP a An \\\\ escaped\\nhelp.\n# TYPE a counter\na 1\n";
    let a = Described {
        metric: "a".to_owned(),
        kind: "counter",
        help: "An \\ escaped\nhelp.".to_owned(),
        unit: String::new(),
    };
    assert_eq!(said(text), [a]);
    assert_eq!(said(text), []);
    assert_eq!(said(&format!("{text}b 1\n")).len(), 1, "b is new");
    assert_eq!(said("broken {\nc 1\n"), []);
}

#[test]
fn who_brings_its_own_time_ends_by_itself() {
    let mut memory = memory(true);
    let (commit, ..) = take(&mut memory, "own 1 500\nours 2\n", 1000);
    let times: BTreeMap<&str, i64> =
        commit.samples.iter().map(|s| (s.labels.get("__name__"), s.time.0)).collect();
    assert_eq!((times["own"], times["ours"], times["up"]), (500, 1000, 1000));
    let (commit, ..) = take(&mut memory, "", 2000);
    assert_eq!(ended(&commit), [r#"ours{instance="i", job="j"}"#]);
}

#[test]
fn an_endpoint_with_a_million_series_is_refused_whole_and_leaves_nothing_behind() {
    let mut memory = memory(true);
    take(&mut memory, "known 1\n", 1000);
    let million: String = (0..1_000_000).map(|i| format!("m{i} 1\n")).collect();
    let (commit, counts, failed) = take(&mut memory, &million, 2000);
    assert_eq!(failed.unwrap(), "1000000 samples are more than the limit of 1000");
    assert_eq!((counts.scraped, counts.added), (1_000_000, 0));
    assert_eq!(ended(&commit), [r#"known{instance="i", job="j"}"#]);
    assert_eq!(commit.samples.len(), 1 + 5);
    assert_eq!((memory.by_text.len(), memory.by_labels.len(), memory.series.len()), (0, 0, 1));
}

#[test]
fn times_in_the_text_can_be_ignored() {
    let mut memory = memory(false);
    let (commit, ..) = take(&mut memory, "own 1 500\n", 1000);
    assert!(commit.samples.iter().all(|sample| sample.time == Time(1000)));
}

#[test]
fn one_series_under_two_texts_is_one_series_and_its_second_value_is_counted_lost() {
    let mut memory = memory(true);
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 2\nh_bucket{ le=\"1\" } 3\n";
    let (commit, counts, failed) = take(&mut memory, text, 1);
    assert_eq!((counts.doubled, counts.scraped, counts.added, failed), (2, 3, 1, None));
    assert_eq!(value(&commit, "h_bucket", &[("le", "1.0")]), Some(1.0));
    // The metadata goes: the same text now means another series.
    let (commit, ..) = take(&mut memory, "h_bucket{le=\"1\"} 4\n", 2);
    assert_eq!(value(&commit, "h_bucket", &[("le", "1")]), Some(4.0));
    assert_eq!(ended(&commit), [r#"h_bucket{instance="i", job="j", le="1.0"}"#]);
}

#[test]
fn a_scrape_is_configured_or_refused_with_a_reason() {
    let read = |yaml: &str| serde_saphyr::from_str::<ScrapeSource>(yaml).map_err(|e| e.to_string());
    let source =
        read("{ job: web, targets: ['a:1', '[::1]:2'], scheme: https, path: /m }").unwrap();
    let again: ScrapeSource =
        serde_json::from_value(serde_json::to_value(&source).unwrap()).unwrap();
    assert_eq!(again, source);
    let names: Vec<String> = source.into_iter().map(|target| target.name()).collect();
    assert_eq!(names, ["scrape/web/a:1", "scrape/web/[::1]:2"]);
    for (yaml, words) in [
        ("{ job: web, targets: ['a'] }", "no host:port"),
        ("{ job: web, targets: ['a:b'] }", "no host:port"),
        ("{ job: web, targets: ['u:p@a:1'] }", "no host:port"),
        ("{ job: web, targets: ['http://a:1'] }", "no host:port"),
        ("{ job: '', targets: [] }", "job"),
        ("{ job: web, targets: [], path: metrics }", "begin with /"),
        ("{ job: web, targets: [], every: 1s, timeout: 2s }", "timeout"),
        ("{ job: web, targets: [], sample_limit: 0 }", "sample_limit"),
        ("{ job: web, targets: [], body_bytes_max: 0 }", "body_bytes_max"),
        ("{ job: web, targets: [], scheme: ftp }", "ftp"),
        ("{ job: web, target: [] }", "target"),
        ("{ job: web, targets: [], fallback_scrape_protocol: protobuf }", "protobuf"),
    ] {
        let error = read(yaml).unwrap_err();
        assert!(error.contains(words), "{yaml}: {error}");
    }
}

proptest! {
    /// Whatever targets expose, scrape after scrape: no commit has a series twice, a failed scrape
    /// brings nothing but its report, and every series that was there and is not ends exactly once.
    #[test]
    fn every_series_that_is_not_there_any_more_has_ended(
        scrapes in prop::collection::vec(
            (prop::collection::vec((0_u8..5, 0_u8..3), 0..8), 0_u8..5), 1..10),
    ) {
        let mut memory = memory(true);
        let mut open: BTreeSet<String> = BTreeSet::new();
        for (round, (lines, fate)) in scrapes.into_iter().enumerate() {
            let mut text = String::new();
            for (name, form) in lines {
                let blanks = ["", " ", "  "][usize::from(form)];
                text += &format!("s{name}{{{blanks}l=\"{name}\"}} {round}\n");
            }
            text += ["", "", "", "broken\n", "d{a=\"1\",a=\"2\"} 1\n"][usize::from(fate)];
            let at = 1000 * round as i64;
            let (commit, counts, failed) = take(&mut memory, &text, at);
            prop_assert_eq!(failed.is_some(), fate >= 3);
            let mut seen = BTreeMap::new();
            for sample in &commit.samples {
                let twice = seen.insert(sample.labels.to_string(), is_stale(sample.value));
                prop_assert!(twice.is_none(), "{} twice", sample.labels);
            }
            let of_ours = |stale: bool| -> BTreeSet<String> {
                let ours = seen.iter().filter(|(name, ended)| name.starts_with('s')
                    && !name.starts_with("scrape_") && **ended == stale);
                ours.map(|(name, _)| name.clone()).collect()
            };
            let brought = of_ours(false);
            prop_assert!(failed.is_none() || brought.is_empty());
            prop_assert_eq!(of_ours(true), open.difference(&brought).cloned().collect());
            prop_assert!(counts.added <= counts.scraped);
            // What is kept does not outgrow what is there.
            prop_assert_eq!(memory.by_labels.len(), brought.len());
            prop_assert!(memory.by_text.len() <= 4 * brought.len() + 16);
            open = brought;
        }
    }
}
