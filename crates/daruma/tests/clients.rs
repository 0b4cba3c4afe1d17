//! The programs that people have: `amtool` and a real Prometheus, against the running program with an
//! alertmanager.yml. Each release that is to be found is tried: that of `$PEERS_BIN` and that of the
//! system. Where there is none the test says so.
#![allow(clippy::unwrap_used)] // A test's helpers may fail as loudly as the test itself.

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::{Daruma, Hook, until};

/// Every release of a program that is here.
fn releases(name: &str) -> Vec<PathBuf> {
    let peers = std::env::var_os("PEERS_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = Vec::new();
    for folder in peers.into_iter().chain(std::env::split_paths(&path)) {
        let real = std::fs::canonicalize(folder.join(name));
        found.extend(real.ok().filter(|real| real.is_file() && !found.contains(real)));
    }
    if found.is_empty() {
        println!("SKIPPED: no {name} is here");
    }
    found
}

/// A daruma that follows an alertmanager.yml of three receivers, and the hooks of two of them.
struct Following {
    daruma: Daruma,
    web: Hook,
    rest: Hook,
    folder: tempfile::TempDir,
}

fn following() -> Following {
    let folder = tempfile::tempdir().unwrap();
    let (web, rest) = (Hook::start(), Hook::start());
    let file = folder.path().join("alertmanager.yml");
    let text = format!(
        "route:
  receiver: rest
  group_by: [ alertname ]
  group_wait: 10ms
  group_interval: 50ms
  routes:
  - {{ receiver: web, matchers: [ 'team=\"web\"' ], group_by: [ alertname, team ] }}
  - {{ receiver: nobody, matchers: [ 'team=\"nobody\"' ] }}
receivers:
- {{ name: rest, webhook_configs: [ {{ url: '{}' }} ] }}
- {{ name: web, webhook_configs: [ {{ url: '{}' }} ] }}
- {{ name: nobody }}
templates: [ '*.tmpl' ]
",
        rest.url, web.url
    );
    std::fs::write(&file, text).unwrap();
    std::fs::write(
        folder.path().join("own.tmpl"),
        "{{ define \"own\" }}it is {{ .Status }}{{ end }}",
    )
    .unwrap();
    // Without sources and rules of its own: nothing but what is posted is told.
    let own = folder.path().join("daruma.yaml");
    std::fs::write(&own, "collect: {}\ndetect: {}\n").unwrap();
    let arguments =
        ["--config", own.to_str().unwrap(), "--alertmanager-config", file.to_str().unwrap()];
    let daruma = Daruma::with(&arguments, &folder.path().join("data"));
    Following { daruma: daruma.unwrap_or_else(|said| panic!("{said}")), web, rest, folder }
}

/// (status, alertname, summary) of what a hook was told of alerts.
fn told(hook: &Hook) -> Vec<(String, String, String)> {
    let told = hook.told.lock().unwrap();
    let alerts = told.iter().flat_map(|message| message["alerts"].as_array().unwrap().clone());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    alerts
        .map(|alert| {
            let labels = (&alert["labels"]["alertname"], &alert["annotations"]["summary"]);
            (text(&alert["status"]), text(labels.0), text(labels.1))
        })
        .collect()
}

/// `amtool` with its arguments: whether it ended well, and what it printed.
struct Amtool<'a> {
    program: &'a Path,
    url: String,
    home: &'a Path,
}

impl Amtool<'_> {
    fn run(&self, arguments: &[&str]) -> (bool, String, String) {
        let out = Command::new(self.program)
            // What the person who runs the test has configured is not asked.
            .env("HOME", self.home)
            .args(["--no-version-check", "--alertmanager.url", &self.url])
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.success(), text(&out.stdout), text(&out.stderr))
    }

    fn good(&self, arguments: &[&str]) -> String {
        let (good, out, err) = self.run(arguments);
        assert!(good, "{} {arguments:?}: {out}{err}", self.program.display());
        out
    }
}

