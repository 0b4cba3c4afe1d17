//! Files that fit a glob.

use std::path::{Path, PathBuf};

/// Folders looked into at most: a glob over a whole disk must not hang a start.
const FOLDERS_MAX: usize = 10_000;

/// Files under `base` that fit `pattern`, sorted; at most `most`. `*` and `?` do not cross folders.
#[must_use]
pub fn expand(base: &Path, pattern: &str, most: usize) -> Vec<PathBuf> {
    let whole = base.join(pattern);
    let text = whole.to_string_lossy().into_owned();
    if !text.contains(['*', '?', '[', '{']) {
        return if whole.is_file() { vec![whole] } else { Vec::new() };
    }
    let Ok(glob) = globset::GlobBuilder::new(&text).literal_separator(true).build() else {
        return Vec::new();
    };
    let matcher = glob.compile_matcher();
    // The folder above the first part with a wildcard.
    let root: PathBuf = whole
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']))
        .collect();
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
    let deep = text.contains("**");
    let depth = if deep { 32 } else { whole.components().count() - root.components().count() };
    let (mut found, mut todo, mut seen) = (Vec::new(), vec![(root, 0)], 0);
    while let Some((folder, level)) = todo.pop() {
        seen += 1;
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                if level + 1 < depth && seen < FOLDERS_MAX {
                    todo.push((path, level + 1));
                }
            } else if matcher.is_match(&path)
                || matcher.is_match(path.strip_prefix("./").unwrap_or(&path))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found.truncate(most);
    found
}

/// A PromQL text with `{{ … }}` put out of the way, so that its syntax can be checked before the
/// labels are known.
#[must_use]
pub fn without_labels(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let (Some(at), Some(end)) = (rest.find("{{"), rest.find("}}")) {
        if end < at {
            break;
        }
        out.push_str(&rest[..at]);
        out.push('x');
        rest = &rest[end + 2..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_finds_files_at_its_depth_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["x.yml", "a/y.yml", "a/b/z.yml", "a/n.txt"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let names = |pattern: &str| -> Vec<String> {
            let found = expand(dir.path(), pattern, 10);
            let name = |p: &PathBuf| p.strip_prefix(dir.path()).unwrap().display().to_string();
            found.iter().map(name).collect()
        };
        assert_eq!(names("*.yml"), ["x.yml"]);
        assert_eq!(names("*/*.yml"), ["a/y.yml"]);
        assert_eq!(names("**/*.yml"), ["a/b/z.yml", "a/y.yml", "x.yml"]);
        assert_eq!(names("a/n.txt"), ["a/n.txt"]);
        assert_eq!(names("none*"), Vec::<String>::new());
    }
}
