//! The pictures that the showcase serves and that tests draw.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use daruma_alert::{
    Alert, AlertState, AlertView, Breaker, Climb, Command, Delivery, Entry, EntryKind,
    EnvelopeView, Hold, Incident, IncidentView, Mode, Outgoing, Phase, Recovery, RecoveryView,
    Role, Silence, View, Vote, Witness,
};
use daruma_model::{
    ActionEnd, ActionId, ActionOutcome, Attempt, AttemptOutcome, Commit, Evidence, Finding, Labels,
    Level, Matchers, Message, MessageStatus, Sample, SourceHealth, SourceState, Span, Time,
    Verdict,
};
use daruma_server::{
    Ask, Described, Descriptions, Facts, Refusal, Reload, Rule, RuleGroup, RuleHealth, RuleKind,
    Taken, Target,
};
use daruma_store::Store;
use serde_json::json;
use tokio::sync::mpsc;

/// 2026-11-23 03:12:41 UTC.
pub(crate) const NIGHT: Time = Time(1_795_403_561_000);
/// Everything that could break a page, in one text.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)> \
                       {{7*7}} javascript:alert(4) \u{202e}gnp.exe\u{0007} </bdi></main>";
const RIGHT_TO_LEFT: &str = "مساحة القرص على وشك النفاد /data — שירות web אינו עונה";

/// What moves without anybody's doing.
pub(crate) fn tick(view: &mut View, now: Time, round: u64) {
    view.now = now;
    for source in &mut view.sources {
        if source.state == SourceState::Ok {
            source.at = now;
            source.signals += 7;
        }
    }
    // The story goes on, so that what is live can be seen to be.
    let Some(web) = view.incidents.iter_mut().find(|i| i.incident.id == 7) else { return };
    if round % 8 == 7 && web.incident.timeline.len() < 200 {
        let text = format!("/readyz answered 200 in {} ms", 20 + round % 30);
        web.incident.timeline.push(entry(now, EntryKind::Verified, &text));
    }
    for recovery in &mut web.recoveries {
        let (after, due) = (now - Span::secs(16), now + Span::secs(24));
        if recovery.due.is_some_and(|due| due <= now) {
            recovery.due = Some(due);
            recovery.recovery.phase =
                Phase::Verifying { after, deadline: due, good_since: Some(now) };
        }
    }
}

