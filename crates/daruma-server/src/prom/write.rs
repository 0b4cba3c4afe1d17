//! The receiver of remote write, both versions. What comes in goes the way of every other sample, and is
//! answered only when it is in the store: a sender that is faster than the rules waits.
//!
//! Whoever may push samples decides what rules see, and so what recoveries do: with tokens this demands
//! the role `writer` or `responder`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daruma_model::{
    Commit, Histogram, HistogramError, HistogramSample, Labels, Sample, Span, Time,
};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::proto::{self, Described, Pushed};
use crate::accept::Site;
use crate::answer::{self, Answer};
use crate::shared::{Ask, Taken};

/// The largest request, compressed.
pub(crate) const BODY_BYTES_MAX: usize = 8 << 20;
/// And decompressed, as Prometheus has it.
const PLAIN_BYTES_MAX: usize = 32 << 20;
/// Requests that are read at once.
const AT_ONCE: usize = 4;
/// How long a request waits for its turn, and for the store.
const TURN_WITHIN: Duration = Duration::from_secs(10);
const STORED_WITHIN: Duration = Duration::from_secs(25);
/// Samples further ahead than this are refused: they would block their series.
const AHEAD_MAX: Span = Span::minutes(10);
/// Buckets of all histograms of a request, where each counts its runs of them, too.
const BUCKETS_MAX: usize = 4 << 20;
/// Labels of one series.
const LABELS_MAX: usize = 1000;
/// Bytes of label texts that are remembered.
const KNOWN_BYTES_MAX: usize = 64 << 20;

/// What the receiver keeps between requests.
pub(crate) struct Writes {
    free: Semaphore,
    known: Mutex<Known>,
}

/// Label sets by their texts: a sender repeats the same series all day long.
#[derive(Default)]
struct Known {
    sets: HashMap<Box<[u8]>, Labels>,
    bytes: usize,
}

impl Default for Writes {
    fn default() -> Writes {
        Writes { free: Semaphore::new(AT_ONCE), known: Mutex::default() }
    }
}

impl Writes {
    /// A turn, before the body is read: what waits holds no memory.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(TURN_WITHIN, self.free.acquire()).await.ok()?.ok()
    }
}

/// The two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    First,
    Second,
}

/// Which message the headers announce, or why it cannot be read.
fn version(parts: &Parts) -> Result<Version, &'static str> {
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if header(CONTENT_ENCODING).is_some_and(|encoding| encoding.trim() != "snappy") {
        return Err("only snappy is read: set `Content-Encoding: snappy`");
    }
    let mut media = header(CONTENT_TYPE).unwrap_or_default().split(';').map(str::trim);
    if media.next() != Some("application/x-protobuf") {
        return Err("only application/x-protobuf is read");
    }
    match media.find_map(|part| part.strip_prefix("proto=")) {
        None | Some("prometheus.WriteRequest") => Ok(Version::First),
        Some("io.prometheus.write.v2.Request") => Ok(Version::Second),
        Some(_) => Err("only prometheus.WriteRequest and io.prometheus.write.v2.Request are read"),
    }
}

/// What a request holds, ready to be stored.
#[derive(Default)]
struct Read {
    /// The n-th sample of each series stands in the n-th commit: a commit holds one of a series.
    commits: Vec<Commit>,
    samples: usize,
    /// Samples of series whose labels are no series' labels.
    nameless: usize,
    /// Samples from the future.
    ahead: usize,
    /// What is no histogram, and why the first of them is none.
    broken: (usize, Option<HistogramError>),
    /// Buckets and spans of all histograms.
    buckets: usize,
    /// Histograms that brought more than [`BUCKETS_MAX`] together with those before.
    wide: usize,
    described: Vec<(String, crate::Described)>,
}