#[test]
fn amtool_adds_and_finds_alerts_and_they_reach_whom_the_route_names() {
    for program in releases("amtool") {
        let all = following();
        let url = format!("http://{}/", all.daruma.address);
        let amtool = Amtool { program: &program, url, home: all.folder.path() };
        amtool.good(&["alert", "add", "Slow", "team=web", "--annotation=summary=late 'a' <b>"]);
        amtool.good(&["alert", "add", "alertname=Full", "team=store", "node=n 1"]);
        let slow = ("firing", "Slow", "late 'a' <b>");
        until("the web team is told", || {
            told(&all.web).iter().any(|(a, b, c)| (&**a, &**b, &**c) == slow).then_some(())
        });
        until("the rest is told", || told(&all.rest).iter().any(|t| t.1 == "Full").then_some(()));
        assert!(!told(&all.rest).iter().any(|one| one.1 == "Slow"), "{:?}", told(&all.rest));
        let found = |arguments: &[&str]| {
            let out = amtool.good(&[&["-o", "json", "alert", "query"], arguments].concat());
            let alerts: serde_json::Value = serde_json::from_str(&out).unwrap();
            let name = |alert: &serde_json::Value| {
                alert["labels"]["alertname"].as_str().unwrap().to_owned()
            };
            let mut names: Vec<String> = alerts.as_array().unwrap().iter().map(name).collect();
            names.sort();
            names
        };
        assert_eq!(found(&[]), ["Full", "Slow"]);
        assert_eq!(found(&["Slow"]), ["Slow"]);
        assert_eq!(found(&["node=~n.*"]), ["Full"]);
        assert_eq!(found(&["team!=web"]), ["Full"]);
        assert_eq!(found(&["--receiver=web"]), ["Slow"]);
        assert_eq!(found(&["--silenced"]), [""; 0]);
        let table = amtool.good(&["alert", "query"]);
        assert!(table.contains("Alertname") && table.contains("late 'a' <b>"), "{table}");
        assert!(table.contains("active"), "{table}");
        // Its end is told, where its beginning was told.
        let end = "--end=2024-01-02T00:00:00Z";
        amtool.good(&["alert", "add", "Slow", "team=web", "--start=2024-01-01T00:00:00Z", end]);
        until("the web team is told the end", || {
            told(&all.web).iter().any(|(status, _, _)| status == "resolved").then_some(())
        });
        assert_eq!(found(&[]), ["Full"]);
        let (good, out, err) = amtool.run(&["alert", "add", "Full", "node=\"unclosed"]);
        assert!(!good, "{out}{err}");
    }
}

#[test]
fn amtool_makes_finds_changes_and_ends_silences() {
    for program in releases("amtool") {
        let all = following();
        let url = format!("http://{}", all.daruma.address);
        let amtool = Amtool { program: &program, url, home: all.folder.path() };
        let add = ["silence", "add", "--author=ann", "--duration=2h"];
        let id =
            amtool.good(&[&add[..], &["--comment=known", "alertname=Qu.*", "team=~a|b"]].concat());
        let id = id.trim();
        assert_eq!(id.len(), 36, "{id}");
        let (good, _, err) = amtool.run(&[&add[..], &["alertname=X"]].concat());
        assert!(!good && err.contains("comment"), "a reason is demanded: {err}");
        let ids = |arguments: &[&str]| {
            let out = amtool.good(&[&["silence", "query", "-q"], arguments].concat());
            out.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(ids(&[]), [id]);
        assert_eq!(ids(&["--created-by=ann"]), [id]);
        assert_eq!(ids(&["--created-by=bob"]), [""; 0]);
        assert_eq!(ids(&["team=~a|b"]).len() + ids(&["team=c"]).len(), ids(&["team=~a|b"]).len());
        let shown = amtool.good(&["silence", "query", "-o", "extended"]);
        assert!(shown.contains("ann") && shown.contains("known"), "{shown}");
        assert!(shown.contains("team=~\"a|b\""), "{shown}");

        // A longer end and other words keep the silence; `update` says its id.
        let updated = amtool.good(&["silence", "update", "--duration=3h", "--comment=longer", id]);
        assert!(updated.contains(id), "{updated}");
        let json = amtool.good(&["-o", "json", "silence", "query"]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json[0]["comment"], json.as_array().unwrap().len()), (&"longer".into(), 1));

        // What others exported can be taken in.
        let export = all.folder.path().join("silences.json");
        std::fs::write(&export, json.to_string().replace("longer", "taken in")).unwrap();
        amtool.good(&["silence", "import", "--force", export.to_str().unwrap()]);
        assert_eq!(ids(&[]).len(), 2);

        // It mutes, says so, and what it muted is told when it is over.
        let quiet = amtool.good(&[&add[..], &["--comment=deploy", "alertname=Muted"]].concat());
        amtool.good(&["alert", "add", "Muted", "team=web"]);
        let muted = amtool.good(&["alert", "query", "--silenced", "Muted"]);
        assert!(muted.contains("suppressed"), "{muted}");
        amtool.good(&["alert", "add", "Loud", "team=web"]);
        until("the loud one is told", || {
            told(&all.web).iter().any(|t| t.1 == "Loud").then_some(())
        });
        assert!(!told(&all.web).iter().any(|one| one.1 == "Muted"), "{:?}", told(&all.web));
        amtool.good(&["silence", "expire", quiet.trim()]);
        until("it is told", || told(&all.web).iter().any(|one| one.1 == "Muted").then_some(()));
        assert_eq!(ids(&["--expired"]), [quiet.trim()]);
        amtool.good(
            &[&["silence", "expire"], &*ids(&[]).iter().map(String::as_str).collect::<Vec<_>>()]
                .concat(),
        );
        assert_eq!(ids(&[]), [""; 0]);
        let (good, _, err) =
            amtool.run(&["silence", "expire", "6bd3ee5a-5a38-4dcd-8a5d-2f1bb1c8a4a0"]);
        assert!(!good, "{err}");
    }
}

