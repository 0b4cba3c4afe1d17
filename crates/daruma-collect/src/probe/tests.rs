//! Servers that misbehave in every way that servers do, on real sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use super::*;
use crate::testing::{PATIENCE, START, clock, ended, run, value};
use daruma_model::{SourceState, is_stale};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::sleep;

/// What a server does with a connection, after it has read the request.
#[derive(Debug, Clone)]
enum Manner {
    Says(&'static str),
    Never,
    SaysThenHangs(&'static str),
    /// Without end, as fast as it is read.
    Floods(&'static str, &'static str),
    /// Without end, a byte at a time.
    Drips(&'static str, &'static str),
    Resets,
}

async fn serve<S: AsyncWrite + Unpin>(stream: &mut S, manner: &Manner) -> std::io::Result<()> {
    match manner {
        Manner::Says(text) => stream.write_all(text.as_bytes()).await?,
        Manner::Never => sleep(PATIENCE).await,
        Manner::SaysThenHangs(text) => {
            stream.write_all(text.as_bytes()).await?;
            sleep(PATIENCE).await;
        }
        Manner::Floods(head, piece) => {
            stream.write_all(head.as_bytes()).await?;
            let pieces = piece.repeat(1 + 8000 / piece.len());
            loop {
                stream.write_all(pieces.as_bytes()).await?;
            }
        }
        Manner::Drips(head, piece) => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                sleep(Duration::from_millis(5)).await;
                stream.write_all(piece.as_bytes()).await?;
                stream.flush().await?;
            }
        }
        Manner::Resets => {}
    }
    stream.flush().await
}

async fn server(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let manner = manner.clone();
            tokio::spawn(async move {
                if matches!(manner, Manner::Resets) {
                    stream.set_zero_linger().unwrap();
                    return;
                }
                let mut request = [0; 1024];
                if stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                    // Who asks may hang up at any time, and that is the point.
                    let _hung_up = serve(&mut stream, &manner).await;
                }
            });
        }
    });
    address
}

fn probe_of(url: String, timeout: Span) -> HttpProbe {
    HttpProbe { timeout, ..HttpProbe::get(&url) }
}

async fn ask(probe: &HttpProbe) -> Seen {
    HttpCheck::new(probe).unwrap().ask(&Client::new(clock())).await
}

const OK: &str = "HTTP/1.1 200 OK\r\n";

