//! Whatever an alert says, the HTML that comes of a template has the elements its template names, as
//! a browser's own parser reads it.

use daruma_model::{Labels, Time};
use daruma_template::{Alert, Data, Escape, Templates};
use html5ever::tendril::TendrilSink;
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use proptest::prelude::*;

/// Elements with the names of their attributes, in order and by depth.
fn structure(html: &str) -> Vec<String> {
    fn walk(node: &Handle, depth: usize, out: &mut Vec<String>) {
        match &node.data {
            NodeData::Element { name, attrs, .. } => {
                let attrs: Vec<String> =
                    attrs.borrow().iter().map(|attr| attr.name.local.to_string()).collect();
                out.push(format!("{depth} {} {}", name.local, attrs.join(" ")));
            }
            NodeData::Comment { .. } => out.push(format!("{depth} comment")),
            _ => {}
        }
        node.children.borrow().iter().for_each(|child| walk(child, depth + 1, out));
    }
    let dom =
        html5ever::parse_document(RcDom::default(), html5ever::ParseOpts::default()).one(html);
    let mut out = Vec::new();
    walk(&dom.document, 0, &mut out);
    out
}

/// The values of all attributes of this name.
fn values(html: &str, wanted: &str) -> Vec<String> {
    fn walk(node: &Handle, wanted: &str, out: &mut Vec<String>) {
        if let NodeData::Element { attrs, .. } = &node.data {
            let attrs = attrs.borrow();
            let found = attrs.iter().filter(|attr| &*attr.name.local == wanted);
            out.extend(found.map(|attr| attr.value.to_string()));
        }
        node.children.borrow().iter().for_each(|child| walk(child, wanted, out));
    }
    let dom =
        html5ever::parse_document(RcDom::default(), html5ever::ParseOpts::default()).one(html);
    let mut out = Vec::new();
    walk(&dom.document, wanted, &mut out);
    out
}

/// Everything an alert can say is `word`.
fn data(word: &str) -> Data {
    let alert = |status: &str| Alert {
        status: status.to_owned(),
        labels: Labels::from([("alertname", word), ("instance", word)]),
        annotations: Labels::from([("summary", word), ("description", word), ("more", word)]),
        starts_at: Some(Time(0)),
        ends_at: Some(Time(1)),
        generator_url: word.to_owned(),
        fingerprint: "0".to_owned(),
    };
    Data {
        receiver: word.to_owned(),
        status: "firing".to_owned(),
        alerts: vec![alert("firing"), alert("resolved")],
        group_labels: Labels::from([("alertname", word)]),
        common_labels: Labels::from([("alertname", word), ("instance", word)]),
        title: word.to_owned(),
        text: word.to_owned(),
        incident_url: word.to_owned(),
        external_url: word.to_owned(),
        ..Data::default()
    }
}

/// Every kind of place that a hole can be in.
const PLACES: &str = r##"<!DOCTYPE html><html><head><title>{{ .Title }}</title>
<style>.x { color: {{ .Title }}; }</style></head><body>
<!-- {{ .Title }} --><p title="{{ .Title }}" class='{{ .Title }}' id={{ .Title }}>{{ .Title }}</p>
<a href="{{ .Title }}">1</a><a href='{{ .Title }}{{ .Title }}'>2</a><a href={{ .Title }} rel=x>3</a>
<a href="https://h.example/{{ .Title }}?q={{ .Title }}#{{ .Title }}">4</a>
<a href="{{ .Title | safeUrl }}">5</a><img src="{{ .Title }}" srcset="{{ .Title }} 2x">
<div style="color: {{ .Title }}; width: {{ .Title }}px">{{ .Title }}</div>
<textarea>{{ .Title }}</textarea><svg><title>{{ .Title }}</title></svg>
a < {{ .Title }} & {{ .Title }} {{ if .Title }}<b>{{ .Title }}</b>{{ end }}
{{ range .Alerts }}<table><tr><td {{ if .Status }}class="x"{{ end }}>{{ .Labels.instance }}</td></tr></table>{{ end }}
</body></html>"##;

fn expanded(template: &str, word: &str) -> String {
    Templates::built_in()
        .expand(template, &data(word), Escape::Html)
        .unwrap_or_else(|error| panic!("{word:?}: {error}"))
}

