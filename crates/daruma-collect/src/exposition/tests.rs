//! Texts that programs really expose, texts that Prometheus refuses, and texts nobody wrote.

use std::fs;
use std::path::{Path, PathBuf};

use super::Format::{OpenMetrics, Text};
use super::*;
use proptest::prelude::*;

type Line = (String, f64, Option<i64>);

fn read(text: impl AsRef<[u8]>, format: Format, rigour: Rigour) -> Result<Vec<Line>, String> {
    Parser::new(text.as_ref(), format, rigour)
        .map(|entry| {
            let entry = entry.map_err(|error| error.to_string())?;
            let labels = entry.labels(&Labels::default(), false)?;
            Ok((labels.to_string(), entry.value, entry.time.map(|time| time.0)))
        })
        .collect()
}

fn labels_of(text: &str) -> Vec<String> {
    let lines = read(text, Text, Rigour::Scrape).unwrap();
    lines.into_iter().map(|(labels, ..)| labels).collect()
}

#[test]
fn a_hand_written_text_reads_as_meant() {
    let text = "\
# HELP go_gc_duration_seconds A summary of the GC invocation durations.
# \tTYPE go_gc_duration_seconds summary
go_gc_duration_seconds { quantile= \"1\", a= \"b\", } 8.3835e-05
#no comment needs a blank
# TYPEless comments are comments
# HELP nohelp
go_goroutines 33  \t123123
a{b=\"\\\"bar\\\" \\\\ \\n\"}-Inf
{\"my.metric\", \"my label\"=\"1\"} +Inf
colon:rate5m{empty=\"\"} NaN
last 1";
    let got = read(text, Text, Rigour::Scrape).unwrap();
    let want = [
        (r#"go_gc_duration_seconds{a="b", quantile="1.0"}"#, 8.3835e-05, None),
        ("go_goroutines{}", 33.0, Some(123_123)),
        (r#"a{b="\"bar\" \\ \n"}"#, f64::NEG_INFINITY, None),
        (r#"my.metric{my label="1"}"#, f64::INFINITY, None),
        ("colon:rate5m{}", f64::NAN, None),
        ("last{}", 1.0, None),
    ];
    assert_eq!(got.len(), want.len());
    for (got, (labels, value, time)) in got.iter().zip(want) {
        assert_eq!((got.0.as_str(), got.2), (labels, time));
        assert!(got.1 == value || (got.1.is_nan() && value.is_nan()), "{labels}");
    }
}

#[test]
fn openmetrics_has_seconds_exemplars_and_an_end() {
    let text = "\
# HELP foo Help text.
# TYPE foo histogram
# UNIT foo_seconds seconds
foo_bucket{le=\"1\"} 7 1520879607.789 # {trace=\"a b\"} 0.6 1520879607.1
foo_bucket{le=\"+Inf\"} 9 # {} 0.5
{\"foo.count\"} 9.0
# EOF
";
    let want = [
        (r#"foo_bucket{le="1.0"}"#.to_owned(), 7.0, Some(1_520_879_607_789)),
        (r#"foo_bucket{le="+Inf"}"#.to_owned(), 9.0, None),
        ("foo.count{}".to_owned(), 9.0, None),
    ];
    assert_eq!(read(text, OpenMetrics, Rigour::Strict).unwrap(), want);
    assert_eq!(read(text.trim_end(), OpenMetrics, Rigour::Strict).unwrap(), want);
}

#[test]
fn bounds_have_one_form() {
    let text = "# TYPE h histogram\n";
    for (written, want) in [
        ("1", "1.0"),
        ("1.0", "1.0"),
        ("0", "0.0"),
        ("0.50", "0.5"),
        ("1e0", "1.0"),
        ("100000", "100000.0"),
        ("1000000", "1e+06"),
        ("12345678.5", "1.23456785e+07"),
        ("0.0001", "0.0001"),
        ("0.00001", "1e-05"),
        ("inf", "+Inf"),
        ("-Inf", "-Inf"),
        ("nan", "NaN"),
        ("bla", "bla"),
    ] {
        let got = labels_of(&format!("{text}h_bucket{{le=\"{written}\"}} 1\n"));
        assert_eq!(got, [format!("h_bucket{{le=\"{want}\"}}")], "{written}");
    }
    assert_eq!(labels_of("# TYPE g gauge\ng{le=\"1\"} 1\n"), [r#"g{le="1"}"#]);
}

#[test]
fn what_prometheus_refuses_is_refused_with_line_and_reason() {
    for text in [
        "a",
        "a{b='c'} 1\n",
        "a{b=\n",
        "a true\n",
        "a{b=\"",
        "a{=\"\"} 0",
        "a 1_2\n",
        "a 0x1p-3\n",
        "a 0 1_2\n",
        "{a=\"ok\"} 1",
        "# TYPE #\n",
        "# HELP #\n",
        "# TYPE a\n",
        "# TYPE a thing\n",
        "{\"a\", \"b = \"c\"}",
        "{\"a\",b\\nc=\"d\"} 1",
        "a{\"b\"} 1\n",
        "{\"a\",\"b\"} 1\n",
        "a{,b=\"c\"} 1\n",
        "a{b=\"c\",,d=\"e\"} 1\n",
        "{bb} 1\n",
        "a{b=\"\\",
        "a{b=\"c\"",
        "{} 1\n",
        "{\"\"} 1\n",
        "a 1 2 3\n",
        "a 1 -2\n",
        "a 1 99999999999999999999\n",
        "a -nan\n",
        "a e5\n",
        "a{b=\"1\",b=\"2\"} 1\n",
        "a{__name__=\"b\"} 1\n",
        "a\0 1\n",
        "9a 1\n",
        "a 1 2.5\n",
    ] {
        let error = read(text, Text, Rigour::Scrape).expect_err(text);
        assert!(!error.is_empty());
    }
    for bytes in [b"a{\xff=\"x\"} 1\n".as_slice(), b"a{b=\"\xff\"} 1\n", b"# HELP a \xff\n"] {
        read(bytes, Text, Rigour::Scrape).expect_err("not UTF-8");
    }
    let error = read("ok 1\nfine 2\nbroken\nok 4\n", Text, Rigour::Scrape).unwrap_err();
    assert_eq!(error, "line 3: expected a number, found the end of the line");
}

#[test]
fn what_prometheus_refuses_as_openmetrics_is_refused() {
    for text in [
        "",
        "\n",
        "metric",
        "metric 1",
        "metric 1\n",
        "a 1 # {aa=\"bb\"} 4",
        "a\n#EOF\n",
        "\n\n#EOF\n",
        " a 1\n# EOF\n",
        "9\n# EOF\n",
        "# TYPE u untyped\n# EOF\n",
        "# TYPE c counter \n# EOF\n",
        "#  TYPE c counter\n# EOF\n",
        "# TYPE \n# EOF\n",
        "# TYPE m\n# EOF\n",
        "# UNIT metric suffix\n# EOF\n",
        "# UNIT metricsuffix suffix\n# EOF\n",
        "# UNIT m\n# EOF\n",
        "# HELP m\n# EOF\n",
        "a\t1\n# EOF\n",
        "a 1\t2\n# EOF\n",
        "a 1 2 \n# EOF\n",
        "a 1 2 #\n# EOF\n",
        "a 1 1z\n# EOF\n",
        " # EOF\n",
        "# EOF\na 1",
        "# EOF\n\n",
        "# EOFa 1",
        "#\tTYPE c counter\n",
        "a 1 1 1\n# EOF\n",
        "a{b=\"c\"d=\"e\"} 1\n# EOF\n",
        "a 1 # {aa=bb}\n# EOF\n",
        "a 1 # {aa=\"bb\"}\n# EOF\n",
        "a 1 # {bb} 1\n# EOF\n",
        "a 1 # {\"bb\"} 1\n# EOF\n",
        "a 1 # {aa=\"bb\"} 1_2\n# EOF\n",
        "a 1 NaN\n# EOF\n",
        "a 1 Inf\n# EOF\n",
        "#",
        "# H",
        "a 1 # {aa=\"bb\"} 4 NaN\n# EOF\n",
        "a{b=\"c\nd\"} 1\n# EOF\n",
        "# a comment\n# EOF\n",
        "a {b=\"c\"} 1\n# EOF\n",
        "a{ b=\"c\"} 1\n# EOF\n",
    ] {
        read(text, OpenMetrics, Rigour::Scrape).expect_err(text);
    }
    for text in
        ["# EOF", "# EOF\n", "a{b=\"\0\"} 1\n# EOF\n", "a 1 1e3\n# EOF\n", "a{b=\"c\",} 1\n# EOF"]
    {
        read(text, OpenMetrics, Rigour::Scrape).expect(text);
    }
}

#[test]
fn a_scraper_forgives_what_a_checker_does_not() {
    for text in [
        "a 1",
        "a{b=\"\\t\"} 1\n",
        "a{b=\"c\nd\"} 1\n",
        "# HELP a one\n# HELP a two\n",
        "# TYPE a gauge\n# TYPE a gauge\n",
        "# TYPE h histogram\nh_bucket{le=\"bla\"} 1\n",
    ] {
        read(text, Text, Rigour::Scrape).expect(text);
        read(text, Text, Rigour::Strict).expect_err(text);
    }
    let error = read("a{b=\"c\nd\"} 1\nbroken\n", Text, Rigour::Scrape).unwrap_err();
    assert!(error.starts_with("line 3:"), "{error}");
}

#[test]
fn labels_of_the_target_win_or_yield() {
    let entry = |series| Entry { series, kind: Kind::Other, value: 1.0, time: None };
    let target = Labels::from([("instance", "web:80"), ("job", "web")]);
    let text = r#"up{job="inner",exported_job="x",code="2"}"#;
    assert_eq!(
        entry(text).labels(&target, false).unwrap().to_string(),
        r#"up{code="2", exported_exported_job="inner", exported_job="x", instance="web:80", job="web"}"#
    );
    assert_eq!(
        entry(text).labels(&target, true).unwrap().to_string(),
        r#"up{code="2", exported_job="x", instance="web:80", job="inner"}"#
    );
    let many: String = (0..=LABELS_MAX).map(|i| format!("l{i}=\"v\",")).collect();
    assert!(entry(&format!("a{{{many}}}")).labels(&target, false).is_err());
}

fn shared(folder: &str) -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance").join(folder);
    if path.is_dir() {
        Some(path)
    } else {
        println!("SKIPPED: {} is absent", path.display());
        None
    }
}

#[test]
fn the_corpus_is_read_and_its_errors_are_refused() {
    let Some(folder) = shared("common/expfmt-corpus") else { return };
    let mut files = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let got = read(&text, Text, Rigour::Strict);
        assert_eq!(got.is_err(), name.contains("_error_"), "{name}: {got:?}");
        files += 1;
    }
    assert_eq!(files, 18);
}

#[test]
fn the_large_texts_are_read_to_their_last_line() {
    for (folder, file, format) in [
        ("common/expfmt-text", "text", Text),
        ("prometheus/textparse", "1histogram.om.txt", OpenMetrics),
        ("prometheus/textparse", "alltypes.237mfs.nometa.prom.txt", Text),
        ("prometheus/textparse", "alltypes.237mfs.prom.txt", Text),
    ] {
        let Some(folder) = shared(folder) else { return };
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        // As strict as it gets, but for metadata: the text without it still has buckets.
        let got =
            read(&text, format, Rigour::Strict).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(got.len(), lines.count(), "{file}");
        let sets: HashSet<&String> = got.iter().map(|(labels, ..)| labels).collect();
        assert_eq!(sets.len(), got.len(), "{file} has a series twice");
    }
}

/// Whether metadata is there or not, the same series come out, but for the bounds' form.
#[test]
fn metadata_changes_nothing_but_the_form_of_bounds() {
    let Some(folder) = shared("prometheus/textparse") else { return };
    let read = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        let lines = read(text, Text, Rigour::Scrape).unwrap();
        let bare =
            |labels: String| -> String { labels.split("le=").next().unwrap_or_default().into() };
        lines
            .into_iter()
            .map(|(labels, value, _)| (bare(labels), value.to_bits()))
            .collect::<Vec<_>>()
    };
    let with = read("alltypes.237mfs.prom.txt");
    assert!(with.len() > 1000, "{}", with.len());
    assert_eq!(with.len(), read("alltypes.237mfs.nometa.prom.txt").len());
}

const SEED: &str = "# HELP a b\n# TYPE h histogram\nh_bucket{le=\"1\",x=\"\\\"\\n\"} 1 2\n\
    {\"a.b\",\"c d\"=\"é\"} +Inf # {t=\"x\"} 1 2.5\nplain NaN\n# EOF\n";

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", "\\PC{1,6}", "[\"\\\\\n{}=,# ]{1,4}"]
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (format, rigour) in [(Text, Rigour::Scrape), (Text, Rigour::Strict),
            (OpenMetrics, Rigour::Scrape), (OpenMetrics, Rigour::Strict)] {
            let _ = read(&bytes, format, rigour);
        }
    }

    #[test]
    fn no_mutated_text_makes_the_parser_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), "[\"\\\\{}=,# \n\t1ea._-]{0,3}"), 1..6),
    ) {
        let mut text = SEED.as_bytes().to_vec();
        for (at, with) in cuts {
            let at = at.index(text.len());
            text.splice(at..(at + 1).min(text.len()), with.bytes());
        }
        for (format, rigour) in [(Text, Rigour::Scrape), (Text, Rigour::Strict),
            (OpenMetrics, Rigour::Scrape), (OpenMetrics, Rigour::Strict)] {
            if let Ok(lines) = read(&text, format, rigour) {
                prop_assert!(lines.len() <= text.len());
            }
        }
    }

    /// What is printed reads back, bit for bit, in any names that UTF-8 allows.
    #[test]
    fn a_printed_text_reads_back(
        samples in prop::collection::vec((any_name(),
            prop::collection::btree_map(any_name(), "\\PC{0,5}|[\"\\\\\n]{1,3}", 0..4),
            any::<f64>(), 0_i64..i64::MAX), 0..8),
    ) {
        let samples: Vec<Sample> = samples.into_iter().map(|(name, labels, value, time)| {
            let labels: Labels = labels.into_iter().collect();
            Sample { labels: labels.with(Labels::NAME, &name), time: Time(time), value }
        }).collect();
        let text = print(&samples);
        for rigour in [Rigour::Scrape, Rigour::Strict] {
            let got: Vec<Entry<'_>> = Parser::new(text.as_bytes(), Text, rigour)
                .collect::<Result<_, _>>().map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
            prop_assert_eq!(got.len(), samples.len());
            for (got, want) in got.iter().zip(&samples) {
                prop_assert_eq!(&got.labels(&Labels::default(), false).unwrap(), &want.labels);
                prop_assert_eq!(got.time, Some(want.time));
                prop_assert!(got.value.to_bits() == want.value.to_bits()
                    || (got.value.is_nan() && want.value.is_nan()));
            }
        }
    }
}

#[test]
fn comments_describe_metrics_and_what_cannot_be_read_is_passed_over() {
    let text = b"# HELP a A help, with words.\n# TYPE a gauge\r\n# TYPE b histogram\n# UNIT b seconds\n\
        # TYPE \"utf.8 name\" summary\n# TYPE c strange\n# EOF\n# HELP\n#HELP d no\n# HELP \xff no\n# TYPE \"x gauge\n";
    let all = descriptions(text, 10);
    let told: Vec<(&str, &str, &str, &str)> =
        all.iter().map(|d| (d.metric.as_str(), d.kind, d.help.as_str(), d.unit.as_str())).collect();
    assert_eq!(
        told,
        [
            ("a", "gauge", "A help, with words.", ""),
            ("b", "histogram", "", "seconds"),
            ("c", "unknown", "", ""),
            ("utf.8 name", "summary", "", ""),
        ]
    );
    assert_eq!(descriptions(text, 1).len(), 1);
}