pub(crate) fn obey(
    view: &mut View,
    now: Time,
    by: &str,
    command: &Command,
) -> Result<serde_json::Value, Refusal> {
    let by = by.to_owned();
    let id = match command.clone() {
        Command::Ack { incident: id, ttl, comment } => {
            let found = named(view, id)?;
            found.incident.acked = Some((by.clone(), now + ttl.unwrap_or(Span::hours(1))));
            let text = format!("{by} looks after it: {comment}");
            found.incident.timeline.push(entry(now, EntryKind::Person, &text));
            id
        }
        Command::AckByLink { incident: id, link, nonce, expires, ttl } => {
            if view.used_links.contains_key(&link) {
                return Err(Refusal::Invalid("this link was used already".to_owned()));
            }
            named(view, id)?.incident.acked = Some((by.clone(), now + ttl));
            let used = daruma_alert::UsedLink { at: now, by, incident: id, expires, nonce };
            view.used_links.insert(link, used);
            id
        }
        Command::SendTest { to } => {
            let ledger = &view.ledger;
            let channel = ledger.iter().map(|out| &out.message).find(|m| m.receiver == to);
            let channel = channel.map_or(to.clone(), |message| message.channel.clone());
            let id = 300 + ledger.len() as u64;
            let status = daruma_model::MessageStatus::Firing;
            let message = daruma_model::Message::test(id, &channel, status, now);
            let attempt = daruma_model::Attempt {
                message: id,
                number: 1,
                at: now,
                took: Span::millis(41),
                outcome: daruma_model::AttemptOutcome::Accepted,
                said: "200 OK".to_owned(),
                retry_after: None,
            };
            let out = daruma_alert::Outgoing {
                message,
                delivery: daruma_alert::Delivery::Accepted,
                tries: 1,
                next_at: now,
                attempts: [attempt].into(),
                first: 0,
                unreached: None,
                receipts: Vec::new(),
            };
            view.ledger.insert(0, out);
            return Ok(json!({ "messages": [{ "id": id, "channel": channel }] }));
        }
        Command::Abort { incident: id } => {
            let found = named(view, id)?;
            found.incident.aborted = true;
            found.healing = false;
            found.sentence = "aborted by hand; nothing more is tried".to_owned();
            id
        }
        Command::Hold { matchers, ttl, comment } => {
            let id = 100 + view.holds.len() as u64;
            view.holds.push(Hold { id, matchers, from: now, until: now + ttl, by, comment });
            id
        }
        Command::Silence { matchers, ttl, comment } => {
            let id = 200 + view.silences.len() as u64;
            view.silences.push(Silence {
                id,
                matchers,
                from: now,
                until: now + ttl,
                by,
                uuid: uuid_of(id),
                updated: now,
                comment,
            });
            id
        }
        Command::Release { id } => {
            view.holds.retain(|hold| hold.id != id);
            id
        }
        Command::PutSilence { uuid, matchers, from, until, by, comment } => {
            let known = view.silences.iter_mut().find(|s| Some(&s.uuid) == uuid.as_ref());
            if let Some(known) = known {
                known.until = until;
                return Ok(json!({ "id": known.id }));
            }
            let id = 200 + view.silences.len() as u64;
            let (uuid, updated) = (uuid_of(id), now);
            view.silences.push(Silence { id, matchers, from, until, by, comment, uuid, updated });
            id
        }
        Command::EndSilence { .. } | Command::Receipt(_) => 0,
        Command::Unsilence { id } => {
            view.silences.retain(|silence| silence.id != id);
            id
        }
        Command::Stop { on, comment } => {
            view.stopped = on.then_some(comment);
            0
        }
        Command::ResetBreaker { runbook } => {
            for envelope in view.envelopes.iter_mut().filter(|e| e.runbook == runbook) {
                envelope.breaker = None;
            }
            0
        }
    };
    Ok(json!({ "id": id }))
}

fn named(view: &mut View, id: u64) -> Result<&mut IncidentView, Refusal> {
    let found = view.incidents.iter_mut().find(|incident| incident.incident.id == id);
    found.ok_or_else(|| Refusal::NotFound(format!("there is no incident {id}")))
}

/// The host and its services as they were at a time: waves, a hole, and what went wrong at 03:12.
pub(crate) fn samples(at: Time) -> Commit {
    let t = at.as_secs_f64();
    let since = (at.0 - NIGHT.0) as f64 / 1000.0;
    let wave = |period: f64, shift: f64| (t / period + shift).sin();
    let mut all = vec![
        ("node_memory_MemTotal_bytes", vec![], 8e9),
        ("node_memory_MemAvailable_bytes", vec![], 5e9 - 6e8 * wave(900.0, 0.0) + since * 2e4),
        ("node_load1", vec![], 0.7 + 0.4 * wave(200.0, 1.0).abs()),
        ("node_filesystem_size_bytes", vec![("mountpoint", "/data"), ("device", "sdb1")], 1e12),
        (
            "node_filesystem_avail_bytes",
            vec![("mountpoint", "/data"), ("device", "sdb1")],
            1.9e11 - since * 1.1e7,
        ),
        ("daruma_log_lines_total", vec![], 30.0 * (t - 1.79e9) + 400.0 * wave(60.0, 0.0)),
    ];
    for cpu in ["0", "1"] {
        let labels = vec![("cpu", cpu), ("mode", "idle")];
        all.push(("node_cpu_seconds_total", labels, (t - 1.79e9) * 0.8 + 20.0 * wave(300.0, 0.0)));
    }
    all.push(("hostile_texts", vec![("text", HOSTILE), ("path", "/a\"b\\c")], wave(100.0, 0.0)));
    // Nobody looked between 02:42 and 02:47.
    if !(-1860.0..-1560.0).contains(&since) {
        let broken = (-34.0..-4.0).contains(&since);
        let inflight = if broken { 40.0 } else { 6.0 + 3.0 * wave(45.0, 0.0) + wave(7.0, 0.0) };
        all.push((
            "http_inflight",
            vec![("service", "web"), ("instance", "host-1:8080")],
            inflight,
        ));
    }
    let samples: Vec<Sample> = all
        .into_iter()
        .map(|(name, labels, value)| Sample {
            labels: labels.into_iter().chain([("__name__", name)]).collect(),
            time: at,
            value,
        })
        .collect();
    Commit::from(samples)
}

