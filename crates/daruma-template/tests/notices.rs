//! Templates of notifications against what Go's `text/template` made of Alertmanager's own, the
//! functions of its reference, and what must not happen.

use std::path::{Path, PathBuf};

use daruma_model::{Labels, Level, Message, MessageAlert, MessageStatus, Time};
use daruma_template::{Data, Escape, Templates, Zone};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

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
    data: BTreeMap<String, Data>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    data: String,
    name: String,
    output: Option<String>,
    #[serde(default)]
    exec_error: bool,
}

#[test]
fn alertmanagers_own_templates_expand_as_go_expands_them() {
    let Some(path) = conformance("go-template/notifications.json") else { return };
    let corpus: Corpus = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut templates = Templates::none();
    let Some(path) = conformance("alertmanager/template/default.tmpl") else { return };
    templates.add("default.tmpl", &std::fs::read_to_string(path).unwrap()).unwrap();
    let mut wrong = Vec::new();
    for case in &corpus.cases {
        let text = format!("{{{{ template {:?} . }}}}", case.name);
        let got = templates.expand(&text, &corpus.data[&case.data], Escape::Text);
        let right = match &got {
            Err(_) => case.exec_error,
            Ok(text) => Some(text) == case.output.as_ref(),
        };
        if !right {
            wrong.push(format!("{} on {}: {got:?}, want {:?}", case.name, case.data, case.output));
        }
    }
    assert!(corpus.cases.len() >= 240, "the corpus is read");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), corpus.cases.len(), wrong.join("\n"));
}

