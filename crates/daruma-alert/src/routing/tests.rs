use daruma_model::interval::{
    DayRange, Location, MonthRange, TimeInterval, WeekdayRange, YearRange,
};
use daruma_model::{Labels, Span, Time};
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Time {
    Time(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn node(receiver: &str, matchers: &str, continues: bool) -> Node {
    Node { matchers: matchers.parse().unwrap(), continues, ..Node::root(receiver) }
}

/// The tree of upstream's routing test: `test1` continues, `test2` does not.
fn tree() -> Routing {
    let mut routing = Routing::to("default");
    routing.add(0, node("test1", r#"test=~"^[12]$""#, true));
    routing.add(0, node("test2", r#"test="2""#, false));
    let database = routing.add(0, node("db", r#"service="database""#, false));
    routing.add(database, node("x", r#"owner="team-X""#, true));
    routing.add(database, node("y", r#"owner=~"team-.""#, false));
    routing
}

#[test]
fn an_alert_goes_where_the_deepest_branches_say() {
    let routing = tree();
    routing.validate().unwrap();
    for (labels, want) in [
        (Labels::from([("test", "1")]), vec!["test1"]),
        (Labels::from([("test", "2")]), vec!["test1", "test2"]),
        (Labels::from([("test", "3")]), vec!["default"]),
        (Labels::default(), vec!["default"]),
        (Labels::from([("service", "database")]), vec!["db"]),
        (Labels::from([("service", "database"), ("owner", "team-X")]), vec!["x", "y"]),
        (Labels::from([("service", "database"), ("owner", "team-Y")]), vec!["y"]),
        (Labels::from([("service", "database"), ("test", "2")]), vec!["test1", "test2"]),
        // What continues and is the last to match is the end all the same.
        (Labels::from([("service", "database"), ("test", "1")]), vec!["test1", "db"]),
    ] {
        let found = routing.matching(&labels);
        let got: Vec<&str> = found.iter().map(|at| &*routing.nodes[*at].receiver).collect();
        assert_eq!(got, want, "{labels}");
    }
    assert_eq!(routing.path(5), [0, 3, 5]);
}

#[test]
fn a_group_is_named_by_the_path_and_its_labels() {
    let mut routing = Routing::to("default");
    let by = |names: &[&str]| GroupBy::Labels(names.iter().map(|n| (*n).to_owned()).collect());
    let page =
        Node { group_by: by(&["b", "a", "gone"]), ..node("page", r#"z="1",s=~"p|q""#, false) };
    let page = routing.add(0, page);
    let each = routing.add(page, Node { group_by: GroupBy::All, ..node("each", "", false) });
    let labels = Labels::from([("a", "x\"y"), ("b", "2"), ("c", "3")]);
    let grouped = routing.group_labels(page, &labels);
    assert_eq!(routing.group_key(page, &grouped), r#"{}/{s=~"p|q",z="1"}:{a="x\"y", b="2"}"#);
    assert_eq!(routing.group_key(0, &routing.group_labels(0, &labels)), "{}:{}");
    assert_eq!(routing.group_labels(each, &labels), labels);
    assert_eq!(routing.nodes[each].key, r#"{}/{s=~"p|q",z="1"}/{}"#);
}

fn interval(yaml: &str) -> Result<TimeInterval, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

#[test]
fn intervals_hold_when_alertmanagers_do() {
    for (yaml, holds, not) in [
        // Half-open, up to 24:00.
        (
            "times: [ { start_time: '09:00', end_time: '17:00' } ]",
            &["2026-03-02T09:00:00Z", "2026-03-02T16:59:59.999Z"][..],
            &["2026-03-02T08:59:59Z", "2026-03-02T17:00:00Z"][..],
        ),
        (
            "times: [ { start_time: '22:00', end_time: '24:00' }, { start_time: 00:00, end_time: 06:00 } ]",
            &["2026-03-02T23:59:59Z", "2026-03-02T00:00:00Z", "2026-03-02T05:59:00Z"],
            &["2026-03-02T06:00:00Z", "2026-03-02T21:59:00Z"],
        ),
        // Closed ranges; the week begins on Sunday. 2026-03-01 is one.
        (
            "weekdays: [ 'Monday:wednesday', saturday ]",
            &["2026-03-02T00:00:00Z", "2026-03-04T23:59:00Z", "2026-03-07T12:00:00Z"],
            &["2026-03-01T23:59:00Z", "2026-03-05T00:00:00Z"],
        ),
        // Negative days count from the end; what lies beyond the month is cut to it.
        (
            "days_of_month: [ '-3:-1', 1 ]",
            &[
                "2028-02-27T00:00:00Z",
                "2028-02-29T00:00:00Z",
                "2026-02-26T00:00:00Z",
                "2026-05-01T00:00:00Z",
            ],
            &["2028-02-26T23:59:00Z", "2026-02-25T00:00:00Z"],
        ),
        ("days_of_month: [ '1:31' ]", &["2026-02-28T00:00:00Z"], &[]),
        ("days_of_month: [ '30:31' ]", &["2026-03-30T00:00:00Z"], &["2026-02-28T00:00:00Z"]),
        ("days_of_month: [ '-31' ]", &["2026-03-01T00:00:00Z"], &["2026-02-01T00:00:00Z"]),
        (
            "months: [ 'may:August', 12 ]",
            &["2026-05-01T00:00:00Z", "2026-08-31T23:59:00Z", "2026-12-24T00:00:00Z"],
            &["2026-04-30T23:59:00Z", "2026-09-01T00:00:00Z"],
        ),
        (
            "years: [ '2026:2027', 2030 ]",
            &["2026-01-01T00:00:00Z", "2030-06-01T00:00:00Z"],
            &["2028-01-01T00:00:00Z"],
        ),
        // All fields together.
        (
            "{ weekdays: [ monday ], months: [ march ], times: [ { start_time: '10:00', end_time: '11:00' } ] }",
            &["2026-03-02T10:30:00Z"],
            &["2026-03-03T10:30:00Z", "2026-04-06T10:30:00Z", "2026-03-02T11:30:00Z"],
        ),
        // A place with its summer time: 09:00 in Sydney is 22:00 UTC of the day before in summer, 23:00 in winter.
        (
            "{ location: Australia/Sydney, times: [ { start_time: '09:00', end_time: '17:00' } ], weekdays: [ 'monday:friday' ] }",
            &["2026-01-04T22:00:00Z", "2026-07-05T23:00:00Z"],
            &["2026-01-04T21:59:00Z", "2026-07-05T22:30:00Z", "2026-01-09T22:00:00Z"],
        ),
        // The hour that is not there, and the one that is there twice.
        (
            "{ location: Europe/Berlin, times: [ { start_time: '02:00', end_time: '03:00' } ] }",
            &["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-03-28T01:30:00Z"],
            &["2026-03-29T01:30:00Z", "2026-03-29T00:30:00Z", "2026-10-25T02:00:00Z"],
        ),
        ("{}", &["2026-01-01T00:00:00Z"], &[]),
    ] {
        let interval = interval(yaml).unwrap();
        for time in holds {
            assert!(interval.contains(at(time)), "{yaml} at {time}");
        }
        for time in not {
            assert!(!interval.contains(at(time)), "{yaml} at {time}");
        }
        let json = serde_json::to_string(&interval).unwrap();
        assert_eq!(serde_json::from_str::<TimeInterval>(&json).unwrap(), interval, "{json}");
    }
    assert!(!TimeInterval::default().contains(Time::MAX));
}

#[test]
fn impossible_intervals_are_refused_with_a_reason() {
    for (yaml, want) in [
        ("times: [ { start_time: '17:00', end_time: '09:00' } ]", "over midnight"),
        ("times: [ { start_time: '09:00', end_time: '24:01' } ]", "24:00"),
        ("times: [ { start_time: '9:00', end_time: '12:00' } ]", "00:00"),
        ("times: [ { start_time: '09:00' } ]", "end_time"),
        ("weekdays: [ 'friday:monday' ]", "begins on Sunday"),
        ("weekdays: [ funday ]", "day of the week"),
        ("days_of_month: [ 0 ]", "not a day of the month"),
        ("days_of_month: [ '1:32' ]", "32"),
        ("days_of_month: [ '-3:5' ]", "negative"),
        ("days_of_month: [ '10:-28' ]", "always before"),
        ("months: [ 'may:april' ]", "before"),
        ("months: [ smarch ]", "not a month"),
        ("years: [ '2027:2026' ]", "before"),
        ("location: Mars/Olympus", "Europe/Berlin"),
        ("day: [ 1 ]", "day"),
    ] {
        let got = interval(yaml).unwrap_err();
        assert!(got.contains(want), "{yaml}: {got}");
    }
}

#[test]
fn a_branch_is_silent_outside_its_active_and_within_its_mute_times() {
    let mut routing = Routing::to("default");
    for (name, yaml) in [
        (
            "office",
            "{ weekdays: [ 'monday:friday' ], times: [ { start_time: '09:00', end_time: '17:00' } ] }",
        ),
        ("lunch", "times: [ { start_time: '12:00', end_time: '13:00' } ]"),
    ] {
        routing.intervals.insert(name.into(), vec![interval(yaml).unwrap()]);
    }
    let day = Node {
        active: vec!["office".into()],
        mute: vec!["lunch".into()],
        ..node("day", "a=b", false)
    };
    let day = routing.add(0, day);
    routing.validate().unwrap();
    let next = |from: &str| routing.next_change(day, at(from)).unwrap();
    for (now, why, change) in [
        ("2026-03-02T10:00:00Z", None, "2026-03-02T12:00:00Z"), // Monday.
        ("2026-03-02T12:30:00Z", Some("within lunch"), "2026-03-02T13:00:00Z"),
        ("2026-03-06T17:00:00Z", Some("outside office"), "2026-03-09T09:00:00Z"),
    ] {
        assert_eq!(routing.closed(day, at(now)).as_deref(), why, "{now}");
        assert_eq!(next(now), at(change), "{now}");
    }
    assert_eq!(
        (routing.closed(0, at("2026-03-06T17:00:00Z")), routing.next_change(0, Time(0))),
        (None, None)
    );
}

#[test]
fn what_cannot_work_is_refused() {
    let broken = |change: &dyn Fn(&mut Routing)| {
        let mut routing = tree();
        change(&mut routing);
        routing.validate().unwrap_err()
    };
    for (got, want) in [
        (broken(&|r| r.nodes.clear()), "no route"),
        (broken(&|r| r.nodes[0].matchers = "a=b".parse().unwrap()), "takes everything"),
        (broken(&|r| r.nodes[0].mute.push("x".into())), "never silent"),
        (broken(&|r| r.nodes[1].active.push("x".into())), "not defined"),
        (broken(&|r| r.nodes[3].children.push(1)), "not a tree"),
        (broken(&|r| r.nodes[3].children.push(99)), "not a tree"),
        (broken(&|r| r.nodes[0].children.clear()), "hangs nowhere"),
        (broken(&|r| r.nodes[2].repeat_interval = Span::ZERO), "above zero"),
        (broken(&|r| r.nodes[2].receiver.clear()), "no receiver"),
        (
            broken(&|r| {
                let local = interval("location: Local").unwrap();
                r.intervals.insert("l".into(), vec![local]);
            }),
            "not settled",
        ),
    ] {
        assert!(got.contains(want), "{got}, wanted {want}");
    }
}

#[test]
fn a_source_keeps_targets_quiet_and_never_itself() {
    let rule = InhibitRule {
        source: r#"severity="critical""#.parse().unwrap(),
        target: r#"severity=~"warning|critical""#.parse().unwrap(),
        equal: vec!["host".into()],
        ..InhibitRule::default()
    };
    let alert = |severity, host| Labels::from([("severity", severity), ("host", host)]);
    let critical = alert("critical", "a");
    assert!(rule.applies(&critical, &alert("warning", "a")));
    assert!(!rule.applies(&critical, &alert("warning", "b")));
    assert!(!rule.applies(&critical, &critical));
    // Missing on both sides is equal.
    assert!(rule.applies(&alert("critical", ""), &alert("warning", "")));
    assert!(!rule.applies(&alert("warning", "a"), &alert("warning", "a")));
}

fn labels() -> impl Strategy<Value = Labels> {
    prop::collection::btree_map("[ab]", "[xyz]", 0..3).prop_map(|map| map.into_iter().collect())
}

proptest! {
    /// Whatever the tree, whatever the alert: somebody is told, each node once, and every node on the
    /// way matches.
    #[test]
    fn every_alert_has_a_route(
        shape in prop::collection::vec((0_usize..8, "[ab]=[xyz]", any::<bool>()), 0..8),
        labels in labels(),
    ) {
        let mut routing = Routing::to("root");
        for (parent, matchers, continues) in &shape {
            let parent = parent % routing.nodes.len();
            routing.add(parent, node("r", matchers, *continues));
        }
        prop_assert_eq!(routing.validate(), Ok(()));
        let found = routing.matching(&labels);
        prop_assert!(!found.is_empty());
        let mut once = found.clone();
        once.sort_unstable();
        once.dedup();
        prop_assert_eq!(once.len(), found.len());
        for at in found {
            for on in routing.path(at) {
                prop_assert!(routing.nodes[on].matchers.matches(&labels));
            }
        }
        let json = serde_json::to_string(&routing).unwrap();
        prop_assert_eq!(serde_json::from_str::<Routing>(&json).unwrap(), routing);
    }

    /// A tree from a journal may be anything: it is refused or harmless.
    #[test]
    fn no_tree_makes_routing_run_away(
        children in prop::collection::vec(prop::collection::vec(0_usize..6, 0..4), 1..5),
        labels in labels(),
    ) {
        let nodes = children.into_iter().map(|children| Node { children, ..Node::root("r") });
        let routing = Routing { nodes: nodes.collect(), ..Routing::to("r") };
        let _ = routing.validate();
        prop_assert!(!routing.matching(&labels).is_empty());
        for at in 0..8 {
            let _ = (routing.path(at), routing.closed(at, Time(0)), routing.group_labels(at, &labels));
        }
    }

    #[test]
    fn no_text_makes_the_interval_parsers_panic(text in "\\PC{0,12}|[0-9:-]{0,8}") {
        let _ = (
            text.parse::<DayRange>(), text.parse::<MonthRange>(), text.parse::<YearRange>(),
            text.parse::<WeekdayRange>(), text.parse::<Location>(),
        );
    }

    /// What changes next does change then, and not before; also where the clock is set soon.
    #[test]
    fn the_next_change_is_the_next(hours in 0_i64..20_000, start in 0_u16..23, weekday in 0_usize..7) {
        let mut routing = Routing::to("default");
        let yaml = format!(
            "{{ location: America/New_York, weekdays: [ {} ], times: [ {{ start_time: '{start:02}:00', end_time: '{:02}:30' }} ] }}",
            ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"][weekday],
            start + 1,
        );
        routing.intervals.insert("i".into(), vec![interval(&yaml).unwrap()]);
        let at = routing.add(0, Node { mute: vec!["i".into()], ..node("a", "", false) });
        let now = Time::from_secs(1_760_000_000 + hours * 3600);
        let before = routing.closed(at, now);
        let change = routing.next_change(at, now).unwrap();
        prop_assert_ne!(routing.closed(at, change).is_some(), before.is_some());
        prop_assert_eq!(routing.closed(at, change - Span::millis(1)), before);
    }
}

/// After the night in which the clock is set forward, the next Sunday comes before the day in autumn
/// on which it is set back.
#[test]
fn the_next_change_is_no_change_of_the_clock_months_away() {
    let mut routing = Routing::to("default");
    let yaml = "{ location: America/New_York, weekdays: [ sunday ], \
                times: [ { start_time: '01:00', end_time: '02:30' } ] }";
    routing.intervals.insert("i".into(), vec![interval(yaml).unwrap()]);
    let at = routing.add(0, Node { mute: vec!["i".into()], ..node("a", "", false) });
    // 2026-03-08T07:53:20Z; the next Sunday's 01:00 there is 2026-03-15T05:00:00Z.
    let change = routing.next_change(at, Time::from_secs(1_772_956_400));
    assert_eq!(change, Some(Time::from_secs(1_773_550_800)));
}