impl Read {
    fn series(&mut self, known: &Mutex<Known>, latest: Time, pushed: &Pushed<'_>) {
        let all = pushed.samples.len() + pushed.histograms.len();
        self.samples += all;
        let Some(labels) = labels(known, &pushed.labels) else {
            self.nameless += all;
            return;
        };
        if let Some(described) = pushed.described {
            self.describe(Described { metric: labels.get(Labels::NAME), ..described });
        }
        let mut at = 0;
        for (time, value) in &pushed.samples {
            if *time > latest {
                self.ahead += 1;
                continue;
            }
            if self.commits.len() == at {
                self.commits.push(Commit::default());
            }
            let sample = Sample { labels: labels.clone(), time: *time, value: *value };
            self.commits[at].samples.push(sample);
            at += 1;
        }
        for histogram in &pushed.histograms {
            let point = match histogram {
                Ok(point) if point.time > latest => {
                    self.ahead += 1;
                    continue;
                }
                Ok(point) => point.clone(),
                Err(why) => {
                    self.broken.0 += 1;
                    self.broken.1.get_or_insert_with(|| why.clone());
                    continue;
                }
            };
            let Histogram { positive, negative, custom_bounds, .. } = &*point.histogram;
            self.buckets += [positive, negative]
                .map(|side| side.len() + side.spans.len())
                .iter()
                .sum::<usize>();
            self.buckets += custom_bounds.len();
            if self.buckets > BUCKETS_MAX {
                self.wide += 1;
                continue;
            }
            if self.commits.len() == at {
                self.commits.push(Commit::default());
            }
            let (labels, time, start) = (labels.clone(), point.time, point.start);
            let sample = HistogramSample { labels, time, start, histogram: point.histogram };
            self.commits[at].histograms.push(sample);
            at += 1;
        }
    }

    fn describe(&mut self, said: Described<'_>) {
        if said.kind == "unknown" && said.help.is_empty() && said.unit.is_empty() {
            return;
        }
        let described = crate::Described {
            kind: said.kind.to_owned(),
            help: said.help.to_owned(),
            unit: said.unit.to_owned(),
        };
        self.described.push((said.metric.to_owned(), described));
    }
}

/// The label set of these pairs, if a series can have it.
fn labels(known: &Mutex<Known>, pairs: &[(&str, &str)]) -> Option<Labels> {
    let mut key = Vec::with_capacity(pairs.iter().map(|(n, v)| n.len() + v.len() + 8).sum());
    for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
        key.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
        key.extend_from_slice(text.as_bytes());
    }
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(labels) = known.sets.get(key.as_slice()) {
        return Some(labels.clone());
    }
    if pairs.len() > LABELS_MAX || pairs.iter().any(|(name, _)| name.is_empty()) {
        return None;
    }
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let twice = names.windows(2).any(|pair| pair[0] == pair[1]);
    let labels: Labels = pairs.iter().copied().collect();
    if twice || !labels.has(Labels::NAME) {
        return None;
    }
    known.bytes += key.len();
    if known.bytes > KNOWN_BYTES_MAX {
        known.sets.clear();
        known.bytes = key.len();
    }
    known.sets.insert(key.into(), labels.clone());
    Some(labels)
}

/// Decompresses and reads a request. Takes a while: not on a thread that serves connections.
fn read(site: &Site, version: Version, body: &[u8], latest: Time) -> Result<Read, String> {
    let length = snap::raw::decompress_len(body).map_err(|error| error.to_string())?;
    if length > PLAIN_BYTES_MAX {
        return Err(format!("the body is {length} bytes long; at most {PLAIN_BYTES_MAX} are read"));
    }
    let plain =
        snap::raw::Decoder::new().decompress_vec(body).map_err(|error| error.to_string())?;
    let mut read = Read::default();
    let known = &site.writes.known;
    match version {
        Version::First => {
            let mut said = Vec::new();
            proto::first(&plain, |one| read.series(known, latest, one), |one| said.push(one))
                .map_err(|error| error.to_string())?;
            said.into_iter().for_each(|one| read.describe(one));
        }
        Version::Second => {
            proto::second(&plain, |one| read.series(known, latest, one))
                .map_err(|error| error.to_string())?;
        }
    }
    Ok(read)
}

