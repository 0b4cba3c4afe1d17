//! Scrapes endpoints that expose metrics as text, as Prometheus does.
//!
//! One answer becomes one commit, or none of it does: a broken line, a body over its bound or a
//! sample too many fails the whole scrape, says why, and ends every series the target had. What
//! never happens here: a value without the marker that ends it when its series is gone, and two
//! values of one series in one commit.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use daruma_model::{Commit, Labels, Sample, Span, Time, stale_marker};
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::delivery::{Described, Reporter, Source};
use crate::exposition::{Entry, Format, Kind, Parser, Rigour, descriptions};
use crate::http::{self, Client, Reply, Request, Url};
use crate::schedule::{Every, Schedule};

/// Metrics of one target that are described.
const DESCRIBED_MAX: usize = 10_000;

/// One entry of `collect.scrape`. Brings what its targets expose, with the labels `job` and
/// `instance`, and `up`, `scrape_duration_seconds`, `scrape_samples_scraped`,
/// `scrape_samples_post_metric_relabeling`, `scrape_series_added`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct ScrapeSource {
    fields: Fields,
    targets: Vec<TargetSource>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename = "ScrapeSource")]
struct Fields {
    /// The label `job`.
    job: String,
    /// `host:port` of each target, its label `instance`.
    targets: Vec<String>,
    /// `http` or `https`.
    #[serde(default)]
    scheme: Scheme,
    /// Where the metrics are.
    #[serde(default = "path_default")]
    path: String,
    /// How often.
    #[serde(default = "every_default")]
    every: Every,
    /// From the connection to the last byte; unless said 10 s, or the time between scrapes if that
    /// is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Span>,
    /// Labels to put on all its samples.
    #[serde(default)]
    labels: Labels,
    /// Of labels that both sides set, the exposed ones win.
    #[serde(default)]
    honor_labels: bool,
    /// Timestamps in the text count.
    #[serde(default = "yes")]
    honor_timestamps: bool,
    /// The most samples one scrape may bring.
    #[serde(default = "sample_limit_default")]
    sample_limit: usize,
    /// The most bytes one scrape may bring.
    #[serde(default = "body_bytes_max_default")]
    body_bytes_max: usize,
    /// How to read an answer without a known Content-Type; unless said, it fails the scrape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback_scrape_protocol: Option<Protocol>,
    /// Extra request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    /// Accept any certificate.
    #[serde(default)]
    insecure_skip_verify: bool,
}

/// How a target is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    #[default]
    Http,
    Https,
}

/// A text format by the name that `prometheus.yml` uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Protocol {
    #[serde(rename = "PrometheusText0.0.4")]
    Text004,
    #[serde(rename = "PrometheusText1.0.0")]
    Text100,
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetrics001,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetrics100,
}

fn path_default() -> String {
    "/metrics".into()
}

fn every_default() -> Every {
    Every::secs(15)
}

fn yes() -> bool {
    true
}

fn sample_limit_default() -> usize {
    100_000
}

fn body_bytes_max_default() -> usize {
    64 << 20
}