#[tokio::test]
async fn every_way_to_fail_has_its_reason() {
    use Manner::*;
    let (soon, long) = (Span::millis(300), Span::secs(60));
    for (manner, timeout, want, said) in [
        (Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"), long, None, "status 200"),
        (Says("HTTP/1.1 204 No Content\r\n\r\n"), long, None, "status 204"),
        (
            Says("HTTP/1.1 503 Oh\r\ncontent-length: 4\r\n\r\nbusy"),
            long,
            Some(Reason::Status),
            "status 503",
        ),
        (
            Says("HTTP/1.1 302 Found\r\nlocation: /x\r\n\r\n"),
            long,
            Some(Reason::Status),
            "status 302",
        ),
        (Never, soon, Some(Reason::NoAnswer), "no answer within 300ms"),
        (
            SaysThenHangs("HTTP/1.1 200 OK\r\ncontent-le"),
            soon,
            Some(Reason::NoAnswer),
            "no answer within",
        ),
        (
            SaysThenHangs("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
            soon,
            Some(Reason::NoAnswer),
            "no end of the answer",
        ),
        (
            Drips("HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n", "x"),
            soon,
            Some(Reason::NoAnswer),
            "no end of the answer",
        ),
        (Drips("HTTP/1.1 200 OK\r\nx-", "y"), soon, Some(Reason::NoAnswer), "no answer within"),
        (
            Floods("", "HTTP/1.1 100 Continue\r\n\r\n"),
            soon,
            Some(Reason::NoAnswer),
            "no answer within",
        ),
        (Floods(OK, "x-flood: yes\r\n"), long, Some(Reason::TooLarge), "too large"),
        (
            Floods("HTTP/1.1 200 OK\r\nx-long: ", "yyyyyyyyyy"),
            long,
            Some(Reason::TooLarge),
            "too large",
        ),
        (
            Says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"),
            long,
            Some(Reason::NoAnswer),
            "broke",
        ),
        (Says(""), long, Some(Reason::NoAnswer), "broke"),
        (Resets, long, Some(Reason::NoAnswer), "broke"),
        (Says("SSH-2.0-OpenSSH_9.9\r\n"), long, Some(Reason::Protocol), "not HTTP"),
        (
            Says("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
            long,
            Some(Reason::Protocol),
            "not HTTP",
        ),
    ] {
        let address = server(manner.clone()).await;
        let seen = ask(&probe_of(format!("http://{address}/ready"), timeout)).await;
        assert_eq!(seen.failed, want, "{manner:?}: {}", seen.said);
        assert!(seen.said.contains(said), "{manner:?}: {}", seen.said);
        assert!(seen.said.starts_with(&format!("GET http://{address}/ready: ")), "{}", seen.said);
    }
}

#[tokio::test]
async fn an_endless_body_is_read_for_one_mebibyte_and_judged_by_that() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk: &str = format!("1000\r\n{}\r\n", "abcd".repeat(0x400)).leak();
    let address = server(Manner::Floods(chunked, chunk)).await;
    let mut probe = probe_of(format!("http://{address}/"), Span::secs(60));
    assert_eq!(ask(&probe).await.failed, None);
    probe.body = Some("dabc".into());
    assert_eq!(ask(&probe).await.failed, None);
    probe.body = Some("never".into());
    let seen = ask(&probe).await;
    assert_eq!(seen.failed, Some(Reason::Body));
    assert!(
        seen.said.contains("the first MiB of the body does not match `never`"),
        "{}",
        seen.said
    );
    assert_eq!(seen.body.map(|body| body.len()), Some(500));
}

#[tokio::test]
async fn the_wished_status_and_body_decide() {
    let address = server(Manner::Says("HTTP/1.1 418 Tea\r\ncontent-length: 5\r\n\r\nready")).await;
    let probe = HttpProbe {
        status: vec![418],
        body: Some("^rea".into()),
        method: Some("POST".into()),
        ..probe_of(format!("http://{address}/"), Span::secs(60))
    };
    assert_eq!(ask(&probe).await.failed, None);
    let probe = HttpProbe { body: Some("^eady".into()), ..probe };
    assert_eq!(ask(&probe).await.failed, Some(Reason::Body));
}

/// A port that is taken and refuses: bound, but nobody listens.
fn refusing() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A port whose queue is full: attempts to connect are neither accepted nor refused.
async fn deaf() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    for _ in 0..100 {
        let attempt = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address));
        match attempt.await {
            Ok(connected) => queued.push(connected.unwrap()),
            Err(_) => return (listener, queued, address),
        }
    }
    panic!("the queue never filled");
}

#[tokio::test]
async fn a_port_accepts_refuses_or_stays_silent() {
    let open = server(Manner::Never).await;
    let (_kept, refused) = refusing();
    let (_listener, _queued, silent) = deaf().await;
    for (address, want) in [
        (open, None),
        (refused, Some(Reason::ConnectRefused)),
        (silent, Some(Reason::ConnectTimeout)),
    ] {
        let probe = TcpProbe { address: address.to_string(), timeout: Span::millis(500) };
        let seen = TcpCheck::new(&probe).unwrap().ask().await;
        assert_eq!(seen.failed, want, "{}", seen.said);
        let seen = ask(&probe_of(format!("http://{address}/"), Span::millis(500))).await;
        let want = want.or(Some(Reason::NoAnswer));
        assert_eq!(seen.failed, want, "{}", seen.said);
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told_as_that() {
    // `.invalid` never exists; whether anybody answers depends on the machine's resolver.
    let seen = ask(&probe_of("http://nowhere.invalid/".into(), Span::secs(1))).await;
    assert!(matches!(seen.failed, Some(Reason::Dns | Reason::Resolver)), "{}", seen.said);
    assert_eq!(seen.failed.unwrap().as_str(), "dns");
}

/// A TLS server whose certificate says `name` and ends on this day of 2026, and the trust in it.
async fn tls_server(name: &str, month: u8, day: u8) -> (SocketAddr, RootCertStore) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("{name} {month} {day}"));
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2026, month, day);
    let certificate = params.self_signed(&key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that distrusts the certificate hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut request = [0; 1024];
                if stream.read(&mut request).await.is_ok() {
                    let answer = Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                    let _hung_up = serve(&mut stream, &answer).await;
                    let _hung_up = stream.shutdown().await;
                }
            });
        }
    });
    (address, roots)
}

