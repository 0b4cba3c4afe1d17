//! Real HTTP over a real socket: who is let in, what is refused, and what a page may not contain.

#![allow(clippy::unwrap_used)] // In tests, helpers included.

#[path = "../examples/showcase/scene.rs"]
#[allow(dead_code)]
mod scene;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daruma_alert::{Command, View};
use daruma_model::{Clock, Span, Time};
use daruma_server::{
    CommandRequest, Config, ConfigError, HistoryQuery, PingKind, Refusal, Role, Shared, Token,
    check,
};
use daruma_store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A request that should have been refused may wait for a core that this test does not have.
const PATIENCE: Duration = Duration::from_secs(30);
const VIEWER: &str = "viewer-secret-0123456789";
const RESPONDER: &str = "responder-secret-0123456789";

/// A running server with its ends in the test's hands.
struct Site {
    address: SocketAddr,
    commands: mpsc::Receiver<CommandRequest>,
    view: watch::Sender<Arc<View>>,
    now: Arc<AtomicI64>,
    stop: watch::Sender<bool>,
    done: JoinHandle<()>,
}

impl Site {
    async fn open() -> Site {
        Site::with(Config::default(), scene::busy(scene::NIGHT)).await
    }

    async fn closed() -> Site {
        Site::with(Config { tokens: tokens(), ..Config::default() }, scene::busy(scene::NIGHT))
            .await
    }

