//! The actions which may run here, as the owner of this host wrote them down.
//!
//! Reading them is all this module does: whatever is wrong with an entry by itself is refused when the
//! configuration is read; what depends on the disk (a program not installed yet) is a warning then and
//! is looked at again when the action runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daruma_model::{ActionSpec, Span};
use serde::{Deserialize, Serialize};

/// Where programs without a `/` are looked up, and the `PATH` they get.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Names, arguments and environment values longer than this are refused, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Everything that can ever run: actions by name. Read from a map of [`ActionSpec`]s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, ActionSpec>", into = "BTreeMap<String, ActionSpec>")]
pub struct Registry {
    actions: BTreeMap<String, ActionSpec>,
}

/// An entry which could never run as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("action `{action}`: {problem}")]
pub struct RegistryError {
    /// The entry's name.
    pub action: String,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl TryFrom<BTreeMap<String, ActionSpec>> for Registry {
    type Error = RegistryError;

    fn try_from(actions: BTreeMap<String, ActionSpec>) -> Result<Registry, RegistryError> {
        Registry::new(actions)
    }
}

impl From<Registry> for BTreeMap<String, ActionSpec> {
    fn from(registry: Registry) -> BTreeMap<String, ActionSpec> {
        registry.actions
    }
}

impl Registry {
    /// Takes the entries if each is well-formed; the disk is not looked at (see [`Registry::warnings`]).
    ///
    /// # Errors
    /// The first entry, in order of names, that could never run as it is written.
    pub fn new(actions: BTreeMap<String, ActionSpec>) -> Result<Registry, RegistryError> {
        for (name, spec) in &actions {
            well_formed(name, spec)
                .map_err(|problem| RegistryError { action: name.clone(), problem })?;
        }
        Ok(Registry { actions })
    }

    /// The action of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ActionSpec> {
        self.actions.get(name)
    }

    /// Names in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.actions.keys().map(String::as_str)
    }

    /// What would keep an action from starting if it were asked for now: one sentence each, naming the
    /// action. Looks at the disk.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, spec) in &self.actions {
            for why in [program(spec).err(), dir(spec).err()].into_iter().flatten() {
                warnings.push(format!("action `{name}`: {why}"));
            }
        }
        warnings
    }
}

fn well_formed(name: &str, spec: &ActionSpec) -> Result<(), String> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err("a name is one line of visible text".to_owned());
    }
    let Some(program) = spec.argv.first() else {
        return Err("`argv` is empty; write the program and its arguments, such as \
                    [systemctl, restart, shop]"
            .to_owned());
    };
    if program.is_empty() {
        return Err("the program, the first entry of `argv`, is empty".to_owned());
    }
    if program.contains(char::is_whitespace) && spec.argv.len() == 1 {
        let words: Vec<&str> = program.split_whitespace().collect();
        return Err(format!(
            "`{program}` is one word to the system, as no shell splits it; write argv: [{}]",
            words.join(", ")
        ));
    }
    if program.contains('/') && !Path::new(program).is_absolute() {
        return Err(format!(
            "`{program}` is relative, and what it names depends on where daruma was started; write the \
             whole path"
        ));
    }
    if spec.argv.iter().any(|word| word.contains('\0') || word.len() > TEXT_BYTES_MAX) {
        return Err("an argument holds a NUL byte or is longer than 64 KiB".to_owned());
    }
    if spec.timeout <= Span::ZERO {
        return Err("`timeout` must be longer than 0".to_owned());
    }
    for (key, value) in &spec.env {
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(format!("`{}` cannot name an environment variable", key.escape_debug()));
        }
        if key.starts_with("DARUMA_") {
            return Err(format!("`{key}`: names that begin with DARUMA_ are set by daruma itself"));
        }
        if value.contains('\0') || key.len() + value.len() > TEXT_BYTES_MAX {
            return Err(format!("the value of `{key}` holds a NUL byte or is longer than 64 KiB"));
        }
    }
    match &spec.dir {
        Some(dir) if !dir.is_absolute() => {
            Err(format!("`dir` {} is relative; write the whole path", dir.display()))
        }
        _ => Ok(()),
    }
}

