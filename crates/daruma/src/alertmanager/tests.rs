use std::path::{Path, PathBuf};

use super::*;

fn shared(folder: &str) -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: {} is not here", path.display());
    None
}

fn read(text: &str) -> Result<Loaded, String> {
    parse(Path::new("alertmanager.yml"), text, "Europe/Berlin").map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

#[test]
fn what_upstream_accepts_loads_and_what_it_refuses_is_refused_with_place_and_reason() {
    let Some(folder) = shared("alertmanager/config") else { return };
    let table = std::fs::read_to_string(folder.join("expected.tsv")).unwrap();
    let mut seen = 0;
    for row in table.lines().filter(|line| !line.starts_with('#')) {
        let (name, want) = row.split_once('\t').unwrap();
        let got = load(&folder.join(name));
        match (&got, want) {
            (Ok(loaded), "accept") => loaded.routing.validate().unwrap(),
            (Err(errors), "reject") => {
                for error in errors {
                    let (line, column) = error.place.unwrap_or_else(|| panic!("{name}: {error}"));
                    assert!(line > 0 && column > 0 && error.said.len() > 10, "{name}: {error}");
                }
            }
            (Ok(_), _) => panic!("{name} was taken, {want} was expected"),
            (Err(errors), _) => panic!("{name}: {}, {want} was expected", errors[0]),
        }
        seen += 1;
    }
    assert!(seen >= 31, "{seen} files");
}

#[test]
fn a_webhooks_address_is_one_or_a_template_and_each_mistake_is_said_once() {
    let file = |url: &str| {
        read(&format!(
            "route: {{ receiver: a }}\nreceivers:\n- name: a\n  webhook_configs: [ {{ url: '{url}' }} ]\n"
        ))
    };
    for good in ["https://example.org/hook", "{{ .GroupLabels.team }}", "http://{{ .x }}/"] {
        assert!(file(good).is_ok(), "{good}");
    }
    for bad in ["127.0.0.1:18099/web", "hello", "ftp://x/y", "http:///x", "/path"] {
        let said = file(bad).map(drop).unwrap_err();
        assert!(said.starts_with("alertmanager.yml:4:") && said.contains("this address"), "{said}");
        assert!(!said.contains('\n') && !said.contains(bad), "{said}");
    }
}

#[test]
fn the_examples_and_the_routing_tree_load() {
    let Some(folder) = shared("alertmanager") else { return };
    for (name, good) in [
        ("examples/ha.yml", true),
        ("examples/simple.yml", true),
        ("examples/route_labels.yml", true),
        ("cli/conf.good.yml", true),
        ("cli/conf.routing.yml", true),
        ("cli/conf.bad.yml", false),
    ] {
        let got = load(&folder.join(name));
        assert_eq!(
            got.is_ok(),
            good,
            "{name}: {:?}",
            got.err().map(|errors| errors[0].to_string())
        );
    }
    let routing = load(&folder.join("cli/conf.routing.yml")).unwrap().routing;
    for (test, want) in
        [("1", vec!["test1"]), ("2", vec!["test1", "test2"]), ("3", vec!["default"])]
    {
        let found = routing.matching(&[("test", test)].into());
        let got: Vec<&str> = found.iter().map(|at| &*routing.nodes[*at].receiver).collect();
        assert_eq!(got, want, "test={test}");
    }
    let labels =
        load(&folder.join("examples/route_labels.yml")).unwrap().routing.nodes[1].labels.clone();
    assert_eq!(labels.get("reason"), "database {{ .GroupLabels.database }}");
    assert!(labels.get("description").contains("routeLabels"));
}

/// The corpus of `http_config`s that Prometheus' own library is tested with.
#[test]
fn http_configs_are_judged_as_upstream_judges_them() {
    let Some(folder) = shared("common/http-config") else { return };
    let (mut seen, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let body = std::fs::read_to_string(&path).unwrap();
        let key = if name.starts_with("tls_config") { "smtp_tls_config" } else { "http_config" };
        let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
        let text = format!(
            "route: {{ receiver: a }}\nreceivers: [ {{ name: a }} ]\nglobal:\n  {key}:\n{body}"
        );
        // A file that is not there is found out when it is needed.
        let later = name.contains("invalid-bearer-token-file");
        let good =
            later || !["bad", "too-much"].iter().any(|word| name.contains(&format!(".{word}")));
        let got = read(&text).map(|_| ());
        if got.is_ok() != good {
            wrong.push(format!("{name}: {got:?}\n{body}"));
        }
        seen += 1;
    }
    assert!(wrong.is_empty() && seen > 20, "{}", wrong.join("\n"));
}

const HEAD: &str = "route: { receiver: a }\n";

#[test]
fn a_mistake_names_its_line_and_what_to_do() {
    for (text, want) in [
        (
            "route:\n  reciever: a\n",
            "alertmanager.yml:2:3: unknown field `reciever`; did you mean `receiver`?",
        ),
        ("rout: {}\n", "1:1: unknown field `rout`; did you mean `route`?"),
        ("route: { receiver: b }\nreceivers:\n- name: ab\n", "1:10: no receiver is named `b`"),
        (
            "route: { receiver: a }\nreceivers:\n- name: a\n- name: a\n",
            "4:3: two receivers are named `a`",
        ),
        (
            "route:\n  receiver: a\n  group_wait: soon\nreceivers: [ { name: a } ]\n",
            "3:15: `soon` is not a duration",
        ),
        (
            "route:\n  receiver: a\n  routes:\n  - matchers: [ 'x=~\"(\"' ]\nreceivers: [ { name: a } ]\n",
            "4:17: the regular expression",
        ),
        (
            "route:\n  receiver: a\n  group_by: [ '...', b ]\nreceivers: [ { name: a } ]\n",
            "`...` means all labels",
        ),
        ("route: { receiver: a, repeat_interval: 0s }\nreceivers: [ { name: a } ]\n", "above zero"),
        (
            "route: { receiver: a, routes: [ { mute_time_intervals: [ night ] } ] }\nreceivers: [ { name: a } ]\n\
             time_intervals: [ { name: nights, time_intervals: [] } ]\n",
            "no time interval is named `night`; did you mean `nights`?",
        ),
        (
            "route: { receiver: a }\nreceivers:\n- name: a\n  webhook_configs:\n  - url: http://x/\n    urll: y\n",
            "6:5: unknown field `urll`; did you mean `url`?",
        ),
        (
            "route: { receiver: a }\nreceivers:\n- name: a\n  pagerduty_configs:\n  - client: x\n",
            "5:5: `routing_key`",
        ),
        (
            "route: { receiver: a }\nreceivers:\n- name: a\n  email_configs:\n  - to: x\n",
            "`smtp_smarthost` under `global`",
        ),
        ("[]\n", "1:1: this is no configuration"),
        ("", "no configuration"),
        ("global: {}\n", "there is no route"),
        ("route: { receiver: a }\na: b: c\n", "2:"),
    ] {
        let got = read(text).unwrap_err();
        assert!(got.contains(want), "{text}\n{got}\nwanted {want}");
    }
}

#[test]
fn an_empty_inhibition_rule_loads_and_keeps_nothing_quiet() {
    let text = "route: {receiver: a}\nreceivers: [{name: a}]\ninhibit_rules: [null, {}]\n";
    let loaded = read(text).unwrap();
    let one = daruma_model::Labels::from([("alertname", "A")]);
    let other = daruma_model::Labels::from([("alertname", "B")]);
    assert!(!loaded.routing.inhibit.iter().any(|rule| rule.applies(&one, &other)));
}

#[test]
fn children_inherit_and_keep_their_intervals_to_themselves() {
    let loaded = read(
        "route:\n  receiver: a\n  group_by: [x]\n  group_wait: 1s\n  labels: { team: core, why: x }\n  routes:\n\
         \x20 - match: { n: 1 }\n    match_re: { m: a|b }\n    matchers: [ 'k=v, l!=w' ]\n    mute_time_intervals: [ night ]\n    repeat_interval: 2h\n\
         \x20   labels: { why: y }\n    routes:\n    - receiver: b\n      continue: true\n      group_by: ['...']\n\
         receivers: [ { name: a }, { name: b } ]\n\
         mute_time_intervals: [ { name: night, time_intervals: [ { location: Local, times: [ { start_time: 00:00, end_time: 06:00 } ] } ] } ]\n\
         inhibit_rules: [ { source_match: { s: 1 }, source_matchers: [ t=2 ], target_match_re: { u: '3' }, equal: [ v ] } ]\n\
         global: { resolve_timeout: 7m }\n",
    )
    .unwrap();
    let routing = &loaded.routing;
    let [_, child, grandchild] = &routing.nodes[..] else { panic!("{routing:?}") };
    assert_eq!(child.key, r#"{}/{k="v",l!="w",m=~"a|b",n="1"}"#);
    assert_eq!((&*child.receiver, child.group_wait.to_string()), ("a", "1s".to_owned()));
    assert_eq!((child.labels.get("team"), child.labels.get("why")), ("core", "y"));
    assert_eq!(
        (&*grandchild.receiver, grandchild.repeat_interval.to_string()),
        ("b", "2h".to_owned())
    );
    assert!(grandchild.mute.is_empty() && grandchild.continues && !child.continues);
    assert_eq!(grandchild.group_by, daruma_alert::routing::GroupBy::All);
    assert_eq!(routing.intervals["night"][0].location.as_ref().unwrap().name(), "Europe/Berlin");
    let rule = &routing.inhibit[0];
    assert_eq!(rule.source.to_string(), r#"{s="1", t="2"}"#);
    assert_eq!((rule.target.to_string(), rule.equal.len()), (r#"{u=~"3"}"#.to_owned(), 1));
    assert_eq!(routing.resolve_timeout.to_string(), "7m");
}

/// Every secret of the file, wherever it stands, is nowhere to be seen: not in what is shown, not in
/// debugging output, not in a warning, and not in an error of the same file broken somewhere else.
#[test]
fn no_secret_is_shown() {
    let text = "global:\n  smtp_smarthost: mail:25\n  smtp_from: a@example.org\n  smtp_auth_password: hunter2\n\
        \x20 slack_api_url: https://hooks.example/hunter2\n  http_config:\n    proxy_url: http://u:hunter2@proxy/\n\
        \x20   http_headers: { X-A: { secrets: [ hunter2 ] } }\n    proxy_connect_header: { X-B: [ hunter2 ] }\n\
        route: { receiver: a }\nreceivers:\n- name: a\n  email_configs: [ { to: b@example.org } ]\n\
        \x20 slack_configs: [ { channel: '#x' }, { api_url: 'https://hooks.example/hunter2' } ]\n\
        \x20 webhook_configs:\n  - url: 'http://u:hunter2@example.org/hunter2'\n    http_config: { basic_auth: { username: u, password: hunter2 } }\n\
        \x20 - url: 'http://example.org/'\n    http_config: { oauth2: { client_id: x, client_secret: hunter2, token_url: 'http://t/' } }\n\
        \x20 opsgenie_configs: [ { api_key: hunter2 } ]\n\
        \x20 sns_configs: [ { topic_arn: x, sigv4: { access_key: y, secret_key: hunter2 } } ]\n\
        \x20 telegram_configs: [ { chat_id: 1, bot_token: hunter2 } ]\n\
        \x20 pushover_configs: [ { user_key: hunter2, token: hunter2 } ]\n\
        \x20 webex_configs: [ { room_id: x, http_config: { authorization: { credentials: hunter2 } } } ]\n";
    let loaded = read(text).unwrap();
    let json = serde_json::to_string(&loaded.receivers).unwrap();
    let policy = serde_json::to_string(&loaded.routing).unwrap();
    let all = format!("{loaded:?} {json} {policy} {}", loaded.warnings.join("\n"));
    assert!(!all.contains("hunter2"), "{all}");
    assert!(!loaded.original.contains("hunter2"), "{}", loaded.original);
    assert!(loaded.original.matches("<secret>").count() >= 12, "{}", loaded.original);
    // What is shown can be read again, by us and by others.
    let again = read(&loaded.original).unwrap();
    assert_eq!(again.routing, loaded.routing);
    assert_eq!(again.original, loaded.original);
    for (from, to) in [
        ("api_key: hunter2", "api_keys: hunter2"),
        ("https://hooks.example/hunter2", "hooks.example/hunter2"),
        ("username: u", "usernam: u"),
        ("password: hunter2", "password: [ hunter2 ]"),
        ("secret_key: hunter2", "secret_key: hunter2, secret_key: hunter2"),
        ("bot_token: hunter2", "bot_token: hunter2, bot_token_file: hunter3"),
        ("chat_id: 1", "chat_id: x"),
    ] {
        let broken = text.replace(from, to);
        let error = read(&broken).unwrap_err();
        assert!(!error.contains("hunter2"), "{to}: {error}");
    }
}

#[test]
fn what_no_channel_serves_loads_loudly_and_fails_visibly() {
    let loaded = read(
        "route: { receiver: a }\nreceivers:\n- name: a\n  opsgenie_configs:\n  - api_key: x\n  webhook_configs:\n  - url: 'http://127.0.0.1:1/'\n",
    )
    .unwrap();
    let [warning] = &loaded.warnings[..] else { panic!("{:?}", loaded.warnings) };
    assert!(
        warning.starts_with("alertmanager.yml:5:5: a/opsgenie[0]: nobody is told"),
        "{warning}"
    );
    let channels = loaded.receivers[0].channels();
    assert_eq!(channels, [("a/webhook[0]".to_owned(), true), ("a/opsgenie[0]".to_owned(), true)]);
}

#[test]
fn the_end_is_told_where_upstream_tells_it() {
    let loaded = read(
        "global: { slack_api_url: 'http://127.0.0.1/', smtp_smarthost: 'mail:25', smtp_from: a@example.org }\n\
         route: { receiver: a }\nreceivers:\n- name: a\n  slack_configs: [ {}, { send_resolved: true } ]\n  email_configs: [ { to: a@example.org } ]\n\
         \x20 webhook_configs: [ { url: 'http://127.0.0.1/' }, { url: 'http://127.0.0.1/', send_resolved: false, timeout: 1.5s } ]\n",
    )
    .unwrap();
    let mut channels = loaded.receivers[0].channels();
    channels.sort();
    let want = [
        ("a/email[0]", false),
        ("a/slack[0]", false),
        ("a/slack[1]", true),
        ("a/webhook[0]", true),
        ("a/webhook[1]", false),
    ];
    assert_eq!(channels, want.map(|(name, told)| (name.to_owned(), told)));
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(tail in "\\PC{0,60}|([a-z_]{1,8}: ?[\\[{]?[a-z0-9\"']{0,5}[\\]}]?\n){0,6}") {
        let _ = read(&tail);
        let _ = read(&format!("{HEAD}receivers:\n- name: a\n  slack_configs:\n  - {tail}\n"));
        let _ = read(&format!("receivers: [ {{ name: a }} ]\nroute:\n  receiver: a\n  {tail}\n"));
    }
}
