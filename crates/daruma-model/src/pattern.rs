//! Regular expressions as Go reads them, in the words of the engine used here.
//!
//! People bring rules, dashboards, routes and templates written for Go's `regexp`. Both engines stem
//! from RE2 and mean the same by nearly every pattern; what they read differently is rewritten here, in
//! one place, so that a matcher, `label_replace` and a template agree. Nothing is judged here: a broken
//! pattern stays broken.

/// `pattern`, written so that the `regex` crate means by it what Go means: a brace that counts nothing
/// is a brace (`/users/{id}`), a bracket within brackets is a bracket, `\d`, `\s`, `\w` and `\b` know
/// ASCII alone, `\<` is `<`, and what stands in `\Q…\E` stands for itself.
#[must_use]
pub fn go_pattern(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let (mut rest, mut in_class) = (pattern, false);
    while let Some(c) = rest.chars().next() {
        let (text, taken) = match (c, in_class) {
            ('\\', _) => escape(rest, in_class),
            ('{', false) => match counted(rest) {
                Some(length) => (rest[..length].to_owned(), length),
                None => ("\\{".to_owned(), 1),
            },
            ('[', false) => {
                in_class = true;
                let opening = if rest.starts_with("[^") { "[^" } else { "[" };
                // Right behind its opening, `]` does not close a class.
                match rest[opening.len()..].starts_with(']') {
                    true => (format!("{opening}\\]"), opening.len() + 1),
                    false => (opening.to_owned(), opening.len()),
                }
            }
            ('[', true) => match named(rest) {
                Some(length) => (rest[..length].to_owned(), length),
                None => ("\\[".to_owned(), 1),
            },
            (']', true) => {
                in_class = false;
                ("]".to_owned(), 1)
            }
            // Doubled, these compute with classes; in Go they are characters.
            ('&' | '~', true) => (format!("\\{c}"), 1),
            _ => (c.to_string(), c.len_utf8()),
        };
        out.push_str(&text);
        rest = &rest[taken..];
    }
    out
}

/// What a backslash and what follows it mean, and how many bytes they take.
fn escape(rest: &str, in_class: bool) -> (String, usize) {
    let Some(c) = rest[1..].chars().next() else { return ("\\".to_owned(), 1) };
    let taken = 1 + c.len_utf8();
    let text = match c {
        'Q' if !in_class => {
            let quoted = &rest[taken..];
            let (quoted, end) = quoted.split_once("\\E").map_or((quoted, 0), |(text, _)| (text, 2));
            return (regex::escape(quoted), taken + quoted.len() + end);
        }
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\f\\r ]",
        'S' => "[^\\t\\n\\f\\r ]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'b' if !in_class => "(?-u:\\b)",
        '<' => "<",
        '>' => ">",
        // The braces of `\x{263a}` and `\p{Greek}` are their own.
        'x' | 'p' | 'P' if rest[taken..].starts_with('{') => {
            let length = rest.find('}').map_or(rest.len(), |at| at + 1);
            return (rest[..length].to_owned(), length);
        }
        _ => &rest[..taken],
    };
    (text.to_owned(), taken)
}

/// The length of `{2}`, `{2,}` or `{2,3}` at the beginning of `rest`.
fn counted(rest: &str) -> Option<usize> {
    let end = rest.find('}')?;
    let (least, most) = rest[1..end].split_once(',').unwrap_or((&rest[1..end], ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (!least.is_empty() && digits(least) && digits(most)).then_some(end + 1)
}

/// The length of `[:alpha:]` at the beginning of `rest`.
fn named(rest: &str) -> Option<usize> {
    let name = rest.strip_prefix("[:")?;
    let end = name.find(":]")?;
    let letters = name[..end].bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'^');
    letters.then_some(2 + end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let pattern = format!("^(?s:{})$", go_pattern(pattern));
        let regex = regex::Regex::new(&pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        regex.is_match(text)
    }

    #[test]
    fn patterns_mean_what_go_means_by_them() {
        for (pattern, yes, no) in [
            ("/users/{id}/.*", "/users/{id}/orders", "/users/7/orders"),
            ("a{,3}", "a{,3}", "aa"),
            ("a{2,", "a{2,", "aa"),
            ("a{2,+}", "a{2,,}", "aa"),
            ("a{2}b{1,}c{0,1}", "aabbc", "abc"),
            ("{{.*}}", "{{ x }}", "x"),
            ("[[]x[a[]", "[x[", "x"),
            ("[[:alpha:][]+", "a[b", "1"),
            ("[]a]+", "]a", "b"),
            ("[^]a]+", "bc", "]"),
            ("[a&&b~~c]+", "a&b~c", "d"),
            ("[{}]{2}", "{}", "{"),
            (r"\d+\D", "12x", "١x"),
            (r"[\d.]+", "1.5", "١"),
            (r"[\w-.]+", "a-b.c", "ä"),
            (r"[^\W_]+", "ab1", "a_"),
            (r"\s\S", "\tä", "\u{a0}x"),
            (r".*\bx\b.*", "äx", "ax"),
            (r"\<a\>", "<a>", "a"),
            (r"\Qa.b{2}\E{2}", "a.b{2}}", "a.bb"),
            (r"\Q[", "[", ""),
            (r"\x{e4}\p{Greek}\pL", "äαb", "aab"),
            (r"a\{2\}\\", "a{2}\\", "aa"),
            ("(?i:ÄB)", "äb", "ab"),
        ] {
            assert!(matches(pattern, yes), "{pattern} misses {yes}");
            assert!(!matches(pattern, no), "{pattern} finds {no}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_is_lost_or_panics(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "ä", "[", "]", "[^", "{", "}", "{2}", "{2,3}", ",", "-", "\\", "\\d", "\\W", "\\Q", "\\E",
                    "\\x{e4}", "\\p{L}", "[:alpha:]", "(", ")", "|", "*", "+", "&", "~", "^", "$", ".", "0", ":",
                ]),
                0..12,
            ),
        ) {
            let pattern = pieces.concat();
            let rewritten = go_pattern(&pattern);
            // Nothing but these is read differently, so all else stays letter for letter.
            if !pattern.contains(['\\', '[', '{']) {
                prop_assert_eq!(rewritten, pattern);
            } else if regex::Regex::new(&pattern).is_ok() {
                prop_assert!(regex::Regex::new(&rewritten).is_ok(), "{pattern} became {rewritten}");
            }
        }
    }
}