/// The file that would run: as written if it holds a `/`, otherwise the first hit on [`PATH`].
pub(crate) fn program(spec: &ActionSpec) -> Result<PathBuf, String> {
    let name = spec.argv.first().ok_or("`argv` is empty")?;
    if Path::new(name).is_absolute() {
        let path = PathBuf::from(name);
        return executable(&path).map(|()| path);
    }
    let mut why = format!("`{name}` is not on the path {PATH}");
    for dir in PATH.split(':') {
        let path = Path::new(dir).join(name);
        match executable(&path) {
            Ok(()) => return Ok(path),
            // A file that is there and cannot run says more than its absence elsewhere.
            Err(found) if path.exists() => why = found,
            Err(_) => {}
        }
    }
    Err(why)
}

/// The working directory, which must be there.
pub(crate) fn dir(spec: &ActionSpec) -> Result<PathBuf, String> {
    let dir = spec.dir.clone().unwrap_or_else(|| PathBuf::from("/"));
    match std::fs::metadata(&dir) {
        Ok(found) if found.is_dir() => Ok(dir),
        Ok(_) => Err(format!("its working directory {} is not a directory", dir.display())),
        Err(error) => Err(format!("its working directory {}: {error}", dir.display())),
    }
}

fn executable(path: &Path) -> Result<(), String> {
    let found = std::fs::metadata(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no {}", path.display()),
        _ => format!("{}: {error}", path.display()),
    })?;
    if !found.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if found.permissions().mode() & 0o111 == 0 {
            return Err(format!("{} is not executable; `chmod +x` makes it so", path.display()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Registry, String> {
        serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_that_could_never_run_is_refused_with_a_sentence_that_helps() {
        for (yaml, want) in [
            ("go: {argv: []}", "`argv` is empty"),
            ("go: {argv: ['']}", "is empty"),
            ("go: {argv: ['systemctl restart shop']}", "write argv: [systemctl, restart, shop]"),
            ("go: {argv: [bin/go]}", "relative"),
            ("go: {argv: [./go]}", "relative"),
            ("go: {argv: [go], timeout: 0s}", "longer than 0"),
            ("go: {argv: [\"go\", \"a\\0b\"]}", "NUL"),
            ("go: {argv: [go], env: {DARUMA_TARGET: x}}", "set by daruma itself"),
            ("go: {argv: [go], env: {'A=B': x}}", "environment variable"),
            ("go: {argv: [go], dir: tmp}", "whole path"),
            ("go: {argv: [go], shell: true}", "unknown field"),
            ("go: {argv: go now}", "argv"),
        ] {
            let error = read(yaml).expect_err(yaml);
            assert!(error.contains(want), "{yaml}: {error}");
        }
        let registry = read("go: {argv: ['true', -x], timeout: 5s, kind: safe}").unwrap();
        assert_eq!(registry.names().collect::<Vec<_>>(), ["go"]);
        assert_eq!(registry.get("go").unwrap().timeout, Span::secs(5));
        assert_eq!(registry.get("gone"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_is_missing_is_a_warning_because_it_may_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "#!/bin/sh\n").unwrap();
        let registry = read(&format!(
            "ok: {{argv: ['true']}}\nmissing: {{argv: [no-such-program-here]}}\ngone: {{argv: \
             [/no/such]}}\nplain: {{argv: [{}]}}\nfolder: {{argv: [/usr]}}\nwhere: {{argv: ['true'], \
             dir: /no/such}}",
            plain.display()
        ))
        .unwrap();
        let warnings = registry.warnings().join("\n");
        assert!(!warnings.contains("`ok`"), "{warnings}");
        for want in [
            "`missing`: `no-such-program-here` is not on the path",
            "`gone`: there is no /no/such",
            "is not executable",
            "`folder`: /usr is not a file",
            "`where`: its working directory /no/such",
        ] {
            assert!(warnings.contains(want), "{want} in {warnings}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_registry_panic(text in "\\PC{0,200}", word in "[\\x00-\\x7f]{0,20}") {
            let _ = read(&text);
            let spec = ActionSpec {
                argv: vec![word.clone()],
                timeout: Span::secs(1),
                kind: daruma_model::ActionKind::Safe,
                env: [(word.clone(), word.clone())].into(),
                dir: None,
            };
            if let Ok(registry) = Registry::new([(word.clone(), spec)].into()) {
                let _ = registry.warnings();
            }
        }
    }
}
