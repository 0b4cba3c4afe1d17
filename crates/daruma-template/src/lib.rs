//! Text with holes, in the language of Go's `text/template`: as Prometheus' rules use it, and as
//! Alertmanager's notifications do.
//!
//! Apart from those who use it so that both mean the same: a rule's text is a [`Template`] expanded over
//! a [`Scene`]; those of notifications live in [`Templates`], one name space from several files, and
//! are expanded over [`Data`] with an [`Escape`] for what they are written in. Of the language `call`
//! is missing, of rules' functions `now`, `tmpl`, `toDuration` and `toTime`: they load and yield an
//! error when expanded.
//!
//! No text and no data make it panic; nesting, steps, work and output are bounded. It has no clock and
//! reads no file.

mod config;
mod eval;
mod format;
mod functions;
mod html;
mod lex;
mod methods;
mod notice;
mod notice_functions;
mod parse;
mod rule_functions;
mod sink;
mod text;
mod time;
mod value;

use std::sync::Arc;

use daruma_model::Labels;

pub use notice::{Alert, Data, FileError, Templates};
pub use sink::Escape;
pub use time::{Zone, Zones};

/// The longest template of a rule that is read, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// The longest text that an expansion makes, in bytes.
const OUTPUT_MAX: usize = 64 << 10;

/// A parsed template. Cheap to clone; compares as its text.
#[derive(Debug, Clone)]
pub struct Template {
    text: Arc<str>,
    parsed: Arc<parse::Parsed>,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct TemplateError {
    /// The line of the place within the text, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

/// A function that answers `{{ query "…" }}` with label sets and values.
pub type QueryFn<'a> = dyn Fn(&str) -> Result<Vec<(Labels, f64)>, String> + 'a;

/// What a template sees.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// `{{ $labels.x }}`, `{{ .Labels.x }}`: the result's labels, not the rule's.
    pub labels: &'a Labels,
    /// `{{ $value }}`, `{{ .Value }}`.
    pub value: f64,
    /// `{{ $externalLabels.x }}`.
    pub external_labels: &'a Labels,
    /// `{{ $externalURL }}`.
    pub external_url: &'a str,
    /// Answers `query`; without it the function fails.
    pub query: Option<&'a QueryFn<'a>>,
}

impl<'a> Scene<'a> {
    /// A scene of labels and a value alone.
    #[must_use]
    pub fn new(labels: &'a Labels, value: f64) -> Scene<'a> {
        static NONE: std::sync::OnceLock<Labels> = std::sync::OnceLock::new();
        let external_labels = NONE.get_or_init(Labels::default);
        Scene { labels, value, external_labels, external_url: "", query: None }
    }
}

impl Template {
    /// # Errors
    /// [`TemplateError`] when the text breaks the language's rules: an action that is not closed, an
    /// unknown function or variable, an `end` without its beginning.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(place(text, 0, format!("longer than {TEXT_BYTES_MAX} bytes")));
        }
        let parsed = parse::parse(text, functions::Dialect::Rule)
            .map_err(|(at, message)| place(text, at, message))?;
        Ok(Template { text: text.into(), parsed: parsed.into() })
    }

    /// The template as written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with its holes filled.
    ///
    /// # Errors
    /// A sentence: wrong types, a missing field, something this evaluator does not know.
    pub fn expand(&self, scene: &Scene<'_>) -> Result<String, String> {
        let (world, root) = (eval::World::Rule(scene), value::Value::Root);
        let defined = [&self.parsed.defined];
        eval::run(&self.parsed.nodes, &defined, world, &root, Escape::Text, OUTPUT_MAX)
    }

    /// The text with its holes filled, or Prometheus' text for a template that fails.
    #[must_use]
    pub fn expand_or_say(&self, scene: &Scene<'_>) -> String {
        self.expand(scene).unwrap_or_else(|error| format!("<error expanding template: {error}>"))
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.text == other.text
    }
}

/// An error at a byte of a text.
fn place(text: &str, at: usize, message: String) -> TemplateError {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    TemplateError { line, column, message }
}
