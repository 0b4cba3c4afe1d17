//! Alerts that others post, asked about on the command line of the running program.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use support::{Daruma, until};

const CONFIG: &str = "collect: {}
detect: { rules: [ { alert: Shared, expr: vector(1), labels: { from: here } } ] }
notify:
  receivers: [ { name: ops, webhook_configs: [ { url: 'http://127.0.0.1:9/' } ] }, { name: night } ]
  route:
    receiver: ops
    group_by: [ alertname ]
    group_wait: 0s
    routes:
      - { matchers: [ 'team=\"db\"' ], receiver: night, mute_time_intervals: [ always ] }
  inhibit_rules: [ { source_matchers: [ 'severity=\"critical\"' ], target_matchers: [ 'severity=\"warning\"' ], equal: [ host ] } ]
  time_intervals: [ { name: always, time_intervals: [ {} ] } ]
  escalations: [ { name: chain, min_level: critical, steps: [ { after: 10m, to: [ night ] } ] } ]
";

fn post(daruma: &Daruma, labels: &str) {
    let body = format!(r#"[{{"labels":{{{labels}}}}}]"#);
    let json = ("content-type", "application/json");
    assert_eq!(daruma.call("POST", "/api/v2/alerts", &[json], &body).unwrap().0, 200);
}

#[test]
fn the_command_line_knows_who_is_told_of_what_others_post_and_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let daruma = Daruma::start(CONFIG, dir.path());
    post(&daruma, r#""alertname":"Shared","from":"there""#);
    post(&daruma, r#""alertname":"Burning","severity":"critical","host":"a""#);
    post(&daruma, r#""alertname":"Smoking","severity":"warning","host":"a""#);
    post(&daruma, r#""alertname":"Asleep","team":"db""#);
    post(&daruma, r#""alertname":"Quiet","service":"web""#);
    let (code, said, _) =
        daruma.cli(&["silence", "add", "service=web", "--for", "1h", "--comment", "a deploy"]);
    assert_eq!(code, Some(0));
    let number = said.split(' ').next().unwrap().to_owned();
    assert!(said.contains("{service=\"web\"} is silenced for 1h"), "{said}");

    for (alert, want) in [
        ("Burning", "ops is told"),
        ("Smoking", "ops is not told: the alert with fingerprint"),
        ("Asleep", "night is not told now: by the time interval `always`"),
        ("Quiet", "ops is not told: silenced"),
        ("severity=critical", "ops is told"),
    ] {
        let (code, said, _) = daruma.cli(&["why", alert]);
        assert!(code == Some(1) && said.contains(want), "{alert}: {said}");
    }
    let both = until("our own one fires", || {
        let (_, said, _) = daruma.cli(&["why", "Shared"]);
        said.contains("from=\"here\"").then_some(said)
    });
    assert!(both.contains("from=\"there\"") && both.contains("ops is told"), "{both}");
    let (code, said, _) = daruma.cli(&["why", "Nothing"]);
    assert!(code == Some(0) && said.contains("nobody has posted"), "{said}");

    // Routes are those of the running program where no file is named.
    let (code, said, error) = daruma.cli(&["route", "test", "team=db", "--tree"]);
    assert!(
        code == Some(0) && said.starts_with("night\n") && said.contains("ops by alertname"),
        "{said}{error}"
    );
    let (_, said, _) = daruma.cli(&["route", "test", "severity=critical"]);
    assert!(said.contains("until an ack climbs chain: after 10m night"), "{said}");
    let incident = until("it is told", || {
        let view = daruma.view();
        let all = view["incidents"].as_array().unwrap().clone();
        let open = all.iter().find(|one| one["title"] == "Burning")?;
        Some(open["id"].as_u64().unwrap().to_string())
    });
    let (code, said, _) = daruma.cli(&["route", "test", "--incident", &incident]);
    assert!(code == Some(0) && said.contains("alertname=\"Burning\""), "{said}");

    let (code, _, said) = daruma.cli(&["silence", "end", "99999"]);
    assert!(code == Some(2) && said.contains("there is no silence 99999"), "{said}");
    let uuid = daruma.view()["silences"][0]["uuid"].as_str().unwrap().to_owned();
    assert_eq!(daruma.cli(&["silence", "end", &uuid]).0, Some(0));
    assert_eq!(daruma.cli(&["silence", "end", &number]).0, Some(0), "it is over, as was wanted");

    // What is no JSON is not read as such.
    let text = ("content-type", "text/plain");
    assert_eq!(daruma.call("POST", "/api/v2/alerts", &[text], "[]").unwrap().0, 415);
}
