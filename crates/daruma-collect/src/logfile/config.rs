//! What can be said about log files in `daruma.yaml`. Every pattern is compiled while it is read, so
//! that a mistake is reported with its line and column.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use daruma_model::{Labels, Span};
use globset::{GlobBuilder, GlobMatcher};
use regex::Regex;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::schedule::Every;

/// One entry of `collect.logs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSource {
    /// How it is called in health reports and kept positions; unless said, its paths. With a name
    /// of its own, a source keeps its positions when its paths change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which files to read: paths with `*`, `?`, `[a-z]`, `{a,b}` and `**` for any depth.
    #[serde(deserialize_with = "at_least_one")]
    pub paths: Vec<PathGlob>,
    /// Which of them not to read. Compressed files never are.
    #[serde(default)]
    pub exclude: Vec<PathGlob>,
    /// Labels to put on its records and samples.
    #[serde(default)]
    pub labels: Labels,
    /// Where to begin in files that are there at the very first start. Files that appear later are
    /// read from their beginning, and after a restart reading goes on where it was.
    #[serde(default)]
    pub from: StartAt,
    /// Which lines belong together.
    #[serde(default)]
    pub multiline: Multiline,
    /// What of a line is kept, 256 to 1,048,576 bytes; the rest is skipped and counted.
    #[serde(default = "line_bytes_default", deserialize_with = "line_bytes")]
    pub line_bytes_max: usize,
    /// How many files are read at once, 1 to 100,000. Each takes a file handle.
    #[serde(default = "files_default", deserialize_with = "files")]
    pub files_max: usize,
    /// Look this often instead of being told by the system about changes. On network file systems,
    /// which do not tell, files are looked at every 250 ms unless this says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<Every>,
    /// How long a renamed or deleted file must be silent before it is closed: programs write to the
    /// old file until they open the new one.
    #[serde(default = "grace_default")]
    pub grace: Span,
}

impl LogSource {
    /// All files of these patterns, with the defaults.
    ///
    /// # Errors
    /// [`GlobError`] for the first pattern that cannot be used.
    pub fn of(paths: &[&str]) -> Result<LogSource, GlobError> {
        Ok(LogSource {
            name: None,
            paths: paths.iter().map(|path| path.parse()).collect::<Result<_, _>>()?,
            exclude: Vec::new(),
            labels: Labels::default(),
            from: StartAt::default(),
            multiline: Multiline::default(),
            line_bytes_max: line_bytes_default(),
            files_max: files_default(),
            poll: None,
            grace: grace_default(),
        })
    }
}

fn line_bytes_default() -> usize {
    64 * 1024
}

fn files_default() -> usize {
    1000
}

fn grace_default() -> Span {
    Span::secs(10)
}

fn at_least_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathGlob>, D::Error> {
    let paths = Vec::deserialize(deserializer)?;
    if paths.is_empty() { Err(de::Error::custom("`paths` names no file")) } else { Ok(paths) }
}

fn line_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 256, 1 << 20, "line_bytes_max")
}

fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 1, 100_000, "files_max")
}

fn within<'de, D: Deserializer<'de>>(
    deserializer: D,
    min: usize,
    max: usize,
    name: &str,
) -> Result<usize, D::Error> {
    let number = usize::deserialize(deserializer)?;
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(de::Error::custom(format!("`{name}` is {number}; it must be from {min} to {max}")))
}

/// Where to begin in a file nothing is known about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartAt {
    /// After what is there.
    #[default]
    End,
    /// With the first line.
    Beginning,
}

/// Which lines belong together.
///
/// Lines that have been written already are joined without waiting. Waiting for lines still to come
/// costs time on every record, so a record is held only while it looks as if more will follow: a
/// trace that is not at its end, an error, a line that ends in a colon, or any line when `start` is
/// given. It is held for `wait` after its last line, which is long beside the time between two lines
/// of one trace (microseconds) and short beside the time in which a fault is to be found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Multiline {
    /// `traces`: indented lines, and stack traces of the common languages; `never`: each line alone.
    pub join: Join,
    /// A record begins with every line in which this is found, and with no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Pattern>,
    /// How long to hold a record that looks unfinished, up to 1s.
    #[serde(deserialize_with = "wait")]
    pub wait: Span,
    /// Most lines in one record; further ones begin another record.
    pub lines_max: u32,
}

impl Default for Multiline {
    fn default() -> Multiline {
        Multiline { join: Join::Traces, start: None, wait: Span::millis(2), lines_max: 1000 }
    }
}

fn wait<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    let span = Span::deserialize(deserializer)?;
    if span <= Span::secs(1) {
        return Ok(span);
    }
    Err(de::Error::custom(format!("`wait` is {span}; it must be from 0s to 1s")))
}

/// How lines are joined without a pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// By what continuations look like.
    #[default]
    Traces,
    /// Not at all.
    Never,
}

/// A regular expression of at most 1 MiB when compiled, not anchored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Whether it is found in `text`.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl TryFrom<String> for Pattern {
    type Error = regex::Error;
    fn try_from(text: String) -> Result<Pattern, regex::Error> {
        regex::RegexBuilder::new(&text).size_limit(1 << 20).build().map(Pattern)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.0.as_str().to_owned()
    }
}

/// A path with wildcards.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathGlob {
    text: String,
    whole: GlobMatcher,
    /// The directory above the first wildcard.
    root: PathBuf,
    /// One matcher for each part below `root`; nothing when the depth is not known beforehand.
    parts: Option<Vec<GlobMatcher>>,
}