/// The path of signals: what is pushed is stored, and rules are told of.
/// Takes every second configuration, and refuses the others.
pub(crate) fn reloads() -> mpsc::Sender<Reload> {
    let (ask, mut asked) = mpsc::channel::<Reload>(1);
    tokio::spawn(async move {
        let mut good = true;
        while let Some(reply) = asked.recv().await {
            let said = if good {
                Ok(())
            } else {
                Err("daruma.yaml:3:1: unknown field `rulez`".to_owned())
            };
            good = !good;
            drop(reply.send(said)); // Whoever asked may have gone away.
        }
    });
    ask
}

pub(crate) fn signal_path(store: Arc<Store>) -> mpsc::Sender<Ask> {
    let (asks, mut asked) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            match ask {
                Ask::Write { commits, reply } => {
                    let mut taken = Taken::default();
                    for commit in commits {
                        let one = store.append(&commit);
                        taken.accepted += one.accepted;
                        taken.repeated += one.repeated;
                        taken.out_of_order += one.out_of_order;
                        taken.over_limit += one.over_limit;
                        taken.histograms += one.histograms;
                    }
                    assert!(reply.send(taken).is_ok(), "the receiver waits");
                }
                Ask::Rules { reply } => drop(reply.send(groups())),
            }
        }
    });
    asks
}

/// Two groups of one file, and one rule of `daruma.yaml`.
pub(crate) fn groups() -> Vec<RuleGroup> {
    let rule = |name: &str, query: &str, kind: RuleKind, health: RuleHealth| Rule {
        id: name.to_owned(),
        name: name.to_owned(),
        query: query.to_owned(),
        labels: Labels::from([("severity", "critical")]),
        evaluated: (health != RuleHealth::Unknown).then_some(NIGHT),
        health,
        took: 0.0005,
        kind,
    };
    let alerting = || RuleKind::Alerting {
        hold_for: Span::secs(30),
        keep_firing_for: Span::ZERO,
        annotations: Labels::from([("summary", "{{ $labels.service }} is stuck")]),
    };
    let group = |name: &str, file: &str, rules| RuleGroup {
        name: name.to_owned(),
        file: file.to_owned(),
        interval: Span::secs(15),
        limit: 0,
        evaluated: Some(NIGHT),
        took: 0.001,
        rules,
    };
    let failed = RuleHealth::Failed("a many-to-many match".to_owned());
    vec![
        group(
            "web",
            "rules/shop.yml",
            vec![
                rule("WebStuck", "http_inflight > 15", alerting(), RuleHealth::Ok),
                rule("web:inflight", "sum(http_inflight)", RuleKind::Recording, failed),
            ],
        ),
        group(
            "disk",
            "rules/shop.yml",
            vec![rule("DiskFull", "node_disk < 1", alerting(), RuleHealth::Unknown)],
        ),
        group("daruma.yaml", "", vec![rule("QueueStuck", "x", alerting(), RuleHealth::Ok)]),
    ]
}

