//! Any text is a template or an error with a place; whatever it is filled with, its output is bounded,
//! and in HTML no data opens a tag.
#![no_main]

use std::sync::LazyLock;

use daruma_model::{Labels, Time};
use daruma_template::{Alert, Data, Escape, Scene, Template, Templates};
use libfuzzer_sys::fuzz_target;

static BUILT_IN: LazyLock<Templates> = LazyLock::new(Templates::built_in);

fuzz_target!(|input: &str| {
    let (text, value) = input.split_once('\0').unwrap_or((input, "web-1"));
    let labels = Labels::from([("alertname", value), ("job", "<b x='y'>&"), ("ü", "{{ . }}")]);
    let query = |text: &str| match text.len() % 3 {
        0 => Err(text.to_owned()),
        _ => Ok(vec![(labels.clone(), text.len() as f64), (Labels::default(), f64::NAN)]),
    };
    if let Ok(template) = Template::parse(text) {
        let scene = Scene { query: Some(&query), ..Scene::new(&labels, value.len() as f64 / 7.0) };
        if let Ok(out) = template.expand(&scene) {
            assert!(out.len() <= 64 << 10, "{} bytes", out.len());
        }
    }
    let mut templates = BUILT_IN.clone();
    let _ = templates.add("fuzz.tmpl", text);
    if templates.check(text).is_err() {
        return;
    }
    let alert = |status: &str| Alert {
        status: status.to_owned(),
        labels: labels.clone(),
        annotations: labels.clone(),
        starts_at: Some(Time(1_767_225_600_000)),
        ends_at: (status == "resolved").then_some(Time(1_767_229_200_000)),
        generator_url: value.to_owned(),
        fingerprint: "00ff".to_owned(),
    };
    let data = Data {
        receiver: value.to_owned(),
        status: "firing".to_owned(),
        alerts: vec![alert("firing"), alert("resolved")],
        group_labels: labels.clone(),
        common_labels: labels.clone(),
        common_annotations: labels.clone(),
        external_url: value.to_owned(),
        title: value.to_owned(),
        text: value.to_owned(),
        now: Time(1_767_232_800_000),
        ..Data::default()
    };
    for escape in [Escape::Text, Escape::Html, Escape::Json] {
        if let Ok(out) = templates.expand(text, &data, escape) {
            assert!(out.len() <= 256 << 10, "{} bytes", out.len());
        }
    }
});
