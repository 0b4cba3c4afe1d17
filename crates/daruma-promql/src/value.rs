//! What a query yields: a value and the annotations that accompany it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use daruma_model::{Histogram, Labels, Series, Time};

use crate::number::format_value;

/// A result.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: Value,
    /// What should be known about it, each text once.
    pub annotations: Vec<Annotation>,
}

/// The value of a result.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One number.
    Scalar(f64),
    /// At most one value per label set.
    Vector(Vec<VectorSample>),
    /// Values over time, sorted by label set.
    Matrix(Vec<Series>),
    /// Text.
    String(String),
}

/// What one sample says.
#[derive(Debug, Clone, PartialEq)]
pub enum SampleValue {
    /// A number; never the staleness marker.
    Float(f64),
    /// A native histogram; never a staleness marker.
    Histogram(Arc<Histogram>),
}

impl SampleValue {
    /// The number, if it is one.
    #[must_use]
    pub fn float(&self) -> Option<f64> {
        match self {
            SampleValue::Float(value) => Some(*value),
            SampleValue::Histogram(_) => None,
        }
    }

    /// The number an alert or a chart can show: of a histogram there is none, hence 0 as upstream.
    #[must_use]
    pub fn number(&self) -> f64 {
        self.float().unwrap_or(0.0)
    }

    /// The histogram, if it is one.
    #[must_use]
    pub fn histogram(&self) -> Option<&Arc<Histogram>> {
        match self {
            SampleValue::Float(_) => None,
            SampleValue::Histogram(histogram) => Some(histogram),
        }
    }
}

impl From<f64> for SampleValue {
    fn from(value: f64) -> SampleValue {
        SampleValue::Float(value)
    }
}

impl From<Histogram> for SampleValue {
    fn from(histogram: Histogram) -> SampleValue {
        SampleValue::Histogram(Arc::new(histogram))
    }
}

/// As the API prints a number, and as `count_values` prints a histogram.
impl fmt::Display for SampleValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SampleValue::Float(value) => f.write_str(&format_value(*value)),
            SampleValue::Histogram(histogram) => f.write_str(&crate::histogram::text(histogram)),
        }
    }
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: SampleValue,
    /// The evaluation time.
    pub time: Time,
}

/// How much an annotation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnnotationLevel {
    /// The result may be other than meant.
    Info,
    /// The result is probably wrong.
    Warn,
}

/// A remark on a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// How much it matters.
    pub level: AnnotationLevel,
    /// The sentence, without a place.
    pub message: String,
    /// The bytes of the query that it is about.
    pub span: Range<usize>,
}

impl Annotation {
    /// The text as Prometheus' API gives it, with the place at its end.
    #[must_use]
    pub fn text(&self, query: &str) -> String {
        let (line, column) = crate::line_column(query, self.span.start);
        let level = match self.level {
            AnnotationLevel::Info => "info",
            AnnotationLevel::Warn => "warning",
        };
        format!("PromQL {level}: {} ({line}:{column})", self.message)
    }
}
