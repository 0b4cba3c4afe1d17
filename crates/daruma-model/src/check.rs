//! What a witness may be asked, freshly and on demand: before acting, to confirm; after acting, to
//! verify. A check states something; whether that speaks for a fault or for health is the asker's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Evidence, Labels, Span, Time, Verdict};

/// One question to a witness. Exactly one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Check {
    /// States: the endpoint answers as it should.
    Http(HttpProbe),
    /// States: the port accepts a connection.
    Tcp(TcpProbe),
    /// States: the process runs (not gone, not a zombie, not stopped).
    Process(ProcessCheck),
    /// States: the file is there and was written lately.
    File(FileCheck),
    /// States: this PromQL expression returns at least one series, on samples after the asked time.
    Expr(String),
}

impl Check {
    /// The verdict that speaks for a fault when this check stands under `confirm`: probes, processes
    /// and files state health, so their `Clear` does; expressions state the fault itself.
    #[must_use]
    pub fn fault_when(&self) -> Verdict {
        match self {
            Check::Expr(_) => Verdict::Holds,
            _ => Verdict::Clear,
        }
    }

    /// A short name for timelines, such as `http 127.0.0.1:8080/health`.
    #[must_use]
    pub fn title(&self) -> String {
        match self {
            Check::Http(probe) => format!("probe {}", probe.url),
            Check::Tcp(probe) => format!("connect {}", probe.address),
            Check::Process(process) => format!("process {}", process.title()),
            Check::File(file) => format!("file {}", file.path.display()),
            Check::Expr(expr) => expr.chars().take(160).collect(),
        }
    }
}

/// An HTTP or HTTPS request and what counts as a good answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// `http://…` or `https://…`.
    pub url: String,
    /// The method, GET unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Extra request headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Good status codes; empty: 200–299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<u16>,
    /// A regular expression that must be found in the first MiB of the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// From the start of the connection to the end of the body.
    #[serde(default = "HttpProbe::timeout_default")]
    pub timeout: Span,
    /// For tests of internal services: accept any certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_skip_verify: bool,
}

impl HttpProbe {
    fn timeout_default() -> Span {
        Span::secs(1)
    }

    /// A GET of `url` with the defaults.
    #[must_use]
    pub fn get(url: &str) -> HttpProbe {
        HttpProbe {
            url: url.to_owned(),
            method: None,
            headers: BTreeMap::new(),
            status: Vec::new(),
            body: None,
            timeout: HttpProbe::timeout_default(),
            insecure_skip_verify: false,
        }
    }
}

/// A TCP connection, closed as soon as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// `host:port`.
    pub address: String,
    /// Until the connection stands.
    #[serde(default = "HttpProbe::timeout_default")]
    pub timeout: Span,
}

/// A process, found by exactly one of the three ways.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessCheck {
    /// The file that holds its pid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<PathBuf>,
    /// The path of its executable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<PathBuf>,
    /// A regular expression over its command line, arguments joined by blanks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

impl ProcessCheck {
    /// How it is found, in a few words.
    #[must_use]
    pub fn title(&self) -> String {
        match (&self.pid_file, &self.exe, &self.pattern) {
            (Some(path), ..) | (None, Some(path), _) => path.display().to_string(),
            (None, None, Some(pattern)) => pattern.clone(),
            (None, None, None) => String::new(),
        }
    }
}

/// A file that something rewrites as a sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileCheck {
    /// Where it lies.
    pub path: PathBuf,
    /// How old its last change may be.
    pub max_age: Span,
}

/// A witness's answer to one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Which watch asked.
    pub watch: u64,
    /// Which of its checks this answers.
    pub check: usize,
    /// When the observation **began**: it counts as fresh only if this is after what it must follow.
    pub at: Time,
    /// Whether the check's statement holds.
    pub verdict: Verdict,
    /// What was seen.
    pub evidence: Evidence,
    /// Labels the check was asked about (the target).
    #[serde(default)]
    pub labels: Labels,
}