#[tokio::test]
async fn a_certificate_is_judged_and_its_end_told_whatever_the_judgement() {
    const DAY: i64 = 86_400;
    // Test time begins on the first of January 2026.
    for (name, month, day, trusted, insecure, want) in [
        ("localhost", 1, 3, true, false, None), // Near its end, and still good.
        ("localhost", 1, 3, false, true, None),
        ("elsewhere", 1, 3, false, true, None),
        ("localhost", 1, 3, false, false, Some("UnknownIssuer")),
        ("elsewhere", 1, 3, true, false, Some("not valid for name")),
    ] {
        let (address, roots) = tls_server(name, month, day).await;
        let roots = if trusted { roots } else { tls_server("other", 2, 1).await.1 };
        let client = Client::new(clock()).trusting(roots);
        let url = format!("https://localhost:{}/", address.port());
        let probe = HttpProbe { insecure_skip_verify: insecure, ..probe_of(url, Span::secs(60)) };
        let seen = HttpCheck::new(&probe).unwrap().ask(&client).await;
        match want {
            None => assert_eq!(seen.failed, None, "{}", seen.said),
            Some(words) => {
                assert_eq!(seen.failed, Some(Reason::Tls), "{}", seen.said);
                assert!(seen.said.contains(words), "{}", seen.said);
            }
        }
        let days = seen.certificate_expiry.map(|end| (end - START).0 / 1000 / DAY);
        assert_eq!(days, Some(2), "{name}: {}", seen.said);
    }
}

#[tokio::test]
async fn an_expired_certificate_is_a_failure_with_a_date_in_the_past() {
    let (address, roots) = tls_server("localhost", 1, 1).await;
    let later: daruma_model::Clock = Arc::new(|| START + Span::hours(1));
    let probe = probe_of(format!("https://localhost:{}/", address.port()), Span::secs(60));
    let client = Client::new(later).trusting(roots);
    let seen = HttpCheck::new(&probe).unwrap().ask(&client).await;
    assert_eq!(seen.failed, Some(Reason::Tls));
    assert!(seen.said.contains("expired"), "{}", seen.said);
    assert_eq!(seen.certificate_expiry, Some(START));
}

#[tokio::test]
async fn https_to_a_port_that_speaks_plain_http_fails_in_the_handshake() {
    let address = server(Manner::Says("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let mut probe = probe_of(format!("https://{address}/"), Span::secs(60));
    probe.insecure_skip_verify = true;
    let seen = ask(&probe).await;
    assert_eq!(seen.failed, Some(Reason::Tls), "{}", seen.said);
}

#[tokio::test]
async fn a_service_goes_down_and_its_series_say_since_when_and_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            let mut request = [0; 1024];
            let _hung_up = stream.read(&mut request).await;
            let _hung_up = serve(&mut stream, &answer).await;
        }
    });
    let yaml = format!(
        "{{ name: web, http: {{ url: \"http://{address}/ready\", timeout: 60s }}, every: 100ms, jitter: 10ms, labels: {{ service: shop }} }}"
    );
    let source: ProbeSource = serde_saphyr::from_str(&yaml).unwrap();
    let mut probe = run(source);
    let own = [("probe", "web"), ("service", "shop")];
    let commit = probe.commit().await;
    assert_eq!(value(&commit, "probe_success", &own), Some(1.0));
    assert_eq!(value(&commit, "probe_http_status_code", &own), Some(200.0));
    assert_eq!(value(&commit, "probe_failure", &own), None);
    serving.abort();
    let down = probe.until(|commit| value(commit, "probe_success", &own) == Some(0.0)).await;
    let failures = |commit: &daruma_model::Commit| -> f64 {
        let all = commit.samples.iter().filter(|s| s.labels.get("__name__") == "probe_failure");
        all.map(|sample| sample.value).sum()
    };
    assert_eq!(failures(&down), 1.0);
    assert_eq!(value(&down, "probe_http_status_code", &own), Some(0.0));
    let refused = [("reason", "connect_refused")];
    probe.until(|commit| value(commit, "probe_failure", &refused) == Some(1.0)).await;
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Manner::Says("HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\nno");
            let mut request = [0; 1024];
            let _hung_up = stream.read(&mut request).await;
            let _hung_up = serve(&mut stream, &answer).await;
        }
    });
    let status = [("reason", "status")];
    let back = probe.until(|commit| value(commit, "probe_failure", &status) == Some(1.0)).await;
    assert_eq!(value(&back, "probe_failure", &refused), Some(0.0));
    // What a probe sees may be bad; the probe itself is fine.
    assert_eq!(probe.health(SourceState::Ok).await.said, "");
}