    async fn with(config: Config, view: View) -> Site {
        let store = Arc::new(Store::new(daruma_store::Config::default()));
        for second in (-4200..0).step_by(5) {
            store.append(&scene::samples(scene::NIGHT + Span::secs(second)));
        }
        let now = Arc::new(AtomicI64::new(scene::NIGHT.0));
        let time = Arc::clone(&now);
        let clock: Clock = Arc::new(move || Time(time.load(Ordering::Relaxed)));
        let (view, shown) = watch::channel(Arc::new(view));
        let (commands, asked) = mpsc::channel(4);
        let shared = Shared {
            view: shown,
            loop_asks: tokio::sync::mpsc::channel(1).0,
            commands,
            asks: scene::signal_path(Arc::clone(&store)),
            store,
            facts: Arc::new(scene::facts),
            describe: Arc::new(scene::described),
            described: Arc::new(drop),
            ack_links: daruma_server::AckLinks::new([7; 32]),
            receipts: Arc::new(|_, _, _, _| Err("no channel tells later".to_owned())),
            clock,
            host: "Host-1".to_owned(),
            version: "1.2.3",
            heartbeat: Arc::new(|name, kind| name == "nightly backup" && kind != PingKind::Fail),
            metrics: Arc::new(|| "daruma_up 1\n".to_owned()),
            ready: Arc::new(|| Err("the journal is read only".to_owned())),
            history: Arc::new(|HistoryQuery { from, limit }| Ok(vec![json!([from, limit])])),
            reload: scene::reloads(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let done = tokio::spawn(async move {
            daruma_server::serve(listener, &config, shared, stopped).await.unwrap();
        });
        Site { address, commands: asked, view, now, stop, done }
    }

    /// Sends one request and reads the whole answer.
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let text = self.head(method, path, headers, body.len());
        stream.write_all(text.as_bytes()).await.unwrap();
        // A server that refuses early may close before it has read everything.
        drop(stream.write_all(body.as_bytes()).await);
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        drop(read.unwrap_or_else(|_| panic!("{method} {path} was never answered")));
        Answer::read(&answer)
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers.iter().filter(|(_, value)| *value != "-") {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if method == "POST" {
            text.push_str(&format!("Content-Length: {length}\r\n"));
        }
        text + "\r\n"
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// Takes the next command and answers it.
    fn obey(&mut self, with: Result<Value, Refusal>) -> JoinHandle<(String, Command)> {
        let (_, empty) = mpsc::channel(1);
        let mut commands = std::mem::replace(&mut self.commands, empty);
        tokio::spawn(async move {
            let CommandRequest { by, command, reply } = commands.recv().await.unwrap();
            reply.send(with).unwrap();
            (by, command)
        })
    }

    fn heard_nothing(&mut self) -> bool {
        self.commands.try_recv().is_err()
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn read(bytes: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The value of a page's first hidden field of this name.
    fn field(&self, name: &str) -> String {
        let start = format!("name=\"{name}\" value=\"");
        let at = self.body.find(&start).unwrap_or_else(|| panic!("no field {name}")) + start.len();
        self.body[at..].split('"').next().unwrap().to_owned()
    }
}

fn tokens() -> Vec<Token> {
    let token = |name: &str, secret: &str, role| Token {
        name: name.to_owned(),
        token: Some(secret.to_owned()),
        token_file: None,
        role,
    };
    vec![token("wall", VIEWER, Role::Viewer), token("anna", RESPONDER, Role::Responder)]
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const ACK: &str = r#"{"do":"ack","incident":7}"#;

#[tokio::test]
async fn with_tokens_a_stranger_sees_the_login_and_nothing_else() {
    let mut site = Site::closed().await;
    for (method, path, want) in [
        ("GET", "/", 401),
        ("GET", "/incident/7", 401),
        ("GET", "/sources", 401),
        ("GET", "/events", 401),
        ("GET", "/api/view", 401),
        ("GET", "/api/incidents", 401),
        ("GET", "/api/incidents/7", 401),
        ("GET", "/api/alerts", 401),
        ("GET", "/api/why?incident=7", 401),
        ("GET", "/api/series?query=up", 401),
        ("GET", "/api/journal", 401),
        ("GET", "/metrics", 401),
        ("GET", "/explore?query=up", 401),
        ("GET", "/api/v1/query?query=up", 401),
        ("POST", "/api/v1/query", 401),
        ("GET", "/api/v1/status/config", 401),
        ("POST", "/api/v1/write", 401),
        ("POST", "/-/reload", 401),
        ("GET", "/ping/nightly%20backup", 401),
        ("POST", "/ping/nightly%20backup", 401),
        ("POST", "/api/command", 401),
        ("POST", "/act", 401),
        ("GET", "/login", 200),
        ("GET", "/static/daruma.css", 200),
        ("GET", "/-/healthy", 200),
        ("GET", "/-/ready", 503),
        ("POST", "/login", 403),
        ("POST", "/logout", 403),
        ("GET", "/nowhere", 404),
        ("DELETE", "/", 404),
    ] {
        let answer = site.ask(method, path, &[JSON], ACK).await;
        assert_eq!(answer.status, want, "{method} {path}: {}", answer.body);
        assert!(!answer.body.contains("web does not answer"), "{method} {path} tells a stranger");
        assert!(!answer.body.contains("read only"), "{method} {path} tells a stranger why");
    }
    assert!(site.heard_nothing());
}

#[tokio::test]
async fn a_viewer_reads_and_a_responder_commands() {
    let mut site = Site::closed().await;
    let bearer = |secret: &str| format!("Bearer {secret}");
    let (viewer, responder) = (bearer(VIEWER), bearer(RESPONDER));
    let as_viewer = [("Authorization", viewer.as_str()), JSON];
    assert_eq!(site.ask("GET", "/api/view", &as_viewer, "").await.status, 200);
    let page = site.ask("GET", "/", &as_viewer, "").await;
    assert_eq!(page.status, 200);
    assert!(!page.body.contains("action=\"/act\""), "a viewer is offered no buttons");
    assert_eq!(site.ask("POST", "/api/command", &as_viewer, ACK).await.status, 403);
    for wrong in ["Bearer nonsense", "Bearer ", "Bearer", "Basic dmlld2Vy", "bearer viewer-secret"]
    {
        let answer = site.ask("GET", "/api/view", &[("Authorization", wrong)], "").await;
        assert_eq!(answer.status, 401, "{wrong}");
        assert_eq!(answer.header("www-authenticate"), Some("bearer"));
    }
    assert!(site.heard_nothing());
    let obeyed = site.obey(Ok(json!({ "id": 7 })));
    let as_responder = [("Authorization", responder.as_str()), JSON];
    assert_eq!(site.ask("POST", "/api/command", &as_responder, ACK).await.json()["id"], 7);
    let (by, command) = obeyed.await.unwrap();
    assert_eq!(by, "anna", "whatever the request calls itself, the token's name counts");
    assert_eq!(command, Command::Ack { incident: 7, ttl: None, comment: String::new() });
}

/// Samples decide what rules see, and so what is restarted.
#[tokio::test]
async fn only_a_writer_or_a_responder_pushes_samples_and_a_writer_commands_nothing() {
    const WRITER: &str = "writer-secret-0123456789";
    let writer = Token {
        name: "sender".to_owned(),
        token: Some(WRITER.to_owned()),
        token_file: None,
        role: Role::Writer,
    };
    let tokens = tokens().into_iter().chain([writer]).collect();
    let config = Config { tokens, ..Config::default() };
    let mut site = Site::with(config, scene::busy(scene::NIGHT)).await;
    // An empty request, compressed: one byte that says how long it is not.
    for (secret, push, command) in [(VIEWER, 403, 403), (WRITER, 204, 403)] {
        let bearer = format!("Bearer {secret}");
        let mut headers = vec![
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/x-protobuf"),
            ("Content-Encoding", "snappy"),
        ];
        assert_eq!(
            site.ask("POST", "/api/v1/write", &headers, "\0").await.status,
            push,
            "{secret}"
        );
        headers.push(("Sec-Fetch-Site", "cross-site"));
        assert_eq!(site.ask("POST", "/api/v1/write", &headers, "\0").await.status, 403);
        let headers = [("Authorization", bearer.as_str()), JSON];
        assert_eq!(site.ask("POST", "/api/command", &headers, ACK).await.status, command);
    }
    assert!(site.heard_nothing());
    let off = Config { remote_write: false, ..Config::default() };
    let site = Site::with(off, View::default()).await;
    assert_eq!(site.ask("POST", "/api/v1/write", &[], "\0").await.status, 404);
}

/// What would stretch a query is cut off before anything is read for it.
#[tokio::test]
async fn absurd_queries_are_refused_in_prometheus_words() {
    let site = Site::open().await;
    let long = format!("/api/v1/query?query={}", "1%2B".repeat(3_000));
    for (path, want) in [
        ("/api/v1/query_range?query=up&start=0&end=9e99&step=1e-9", 400),
        ("/api/v1/query_range?query=up&start=-9e99&end=9e99&step=9e9", 400),
        ("/api/v1/query?query=up&time=9e99", 200),
        ("/api/v1/query?query=up%5B100y%5D&time=-9e99", 200),
        ("/api/v1/query?query=count_over_time(vector(1)%5B100y:1ms%5D)&timeout=1", 503),
        ("/api/v1/label/%ff/values", 400),
        ("/api/v1/series?match%5B%5D=%7B%7D", 400),
        ("/api/v1/labels?limit=-1", 400),
        (long.as_str(), 400),
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.status, want, "{path}: {}", answer.body);
        let status = if want == 200 { "success" } else { "error" };
        assert_eq!(answer.json()["status"], status, "{path}");
    }
    let groups = site.get("/api/v1/rules?group_limit=1").await.json();
    let token = groups["data"]["groupNextToken"].as_str().unwrap();
    let next =
        site.get(&format!("/api/v1/rules?group_limit=1&group_next_token={token}")).await.json();
    assert_eq!(next["data"]["groups"][0]["name"], "disk");
    assert_eq!(next["data"]["groups"][0]["rules"][0]["state"], "unknown");
}

#[tokio::test]
async fn a_login_makes_a_session_that_ends_and_cannot_be_made_up() {
    let mut site = Site::closed().await;
    let csrf = site.get("/login").await.field("csrf");
    let form = |token: &str| format!("csrf={csrf}&token={token}&back=/incident/7");
    assert_eq!(site.ask("POST", "/login", &[FORM], &form("wrong")).await.status, 401);
    let answer = site.ask("POST", "/login", &[FORM], &form(RESPONDER)).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/incident/7")));
    let rules = answer.header("set-cookie").unwrap().to_owned();
    for rule in ["httponly", "samesite=strict", "path=/"] {
        assert!(rules.contains(rule), "{rules}");
    }
    let cookie = rules.split(';').next().unwrap().to_owned();
    let page = site.ask("GET", "/incident/7", &[("Cookie", &cookie)], "").await;
    assert_eq!(page.status, 200);
    let own = page.field("csrf");
    assert_ne!(own, csrf, "a stranger's form token is not a session's");

    // A form needs the page's token besides the cookie.
    let act = |csrf: &str| format!("csrf={csrf}&do=ack&incident=7&ttl=1h&back=/incident/7");
    let headers = [("Cookie", cookie.as_str()), FORM];
    assert_eq!(site.ask("POST", "/act", &headers, &act(&csrf)).await.status, 403);
    assert!(site.heard_nothing());
    let obeyed = site.obey(Ok(Value::Null));
    let answer = site.ask("POST", "/act", &headers, &act(&own)).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (303, Some("/incident/7?done=ack#said"))
    );
    assert_eq!(obeyed.await.unwrap().0, "anna");

    let (name, rest) = cookie.split_once('=').unwrap();
    let until = rest.split('.').nth(1).unwrap();
    for made_up in [
        rest.replace("anna", "wall"),
        rest.replace(until, "9999999999999"),
        format!("{rest}0"),
        "anna..".to_owned(),
        String::new(),
    ] {
        let cookie = format!("{name}={made_up}");
        let answer = site.ask("GET", "/api/view", &[("Cookie", &cookie)], "").await;
        assert_eq!(answer.status, 401, "{made_up}");
    }
    site.now.fetch_add(Span::hours(24 * 31).0, Ordering::Relaxed);
    let answer = site.ask("GET", "/api/view", &[("Cookie", &cookie)], "").await;
    assert_eq!(answer.status, 401, "a month later it is over");
}

#[tokio::test]
async fn another_name_for_this_address_meets_a_closed_door() {
    let site = Site::open().await;
    let port = site.address.port();
    for (host, want) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("LOCALHOST".to_owned(), 200),
        (format!("[::1]:{port}"), 200),
        ("host-1".to_owned(), 200),
        ("evil.example".to_owned(), 421),
        (format!("127.0.0.1.evil.example:{port}"), 421),
        ("localhost.".to_owned(), 421),
        ("localhost:evil".to_owned(), 421),
        ("[::1".to_owned(), 421),
        ("user@localhost".to_owned(), 421),
        (String::new(), 421),
        ("-".to_owned(), 421),
    ] {
        for path in ["/", "/api/view", "/static/daruma.js", "/ping/nightly%20backup"] {
            let answer = site.ask("GET", path, &[("Host", &host)], "").await;
            assert_eq!(answer.status, want, "{host} {path}");
        }
    }
    let absolute = site.ask("GET", "http://evil.example/api/view", &[], "").await;
    assert_eq!(absolute.status, 421);
}

#[tokio::test]
async fn another_site_can_neither_command_nor_ping_nor_read() {
    let mut site = Site::open().await;
    let own = format!("http://{}", site.address);
    let csrf = site.get("/").await.field("csrf");
    let form = format!("csrf={csrf}&do=stop&on=true");
    let text = ("Content-Type", "text/plain");
    let site_is = |site| ("Sec-Fetch-Site", site);
    for (method, path, headers, body, want) in [
        ("POST", "/api/command", vec![text], ACK, 415),
        ("POST", "/api/command", vec![FORM], ACK, 415),
        ("POST", "/api/command", vec![], ACK, 415),
        ("POST", "/api/command", vec![JSON, ("Origin", "https://evil.example")], ACK, 403),
        ("POST", "/api/command", vec![JSON, ("Origin", "null")], ACK, 403),
        ("POST", "/api/command", vec![JSON, site_is("cross-site")], ACK, 403),
        ("POST", "/api/command", vec![JSON, site_is("same-site")], ACK, 403),
        ("POST", "/act", vec![FORM, ("Origin", "https://evil.example")], &form, 403),
        ("POST", "/act", vec![FORM, ("Origin", "null")], &form, 403),
        ("POST", "/act", vec![FORM, site_is("cross-site")], &form, 403),
        ("POST", "/act", vec![FORM], "do=stop&on=true", 403),
        ("POST", "/act", vec![FORM], "csrf=&do=stop&on=true", 403),
        ("GET", "/ping/nightly%20backup", vec![site_is("cross-site")], "", 403),
        ("GET", "/api/view", vec![site_is("cross-site"), ("Sec-Fetch-Mode", "no-cors")], "", 403),
        ("GET", "/events", vec![site_is("cross-site"), ("Sec-Fetch-Mode", "cors")], "", 403),
        ("OPTIONS", "/api/command", vec![("Origin", "https://evil.example")], "", 404),
    ] {
        let answer = site.ask(method, path, &headers, body).await;
        assert_eq!(answer.status, want, "{method} {path} {headers:?}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert!(site.heard_nothing());
    // A link in a chat leads to a page all the same, and our own pages may act.
    let link = [site_is("cross-site"), ("Sec-Fetch-Mode", "navigate")];
    assert_eq!(site.ask("GET", "/incident/7", &link, "").await.status, 200);
    for origin in [own.as_str(), "null"] {
        let mut site = Site::open().await;
        let own = format!("http://{}", site.address);
        let origin = if origin == "null" { origin } else { &own };
        let csrf = site.get("/").await.field("csrf");
        let obeyed = site.obey(Ok(Value::Null));
        let headers = [FORM, ("Origin", origin), site_is("same-origin")];
        let answer =
            site.ask("POST", "/act", &headers, &format!("csrf={csrf}&do=stop&on=true")).await;
        assert_eq!(answer.status, 303, "{origin}");
        let stop = Command::Stop { on: true, comment: String::new() };
        assert_eq!(obeyed.await.unwrap(), ("web".to_owned(), stop));
    }
}

#[tokio::test]
async fn a_command_is_answered_only_when_it_is_durable() {
    let mut site = Site::open().await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let head = site.head("POST", "/api/command", &[JSON, ("X-Daruma-Client", "ben<b>")], ACK.len());
    stream.write_all((head + ACK).as_bytes()).await.unwrap();
    let CommandRequest { by, reply, .. } = site.commands.recv().await.unwrap();
    assert_eq!(by, "benb", "a local client's name is only a name");
    let mut answer = vec![0; 1];
    let early = stream.try_read(&mut answer).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "it is not durable yet");
    reply.send(Ok(json!({ "id": 7 }))).unwrap();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains(r#"{"id":7}"#));

    for (refusal, want) in [
        (Refusal::NotFound("there is no incident 7".to_owned()), 404),
        (Refusal::Invalid("no".to_owned()), 422),
        (Refusal::Unavailable("the disk is full".to_owned()), 503),
    ] {
        let mut site = Site::open().await;
        let obeyed = site.obey(Err(refusal.clone()));
        let answer = site.ask("POST", "/api/command", &[JSON], ACK).await;
        assert_eq!(
            (answer.status, answer.json()["error"].as_str()),
            (want, Some(&*refusal.to_string()))
        );
        obeyed.await.unwrap();
    }
    for senseless in [
        r#"{"do":"hold","matchers":[],"ttl":"1h","comment":""}"#,
        r#"{"do":"silence","matchers":["a=b"],"ttl":"0","comment":"work"}"#,
        r#"{"do":"silence","matchers":["a=b"],"ttl":"9y","comment":"work"}"#,
        r#"{"do":"silence","matchers":["a=b"],"ttl":"1h","comment":" "}"#,
    ] {
        assert_eq!(
            site.ask("POST", "/api/command", &[JSON], senseless).await.status,
            422,
            "{senseless}"
        );
    }
    for garbage in ["", "{", "[]", r#"{"do":"dance"}"#, r#"{"do":"ack","incident":7,"x":1}"#] {
        assert_eq!(
            site.ask("POST", "/api/command", &[JSON], garbage).await.status,
            400,
            "{garbage}"
        );
    }
    assert!(site.heard_nothing());
}

#[tokio::test]
async fn every_answer_carries_the_strict_headers() {
    let site = Site::open().await;
    for path in [
        "/",
        "/incident/7",
        "/incident/999",
        "/sources",
        "/api/view",
        "/nowhere",
        "/static/htmx.js",
        "/-/ready",
    ] {
        let answer = site.get(path).await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{path}"
        );
        assert!(!policy.contains("unsafe"), "{path}");
        for (name, want) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "deny"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(want), "{path}");
        }
        let kept = if path.starts_with("/static/") {
            "public, max-age=31536000, immutable"
        } else {
            "no-store"
        };
        assert_eq!(answer.header("cache-control"), Some(kept), "{path}");
    }
}

#[tokio::test]
async fn pages_hold_no_inline_script_or_style_and_the_first_is_small() {
    let site = Site::open().await;
    for path in ["/", "/incident/7", "/incident/9", "/sources", "/login"] {
        let body = site.get(path).await.body;
        assert!(!body.contains("style=") && !body.contains("<style"), "{path}");
        assert!(!body.contains(" on") || !body.contains(" onclick="), "{path}");
        for script in body.split("<script").skip(1) {
            assert!(script.starts_with(" src=\"/static/"), "{path}: {}", &script[..40]);
        }
        assert!(
            !body.contains("http://") || !body.contains("src=\"http"),
            "{path} loads from elsewhere"
        );
    }
    let page = site.get("/").await.body;
    let mut bytes = page.len();
    let mut seen = std::collections::BTreeSet::new();
    for part in page.split("\"/static/").skip(1) {
        let name = part.split('"').next().unwrap();
        if seen.insert(name) {
            let answer = site.get(&format!("/static/{name}")).await;
            assert_eq!(answer.status, 200, "{name}");
            bytes += answer.body.len();
            assert!(!name.starts_with("daruma.css") || answer.body.len() < 30_000);
        }
    }
    assert!(seen.len() >= 5 && bytes <= 120_000, "{bytes} bytes in {seen:?}");
}

/// Every text of a picture that can be hostile is, one at a time and all together.
#[tokio::test]
async fn no_text_of_the_picture_becomes_markup() {
    const BAD: &str = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{1}}${1}</bdi></em>\u{202e}\u{0}";
    let mut picture = serde_json::to_value(scene::busy(scene::NIGHT)).unwrap();
    let mut places = Vec::new();
    leaves(&picture, &mut String::new(), &mut places);
    let mut changed = 0;
    for place in &places {
        let leaf = picture.pointer_mut(place).unwrap();
        let old = std::mem::replace(leaf, json!(BAD));
        // Words of an enumeration cannot be anything else; they stay.
        if serde_json::from_value::<View>(picture.clone()).is_err() {
            *picture.pointer_mut(place).unwrap() = old;
        } else {
            changed += 1;
        }
    }
    assert!(changed > 200, "only {changed} of {} texts were hostile", places.len());
    let view: View = serde_json::from_value(picture).unwrap();
    let ids: Vec<u64> = view.incidents.iter().map(|i| i.incident.id).collect();
    let site = Site::with(Config::default(), view).await;
    let paths = ids.iter().map(|id| format!("/incident/{id}"));
    for path in paths.chain(["/".to_owned(), "/sources".to_owned()]) {
        let answer = site.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.contains("&lt;img src=x"), "{path} shows it as text");
        for markup in ["<img src=x", "<script>", "</bdi></em>", "\"'>"] {
            assert!(!answer.body.contains(markup), "{path} holds {markup:?}");
        }
        // Forms carry such characters as they are; a reader's eye must not meet them.
        let text = answer.body.split('<').filter_map(|part| part.split_once('>'));
        for (tag, text) in text {
            assert!(
                !text.contains(['\u{202e}', '\u{0}']),
                "{path} shows a trick in <{tag}>: {text}"
            );
        }
    }
}

