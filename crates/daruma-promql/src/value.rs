//! What a query yields: a value and the annotations that accompany it.

use std::ops::Range;

use daruma_model::{Labels, Series, Time};

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

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// Its value; never the staleness marker.
    pub value: f64,
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