#[test]
fn alertmanagers_mail_and_teams_templates_load_and_expand() {
    for (file, name) in [("email.tmpl", "email.default.html"), ("teams.tmpl", "wh_teams_icon")] {
        let Some(path) = conformance(&format!("alertmanager/template/{file}")) else { return };
        let mut templates = Templates::built_in();
        templates.add(file, &std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(templates.loose_ends(), [], "{file}");
        let asked = format!("{{{{ template {name:?} . }}}}");
        let text = templates.expand(&asked, &data(), Escape::Html).unwrap();
        assert!(file != "email.tmpl" || text.contains("disk &amp; &lt;fan&gt;"), "{text}");
    }
}

fn alert(instance: &str, status: MessageStatus) -> MessageAlert {
    MessageAlert {
        labels: Labels::from([
            ("alertname", "DiskFull"),
            ("instance", instance),
            ("severity", "page"),
        ]),
        annotations: Labels::from([("summary", "disk & <fan> \"hot\""), ("runbook", "r#1")]),
        status,
        starts_at: Time(1_772_359_200_000),
        ends_at: (status == MessageStatus::Resolved).then_some(Time(1_772_362_800_500)),
        generator_url: "http://prom.example/graph?g0.expr=up+%3D%3D+0&g0.tab=1".to_owned(),
    }
}

fn message() -> Message {
    Message {
        id: 7,
        incident: 12,
        receiver: "ops".to_owned(),
        channel: "ops/email[0]".to_owned(),
        status: MessageStatus::Firing,
        level: Level::Critical,
        title: "DiskFull on h1".to_owned(),
        text: "10:00 seen\n10:01 repair began".to_owned(),
        group_key: "{}:{alertname=\"DiskFull\"}".to_owned(),
        group_labels: Labels::from([("alertname", "DiskFull")]),
        route_labels: Labels::from([("team", "storage")]),
        alerts: vec![
            alert("h1", MessageStatus::Firing),
            alert("h2", MessageStatus::Firing),
            alert("h3", MessageStatus::Resolved),
        ],
        left_out: 2,
        created: Time(1_772_366_400_000),
    }
}

fn data() -> Data {
    let mut data = Data::of(&message(), "https://daruma.example/");
    data.zones = Some(|name, _| match name {
        "Asia/Shanghai" => Some(Zone { seconds: 8 * 3600, name: "CST".to_owned() }),
        _ => None,
    });
    data
}

#[test]
fn functions_and_methods_do_what_the_reference_says() {
    let templates = Templates::built_in();
    for (template, want) in [
        ("{{ .Alerts.Firing | len }}/{{ .Alerts.Resolved | len }}/{{ len .Alerts }}", "2/1/3"),
        (r#"{{ "a bC d's" | title }} {{ "aB" | toUpper }} {{ "aB" | toLower }}"#, "A Bc D's AB ab"),
        (r#"{{ trimSpace "  x " }}|{{ stringSlice "a" "b" | join "," }}"#, "x|a,b"),
        (
            r#"{{ match "^D" .CommonLabels.alertname }} {{ reReplaceAll "D(.)" "<$1>" "Disk" }}"#,
            "true <i>sk",
        ),
        (r#"{{ urlUnescape "a%20b+c" }} {{ "a b&c" | urlquery }}"#, "a b c a+b%26c"),
        (
            r#"{{ (index .Alerts 0).StartsAt | date "2006-01-02 15:04:05 MST" }}"#,
            "2026-03-01 10:00:00 UTC",
        ),
        (
            r#"{{ (index .Alerts 0).StartsAt | tz "Asia/Shanghai" | date "Mon Jan _2 3:04PM -0700" }}"#,
            "Sun Mar  1 6:00PM +0800",
        ),
        (
            r#"{{ with index .Alerts 0 }}{{ (.StartsAt.Add 28800e9).Format "2006-01-02 15:04:05" }}{{ end }}"#,
            "2026-03-01 18:00:00",
        ),
        (
            r#"{{ with index .Alerts 2 }}{{ .EndsAt.Sub .StartsAt }} {{ (.EndsAt.Sub .StartsAt).Minutes }} {{ .EndsAt }}{{ end }}"#,
            "1h0m0.5s 60.00833333333333 2026-03-01 11:00:00.5 +0000 UTC",
        ),
        (
            r#"{{ (index .Alerts 0).EndsAt }} {{ (index .Alerts 0).EndsAt.IsZero }}"#,
            "0001-01-01 00:00:00 +0000 UTC true",
        ),
        (
            r#"{{ since (index .Alerts 0).StartsAt }} {{ since (index .Alerts 0).StartsAt | humanizeDuration }}"#,
            "2h0m0s 2h 0m 0s",
        ),
        (r#"{{ humanizeDuration 90 }} {{ humanizeDuration "0.5" }}"#, "1m 30s 500ms"),
        (r#"{{ .CommonLabels | toJson }}"#, r#"{"alertname":"DiskFull","severity":"page"}"#),
        (
            r#"{{ dict "a" 1 "b" (list 1 "<x>" true) | toJson }}"#,
            r#"{"a":1,"b":[1,"\u003cx\u003e",true]}"#,
        ),
        (
            r#"{{ $l := list 1 }}{{ $l = append $l 2 3 }}{{ range $i, $x := $l }}{{ if $i }},{{ end }}{{ $x }}{{ end }}"#,
            "1,2,3",
        ),
        (r#"{{ (dict "x" "y").x }}{{ (dict "x" "y").z }}"#, "y<no value>"),
        (
            r#"{{ range .CommonLabels.SortedPairs }}{{ .Name }}={{ .Value }};{{ end }}"#,
            "alertname=DiskFull;severity=page;",
        ),
        (
            r#"{{ (.CommonLabels.Remove .GroupLabels.Names).Values }} {{ .CommonLabels }}"#,
            "[page] alertname=DiskFull, severity=page",
        ),
        (
            r#"{{ range $k, $v := .CommonLabels }}{{ $k }}:{{ $v }} {{ end }}"#,
            "alertname:DiskFull severity:page ",
        ),
        (
            r#"{{ .GroupKey }} {{ .Receiver }} {{ routeLabels "team" }} {{ .RouteLabels.team }} {{ .TruncatedAlerts }}"#,
            "{}:{alertname=\"DiskFull\"} ops storage storage 2",
        ),
        (
            r#"{{ .IncidentURL }} {{ .Incident }} {{ .Level }}"#,
            "https://daruma.example/incident/12 12 critical",
        ),
        (r#"{{ (index .Alerts 0).Fingerprint | len }} {{ .CommonLabels.nosuch }}|"#, "16 |"),
        (
            r#"{{ define "x" }}mine {{ . }}{{ end }}{{ template "x" .Status }} {{ template "__alertmanager" . }}"#,
            "mine firing Daruma",
        ),
    ] {
        assert_eq!(
            templates.expand(template, &data(), Escape::Text),
            Ok(want.to_owned()),
            "{template}"
        );
        assert_eq!(templates.check(template), Ok(()), "{template}");
    }
    for (template, want) in [
        ("{{ .NoSuch }}", "can't evaluate field NoSuch"),
        ("{{ humanize 1.0 }}", "function \"humanize\" not defined"),
        ("{{ template \"nope\" . }}", "template \"nope\" not defined"),
        ("{{ .Receiver | date \"15\" }}", "expected time.Time"),
        ("{{ (index .Alerts 0).StartsAt | tz \"Nowhere/Land\" }}", "unknown time zone"),
        ("{{ .Status 1 }}", "cannot be invoked"),
        ("{{ dict 1 2 }}", "expected string"),
        ("{{ urlUnescape \"%zz\" }}", "invalid URL escape"),
    ] {
        let error = templates.expand(template, &data(), Escape::Text).unwrap_err();
        assert!(error.contains(want), "{template}: {error}");
    }
}

#[test]
fn later_files_win_and_what_is_missing_is_known_by_its_place() {
    let mut templates = Templates::built_in();
    templates.add("a.tmpl", "{{ define \"__subject\" }}mine{{ end }}\n{{ define \"b\" }}\n {{ template \"c\" . }}{{ end }}").unwrap();
    assert_eq!(
        templates.expand("{{ template \"slack.default.title\" . }}", &data(), Escape::Text),
        Ok("mine".to_owned())
    );
    let loose: Vec<String> = templates.loose_ends().iter().map(ToString::to_string).collect();
    assert_eq!(loose, ["a.tmpl:3:2: template \"c\" not defined"]);
    assert_eq!(
        templates.check("x\n{{ template \"b\" . }}").unwrap_err().to_string(),
        "2:1: template \"c\" not defined, which \"b\" asks for"
    );
    templates.add("dir/c.tmpl", "{{ define \"c\" }}C{{ end }}").unwrap();
    assert_eq!(templates.loose_ends(), []);
    templates.add("dir/whole.tmpl", "all of {{ .Status }}").unwrap();
    assert_eq!(
        templates.expand("{{ template \"whole.tmpl\" . }}", &data(), Escape::Text),
        Ok("all of firing".to_owned())
    );
    let error =
        templates.add("bad.tmpl", "{{ define \"x\" }}\n  {{ nosuch . }}{{ end }}").unwrap_err();
    assert_eq!(error.to_string(), "bad.tmpl:2:6: function \"nosuch\" not defined");
}

#[test]
fn every_name_of_alertmanagers_is_built_in_and_expands() {
    let templates = Templates::built_in();
    assert_eq!(templates.loose_ends(), []);
    for file in ["default.tmpl", "email.tmpl"] {
        let Some(path) = conformance(&format!("alertmanager/template/{file}")) else { return };
        let mut theirs = Templates::none();
        theirs.add(file, &std::fs::read_to_string(path).unwrap()).unwrap();
        for name in theirs.names().filter(|name| *name != file) {
            assert!(templates.names().any(|ours| ours == name), "{name}");
        }
    }
    let mut plain = Data::of(&message(), "");
    plain.title.clear();
    for data in [data(), plain, Data::default()] {
        for name in templates.names() {
            let of_lists =
                ["__text_alert_list", "__text_alert_list_markdown", "__daruma_mail_alert"];
            if of_lists.contains(&name) || name == "pagerduty.default.instances" {
                continue;
            }
            let text = format!("{{{{ template {name:?} . }}}}");
            let escape = if name.contains("html") { Escape::Html } else { Escape::Text };
            templates.expand(&text, &data, escape).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
    let said = |name: &str, data: &Data| {
        templates.expand(&format!("{{{{ template {name:?} . }}}}"), data, Escape::Text).unwrap()
    };
    let mut untitled = data();
    untitled.title.clear();
    assert_eq!(said("__subject", &untitled), "Firing ×2: DiskFull, page");
    assert_eq!(said("slack.default.titlelink", &data()), "https://daruma.example/incident/12");
    let story = said("telegram.default.message", &data());
    for part in [
        "DiskFull on h1",
        "10:01 repair began",
        "instance: h2",
        "Resolved",
        "and 2 more",
        "/incident/12",
    ] {
        assert!(story.contains(part), "{part}: {story}");
    }
}

#[test]
fn json_stays_json_and_other_languages_have_their_say() {
    let templates = Templates::none();
    let mut hostile = data();
    hostile.title = "a\"b\\c\n{{".to_owned();
    let body = r#"{"t": "{{ .Title }}", "u": {{ .Title }}, "n": {{ len .Alerts }}, "l": {{ .CommonLabels | toJson }}, "x": "\"{{ .Status }}"}"#;
    let json: serde_json::Value =
        serde_json::from_str(&templates.expand(body, &hostile, Escape::Json).unwrap()).unwrap();
    assert_eq!(json["t"], "a\"b\\c\n{{");
    assert_eq!(json["u"], "a\"b\\c\n{{");
    assert_eq!(json["n"], 3);
    assert_eq!(json["l"]["severity"], "page");
    assert_eq!(json["x"], "\"firing");
    let star = Escape::With(|text| text.replace('*', "\\*"));
    hostile.title = "*x*".to_owned();
    let got = templates.expand("*{{ .Title }}* {{ .Title | safeHtml }}", &hostile, star);
    assert_eq!(got.unwrap(), "*\\*x\\** *x*");
}

#[test]
fn nothing_grows_or_runs_for_ever() {
    let templates = Templates::built_in();
    let again = "{{ range $i, $a := .Alerts }}{{ range $j, $b := $.Alerts }}".repeat(6);
    let ends = "{{ end }}{{ end }}".repeat(6);
    for body in [
        "{{ $x = printf \"%s%s\" $x $x }}",
        "{{ $y = list $y $y }}",
        "{{ $y = append $y $y }}",
        "{{ $y = list $y }}",
        "{{ $z = dict \"a\" $z \"b\" $z }}",
        "{{ $x = reReplaceAll \"\" $x $x }}",
        "{{ $x = join $x (stringSlice $x $x $x) }}",
        "{{ $x = html $x }}",
        "{{ match (print $i $j) $x }}",
        "{{ $x = $y | toJson }}{{ $y = list $x $x }}",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ] {
        let text = format!(
            "{{{{ $x := \"<aaaaaaaaaaaaaaaa>\" }}}}{{{{ $y := list 1 2 }}}}{{{{ $z := dict }}}}{again}{body}{ends}"
        );
        let said = templates.expand(&text, &data(), Escape::Text);
        assert!(said.is_err() || body == "{{ match (print $i $j) $x }}", "{body}");
    }
    let deep = "{{ define \"x\" }}{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}";
    assert!(templates.expand(deep, &data(), Escape::Text).unwrap_err().contains("nested deeper"));
}

proptest! {
    #[test]
    fn no_mix_of_the_languages_own_words_makes_it_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{{-", "-}}", " ", "if", "else", "end", "range", "with", "$", ".", ".Alerts",
            ".Labels", ".StartsAt", ".Format", ".Add", ".Sub", ".Round", "|", "(", ")", ":=", "$x",
            "\"", "\"2006 Jan _2 .000\"", "printf", "\"%v\"", "tz", "date", "since", "toJson", "dict",
            "list", "append", "join", "stringSlice", "title", "urlUnescape", "\"%\"", "safeHtml",
            "safeUrl", "index", "slice", "0", "1", "-1", "9223372036854775807", "1e300", "define",
            "template", "<a href=\"", "<style>", "</", "<!--", "-->", "<", ">", "=", "'", "style=",
        ]), 0..24),
    ) {
        for escape in [Escape::Text, Escape::Html, Escape::Json] {
            let _ = Templates::built_in().expand(&words.concat(), &data(), escape);
        }
    }
}