/// The largest `body_bytes_max`.
const BODY_BYTES_MAX: usize = 1 << 30;
/// The largest `sample_limit`.
const SAMPLES_MAX: usize = 5_000_000;
/// Bodies from this size on are read on a thread of their own.
const LARGE_BYTES: usize = 256 << 10;
/// In this order of wishes.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.5,\
    application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,\
    text/plain;version=0.0.4;q=0.2,*/*;q=0.1";

impl ScrapeSource {
    /// One job of a `prometheus.yml`, with the defaults for all that is not said.
    ///
    /// # Errors
    /// In words, if it cannot be scraped like that.
    pub fn of(
        job: &str,
        targets: Vec<String>,
        scheme: &str,
        path: &str,
        every: Span,
        timeout: Span,
        labels: BTreeMap<String, String>,
    ) -> Result<ScrapeSource, String> {
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => return Err(format!("the scheme `{other}` of `{job}` is not http or https")),
        };
        let fields = Fields {
            job: job.to_owned(),
            targets,
            scheme,
            path: path.to_owned(),
            every: every.try_into().map_err(|error| format!("`{job}`: {error}"))?,
            timeout: Some(timeout),
            labels: labels.into_iter().collect(),
            honor_labels: false,
            honor_timestamps: true,
            sample_limit: sample_limit_default(),
            body_bytes_max: body_bytes_max_default(),
            fallback_scrape_protocol: None,
            headers: BTreeMap::new(),
            insecure_skip_verify: false,
        };
        fields.try_into()
    }
}

impl TryFrom<Fields> for ScrapeSource {
    type Error = String;

    fn try_from(fields: Fields) -> Result<ScrapeSource, String> {
        let job = &fields.job;
        if job.is_empty() {
            return Err("a scrape needs a `job`".into());
        }
        if !fields.path.starts_with('/') {
            return Err(format!("the path `{}` of `{job}` does not begin with /", fields.path));
        }
        if fields.body_bytes_max == 0 || fields.body_bytes_max > BODY_BYTES_MAX {
            return Err(format!("`body_bytes_max` of `{job}` lies between 1 and {BODY_BYTES_MAX}"));
        }
        if fields.sample_limit == 0 || fields.sample_limit > SAMPLES_MAX {
            return Err(format!("`sample_limit` of `{job}` lies between 1 and {SAMPLES_MAX}"));
        }
        let period = fields.every.span();
        let timeout = fields.timeout.unwrap_or(Span::secs(10).min(period));
        if timeout > period || timeout < Span::millis(1) {
            return Err(format!(
                "the timeout {timeout} of `{job}` is not between 1ms and the time between scrapes, {period}"
            ));
        }
        let headers = http::header_map(&fields.headers)?;
        let targets = fields.targets.iter().map(|address| {
            let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
            if host.is_empty() || host.contains(['/', '@']) || port.parse::<u16>().is_err() {
                return Err(format!("the target `{address}` of `{job}` is no host:port"));
            }
            let scheme = if fields.scheme == Scheme::Https { "https" } else { "http" };
            let url: Url = format!("{scheme}://{address}{}", fields.path)
                .parse()
                .map_err(|error: http::UrlError| error.to_string())?;
            let own = Labels::from([("job", &**job), ("instance", address)]);
            Ok(TargetSource {
                name: format!("scrape/{job}/{address}"),
                url,
                labels: own.merged(&fields.labels),
                headers: headers.clone(),
                every: fields.every,
                timeout: timeout.to_std(),
                insecure_skip_verify: fields.insecure_skip_verify,
                fallback: fields.fallback_scrape_protocol.map(|protocol| match protocol {
                    Protocol::Text004 | Protocol::Text100 => Format::Text,
                    Protocol::OpenMetrics001 | Protocol::OpenMetrics100 => Format::OpenMetrics,
                }),
                rules: Rules {
                    honor_labels: fields.honor_labels,
                    honor_timestamps: fields.honor_timestamps,
                    sample_limit: fields.sample_limit,
                    body_bytes_max: fields.body_bytes_max,
                },
            })
        });
        let targets = targets.collect::<Result<Vec<_>, String>>()?;
        Ok(ScrapeSource { targets, fields })
    }
}

impl From<ScrapeSource> for Fields {
    fn from(source: ScrapeSource) -> Fields {
        source.fields
    }
}

impl IntoIterator for ScrapeSource {
    type Item = TargetSource;
    type IntoIter = std::vec::IntoIter<TargetSource>;

    /// One source per target: they share nothing, so that one that hangs delays no other.
    fn into_iter(self) -> Self::IntoIter {
        self.targets.into_iter()
    }
}

/// One target of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSource {
    name: String,
    url: Url,
    labels: Labels,
    headers: HeaderMap,
    every: Every,
    timeout: Duration,
    insecure_skip_verify: bool,
    fallback: Option<Format>,
    rules: Rules,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rules {
    honor_labels: bool,
    honor_timestamps: bool,
    sample_limit: usize,
    body_bytes_max: usize,
}

impl TargetSource {
    fn request(&self) -> Result<Request, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
        let seconds = self.timeout.as_secs_f64().to_string();
        let seconds = HeaderValue::from_str(&seconds).map_err(|error| error.to_string())?;
        headers.insert(HeaderName::from_static("x-prometheus-scrape-timeout-seconds"), seconds);
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        Ok(Request {
            url: self.url.clone(),
            method: Method::GET,
            headers,
            timeout: self.timeout,
            insecure_skip_verify: self.insecure_skip_verify,
            body_bytes_max: self.rules.body_bytes_max,
        })
    }

    /// Which format an answer is in, if it can be read at all.
    fn readable(&self, reply: &Reply) -> Result<Format, String> {
        if reply.status != 200 {
            return Err(format!("the answer has status {}", reply.status));
        }
        if reply.cut {
            return Err(format!("the body is larger than {} bytes", self.rules.body_bytes_max));
        }
        if let Some(encoding) = &reply.content_encoding {
            let encoding: String = encoding.chars().take(40).collect();
            return Err(format!("the body is encoded as {encoding:?}, which was not asked for"));
        }
        let full = reply.content_type.as_deref().unwrap_or("");
        let media = full.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let format = match media.as_str() {
            "text/plain" => Some(Format::Text),
            "application/openmetrics-text" => Some(Format::OpenMetrics),
            _ => self.fallback,
        };
        format.ok_or_else(|| {
            let full: String = full.chars().take(100).collect();
            format!("the Content-Type {full:?} is no known one; set `fallback_scrape_protocol`")
        })
    }
}

/// What one target has exposed: its series by their text, so that each is named once.
struct Memory {
    target: Labels,
    rules: Rules,
    by_text: HashMap<Box<str>, usize>,
    by_labels: HashMap<Labels, usize>,
    series: Vec<Known>,
    free: Vec<usize>,
    /// Of the scrape that is being read.
    round: u64,
}

struct Known {
    labels: Labels,
    kind: Kind,
    /// The last round that brought it.
    round: u64,
    /// It carried its own time, so its end is not ours to tell.
    own_time: bool,
}

/// How a scrape went, beside its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    scraped: usize,
    added: usize,
    doubled: u64,
}

impl Memory {
    fn new(target: Labels, rules: Rules) -> Memory {
        Memory {
            target,
            rules,
            by_text: HashMap::new(),
            by_labels: HashMap::new(),
            series: Vec::new(),
            free: Vec::new(),
            // A series that was named but never brought stands at round 0, which is never the last.
            round: 2,
        }
    }

    /// The whole text as samples, markers for what is gone since the last one included; or nothing.
    fn read(
        &mut self,
        body: &[u8],
        format: Format,
        at: Time,
        counts: &mut Counts,
    ) -> Result<Vec<Sample>, String> {
        let mut found = Vec::with_capacity(self.by_text.len().min(self.rules.sample_limit));
        for entry in Parser::new(body, format, Rigour::Scrape) {
            let entry = entry.map_err(|error| error.to_string())?;
            counts.scraped += 1;
            if found.len() < self.rules.sample_limit {
                found.push(entry);
            }
        }
        if counts.scraped > self.rules.sample_limit {
            return Err(format!(
                "{} samples are more than the limit of {}",
                counts.scraped, self.rules.sample_limit
            ));
        }
        // All are named before one is marked as brought: a text that fails half way brings nothing.
        let indices = found.iter().map(|entry| self.index(entry, counts));
        let indices = indices.collect::<Result<Vec<usize>, String>>()?;
        let mut samples = Vec::with_capacity(found.len() + 8);
        for (entry, index) in found.iter().zip(indices) {
            let known = &mut self.series[index];
            let time = entry.time.filter(|_| self.rules.honor_timestamps);
            // Of one series twice in one text the first counts.
            if known.round == self.round {
                counts.doubled += 1;
                continue;
            }
            known.round = self.round;
            known.own_time = time.is_some();
            let labels = known.labels.clone();
            samples.push(Sample { labels, time: time.unwrap_or(at), value: entry.value });
        }
        self.forget(at, &mut samples);
        Ok(samples)
    }

    fn index(&mut self, entry: &Entry<'_>, counts: &mut Counts) -> Result<usize, String> {
        if let Some(index) = self.by_text.get(entry.series)
            && self.series[*index].kind == entry.kind
        {
            return Ok(*index);
        }
        let labels = entry.labels(&self.target, self.rules.honor_labels)?;
        let index = match self.by_labels.get(&labels) {
            Some(index) => {
                self.series[*index].kind = entry.kind;
                *index
            }
            None => {
                let known =
                    Known { labels: labels.clone(), kind: entry.kind, round: 0, own_time: false };
                counts.added += 1;
                let index = match self.free.pop() {
                    Some(index) => {
                        self.series[index] = known;
                        index
                    }
                    None => {
                        self.series.push(known);
                        self.series.len() - 1
                    }
                };
                self.by_labels.insert(labels, index);
                index
            }
        };
        self.by_text.insert(entry.series.into(), index);
        Ok(index)
    }

    /// Ends every series that this round has not brought, and the round.
    fn forget(&mut self, at: Time, samples: &mut Vec<Sample>) {
        let Memory { by_text, by_labels, series, free, round, .. } = self;
        let before = by_labels.len();
        by_labels.retain(|labels, index| {
            let known = &series[*index];
            if known.round == *round {
                return true;
            }
            if known.round + 1 == *round && !known.own_time {
                samples.push(Sample { labels: labels.clone(), time: at, value: stale_marker() });
            }
            free.push(*index);
            false
        });
        // Of a series under several texts only those stay that lead to it.
        if by_labels.len() < before || by_text.len() > 4 * by_labels.len() + 16 {
            by_text.retain(|_, index| series[*index].round == *round);
        }
        if by_text.len() > 4 * by_labels.len() + 16 {
            by_text.clear();
        }
        *round += 1;
    }

    fn report(
        &self,
        up: bool,
        took: Duration,
        counts: Counts,
        at: Time,
    ) -> impl Iterator<Item = Sample> {
        [
            ("up", f64::from(u8::from(up))),
            ("scrape_duration_seconds", took.as_secs_f64()),
            ("scrape_samples_scraped", counts.scraped as f64),
            ("scrape_samples_post_metric_relabeling", counts.scraped as f64),
            ("scrape_series_added", counts.added as f64),
        ]
        .map(|(name, value)| Sample {
            labels: self.target.with(Labels::NAME, name),
            time: at,
            value,
        })
        .into_iter()
    }
}

/// One scrape as a commit, and why it failed if it did.
fn digest(
    memory: &mut Memory,
    answer: Result<(Format, Vec<u8>), String>,
    at: Time,
    took: Duration,
) -> (Commit, Counts, Option<String>, Vec<Described>) {
    let mut counts = Counts::default();
    let mut said = Vec::new();
    let read = answer.and_then(|(format, body)| {
        let samples = memory.read(&body, format, at, &mut counts)?;
        // What is said of metrics is news where series are.
        if counts.added > 0 {
            said = descriptions(&body, DESCRIBED_MAX);
        }
        Ok(samples)
    });
    let (mut samples, failed) = match read {
        Ok(samples) => (samples, None),
        Err(why) => {
            counts.added = 0;
            let mut ended = Vec::new();
            memory.forget(at, &mut ended);
            (ended, Some(why))
        }
    };
    samples.extend(memory.report(failed.is_none(), took, counts, at));
    (Commit::from(samples), counts, failed, said)
}

impl Source for TargetSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn run(self, mut reporter: Reporter) {
        let client = Client::new(reporter.clock());
        let request = match self.request() {
            Ok(request) => request,
            Err(why) => {
                reporter.failing(why);
                while reporter.wait_until(Instant::now() + Duration::from_secs(5)).await {}
                return;
            }
        };
        let mut memory = Memory::new(self.labels.clone(), self.rules);
        let mut schedule = Schedule::new(self.every, reporter.name());
        let mut untold = Vec::new();
        while reporter.next(&mut schedule).await {
            let (at, began) = (reporter.now(), Instant::now());
            let Some(answer) = reporter.during(client.ask(&request)).await else { return };
            let took = began.elapsed();
            let answer = match answer {
                Ok(reply) => self.readable(&reply).map(|format| (format, reply.body)),
                Err(failure) => Err(failure.said),
            };
            let large = matches!(&answer, Ok((_, body)) if body.len() >= LARGE_BYTES);
            let (commit, counts, failed, said) = if large {
                let digested = tokio::task::spawn_blocking(move || {
                    let digested = digest(&mut memory, answer, at, took);
                    (digested, memory)
                });
                match digested.await {
                    Ok((digested, kept)) => {
                        memory = kept;
                        digested
                    }
                    // A panic of the reader is one of the source: whoever runs it starts it again.
                    Err(error) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => return,
                    },
                }
            } else {
                digest(&mut memory, answer, at, took)
            };
            reporter.lost(counts.doubled);
            reporter.samples(commit);
            if !said.is_empty() {
                untold = said;
            }
            if !untold.is_empty() {
                untold = reporter.describe(untold);
            }
            match failed {
                Some(why) => reporter.failing(format!("{}: {why}", self.url.without_query())),
                None if counts.doubled > 0 => {
                    reporter.ok(format!("{} samples came twice in one scrape", counts.doubled));
                }
                None => reporter.ok(""),
            }
        }
    }
}

#[cfg(test)]
mod tests;