/// What the program says of itself.
pub(crate) fn facts() -> Facts {
    let target = |job: &str, instance: &str| Target {
        job: job.to_owned(),
        source: format!("scrape/{job}/{instance}"),
        labels: Labels::from([("job", job), ("instance", instance)]),
        url: format!("http://{instance}/metrics"),
        interval: "15s".to_owned(),
        timeout: "10s".to_owned(),
    };
    Facts {
        notify_config: String::new(),
        external_labels: Labels::default(),
        started: NIGHT - Span::hours(2),
        loaded: NIGHT - Span::hours(1),
        loaded_well: true,
        config: "collect: {}\n".to_owned(),
        flags: [("config".to_owned(), "daruma.yaml".to_owned())].into(),
        retention: "6h".to_owned(),
        folder: "/".to_owned(),
        targets: vec![target("web", "host-1:8080"), target("node", "host-1:9100")],
    }
}

/// What is known of metrics.
pub(crate) fn described() -> Arc<Descriptions> {
    let one = |kind: &str, help: &str| Described {
        kind: kind.to_owned(),
        help: help.to_owned(),
        unit: String::new(),
    };
    Arc::new(BTreeMap::from([
        ("http_inflight".to_owned(), one("gauge", "Requests being answered.")),
        ("node_cpu_seconds_total".to_owned(), one("counter", HOSTILE)),
    ]))
}

fn entry(at: Time, kind: EntryKind, text: &str) -> Entry {
    Entry { at, kind, text: text.to_owned(), evidence: None, detail: None }
}

fn with_evidence(mut entry: Entry, summary: &str, query: Option<&str>, lines: &[&str]) -> Entry {
    entry.evidence = Some(Evidence {
        summary: summary.to_owned(),
        value: Some(40.0),
        query: query.map(str::to_owned),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
    });
    entry
}

fn with_detail(mut entry: Entry, detail: &str) -> Entry {
    entry.detail = Some(detail.to_owned());
    entry
}

fn alert(
    labels: Labels,
    at: Time,
    summary: &str,
    query: Option<&str>,
    verdict: Verdict,
) -> AlertView {
    let rule = labels.get("alertname").to_owned();
    let evidence = Evidence {
        summary: summary.to_owned(),
        query: query.map(str::to_owned),
        ..Evidence::default()
    };
    let alert = Alert {
        key: format!("{rule}\u{1f}{labels}"),
        finding: Finding {
            rule: rule.clone(),
            annotations: Labels::from([("summary", summary)]),
            at,
            verdict,
            evidence,
            labels,
        },
        state: AlertState::Firing,
        active_at: at - Span::secs(2),
        fired_at: Some(at),
        clear_since: None,
        resolved_at: None,
        incident: None,
    };
    let why = vec![
        "it fires, and held for 34s so far".to_owned(),
        format!("evidence: {summary}"),
        "runbook `restart-web`: `restart_web` ended on web (attempt 1 of 3)".to_owned(),
        "  proof probe http://127.0.0.1:8080/readyz: status 200 in 21 ms (counts)".to_owned(),
        "ops is not told: it is told only if it is not healed within 2m".to_owned(),
    ];
    AlertView { level: Level::from_severity(alert.finding.labels.get("severity")), alert, why }
}

fn incident(id: u64, title: &str, level: Level, opened: Time, sentence: &str) -> IncidentView {
    IncidentView {
        incident: Incident {
            id,
            group: "service web".to_owned(),
            title: title.to_owned(),
            level,
            opened,
            resolved: None,
            healed: false,
            alerts: BTreeSet::new(),
            timeline: vec![entry(opened, EntryKind::Detected, title)],
            timeline_dropped: 0,
            acked: None,
            escalated: None,
            aborted: false,
            notify_at: None,
            told: BTreeMap::new(),
            posted: None,
            times: 1,
            climb: None,
        },
        sentence: sentence.to_owned(),
        members: Vec::new(),
        recoveries: Vec::new(),
        messages: Vec::new(),
        healing: false,
        unknown: false,
    }
}