#[test]
fn a_probe_that_could_not_look_ends_its_series_instead_of_failing() {
    let book = SeriesBook::new(Labels::from([("probe", "web")]));
    let mut notes = Notes { book, reasons: Vec::new(), skipped: 0 };
    let seen = |failed| Seen {
        failed,
        said: String::new(),
        took: Duration::from_millis(1),
        status: None,
        certificate_expiry: None,
        body: None,
    };
    notes.commit(&seen(None), true, Time(1));
    let blind = notes.commit(&seen(Some(Reason::Local)), true, Time(2));
    assert!(ended(&blind).contains(&r#"probe_success{probe="web"}"#.to_owned()), "{blind:?}");
    let live: Vec<_> = blind.samples.iter().filter(|sample| !is_stale(sample.value)).collect();
    assert_eq!(live.len(), 1, "{live:?}");
    let again = notes.commit(&seen(None), true, Time(3));
    assert_eq!(value(&again, "probe_success", &[]), Some(1.0));
}

#[test]
fn a_probe_is_configured_by_a_url_or_by_more_and_refused_with_a_reason() {
    let read = |yaml: &str| serde_saphyr::from_str::<ProbeSource>(yaml).map_err(|e| e.to_string());
    let full = read("{ name: a, http: { url: 'http://h/', status: [200, 301], timeout: 250ms } }");
    let Target::Http(HttpTarget(probe)) = full.unwrap().target else { panic!("not HTTP") };
    assert_eq!((probe.status, probe.timeout), (vec![200, 301], Span::millis(250)));
    let tcp = read("{ name: a, tcp: 'db:5432', every: 500ms }").unwrap();
    assert!(matches!(&tcp.target, Target::Tcp(TcpTarget(probe)) if probe.address == "db:5432"));
    let again: ProbeSource = serde_json::from_value(serde_json::to_value(&tcp).unwrap()).unwrap();
    assert_eq!(again, tcp);
    for (yaml, words) in [
        ("{ name: a }", "exactly one of `http` and `tcp`"),
        ("{ name: a, http: 'http://h/', tcp: 'h:1' }", "exactly one of `http` and `tcp`"),
        ("{ name: a, http: 'h/' }", "begin with http"),
        ("{ name: a, http: { url: 'http://h/', body: '(' } }", "no regular expression"),
        ("{ name: a, http: { url: 'http://h/', method: 'get' } }", "no method"),
        ("{ name: a, http: { url: 'http://h/', statuses: [200] } }", "statuses"),
        ("{ name: a, http: { url: 'http://h/', timeout: 0s } }", "timeout"),
        ("{ name: a, http: { url: 'http://h/', headers: { 'a b': c } } }", "no header name"),
        ("{ name: a, http: { url: 'http://h/', status: [99] } }", "no status"),
        ("{ name: a, tcp: 'db' }", "write host:port"),
        ("{ name: a, tcp: 'db:0' }", "write host:port"),
        ("{ name: a, tcp: 'db:1', every: 50ms }", "100ms"),
        ("{ name: a, tcp: 'db:1', every: 1s, jitter: 2s }", "jitter"),
        ("{ name: '', tcp: 'db:1' }", "name"),
    ] {
        let error = read(yaml).unwrap_err();
        assert!(error.contains(words), "{yaml}: {error}");
    }
}
