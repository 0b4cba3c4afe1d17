//! Text that is used and never shown.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

/// A password, token or URL that carries one. `Debug` and `Serialize` print `<secret>`; only
/// [`Secret::expose`] gives the text.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// Above this a secret file is not one, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

impl Secret {
    /// Wraps `text`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the wire and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The first line's worth of a file: its text without the line end.
    pub(crate) fn read(path: &Path) -> Result<Secret, String> {
        use std::io::Read;
        let said = |error: &dyn fmt::Display| format!("cannot read {}: {error}", path.display());
        let file = std::fs::File::open(path).map_err(|error| said(&error))?;
        if !file.metadata().map_err(|error| said(&error))?.is_file() {
            return Err(said(&"it is not a file"));
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| said(&error))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(said(&"it is longer than 64 KiB, which no secret is"));
        }
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        if text.is_empty() {
            return Err(said(&"it is empty"));
        }
        Ok(Secret(text))
    }

    /// The one of `value` and `file` that is set, read now: files may be rotated at any time.
    pub(crate) fn either(
        value: Option<&Secret>,
        file: Option<&Path>,
    ) -> Result<Option<Secret>, String> {
        match (value, file) {
            (Some(value), _) => Ok(Some(value.clone())),
            (None, Some(file)) => Secret::read(file).map(Some),
            (None, None) => Ok(None),
        }
    }
}

impl Secret {
    /// The one of `value`, `file` and the environment variable `env` that is set, read now.
    pub(crate) fn of_three(
        value: Option<&Secret>,
        file: Option<&Path>,
        env: Option<&str>,
    ) -> Result<Option<Secret>, String> {
        let Some(name) = env else { return Secret::either(value, file) };
        match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(Some(Secret(text))),
            Ok(_) => Err(format!("the environment variable {name} is empty")),
            Err(_) => Err(format!("the environment variable {name} is not set, or is no text")),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("<secret>")
    }
}

/// Refuses both of a pair such as `url` and `url_file`.
pub(crate) fn at_most_one<A, B>(
    name: &str,
    value: Option<&A>,
    file: Option<&B>,
) -> Result<(), String> {
    if value.is_some() && file.is_some() {
        return Err(format!("at most one of `{name}` and `{name}_file` may be set"));
    }
    Ok(())
}

/// Refuses more than one of a triple such as `token`, `token_file` and `token_env`.
pub(crate) fn one_of_three(name: &str, set: [bool; 3]) -> Result<(), String> {
    if set.iter().filter(|set| **set).count() > 1 {
        let words = "at most one of them may be set";
        return Err(format!("`{name}`, `{name}_file`, `{name}_env`: {words}"));
    }
    Ok(())
}