fn recovery(incident: u64, runbook: &str, target: &str, phase: Phase, now: Time) -> Recovery {
    Recovery {
        id: incident + 50,
        runbook: runbook.to_owned(),
        target: target.to_owned(),
        service: "web".to_owned(),
        incident,
        alert: String::new(),
        phase,
        step: 0,
        attempt: 1,
        no_help: 0,
        watch: None,
        witnesses: Vec::new(),
        outcome: Some(ActionOutcome {
            id: ActionId { incident, recovery: incident + 50, step: 0, attempt: 1, fence: 3 },
            end: ActionEnd::Exited(0),
            started: now - Span::millis(16_400),
            ended: now - Span::secs(16),
            output: "Stopping web.service - shop front end...\nweb.service: Deactivated successfully.\nStarted web.service - shop front end.\n".to_owned(),
        }),
        started: now - Span::secs(30),
    }
}

fn witness(role: Role, title: &str, rows: u32, last: Option<(Time, Verdict, &str)>) -> Witness {
    Witness {
        counts_when: if role == Role::Confirm { Verdict::Clear } else { Verdict::Holds },
        role,
        title: title.to_owned(),
        need_in_row: 2,
        in_row: rows,
        since: last.map(|(at, ..)| at),
        last: last.map(|(at, verdict, said)| Vote { at, verdict, said: said.to_owned() }),
    }
}

fn message(
    id: u64,
    incident: u64,
    channel: &str,
    delivery: Delivery,
    at: Time,
    said: &[(AttemptOutcome, &str)],
) -> Outgoing {
    let attempts: VecDeque<Attempt> = said
        .iter()
        .zip(1..)
        .map(|((outcome, said), number)| Attempt {
            message: id,
            number,
            at: at + Span::secs(i64::from(number) * 20),
            took: Span::millis(212),
            outcome: outcome.clone(),
            said: (*said).to_owned(),
            retry_after: None,
        })
        .collect();
    Outgoing {
        first: 0,
        unreached: None,
        receipts: Vec::new(),
        message: Message {
            id,
            incident,
            receiver: channel.rsplit_once('/').map_or("ops", |(receiver, _)| receiver).to_owned(),
            channel: channel.to_owned(),
            status: MessageStatus::Firing,
            level: Level::Critical,
            title: "queue workers are stuck on host-3".to_owned(),
            text: String::new(),
            group_key: String::new(),
            group_labels: Labels::default(),
            route_labels: Labels::default(),
            left_out: 0,
            alerts: Vec::new(),
            created: at,
        },
        delivery,
        tries: u32::try_from(attempts.len()).unwrap_or(u32::MAX),
        next_at: at + Span::minutes(5),
        attempts,
    }
}

fn matchers(text: &[&str]) -> Matchers {
    Matchers(text.iter().filter_map(|text| text.parse().ok()).collect())
}

fn source(name: &str, state: SourceState, at: Time, said: &str, lost: u64) -> SourceHealth {
    SourceHealth {
        source: name.to_owned(),
        state,
        at,
        said: said.to_owned(),
        signals: 81_402,
        lost,
    }
}

fn over(
    id: u64,
    title: &str,
    level: Level,
    now: Time,
    ago: i64,
    healed: bool,
    sentence: &str,
) -> IncidentView {
    let end = now - Span::minutes(ago);
    let mut view = incident(id, title, level, end - Span::secs(41), sentence);
    view.incident.resolved = Some(end);
    view.incident.healed = healed;
    view.incident.timeline.push(entry(end, EntryKind::Resolved, sentence));
    view
}

pub(crate) fn quiet(now: Time) -> View {
    let sources = ["host", "probe/web", "log//srv/shop/log/app.log", "scrape/node"];
    View {
        now,
        incidents: vec![over(
            3,
            "web does not answer",
            Level::Critical,
            now,
            95,
            true,
            "healed in 41s, nobody was needed",
        )],
        sources: sources
            .into_iter()
            .map(|name| source(name, SourceState::Ok, now, "looked", 0))
            .collect(),
        ..View::default()
    }
}