/// Why a path with wildcards cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path {text:?} cannot be used: {why}")]
pub struct GlobError {
    /// The path as written.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

fn matcher(text: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(text).literal_separator(true).build()?.compile_matcher())
}

impl FromStr for PathGlob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<PathGlob, GlobError> {
        let error = |why: String| GlobError { text: text.chars().take(200).collect(), why };
        if text.is_empty() || text.len() > 4096 {
            return Err(error("a path has 1 to 4096 bytes".into()));
        }
        let absolute = std::path::absolute(text).map_err(|why| error(why.to_string()))?;
        let absolute = absolute.to_string_lossy();
        let whole = matcher(&absolute).map_err(|why| error(why.kind().to_string()))?;
        let wild = |part: &str| part.contains(['*', '?', '[', '{', '\\']);
        let all: Vec<&str> = absolute.split('/').collect();
        let fixed = all.iter().take_while(|part| !wild(part)).count().min(all.len() - 1);
        let root = all[..fixed].join("/");
        let root = PathBuf::from(if root.is_empty() { "/" } else { root.as_str() });
        let below = &all[fixed..];
        // Braces may hold a separator, and then a part alone is no pattern.
        let countable = !below.iter().any(|part| part.contains(['{', '}']) || *part == "**");
        let parts = countable.then(|| below.iter().filter_map(|part| matcher(part).ok()).collect());
        let parts = parts.filter(|parts: &Vec<GlobMatcher>| parts.len() == below.len());
        Ok(PathGlob { text: text.to_owned(), whole, root, parts })
    }
}

impl PathGlob {
    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where looking for files begins.
    #[must_use]
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory it begins at, or the nearest one above it, if that is on a network file system.
    #[must_use]
    pub(super) fn on_network(&self) -> Option<&Path> {
        let there = self.root.ancestors().find(|directory| directory.exists())?;
        super::system::is_network(there).then_some(there)
    }

    /// Whether it names this file.
    #[must_use]
    pub fn matches(&self, path: &Path) -> bool {
        self.whole.is_match(path)
    }

    /// Whether files it names can be in or below this directory.
    #[must_use]
    pub(super) fn leads_through(&self, directory: &Path) -> bool {
        if self.root.starts_with(directory) {
            return true;
        }
        let Ok(below) = directory.strip_prefix(&self.root) else { return false };
        let Some(parts) = &self.parts else { return true };
        let mut depth = 0;
        below.components().zip(parts).all(|(component, part)| {
            depth += 1;
            part.is_match(component)
        }) && below.components().count() == depth
            && depth < parts.len()
    }
}

impl TryFrom<String> for PathGlob {
    type Error = GlobError;
    fn try_from(text: String) -> Result<PathGlob, GlobError> {
        text.parse()
    }
}

impl From<PathGlob> for String {
    fn from(glob: PathGlob) -> String {
        glob.text
    }
}

impl PartialEq for PathGlob {
    fn eq(&self, other: &PathGlob) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_recursive_path_needs_one_line_and_the_rest_has_defaults() {
        let read: LogSource =
            serde_saphyr::from_str("paths: [ \"/srv/shop/log/**/*.log\" ]").unwrap();
        assert_eq!(read, LogSource::of(&["/srv/shop/log/**/*.log"]).unwrap());
        assert_eq!((read.line_bytes_max, read.files_max), (65_536, 1000));
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place_in_the_file() {
        for (yaml, want) in [
            ("paths: []", "names no file"),
            ("paths: [ \"/a/[z-a]\" ]", "cannot be used"),
            ("paths: [ /a ]\nmultiline: { start: \"(\" }", "unclosed group"),
            ("paths: [ /a ]\nmultiline: { wait: 2s }", "0s to 1s"),
            ("paths: [ /a ]\nline_bytes_max: 1", "from 256"),
            ("paths: [ /a ]\npoll: 10ms", "100ms"),
            ("paths: [ /a ]\nlabel: {}", "unknown field"),
        ] {
            let error = serde_saphyr::from_str::<LogSource>(yaml).unwrap_err().to_string();
            assert!(error.contains(want), "{yaml}: {error}");
        }
    }

    #[test]
    fn only_directories_that_can_hold_files_are_entered() {
        let at_depth: PathGlob = "/srv/*/log/*.log".parse().unwrap();
        let any: PathGlob = "/srv/**/*.log".parse().unwrap();
        let braces: PathGlob = "/srv/{a,b/c}/x.log".parse().unwrap();
        let fixed: PathGlob = "/srv/x.log".parse().unwrap();
        for (directory, want) in [
            ("/", [true, true, true, true]),
            ("/srv", [true, true, true, true]),
            ("/srv/a", [true, true, true, false]),
            ("/srv/a/log", [true, true, true, false]),
            ("/srv/a/tmp", [false, true, true, false]),
            ("/srv/a/log/old", [false, true, true, false]),
            ("/var", [false, false, false, false]),
        ] {
            let got =
                [&at_depth, &any, &braces, &fixed].map(|g| g.leads_through(Path::new(directory)));
            assert_eq!(got, want, "{directory}");
        }
        assert!(any.matches(Path::new("/srv/x.log")) && any.matches(Path::new("/srv/a/b/x.log")));
        assert!(!at_depth.matches(Path::new("/srv/a/b/log/x.log")));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_path_parser_panic(text in "[a-z/*?\\[\\]{},\\\\!-]{0,30}|\\PC{0,30}") {
            if let Ok(glob) = text.parse::<PathGlob>() {
                let path = Path::new("/a/b");
                prop_assert!(!glob.matches(path) || glob.leads_through(Path::new("/a")));
            }
        }
    }
}
