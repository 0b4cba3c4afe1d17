//! Prometheus' HTTP API (`/api/v1/…`), so that what people already have (dashboards, promtool, scripts)
//! asks here as it asks there.
//!
//! It stands apart from our own API because its words, shapes and refusals are somebody else's: every
//! answer is `{"status", "data", "errorType", "error", "warnings", "infos"}`, times are seconds, values
//! are text. What is not kept here (exemplars, blocks, a write-ahead log) is answered emptily where the
//! shape allows that to be said truly, and with 404 where it does not.
//!
//! Never in here: evaluation on the threads that serve connections, an answer or a request without a
//! bound, a query that goes on when nobody waits for it.
//!
//! | module | what it is |
//! |---|---|
//! | `params` | parameters, times, durations, selectors: text from outside into values |
//! | `json` | values into the JSON that clients know, digit by digit |
//! | `zip` | answers made smaller for those who can read them so |
//! | `turns` | how many queries run at once, how long, and on what they read |
//! | `look` | the same for our own page |
//! | `query`, `series`, `rules`, `status` | the endpoints |
//! | `write`, `proto`, `histogram` | the receiver of remote write |

mod histogram;
mod json;
mod look;
mod params;
mod proto;
mod query;
mod rules;
mod series;
mod status;
mod turns;
mod write;
mod zip;

use hyper::{HeaderMap, StatusCode};

use crate::accept::Site;
use crate::answer::{self, Answer};

use json::Json;
pub(crate) use look::{Asked as LookAsked, Look, look};
use params::Params;
pub use rules::{Rule, RuleGroup, RuleHealth, RuleKind};
pub use status::{Facts, Target};
pub use turns::QueryLimits;
pub(crate) use turns::Turns;
pub(crate) use write::{BODY_BYTES_MAX as WRITE_BYTES_MAX, Writes, write};

/// One address under `/api/v1/`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Path {
    Query,
    QueryRange,
    Series,
    Labels,
    LabelValues(String),
    Metadata,
    Exemplars,
    FormatQuery,
    ParseQuery,
    Rules,
    Alerts,
    Alertmanagers,
    Targets,
    TargetsMetadata,
    ScrapePools,
    BuildInfo,
    RuntimeInfo,
    Config,
    Flags,
    Tsdb,
    WalReplay,
}

impl Path {
    /// What the segments behind `/api/v1` name. `post`: the parameters come as a form.
    pub(crate) fn find(post: bool, parts: &[&str]) -> Option<Path> {
        Some(match parts {
            ["query"] => Path::Query,
            ["query_range"] => Path::QueryRange,
            ["series"] => Path::Series,
            ["labels"] => Path::Labels,
            ["query_exemplars"] => Path::Exemplars,
            ["format_query"] => Path::FormatQuery,
            ["parse_query"] => Path::ParseQuery,
            _ if post => return None,
            ["label", name, "values"] => {
                Path::LabelValues(crate::routes::percent_decoded(name).unwrap_or_default())
            }
            ["metadata"] => Path::Metadata,
            ["rules"] => Path::Rules,
            ["alerts"] => Path::Alerts,
            ["alertmanagers"] => Path::Alertmanagers,
            ["targets"] => Path::Targets,
            ["targets", "metadata"] => Path::TargetsMetadata,
            ["scrape_pools"] => Path::ScrapePools,
            ["status", "buildinfo"] => Path::BuildInfo,
            ["status", "runtimeinfo"] => Path::RuntimeInfo,
            ["status", "config"] => Path::Config,
            ["status", "flags"] => Path::Flags,
            ["status", "tsdb"] => Path::Tsdb,
            ["status", "walreplay"] => Path::WalReplay,
            _ => return None,
        })
    }
}

/// Why there is no answer, in Prometheus' classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: FailureKind,
    said: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    BadData,
    Execution,
    Timeout,
    Unavailable,
    Internal,
}

impl Failure {
    fn bad(said: impl Into<String>) -> Failure {
        Failure { kind: FailureKind::BadData, said: said.into() }
    }

    fn parameter(name: &str, said: impl std::fmt::Display) -> Failure {
        Failure::bad(format!("invalid parameter \"{name}\": {said}"))
    }

    fn of(kind: FailureKind, said: impl Into<String>) -> Failure {
        Failure { kind, said: said.into() }
    }

    fn answer(&self) -> Answer {
        let (word, status) = match self.kind {
            FailureKind::BadData => ("bad_data", StatusCode::BAD_REQUEST),
            FailureKind::Execution => ("execution", StatusCode::UNPROCESSABLE_ENTITY),
            FailureKind::Timeout => ("timeout", StatusCode::SERVICE_UNAVAILABLE),
            FailureKind::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            FailureKind::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        };
        let body = serde_json::json!({ "status": "error", "errorType": word, "error": self.said });
        answer::json(status, &body)
    }
}

/// What an endpoint yields: an answer's JSON up to the end of `data`, and remarks.
struct Found {
    data: Json,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Found {
    fn of(value: &impl serde::Serialize) -> Result<Found, Failure> {
        let mut data = Json::answer();
        data.value(value)?;
        Ok(Found { data, warnings: Vec::new(), infos: Vec::new() })
    }

    /// The whole answer.
    fn written(self) -> Result<Vec<u8>, Failure> {
        let Found { data: mut out, warnings, infos } = self;
        for (name, texts) in [("warnings", &warnings), ("infos", &infos)] {
            if !texts.is_empty() {
                out.raw(b",\"");
                out.raw(name.as_bytes());
                out.raw(b"\":");
                out.value(texts)?;
            }
        }
        out.raw(b"}");
        out.done()
    }
}

/// Answers `path`; `form` is the body of a form post, `headers` are the request's.
pub(crate) async fn ask(
    site: &Site,
    path: &Path,
    query: &str,
    form: &[u8],
    headers: &HeaderMap,
) -> Answer {
    let params = match Params::read(form, query.as_bytes()) {
        Ok(params) => params,
        Err(failure) => return failure.answer(),
    };
    let found = match path {
        Path::Query => query::instant(site, &params).await,
        Path::QueryRange => query::range(site, &params).await,
        Path::Exemplars => query::exemplars(site, &params),
        Path::FormatQuery => query::format(site, &params),
        Path::ParseQuery => query::parse(site, &params),
        Path::Series => series::series(site, &params).await,
        Path::Labels => series::labels(site, &params).await,
        Path::LabelValues(name) => series::values(site, name, &params).await,
        Path::Metadata => series::metadata(site, &params),
        Path::Rules => rules::rules(site, &params).await,
        Path::Alerts => rules::alerts(site),
        Path::Alertmanagers => status::alertmanagers(),
        Path::Targets => status::targets(site, &params),
        Path::TargetsMetadata => status::targets_metadata(site, &params).await,
        Path::ScrapePools => status::scrape_pools(site),
        Path::BuildInfo => status::build_info(site),
        Path::RuntimeInfo => status::runtime_info(site),
        Path::Config => status::config(site),
        Path::Flags => status::flags(site),
        Path::Tsdb => status::tsdb(site, &params).await,
        Path::WalReplay => status::wal_replay(),
    };
    match found.and_then(Found::written) {
        Ok(body) if zip::pays(body.len()) && zip::accepted(headers) => zip::answer(body).await,
        Ok(body) => answer::json_text(StatusCode::OK, body),
        Err(failure) => failure.answer(),
    }
}