#[test]
fn amtool_shows_the_configuration_and_walks_its_routes() {
    for program in releases("amtool") {
        let all = following();
        let url = format!("http://{}/", all.daruma.address);
        let amtool = Amtool { program: &program, url, home: all.folder.path() };
        let shown = amtool.good(&["config", "show"]);
        assert!(shown.contains("receiver: web"), "{shown}");
        assert!(!shown.contains(&all.web.url), "addresses of webhooks are secrets: {shown}");
        // Since 0.26 addresses of webhooks are secrets, there too; before, none could be left out.
        let version = amtool.good(&["--version"]);
        if (0..26).any(|minor| version.contains(&format!("version 0.{minor}."))) {
            println!("SKIPPED: the routes, which {version} does not read from a newer one either");
            continue;
        }
        let tree = amtool.good(&["config", "routes", "show"]);
        assert!(tree.contains("team=\"web\"") && tree.contains("receiver: rest"), "{tree}");
        for (label, want) in [("team=web", "web"), ("team=nobody", "nobody"), ("a=b", "rest")] {
            assert_eq!(amtool.good(&["config", "routes", "test", label]).trim(), want);
            // And daruma's own word on it is the same.
            let file = all.folder.path().join("alertmanager.yml").display().to_string();
            let ours = ["route", "test", "--alertmanager-config", &file, label];
            let (code, out, err) = all.daruma.cli(&ours);
            assert_eq!((code, out.lines().next()), (Some(0), Some(want)), "{out}{err}");
        }
        let wrong = ["config", "routes", "test", "--verify.receivers=rest", "team=web"];
        assert!(!amtool.run(&wrong).0);
        let cluster = amtool.good(&["cluster", "show"]);
        assert!(cluster.contains("disabled"), "{cluster}");
    }
}