/// `POST /api/v1/write`.
pub(crate) async fn write(site: &Arc<Site>, parts: &Parts, body: Bytes) -> Answer {
    let version = match version(parts) {
        Ok(version) => version,
        Err(why) => return answer::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, why),
    };
    let latest = (site.shared.clock)() + AHEAD_MAX;
    let reading = Arc::clone(site);
    let read = tokio::task::spawn_blocking(move || read(&reading, version, &body, latest)).await;
    let mut read = match read {
        Ok(Ok(read)) => read,
        Ok(Err(why)) => return answer::text(StatusCode::BAD_REQUEST, why),
        Err(error) => return answer::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    };
    if !read.described.is_empty() {
        (site.shared.described)(std::mem::take(&mut read.described));
    }
    let mut taken = Taken::default();
    if !read.commits.is_empty() {
        let busy = || {
            // The sender comes back with the same samples.
            let mut busy = answer::text(StatusCode::SERVICE_UNAVAILABLE, "the store is busy");
            busy.headers_mut().insert("retry-after", HeaderValue::from_static("5"));
            busy
        };
        let (reply, told) = oneshot::channel();
        let stored = async {
            let commits = std::mem::take(&mut read.commits);
            site.shared.asks.send(Ask::Write { commits, reply }).await.ok()?;
            told.await.ok()
        };
        taken = match tokio::time::timeout(STORED_WITHIN, stored).await {
            Ok(Some(taken)) => taken,
            Ok(None) | Err(_) => return busy(),
        };
    }
    told(version, &read, taken)
}

/// What the sender is told. A 400 means: all that could be kept is kept, and sending it again helps
/// nothing.
fn told(version: Version, read: &Read, taken: Taken) -> Answer {
    let broken = read
        .broken
        .1
        .as_ref()
        .map_or(String::new(), |why| format!("that are no histograms: {why}"));
    let wide = format!("of more than {BUCKETS_MAX} buckets in one request");
    let reasons: Vec<String> = [
        (read.nameless, "without a metric name, or with labels that are empty or there twice"),
        (read.ahead, "more than 10 minutes ahead of this host's clock"),
        (taken.out_of_order, "out of order, too old, or another value for a time that has one"),
        (taken.over_limit, "of series above a limit of the store"),
        (read.broken.0, &*broken),
        (read.wide, &*wide),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, why)| format!("{count} {why}"))
    .collect();
    let mut answer = if reasons.is_empty() {
        answer::empty(StatusCode::NO_CONTENT)
    } else {
        let said = format!("refused of {} samples: {}", read.samples, reasons.join("; "));
        answer::text(StatusCode::BAD_REQUEST, said)
    };
    if version == Version::Second {
        let written = taken.accepted + taken.repeated - taken.histograms;
        for (name, count) in [
            ("x-prometheus-remote-write-samples-written", written),
            ("x-prometheus-remote-write-histograms-written", taken.histograms),
            ("x-prometheus-remote-write-exemplars-written", 0),
        ] {
            answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(count));
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_needs_a_name_and_each_label_once() {
        let known = Mutex::default();
        for (pairs, good) in [
            (&[("__name__", "up"), ("job", "x")][..], true),
            (&[("job", "x"), ("__name__", "up")], true), // In any order.
            (&[("__name__", "up"), ("a.b", "ü")], true),
            (&[("__name__", "up"), ("job", "")], true), // An empty label is none.
            (&[("job", "x")], false),
            (&[("__name__", "")], false),
            (&[("__name__", "up"), ("", "x")], false),
            (&[("__name__", "up"), ("job", "x"), ("job", "y")], false),
        ] {
            // The second time it is remembered, or refused again.
            for _ in 0..2 {
                assert_eq!(labels(&known, pairs).is_some(), good, "{pairs:?}");
            }
        }
        let remembered = known.lock().unwrap();
        assert_eq!(remembered.sets.len(), 4);
    }

    #[test]
    fn the_headers_say_which_message_it_is() {
        let parts = |media: &'static str, encoding: &'static str| {
            let request = hyper::Request::post("/api/v1/write")
                .header(CONTENT_TYPE, media)
                .header(CONTENT_ENCODING, encoding);
            request.body(()).unwrap().into_parts().0
        };
        for (media, encoding, want) in [
            ("application/x-protobuf", "snappy", Some(Version::First)),
            (
                "application/x-protobuf;proto=prometheus.WriteRequest",
                "snappy",
                Some(Version::First),
            ),
            (
                "application/x-protobuf; proto=io.prometheus.write.v2.Request",
                "snappy",
                Some(Version::Second),
            ),
            ("application/x-protobuf;proto=other", "snappy", None),
            ("application/x-protobuf", "zstd", None),
            ("text/plain", "snappy", None),
            ("", "snappy", None),
        ] {
            assert_eq!(version(&parts(media, encoding)).ok(), want, "{media} {encoding}");
        }
    }
}