pub(crate) fn busy(now: Time) -> View {
    let ago = |seconds: i64| now - Span::secs(seconds);
    let web_labels = Labels::from([
        ("alertname", "WebDown"),
        ("service", "web"),
        ("severity", "critical"),
        ("instance", "host-1:8080"),
    ]);
    let mut web = incident(
        7,
        "web does not answer",
        Level::Critical,
        ago(34),
        "web was restarted (attempt 1 of 3); proof is expected within 24 s",
    );
    web.healing = true;
    web.members = vec![alert(
        web_labels,
        ago(34),
        "http_inflight is 40, above 15",
        Some("http_inflight{service=\"web\"} > 15"),
        Verdict::Holds,
    )];
    web.incident.timeline = vec![
        with_evidence(
            entry(ago(34), EntryKind::Detected, "probe /readyz: 3 of 4 failed (timeout 1 s)"),
            "http_inflight is 40, above 15",
            Some("http_inflight{service=\"web\"} > 15"),
            &["GET /readyz: timed out after 1 s", "GET /readyz: timed out after 1 s"],
        ),
        entry(
            ago(33),
            EntryKind::Confirmed,
            "2 of 3 witnesses: probe again, rate = 0; the log says nothing",
        ),
        entry(
            ago(33),
            EntryKind::Decided,
            "restart web · attempt 1 of 3 · budget 1 of 20 this hour",
        ),
        with_detail(
            entry(ago(16), EntryKind::Acted, "systemctl restart web: exit 0 in 0.4 s"),
            "Stopping web.service - shop front end...\nStarted web.service - shop front end.",
        ),
    ];
    let mut healing = recovery(
        7,
        "restart-web",
        "web",
        Phase::Verifying {
            after: ago(16),
            deadline: now + Span::secs(24),
            good_since: Some(ago(6)),
        },
        now,
    );
    healing.witnesses = vec![
        witness(
            Role::Confirm,
            "probe http://127.0.0.1:8080/readyz",
            2,
            Some((ago(33), Verdict::Clear, "timed out after 1 s")),
        ),
        witness(
            Role::Confirm,
            "sum(rate(http_requests_total[30s])) == 0",
            2,
            Some((ago(33), Verdict::Holds, "0")),
        ),
        witness(Role::Confirm, "log ERROR", 0, None),
        witness(
            Role::Verify,
            "probe http://127.0.0.1:8080/readyz",
            2,
            Some((ago(1), Verdict::Holds, "status 200 in 21 ms")),
        ),
        witness(
            Role::Verify,
            "http_inflight < 15",
            1,
            Some((ago(2), Verdict::Unknown, "no sample after the act yet")),
        ),
    ];
    web.recoveries = vec![RecoveryView {
        due: Some(now + Span::secs(24)),
        votes: (1, 2),
        sentence: "`restart_web` ended on web (attempt 1 of 3); proof expected within 24 s"
            .to_owned(),
        recovery: healing,
    }];

    let mut stuck = incident(
        6,
        "queue workers are stuck on host-3",
        Level::Critical,
        ago(1260),
        "a person is needed: restart-workers did not help twice",
    );
    stuck.incident.escalated = Some("restart-workers did not help twice".to_owned());
    stuck.incident.group = "service queue".to_owned();
    stuck.members = vec![alert(
        Labels::from([
            ("alertname", "QueueStuck"),
            ("service", "queue"),
            ("host", "host-3"),
            ("severity", "critical"),
        ]),
        ago(1260),
        "no job done for 5 min while 812 wait",
        Some("rate(jobs_done_total[5m]) == 0"),
        Verdict::Holds,
    )];
    stuck.incident.timeline.extend([
        entry(ago(1200), EntryKind::Decided, "restart workers · attempt 2 of 2"),
        entry(ago(1190), EntryKind::Acted, "restart_workers: timed out, process group ended"),
        entry(ago(1100), EntryKind::Verified, "did not help: 812 jobs still wait"),
        entry(
            ago(1099),
            EntryKind::Escalated,
            "a person is needed: restart-workers did not help twice",
        ),
        with_detail(entry(ago(1098), EntryKind::Told, "ops/webhook[0]: accepted"), "HTTP 200 ok"),
    ]);
    stuck.recoveries = vec![RecoveryView {
        due: None,
        votes: (0, 1),
        sentence: "nothing more is tried on host-3/workers: restart-workers did not help twice"
            .to_owned(),
        recovery: recovery(
            6,
            "restart-workers",
            "host-3/workers",
            Phase::Exhausted { why: "did not help twice".to_owned() },
            now,
        ),
    }];
    stuck.incident.climb = Some(Climb {
        escalation: "nights".to_owned(),
        since: ago(1098),
        step: 1,
        at: now + Span::minutes(11),
        again: false,
    });
    stuck.messages = vec![
        message(
            31,
            6,
            "ops/webhook[0]",
            Delivery::Accepted,
            ago(1098),
            &[
                (AttemptOutcome::Retry, "HTTP 503: upstream connect error"),
                (AttemptOutcome::Accepted, "HTTP 200: ok"),
            ],
        ),
        message(
            32,
            6,
            "ops/email[0]",
            Delivery::Rejected,
            ago(1098),
            &[(
                AttemptOutcome::Rejected,
                "550 5.1.1 <ops@example.org>: Recipient address rejected: User unknown",
            )],
        ),
        message(
            33,
            6,
            "night/webhook[0]",
            Delivery::Queued,
            ago(60),
            &[(AttemptOutcome::Retry, "connection refused")],
        ),
    ];

    let mut disk = incident(
        8,
        "/data will be full in about 5 h",
        Level::Error,
        ago(720),
        "in shadow mode: `clean_data` would have run on host-1:/data 12 min ago",
    );
    disk.members = vec![alert(
        Labels::from([
            ("alertname", "DiskWillFill"),
            ("mountpoint", "/data"),
            ("severity", "error"),
        ]),
        ago(720),
        "19 % left, falling by 40 GB an hour",
        Some(
            "node_filesystem_avail_bytes{mountpoint=\"/data\"} / node_filesystem_size_bytes < 0.2",
        ),
        Verdict::Unknown,
    )];
    disk.unknown = true;
    disk.incident.acked = Some(("anna".to_owned(), now + Span::minutes(48)));

    let hostile_labels = Labels::from([
        ("alertname", HOSTILE),
        ("service", HOSTILE),
        ("<b>name</b>", HOSTILE),
        ("severity", "warning"),
    ]);
    let mut hostile = incident(9, HOSTILE, Level::Warning, ago(300), HOSTILE);
    hostile.healing = false;
    hostile.incident.group = HOSTILE.to_owned();
    hostile.incident.acked = None;
    hostile.incident.escalated = Some(HOSTILE.to_owned());
    hostile.members = vec![alert(hostile_labels, ago(300), HOSTILE, Some(HOSTILE), Verdict::Holds)];
    hostile.members[0].why = vec![HOSTILE.to_owned(), format!("  {HOSTILE}")];
    hostile.incident.timeline = [
        EntryKind::Detected,
        EntryKind::Confirmed,
        EntryKind::Decided,
        EntryKind::Acted,
        EntryKind::Verified,
        EntryKind::Told,
        EntryKind::Escalated,
        EntryKind::Unknown,
        EntryKind::Person,
        EntryKind::Resolved,
    ]
    .into_iter()
    .zip(0..)
    .map(|(kind, i)| {
        let told =
            with_evidence(entry(ago(300 - i), kind, HOSTILE), HOSTILE, Some(HOSTILE), &[HOSTILE]);
        with_detail(told, HOSTILE)
    })
    .collect();
    let mut bad = recovery(
        9,
        HOSTILE,
        HOSTILE,
        Phase::Waiting { since: now, why: HOSTILE.to_owned(), until: now + Span::minutes(1) },
        now,
    );
    bad.witnesses = vec![witness(
        Role::Dependency(HOSTILE.to_owned()),
        HOSTILE,
        0,
        Some((now, Verdict::Holds, HOSTILE)),
    )];
    if let Some(outcome) = &mut bad.outcome {
        outcome.end = ActionEnd::NotStarted(HOSTILE.to_owned());
        outcome.output = HOSTILE.to_owned();
    }
    hostile.recoveries = vec![RecoveryView {
        recovery: bad,
        sentence: HOSTILE.to_owned(),
        due: Some(now + Span::minutes(1)),
        votes: (0, 1),
    }];
    let mut letter =
        message(34, 9, HOSTILE, Delivery::GaveUp, ago(200), &[(AttemptOutcome::Rejected, HOSTILE)]);
    letter.message.title = HOSTILE.to_owned();
    hostile.messages = vec![letter];

    let long = "x".repeat(600);
    let wide = incident(10, &format!("{RIGHT_TO_LEFT} {long}"), Level::Info, ago(7300), &long);

    let incidents = vec![
        stuck,
        web,
        disk,
        hostile,
        wide,
        over(5, "shop is slow", Level::Error, now, 95, true, "healed in 41s, nobody was needed"),
        over(
            4,
            "web does not answer",
            Level::Critical,
            now,
            240,
            true,
            "healed in 52s, nobody was needed",
        ),
        over(
            3,
            "certificate of shop ends in 6 d",
            Level::Warning,
            now,
            600,
            false,
            "over after 3h10m",
        ),
    ];
    let alerts = incidents.iter().flat_map(|incident| incident.members.clone()).collect();
    let ledger = incidents.iter().flat_map(|incident| incident.messages.clone()).collect();
    let mut sources = vec![
        source(
            "scrape/host-7",
            SourceState::Failing,
            ago(160),
            "connect to 10.0.0.7:9100: no route to host",
            0,
        ),
        source(
            "log//srv/shop/log/access.log",
            SourceState::Failing,
            ago(41),
            "permission denied",
            0,
        ),
        source(HOSTILE, SourceState::Failing, ago(10), HOSTILE, 3),
        source("probe/mail", SourceState::Starting, ago(2), "first look", 0),
    ];
    for i in 0..37 {
        let lost = if i == 4 { 12 } else { 0 };
        sources.push(source(
            &format!("scrape/host-{i}"),
            SourceState::Ok,
            now,
            "612 samples in 14 ms",
            lost,
        ));
    }
    View {
        now,
        incidents,
        alerts,
        holds: vec![Hold {
            id: 11,
            matchers: matchers(&["service=\"cart\""]),
            from: ago(600),
            until: now + Span::minutes(20),
            by: "deploy".to_owned(),
            comment: "release 42".to_owned(),
        }],
        silences: vec![
            quieted(12, &["alertname=~\"Disk.*\"", "host=\"host-9\""], ago(5000), HOSTILE),
            quieted(13, &["cluster=\"east\""], ago(90_000), "the power of rack 4 is being changed"),
            quieted(14, &["service=\"billing\""], now + Span::hours(20), "month's end"),
        ],
        ledger,
        sources,
        envelopes: vec![
            EnvelopeView {
                runbook: "restart-workers".to_owned(),
                mode: Mode::Auto,
                attempts: BTreeMap::from([("host-3/workers".to_owned(), 2)]),
                attempts_max: 2,
                breaker: Some(Breaker {
                    opened: ago(1099),
                    half_open_at: now + Span::minutes(11),
                    targets: BTreeSet::from(["host-3/workers".to_owned()]),
                    why: "two acts did not help".to_owned(),
                }),
            },
            EnvelopeView {
                runbook: "clean-data".to_owned(),
                mode: Mode::Shadow,
                attempts: BTreeMap::new(),
                attempts_max: 3,
                breaker: None,
            },
        ],
        resolved_total: 41,
        healed_total: 37,
        ..View::default()
    }
}

/// A silence that ends in three hours, or lasts so long.
fn quieted(id: u64, of: &[&str], from: Time, comment: &str) -> Silence {
    Silence {
        id,
        matchers: matchers(of),
        from,
        until: from.max(NIGHT) + Span::hours(3),
        by: if id == 12 { HOSTILE } else { "night-watch" }.to_owned(),
        comment: comment.to_owned(),
        uuid: uuid_of(id),
        updated: from,
    }
}

fn uuid_of(id: u64) -> String {
    format!("00000000-0000-4000-8000-{id:012x}")
}