/// What `amtool` makes of a template is what daruma makes of it.
#[test]
fn templates_are_rendered_as_amtool_renders_them() {
    for program in releases("amtool") {
        let folder = tempfile::tempdir().unwrap();
        let amtool =
            Amtool { program: &program, url: "http://127.0.0.1:1/".into(), home: folder.path() };
        let alerts = r#""alerts":[{"status":"firing","labels":{"alertname":"A","b":"<c>"},"annotations":{"summary":"s"},"startsAt":"2024-01-01T00:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://g/","fingerprint":"00"},{"status":"resolved","labels":{"alertname":"A","b":"d"},"annotations":{},"startsAt":"2024-01-01T00:00:00Z","endsAt":"2024-01-01T01:00:00Z","generatorURL":"","fingerprint":"01"}]"#;
        let data = format!(
            r#"{{"receiver":"ops","status":"firing",{alerts},"groupLabels":{{"alertname":"A"}},"commonLabels":{{"alertname":"A"}},"commonAnnotations":{{}},"externalURL":"http://am/"}}"#
        );
        let file = folder.path().join("data.json");
        std::fs::write(&file, data).unwrap();
        let glob = folder.path().join("own.tmpl");
        std::fs::write(
            &glob,
            "{{ define \"own\" }}{{ range .Alerts.Firing }}{{ .Labels.b }}{{ end }}{{ end }}",
        )
        .unwrap();
        let (file, glob) = (file.to_str().unwrap(), glob.to_str().unwrap());
        for text in [
            "{{ template \"own\" . }}|{{ .Status | toUpper }} {{ len .Alerts }}",
            "{{ .GroupLabels.SortedPairs.Values | join \"-\" }} {{ .CommonLabels.alertname }} {{ .Receiver }}",
            "{{ range .Alerts }}{{ .Status }}:{{ .Annotations.summary }};{{ end }}{{ reReplaceAll \"A\" \"x\" \"BAB\" }}",
            "{{ (index .Alerts 0).StartsAt.Format \"2006-01-02 15:04\" }} {{ title \"hello you\" }}",
        ] {
            let theirs = amtool.good(&[
                "template",
                "render",
                "--template.glob",
                glob,
                "--template.data",
                file,
                "--template.text",
                text,
            ]);
            let out = Command::new(support::program())
                .args([
                    "template",
                    "render",
                    "--template.glob",
                    glob,
                    "--template.data",
                    file,
                    "--template.text",
                    text,
                ])
                .output()
                .unwrap();
            let ours = String::from_utf8_lossy(&out.stdout).into_owned();
            let err = String::from_utf8_lossy(&out.stderr);
            assert_eq!(ours.trim_end(), theirs.trim_end(), "{text}: {err}");
        }
    }
}

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn a_real_prometheus_sends_what_fires_and_what_is_over() {
    for program in releases("prometheus") {
        let all = following();
        let folder = all.folder.path();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let rules = folder.join("rules.yml");
        let rule = |compare: &str| {
            format!(
                "groups: [ {{ name: g, rules: [ {{ alert: Odd, expr: 'vector(1) {compare} 0', labels: {{ team: web }}, annotations: {{ summary: 'it is {{{{ $value }}}}' }} }} ] }} ]\n"
            )
        };
        std::fs::write(&rules, rule(">")).unwrap();
        let config = folder.join("prometheus.yml");
        std::fs::write(
            &config,
            format!(
                "global: {{ evaluation_interval: 200ms, external_labels: {{ dc: a }} }}\nrule_files: [ '{}' ]\nalerting: {{ alertmanagers: [ {{ static_configs: [ {{ targets: [ '{}' ] }} ] }} ] }}\n",
                rules.display(),
                all.daruma.address
            ),
        )
        .unwrap();
        let log = folder.join("prometheus.log");
        let child = Command::new(&program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-lifecycle", "--rules.alert.resend-delay=1s"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let _prometheus = Running(child);
        let has =
            |status: &str| told(&all.web).iter().any(|told| told.0 == status && told.1 == "Odd");
        until("the web team is told that it fires", || has("firing").then_some(()));
        assert_eq!(told(&all.web)[0].2, "it is 1", "{:?}", told(&all.web));
        {
            let first = &all.web.told.lock().unwrap()[0];
            assert_eq!(first["commonLabels"]["dc"], "a", "{first}");
            assert_eq!(first["receiver"], "web", "{first}");
            let from = first["alerts"][0]["generatorURL"].as_str().unwrap();
            assert!(from.contains("/graph"), "{first}");
        }
        // It does not hold any more: the next evaluation says so.
        std::fs::write(&rules, rule("<")).unwrap();
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
        until("it reloads", || {
            let said = support::request(address, "POST", "/-/reload", &[], "");
            said.is_ok_and(|(status, _)| status == 200).then_some(())
        });
        until("the web team is told the end", || has("resolved").then_some(()));
        assert_eq!(told(&all.rest), [], "{}", std::fs::read_to_string(&log).unwrap());
    }
}
