//! Templates against what Go's own `text/template` made of them, and against hostile text.

use std::path::{Path, PathBuf};

use daruma_model::Labels;
use daruma_template::{Scene, Template};
use proptest::prelude::*;
use serde::Deserialize;

fn conformance(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {} is not there", path.display());
        return None;
    }
    Some(path)
}

#[derive(Deserialize)]
struct Corpus {
    data: Vec<Data>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Data {
    name: String,
    labels: Labels,
    value: f64,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    data: String,
    output: Option<String>,
    #[serde(default)]
    parse_error: bool,
    #[serde(default)]
    exec_error: bool,
}

#[test]
fn templates_expand_as_go_expands_them() {
    let Some(path) = conformance("go-template/annotations.json") else { return };
    let corpus: Corpus = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in &corpus.cases {
        let data = corpus.data.iter().find(|data| data.name == case.data).unwrap();
        let scene = Scene::new(&data.labels, data.value);
        let got = Template::parse(&case.template).map(|template| template.expand(&scene));
        let right = match &got {
            Err(_) => case.parse_error,
            Ok(Err(_)) => case.exec_error,
            Ok(Ok(text)) => Some(text) == case.output.as_ref(),
        };
        if !right {
            wrong.push(format!(
                "{} on {}: {got:?}, want {:?}",
                case.template, case.data, case.output
            ));
        }
    }
    assert!(corpus.cases.len() > 900, "the corpus is read");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.cases.len(), wrong.join("\n"));
}

#[test]
fn queries_are_answered_and_what_is_not_known_says_so() {
    let labels = Labels::from([("instance", "web-1")]);
    let query = |text: &str| match text {
        "up" => Ok(vec![(Labels::from([("job", "b")]), 2.0), (Labels::from([("job", "a")]), 1.0)]),
        other => Err(format!("{other} cannot be evaluated")),
    };
    let scene = Scene { query: Some(&query), ..Scene::new(&labels, 0.25) };
    for (template, want) in [
        (r#"{{ with query "up" }}{{ . | first | value }}{{ end }}"#, "2"),
        (
            r#"{{ range query "up" | sortByLabel "job" }}{{ .Labels.job }}={{ .Value }} {{ end }}"#,
            "a=1 b=2 ",
        ),
        (r#"{{ query "up" | first | label "job" }}"#, "b"),
        (
            r#"{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}"#,
            "<error expanding template: nested deeper than 100>",
        ),
        (r#"{{ toTime 1 }}"#, "<error expanding template: function \"toTime\" is not supported>"),
        (r#"{{ query "down" }}"#, "<error expanding template: down cannot be evaluated>"),
        ("{{ $value | humanizePercentage }} of {{ .Labels.instance }}", "25% of web-1"),
        ("{{ 1700000000 | humanizeTimestamp }}", "2023-11-14 22:13:20 +0000 UTC"),
    ] {
        assert_eq!(Template::parse(template).unwrap().expand_or_say(&scene), want, "{template}");
    }
}

#[test]
fn an_error_in_a_template_names_its_place() {
    let error = Template::parse("line one\n{{ $labels.x }} {{ nosuch 1 }}").unwrap_err();
    assert_eq!(error.to_string(), "2:20: function \"nosuch\" not defined");
}

#[test]
fn a_template_cannot_run_away() {
    let labels: Labels = (0..40).map(|i| (format!("l{i:02}"), "v".repeat(100))).collect();
    let nested = "{{ range $labels }}{{ range $labels }}{{ range $labels }}{{ range $labels }}x\
                  {{ end }}{{ end }}{{ end }}{{ end }}";
    let deep = format!("{}1{}", "{{ (".to_owned() + &"(".repeat(5000), ")".repeat(5001) + " }}");
    let scene = Scene::new(&labels, 1.0);
    let said = Template::parse(nested).unwrap().expand_or_say(&scene);
    assert!(said.starts_with("<error expanding template: more than"), "{said:.80}");
    assert!(Template::parse(&deep).unwrap_err().to_string().contains("nested deeper"));
    assert!(Template::parse(&"x".repeat(100_000)).is_err());
    let wide = Template::parse("{{ printf \"%999999999999d\" 1 }}").unwrap().expand_or_say(&scene);
    assert!(wide.len() <= 1000);
}

proptest! {
    #[test]
    fn no_text_makes_a_template_panic(text in "\\PC{0,60}") {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.expand_or_say(&Scene::new(&Labels::default(), f64::NAN));
        }
    }

    #[test]
    fn no_mix_of_the_languages_own_words_makes_it_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{{-", "-}}", " ", "if", "else", "end", "range", "with", "$", "$value",
            "$labels", ".", ".Labels", ".x", "|", "(", ")", ":=", "=", ",", "\"", "`", "'", "\\x",
            "printf", "%d", "%-9.3f", "%*d", "humanize", "humanizeDuration", "humanizeTimestamp",
            "index", "slice", "len", "eq", "and", "or", "not", "1", "-1", "1e400", "0x", "1_0",
            "ä", "\n", "/*", "*/", "$i", "break", "continue", "define", "title", "stripDomain",
            "reReplaceAll", "match", "parseDuration", "args", "html", "9223372036854775808",
        ]), 0..24),
        value in any::<f64>(),
    ) {
        let labels = Labels::from([("x", "[::1]:80"), ("y", "\u{0}é%s{{")]);
        if let Ok(template) = Template::parse(&words.concat()) {
            let _ = template.expand_or_say(&Scene::new(&labels, value));
        }
    }
}