fn same_elements(word: &str) {
    for template in [PLACES, "{{ template \"email.default.html\" . }}"] {
        let (harmless, got) = (expanded(template, "x"), expanded(template, word));
        assert_eq!(structure(&got), structure(&harmless), "{word:?}\n{got}");
        for name in ["href", "src", "srcset"] {
            for value in values(&expanded(&template.replace("| safeUrl", ""), word), name) {
                let value: String = value.chars().filter(|c| !c.is_whitespace()).collect();
                let value = value.to_ascii_lowercase();
                let runs = ["javascript:", "data:", "vbscript:"];
                assert!(!runs.iter().any(|scheme| value.starts_with(scheme)), "{value:?}");
            }
        }
    }
}

#[test]
fn words_that_mean_harm_stay_words() {
    for word in [
        "</title><script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "x onclick=alert(1)",
        "javascript:alert(1)",
        "JaVa\tScRiPt:alert(1)",
        " javascript:alert(1)",
        "java",
        "script:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "--><b>",
        "</style><b>",
        "red; background: url(//evil.example)",
        "expression(alert(1))",
        "</textarea><b>",
        "&lt;b&gt;&#x6A;avascript:",
        "`",
        "\0<b>",
        "<",
        "!--",
        "/b",
        "\u{2028}<b>",
    ] {
        same_elements(word);
    }
}

#[test]
fn addresses_keep_what_they_are() {
    let href = |template: &str, word: &str| values(&expanded(template, word), "href").remove(0);
    for (template, word, want) in [
        (
            "<a href=\"{{ .Title }}\">",
            "http://p.example/g?g0.expr=up+%3D%3D+0&g0.tab=1#x",
            "http://p.example/g?g0.expr=up+%3D%3D+0&g0.tab=1#x",
        ),
        ("<a href=\"{{ .Title }}\">", "mailto:ops@example.org", "mailto:ops@example.org"),
        ("<a href=\"{{ .Title }}\">", "/a/é b", "/a/%C3%A9%20b"),
        ("<a href=\"{{ .Title }}\">", "javascript:alert(1)", "#unsafe"),
        ("<a href=\"/q?x={{ .Title }}\">", "a&b=c d", "/q?x=a%26b%3Dc%20d"),
        ("<a href=\"{{ .Title | safeUrl }}\">", "slack://channel?id=1", "slack://channel?id=1"),
    ] {
        assert_eq!(href(template, word), want, "{template}");
    }
}

#[test]
fn places_that_cannot_be_made_safe_are_refused() {
    for template in [
        "<script>var x = \"{{ .Title }}\"</script>",
        "<p onclick=\"f('{{ .Title }}')\">",
        "<{{ .Title }}>",
        "<p {{ .Title }}>",
        "<p {{ .Title }}=x>",
        "<p a{{ .Title }}=\"x\">",
        "</{{ .Title }}>",
        "<title></titl{{ .Title }}></title>",
        "<iframe srcdoc=\"{{ .Title }}\"></iframe>",
        "<meta http-equiv=refresh content=\"0; url={{ .Title }}\">",
        "<a href=\"{{ .Title }}:alert(1)\">x</a>",
        "<a href=\"{{ .Title }}",
    ] {
        let got = Templates::none().expand(template, &data("javascript"), Escape::Html);
        assert!(got.is_err(), "{template}: {got:?}");
    }
}

#[test]
fn what_its_author_vouches_for_is_markup() {
    let got = expanded("<p>{{ .Title | safeHtml }}{{ .Title }}</p>", "<b>x</b>");
    assert_eq!(got, "<p><b>x</b>&lt;b&gt;x&lt;/b&gt;</p>");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_word_makes_an_element(word in prop_oneof![
        "\\PC{1,40}",
        "[<>\"'/=a-c &;:#?!\\x00-\\x20-]{1,30}",
        prop::collection::vec(prop::sample::select(vec![
            "<", ">", "/", "\"", "'", "=", "!--", "-->", "script", "style", "title", "textarea", "b",
            "javascript:", "data:", "on", "click", " ", "\n", "`", "&", "#", ";", "\0", "]]>", "url(",
            "é", "%", "?", ",",
        ]), 1..10).prop_map(|words| words.concat()),
    ]) {
        same_elements(&word);
    }
}
