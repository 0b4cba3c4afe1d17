//! The three verdicts, each on something real.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::*;
use crate::testing::{START, clock};
use daruma_model::{HttpProbe, TcpProbe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn ask(check: Check) -> (Verdict, Evidence) {
    let (began, verdict, evidence) = observe(&check, &clock()).await;
    assert!(began >= START && began < START + Span::minutes(5), "{began:?}");
    assert!(!evidence.summary.is_empty());
    (verdict, evidence)
}

/// With all the time that a loaded machine may need.
fn patient(url: &str) -> Check {
    Check::Http(HttpProbe { timeout: Span::minutes(1), ..HttpProbe::get(url) })
}

/// Answers every request with `answer`, or never if it is empty.
async fn server(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            // Who asks may hang up.
            let _hung_up = stream.read(&mut request).await;
            let _hung_up = stream.write_all(answer.as_bytes()).await;
            if answer.is_empty() {
                kept.push(stream);
            }
        }
    });
    address
}

#[tokio::test]
async fn an_endpoint_answers_badly_well_or_not_at_all() {
    let address = server("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let (verdict, evidence) = ask(patient(&format!("http://{address}/"))).await;
    assert_eq!((verdict, evidence.value), (Verdict::Holds, Some(200.0)));

    let address = server("HTTP/1.1 500 Oh\r\ncontent-length: 7\r\n\r\n<b>no\n").await;
    let probe =
        HttpProbe { timeout: Span::millis(300), ..HttpProbe::get(&format!("http://{address}/")) };
    assert_eq!(ask(Check::Http(probe)).await.0, Verdict::Clear);

    let address = server("HTTP/1.1 500 Oh\r\ncontent-length: 4\r\n\r\nbusy").await;
    let (verdict, evidence) = ask(patient(&format!("http://{address}/"))).await;
    assert_eq!((verdict, evidence.value), (Verdict::Clear, Some(500.0)));
    assert_eq!(evidence.lines, ["busy"]);

    let address = server("").await;
    let url = format!("http://{address}/readyz");
    let probe = HttpProbe { timeout: Span::millis(200), ..HttpProbe::get(&url) };
    let (verdict, evidence) = ask(Check::Http(probe)).await;
    assert_eq!(verdict, Verdict::Clear);
    assert_eq!(evidence.summary, format!("GET {url}: no answer within 200ms"));
    let probe = TcpProbe { address, timeout: Span::secs(60) };
    assert_eq!(ask(Check::Tcp(probe)).await.0, Verdict::Holds);
}

#[tokio::test]
async fn what_cannot_be_asked_is_unknown() {
    let garbage = tempfile::NamedTempFile::new().unwrap();
    fs::write(garbage.path(), "not a number").unwrap();
    let path = garbage.path().to_owned();
    for check in [
        Check::Expr("up == 0".into()),
        Check::Http(HttpProbe::get("nonsense")),
        Check::Http(HttpProbe { body: Some("(".into()), ..HttpProbe::get("http://127.0.0.1/") }),
        Check::Tcp(TcpProbe { address: "nonsense".into(), timeout: Span::secs(1) }),
        Check::Process(ProcessCheck::default()),
        Check::Process(ProcessCheck { pid_file: Some(path.clone()), ..ProcessCheck::default() }),
        // A path through a file: not "no such file", but no way to look.
        Check::File(FileCheck { path: path.join("below"), max_age: Span::secs(1) }),
    ] {
        let (verdict, evidence) = ask(check.clone()).await;
        assert_eq!(verdict, Verdict::Unknown, "{check:?}: {}", evidence.summary);
    }
}

#[tokio::test]
async fn a_process_runs_is_stopped_and_is_gone() {
    let mut child = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), child.id().to_string()).unwrap();
    let check = || {
        Check::Process(ProcessCheck { pid_file: Some(file.path().into()), ..Default::default() })
    };
    assert_eq!(ask(check()).await.0, Verdict::Holds);
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let mut answer = ask(check()).await;
    for _ in 0..1000 {
        if answer.0 == Verdict::Clear {
            break;
        }
        answer = ask(check()).await;
    }
    let title = file.path().display();
    assert_eq!(answer.0, Verdict::Clear);
    assert_eq!(answer.1.summary, format!("process {title} (pid {}) is stopped", child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(ask(check()).await.0, Verdict::Clear);
}

#[tokio::test]
async fn a_file_is_fresh_old_missing_or_from_the_future() {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("beat");
    let check = || Check::File(FileCheck { path: path.clone(), max_age: Span::hours(1) });
    let (verdict, evidence) = ask(check()).await;
    assert_eq!(verdict, Verdict::Clear);
    assert!(evidence.summary.starts_with("there is no file"), "{}", evidence.summary);
    fs::write(&path, "beat").unwrap();
    let start = UNIX_EPOCH + Duration::from_millis(START.0.cast_unsigned());
    let hour = Duration::from_secs(3600);
    for (written, want) in [
        (start - hour / 2, Verdict::Holds),
        (start - 2 * hour, Verdict::Clear),
        (start + hour, Verdict::Unknown),
    ] {
        fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        let (verdict, evidence) = ask(check()).await;
        assert_eq!(verdict, want, "{}", evidence.summary);
    }
}
