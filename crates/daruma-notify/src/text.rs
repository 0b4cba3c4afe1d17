//! What the far side said, made fit for the ledger: one line, bounded, without secrets.

use crate::secret::Secret;

/// The length of what is kept of an answer, in characters.
pub(crate) const SAID_CHARS_MAX: usize = 500;

/// Replaces every occurrence of a secret, makes one line of it, and cuts it.
pub(crate) fn said(text: &str, secrets: &[Secret]) -> String {
    let mut text = text.to_owned();
    let mut longest_first: Vec<&str> =
        secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty()).collect();
    longest_first.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in longest_first {
        text = text.replace(secret, "<secret>");
    }
    line(&text, SAID_CHARS_MAX)
}

/// Secrets in the shapes in which a far side may say them back: as they are, within a URL, within
/// JSON, and in base64.
pub(crate) fn shapes(secrets: &[Secret]) -> Vec<Secret> {
    let mut all = Vec::new();
    for secret in secrets.iter().map(Secret::expose).filter(|secret| !secret.is_empty()) {
        let json = serde_json::Value::from(secret).to_string();
        let json = json.trim_matches('"').to_owned();
        let percent = crate::sign::percent(secret);
        all.push(percent.replace("%20", "+"));
        all.push(percent.to_lowercase());
        all.push(json.replace('/', "\\/"));
        all.extend([percent, json, crate::sign::base64(secret.as_bytes()), secret.to_owned()]);
    }
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(Secret::new).collect()
}

/// At most `chars_max` characters on one line; control characters become blanks, blanks do not pile up.
pub(crate) fn line(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    let (mut count, mut blank) = (0, true);
    for c in text.chars() {
        let c = if c.is_control() || c.is_whitespace() { ' ' } else { c };
        if c == ' ' && blank {
            continue;
        }
        if count + 1 >= chars_max {
            line.push('…');
            break;
        }
        line.push(c);
        count += 1;
        blank = c == ' ';
    }
    line.truncate(line.trim_end().len());
    line
}

/// `text` as text within HTML, be it content or a quoted attribute.
pub(crate) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The secret parts of a URL: all of it, its user information, and what stands behind the host.
pub(crate) fn url_secrets(url: &str) -> Vec<Secret> {
    let mut parts = vec![url.to_owned()];
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if let Some((user, _)) = authority.rsplit_once('@') {
        parts.push(user.to_owned());
        parts.extend(user.split(':').map(str::to_owned));
    }
    if path.len() > 1 {
        parts.push(path.to_owned());
    }
    // Short words such as `hook` or `v2` are no secrets, and masking them would mangle sentences.
    let words = path.split(['/', '?', '&', '=', '#']).filter(|word| word.len() >= 8);
    parts.extend(words.map(str::to_owned));
    parts.retain(|part| part.len() > 1);
    parts.into_iter().map(Secret::new).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_was_said_is_one_short_line_without_the_secret(
            before in "\\PC{0,400}", after in "[\\x00-\\x7f]{0,800}", secret in "[a-zA-Z0-9]{6,30}",
        ) {
            let secrets = [Secret::new(&*secret), Secret::new(&secret[..3])];
            let said = said(&format!("{before}{secret}{after}"), &secrets);
            prop_assert!(!said.contains(&secret));
            prop_assert!(said.chars().count() <= SAID_CHARS_MAX);
            prop_assert!(!said.contains(char::is_control));
        }

        #[test]
        fn no_text_becomes_markup(text in "\\PC{0,200}") {
            let html = html(&text);
            prop_assert!(!html.contains(['<', '>', '"', '\'']));
        }

        #[test]
        fn no_url_panics(url in "\\PC{0,100}") {
            let _ = url_secrets(&url);
        }
    }

    #[test]
    fn a_token_in_a_url_is_masked_wherever_it_turns_up() {
        let secrets =
            url_secrets("https://bob:hunter2@example.org/services/T0000/B0000XYZW?key=abcdefgh1");
        for words in [
            "no such hook /services/T0000/B0000XYZW?key=abcdefgh1",
            "unknown B0000XYZW",
            "key abcdefgh1 is wrong",
            "bob:hunter2",
            "hunter2",
        ] {
            let said = said(words, &secrets);
            assert!(said.contains("<secret>"), "{said}");
            for secret in ["B0000XYZW", "abcdefgh1", "hunter2"] {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
}