fn leaves(value: &Value, at: &mut String, found: &mut Vec<String>) {
    let mut step = |name: &str, value: &Value| {
        let length = at.len();
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        leaves(value, at, found);
        at.truncate(length);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| step(name, value)),
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(i, value)| step(&i.to_string(), value))
        }
        Value::String(_) => found.push(at.clone()),
        _ => {}
    }
}

#[tokio::test]
async fn the_api_tells_what_the_pages_tell() {
    let site = Site::open().await;
    let view: View = serde_json::from_value(site.get("/api/view").await.json()).unwrap();
    assert_eq!(view, scene::busy(scene::NIGHT));
    assert_eq!(site.get("/api/incidents").await.json().as_array().unwrap().len(), 8);
    assert_eq!(site.get("/api/incidents/7").await.json()["title"], "web does not answer");
    assert_eq!(site.get("/api/incidents/999").await.status, 404);
    assert_eq!(site.get("/incident/999").await.status, 404);
    assert_eq!(site.get("/api/alerts").await.json().as_array().unwrap().len(), 4);
    let why = site.get("/api/why?incident=7").await.json();
    assert!(why["sentence"].as_str().unwrap().contains("restarted"));
    assert_eq!(why["alerts"][0]["why"][1], "evidence: http_inflight is 40, above 15");
    assert_eq!(
        site.get("/api/why?alert=WebDown").await.json()["alerts"][0]["alert"]
            .as_str()
            .unwrap()
            .len(),
        why["alerts"][0]["alert"].as_str().unwrap().len()
    );
    assert_eq!(site.get("/api/why?alert=Nobody").await.status, 404);
    assert_eq!(site.get("/api/why").await.status, 400);
    assert_eq!(site.get("/api/journal?from=5&limit=99999").await.json(), json!([[5, 1000]]));
    assert_eq!(site.get("/api/journal?from=x").await.status, 400);
    assert_eq!(site.get("/metrics").await.body, "daruma_up 1\n");
    assert_eq!(site.get("/-/healthy").await.status, 200);
    let ready = site.get("/-/ready").await;
    assert_eq!((ready.status, ready.body.trim()), (503, "not ready: the journal is read only"));
    for (path, want) in [
        ("/ping/nightly%20backup", 200),
        ("/ping/nightly%20backup/start", 200),
        ("/ping/nightly%20backup/fail", 404),
        ("/ping/unknown", 404),
    ] {
        for method in ["GET", "POST", "HEAD"] {
            assert_eq!(site.ask(method, path, &[], "").await.status, want, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_chart_is_bounded_and_shows_a_gap_as_a_gap() {
    let site = Site::open().await;
    let (from, to) = (scene::NIGHT.0 / 1000 - 2400, scene::NIGHT.0 / 1000 - 1200);
    let plot = site
        .get(&format!("/api/series?query=http_inflight&from={from}&to={to}&step=10"))
        .await
        .json();
    let (times, values) = (&plot["times"], &plot["lines"][0]["values"]);
    assert_eq!(times.as_array().unwrap().len(), 121);
    let known = |seconds: usize| !values[seconds / 10].is_null();
    assert!(known(0) && known(500) && known(900) && known(1200));
    // Nobody looked from 540 s to 840 s of this range.
    assert!((620..840).step_by(10).all(|seconds| !known(seconds)), "{values}");

    let like = "%7B%22mountpoint%22%3A%22/other%22%7D";
    for (query, lines) in [
        ("query=node_filesystem_avail_bytes".to_owned(), 1),
        (format!("query=node_filesystem_avail_bytes&like={like}"), 0),
    ] {
        let plot = site.get(&format!("/api/series?{query}")).await.json();
        assert_eq!(plot["lines"].as_array().unwrap().len(), lines, "{query}");
    }
    let long = "a".repeat(9000);
    for bad in [
        "".to_owned(),
        "query=".to_owned(),
        "query=sum(".to_owned(),
        "query=up&from=x".to_owned(),
        "query=up&from=NaN".to_owned(),
        "query=up&from=5&to=4".to_owned(),
        "query=up&from=0&to=1e10".to_owned(),
        "query=up&step=0".to_owned(),
        "query=up&step=-1".to_owned(),
        "query=up&step=0.001".to_owned(),
        "query=up&like=[".to_owned(),
        format!("query={long}"),
    ] {
        assert_eq!(site.get(&format!("/api/series?{bad}")).await.status, 400, "{:.60}", bad);
    }
}

#[tokio::test]
async fn an_open_page_hears_of_news_and_of_the_end() {
    let site = Site::open().await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(site.head("GET", "/events", &[], 0).as_bytes()).await.unwrap();
    let mut heard = String::new();
    let mut hear = async |until: usize| {
        let mut buffer = [0; 4096];
        while heard.matches("event: changed").count() < until {
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "the stream broke off: {heard}");
            heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        heard.clone()
    };
    assert!(hear(1).await.contains("text/event-stream"));
    site.view.send(Arc::new(View::default())).unwrap();
    hear(2).await;
    // A page that is open must not keep the program from stopping.
    site.stop.send(true).unwrap();
    tokio::time::timeout(PATIENCE, site.done).await.expect("it stops").unwrap();
}

#[tokio::test]
async fn large_and_broken_requests_are_refused_in_words() {
    let mut site = Site::open().await;
    let large = "x".repeat(65 * 1024);
    assert_eq!(site.ask("POST", "/api/command", &[JSON], &large).await.status, 413);
    let many: Vec<(String, &str)> = (0..200).map(|i| (format!("X-{i}"), "y")).collect();
    let many: Vec<(&str, &str)> =
        many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(site.ask("GET", "/", &many, "").await.status, 431);
    let long = "y".repeat(100 * 1024);
    assert_eq!(site.ask("GET", "/", &[("X-Long", &long)], "").await.status, 431);
    let twice = [("Host", "localhost"), ("Host", "evil.example")];
    assert_eq!(site.ask("GET", "/", &twice, "").await.status, 421);
    assert!(site.heard_nothing());
    assert_eq!(site.get("/").await.status, 200);
}

/// With paused time a wait costs nothing: the clock jumps when nobody has anything to do.
#[tokio::test(start_paused = true)]
async fn those_who_dawdle_cannot_keep_the_door_shut() {
    let site = Site::open().await;
    let mut idle = Vec::new();
    for _ in 0..256 {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        idle.push(stream);
    }
    // All places are taken; this one is served when the first of them has been given up.
    assert_eq!(site.get("/-/healthy").await.status, 200);
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
}

#[tokio::test]
async fn a_quiet_night_is_said_with_its_reasons_and_an_empty_one_is_not_called_well() {
    let site = Site::with(Config::default(), scene::quiet(scene::NIGHT)).await;
    let page = site.get("/").await.body;
    assert!(page.contains("All well") && page.contains("seen by 4 sources"), "{page}");
    let site = Site::with(Config::default(), View::default()).await;
    let page = site.get("/").await.body;
    assert!(!page.contains("All well") && page.contains("nothing is watched yet"), "{page}");
    let mut view = scene::quiet(scene::NIGHT);
    view.sources[0].state = daruma_model::SourceState::Failing;
    let site = Site::with(Config::default(), view).await;
    let page = site.get("/").await.body;
    assert!(!page.contains("All well") && page.contains("1 source unknown"), "{page}");
}

#[tokio::test]
async fn a_reload_is_answered_with_what_became_of_it_and_is_no_other_sites_business() {
    let site = Site::open().await;
    let elsewhere = [("origin", "http://evil.example")];
    assert_eq!(site.ask("POST", "/-/reload", &elsewhere, "").await.status, 403);
    assert_eq!(site.ask("GET", "/-/reload", &[], "").await.status, 404);
    assert_eq!(site.ask("POST", "/-/reload", &[], "").await.status, 200);
    let refused = site.ask("PUT", "/-/reload", &[], "").await;
    assert_eq!(refused.status, 500);
    assert!(refused.body.contains("daruma.yaml:3:1: unknown field `rulez`"), "{}", refused.body);
}

#[tokio::test]
async fn the_listener_that_others_reach_is_not_served_without_tokens() {
    let shared = |view| {
        let (_, shown) = watch::channel(Arc::new(view));
        let (commands, _) = mpsc::channel(1);
        Shared {
            view: shown,
            loop_asks: tokio::sync::mpsc::channel(1).0,
            commands,
            store: Arc::default(),
            asks: mpsc::channel(1).0,
            facts: Arc::new(scene::facts),
            describe: Arc::new(scene::described),
            described: Arc::new(drop),
            ack_links: daruma_server::AckLinks::new([7; 32]),
            receipts: Arc::new(|_, _, _, _| Err("no channel tells later".to_owned())),
            clock: Arc::new(|| Time(0)),
            host: String::new(),
            version: "",
            heartbeat: Arc::new(|_, _| false),
            metrics: Arc::new(String::new),
            ready: Arc::new(|| Ok(())),
            history: Arc::new(|_| Ok(Vec::new())),
            reload: mpsc::channel(1).0,
        }
    };
    // The configuration says loopback, the listener is another.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let (_stop, stopped) = watch::channel(false);
    let error =
        daruma_server::serve(listener, &Config::default(), shared(View::default()), stopped)
            .await
            .unwrap_err();
    assert!(error.to_string().contains("server.tokens is empty"), "{error}");
}

#[test]
fn a_configuration_that_lets_strangers_in_is_refused_in_words() {
    let read = |yaml: &str| serde_saphyr::from_str::<Config>(yaml);
    let safe = read("listen: 127.0.0.1:1").unwrap();
    assert_eq!((safe.listen.port(), check(&safe)), (1, Ok(())));
    assert_eq!(check(&Config::default()), Ok(()));
    assert_eq!(check(&read("listen: '[::1]:7878'").unwrap()), Ok(()));
    for (yaml, want) in [
        (
            "listen: 0.0.0.0:7878",
            "server.listen is 0.0.0.0:7878, which others can reach, but server.tokens is empty",
        ),
        ("listen: '[::]:7878'", "server.tokens is empty"),
        ("tokens: [ { name: a, token: short } ]", "has 5 characters"),
        ("tokens: [ { name: a, token: 'with a blank in the middle' } ]", "visible ASCII"),
        ("tokens: [ { name: a } ]", "exactly one of"),
        ("tokens: [ { name: 'a b', token: 0123456789abcdef01234567 } ]", "is not a name"),
        (
            "tokens: [ { name: a, token_file: /nowhere/at/all } ]",
            "cannot be read from /nowhere/at/all",
        ),
    ] {
        let error = check(&read(yaml).unwrap()).unwrap_err().to_string();
        assert!(error.contains(want), "{yaml}: {error}");
    }
    assert!(read("listn: 127.0.0.1:1").is_err());
    assert!(read("tokens: [ { name: a, role: king } ]").is_err());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, format!("{RESPONDER}\nsecond line\n")).unwrap();
    let yaml = format!(
        "listen: 0.0.0.0:7878\ntokens: [ {{ name: a, token_file: {}, role: responder }} ]",
        path.display()
    );
    assert_eq!(check(&read(&yaml).unwrap()), Ok(()));
    std::fs::write(&path, "").unwrap();
    assert!(matches!(check(&read(&yaml).unwrap()), Err(ConfigError::Weak { found: 0, .. })));
    let config = Config { tokens: tokens(), ..Config::default() };
    assert!(!format!("{config:?}").contains("secret-"), "{config:?}");
}

#[tokio::test]
async fn a_silence_by_form_needs_an_owner_a_reason_an_end_and_labels() {
    let mut site = Site::open().await;
    let csrf = site.get("/silences").await.field("csrf");
    let form = |owner: &str, comment: &str, ttl: &str, matchers: &str| {
        format!(
            "csrf={csrf}&do=put_silence&owner={owner}&comment={comment}&ttl={ttl}&matchers={matchers}"
        )
    };
    for (owner, comment, ttl, matchers, why) in [
        ("", "work", "1h", "a%3Db", "who answers"),
        ("+", "work", "1h", "a%3Db", "who answers"),
        ("me", "", "1h", "a%3Db", "say why"),
        ("me", "work", "", "a%3Db", ""),
        ("me", "work", "0s", "a%3Db", "must end"),
        ("me", "work", "9000h", "a%3Db", "must end"),
        ("me", "work", "1h", "", "empty selection"),
        ("me", "work", "1h", "nonsense", "nonsense"),
    ] {
        let answer = site.ask("POST", "/act", &[FORM], &form(owner, comment, ttl, matchers)).await;
        assert_eq!(answer.status, 422, "{owner} {comment} {ttl} {matchers}");
        assert!(answer.body.contains(why), "{why}: {}", answer.body);
    }
    assert!(site.heard_nothing());
    let obeyed = site.obey(Ok(json!({ "id": 1 })));
    let body = form("me", "work", "1h", "a%3Db");
    assert_eq!(site.ask("POST", "/act", &[FORM], &body).await.status, 303);
    let (_, command) = obeyed.await.unwrap();
    let Command::PutSilence { uuid, from, until, by, comment, .. } = command else {
        panic!("{command:?}")
    };
    assert_eq!(
        (uuid, until - from, by.as_str(), comment.as_str()),
        (None, Span::hours(1), "me", "work")
    );
}
