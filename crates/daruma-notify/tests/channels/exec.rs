#![cfg(unix)]

use daruma_model::AttemptOutcome;
use serde_json::Value;

use super::{message, sender};

async fn run(script: &str, more: &str, text: &str) -> daruma_model::Attempt {
    let yaml = serde_json::to_string(script).unwrap();
    let sender = sender(&format!("exec_configs: [{{argv: [/bin/sh, -c, {yaml}]{more}}}]"));
    sender.send(&message("ops/exec[0]", text, text), 1).await
}

#[tokio::test]
async fn a_program_gets_the_message_as_json_and_its_end_is_the_answer() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("got.json");
    let hostile = "$(touch /tmp/x); `id` \"'\n\u{0}; rm -rf --no-preserve-root";
    let script = format!("cat > {}; echo thanks", file.display());
    let attempt = run(&script, "", hostile).await;
    assert_eq!(attempt.outcome, AttemptOutcome::Accepted, "{}", attempt.said);
    assert_eq!(attempt.said, "exit 0: thanks");
    let got: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(got["daruma"]["title"], hostile);
    assert_eq!(got["daruma"]["message"], 17);
}

#[tokio::test]
async fn whatever_a_program_does_there_is_one_bounded_line() {
    use AttemptOutcome::{Accepted, Rejected, Retry};
    for (script, more, outcome, words) in [
        ("exit 1", "", Retry, "exit 1"),
        (
            "echo no such user >&2; exit 67",
            "",
            Rejected,
            "does not know the addressee: no such user",
        ),
        ("exit 75", "", Retry, "exit 75"),
        ("exec true < /dev/null", "", Accepted, "exit 0"),
        ("kill -9 $$", "", Retry, "signal: 9"),
        ("sleep 600 & sleep 600", ", timeout: 1s", Retry, "longer than 1s and was ended"),
        ("yes | head -c 3000000; exit 0", "", Accepted, "y y y"),
        ("echo token $TOKEN; exit 64", ", env: {TOKEN: hush-hush}", Rejected, "token <secret>"),
        ("echo ${SECRET_OF_THE_MONITOR-none} ${CARGO_PKG_NAME-none}", "", Accepted, "none none"),
    ] {
        let attempt = run(script, more, "x").await;
        assert_eq!(attempt.outcome, outcome, "{script}: {}", attempt.said);
        assert!(attempt.said.contains(words), "{script}: {words} in {}", attempt.said);
        assert!(attempt.said.chars().count() <= 500 && !attempt.said.contains("hush"));
    }
    let sender = sender("exec_configs: [{argv: [/no/such/program]}]");
    let attempt = sender.send(&message("ops/exec[0]", "x", "x"), 1).await;
    assert_eq!(attempt.outcome, Retry);
    assert!(attempt.said.contains("is not a file"), "{}", attempt.said);
    assert_eq!(sender.warnings("HostIsDown").len(), 1);
}
