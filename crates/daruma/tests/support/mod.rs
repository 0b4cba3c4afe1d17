//! A real daruma, started from the binary under test, and a plain way to talk to it.
#![allow(dead_code, clippy::unwrap_used)] // Each test file uses its part; helpers fail aloud.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take that must happen at all.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running daruma; killed when dropped.
pub struct Daruma {
    child: Child,
    /// Where its pages are.
    pub address: SocketAddr,
    /// What it said on standard error so far.
    pub said: Arc<Mutex<Vec<String>>>,
}

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_daruma")
}

impl Daruma {
    /// Starts it with a configuration and a data folder, on a free port.
    pub fn start(config: &str, data: &Path) -> Daruma {
        std::fs::create_dir_all(data).unwrap();
        let file = data.with_extension("yaml");
        std::fs::write(&file, config).unwrap();
        Daruma::with(&["--config", file.to_str().unwrap()], data)
            .unwrap_or_else(|said| panic!("{said}"))
    }

    /// Starts it with arguments; what it said if it ends instead of running.
    pub fn with(arguments: &[&str], data: &Path) -> Result<Daruma, String> {
        Daruma::within(&[], arguments, data)
    }

    /// Starts it in an environment.
    pub fn within(
        environment: &[(&str, &str)],
        arguments: &[&str],
        data: &Path,
    ) -> Result<Daruma, String> {
        let mut child = Command::new(program())
            .envs(environment.iter().copied())
            .arg("run")
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (tell, told) = mpsc::channel();
        let kept = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("pages on http://") {
                    drop(tell.send(address.trim().to_owned()));
                }
                kept.lock().unwrap().push(line);
            }
        });
        match told.recv_timeout(PATIENCE) {
            Ok(address) => Ok(Daruma { child, address: address.parse().unwrap(), said }),
            Err(_) => {
                drop(child.kill());
                drop(child.wait());
                Err(said.lock().unwrap().join("\n"))
            }
        }
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Sends a signal by name, e.g. `HUP`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end and returns the exit code.
    pub fn ended(&mut self) -> Option<i32> {
        until("it ends", || self.child.try_wait().unwrap()).code()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Status and body of a GET.
    pub fn get(&self, path: &str) -> (u16, String) {
        request(self.address, "GET", path, &[], "").unwrap()
    }

    /// The state as the API tells it.
    pub fn view(&self) -> serde_json::Value {
        serde_json::from_str(&self.get("/api/view").1).unwrap()
    }

    /// Every incident's story as text, for a failing assertion to show.
    pub fn story(&self) -> String {
        let incidents = self.view()["incidents"].as_array().unwrap().clone();
        let show = |incident: &serde_json::Value| {
            self.cli(&["incident", "show", &incident["id"].to_string()]).1
        };
        incidents.iter().map(show).collect::<Vec<_>>().join("\n")
    }

    /// Any request; the answer, if there was one.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        request(self.address, method, path, headers, body)
    }

    /// Gives a command; the answer, if there was one.
    pub fn command(&self, json: &str) -> std::io::Result<(u16, String)> {
        request(self.address, "POST", "/api/command", &[("content-type", "application/json")], json)
    }

    /// Runs the command line against it.
    pub fn cli(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let out = Command::new(program())
            .args(["--server", &self.address.to_string()])
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (out.status.code(), text(out.stdout), text(out.stderr))
    }
}

impl Drop for Daruma {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One HTTP exchange on a connection of its own.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let broken = || std::io::Error::other(format!("not an answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(broken)?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        out.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    out
}

/// Asks until there is an answer, with patience.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "it never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A webhook that keeps what it is told, and answers with the status it is set to.
pub struct Hook {
    pub url: String,
    pub told: Arc<Mutex<Vec<serde_json::Value>>>,
    pub status: Arc<std::sync::atomic::AtomicU16>,
}

impl Hook {
    pub fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Vec::new()));
        let status = Arc::new(std::sync::atomic::AtomicU16::new(200));
        let (kept, answer) = (Arc::clone(&told), Arc::clone(&status));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || drop(serve_hook(stream, &kept, &answer)));
            }
        });
        Hook { url, told, status }
    }

    /// (status, title) of every message taken so far.
    pub fn titles(&self) -> Vec<(String, String)> {
        let told = self.told.lock().unwrap();
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        told.iter().map(|m| (text(&m["status"]), text(&m["daruma"]["title"]))).collect()
    }
}

fn serve_hook(
    mut stream: TcpStream,
    kept: &Mutex<Vec<serde_json::Value>>,
    answer: &std::sync::atomic::AtomicU16,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let status = answer.load(std::sync::atomic::Ordering::SeqCst);
    if status == 200 {
        kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
    }
    write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/// A small service in Python: serves `ok` on a port, with its pid in a file.
pub struct Service {
    pub dir: PathBuf,
    pub port: u16,
}

impl Service {
    /// Writes its program and commands into `dir`, and starts it.
    pub fn start(dir: &Path) -> Service {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let service = Service { dir: dir.to_owned(), port };
        let script = format!(
            "import http.server, os\n\
             open({pid:?}, 'w').write(str(os.getpid()))\n\
             class H(http.server.BaseHTTPRequestHandler):\n\
             \x20   def do_GET(self):\n\
             \x20       ok = not os.path.exists({ill:?})\n\
             \x20       self.send_response(200 if ok else 500); self.end_headers(); self.wfile.write(b'ok')\n\
             \x20   def log_message(self, *a): pass\n\
             class S(http.server.ThreadingHTTPServer): allow_reuse_address = True\n\
             S(('127.0.0.1', {port}), H).serve_forever()\n",
            pid = service.file("pid").to_str().unwrap(),
            ill = service.file("ill").to_str().unwrap(),
        );
        std::fs::write(service.file("py"), script).unwrap();
        let restart = format!(
            "#!/bin/sh\necho restart >> {ran}\nkill -9 $(cat {pid}) 2>/dev/null\nsetsid python3 -S {py} </dev/null >/dev/null 2>&1 &\n",
            ran = service.file("ran").display(),
            pid = service.file("pid").display(),
            py = service.file("py").display(),
        );
        let path = service.file("restart");
        std::fs::write(&path, restart).unwrap();
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new(&path).status().unwrap().success());
        until("the service answers", || service.answers().then_some(()));
        std::fs::remove_file(service.file("ran")).unwrap();
        service
    }

    pub fn file(&self, kind: &str) -> PathBuf {
        self.dir.join(format!("service.{kind}"))
    }

    pub fn answers(&self) -> bool {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        request(address, "GET", "/", &[], "").is_ok_and(|(status, _)| status == 200)
    }

    pub fn pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.file("pid")).ok()?.trim().parse().ok()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.pid().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// How often it was restarted.
    pub fn restarts(&self) -> usize {
        std::fs::read_to_string(self.file("ran")).map_or(0, |text| text.lines().count())
    }

    /// A configuration that watches it, repairs it, and tells the hook.
    pub fn config(&self, hook: &str) -> String {
        let (pid, restart, port) = (self.file("pid"), self.file("restart"), self.port);
        format!(
            r#"
collect:
  processes: [ {{ name: app, pid_file: "{pid}", every: 200ms, labels: {{ service: app }} }} ]
  probes: [ {{ name: app, http: "http://127.0.0.1:{port}/", every: 250ms, labels: {{ service: app }} }} ]
detect:
  interval: 500ms
  rules:
    - {{ alert: Down, expr: 'daruma_process_up{{process="app"}} == 0', for: 50ms, labels: {{ service: app, severity: critical }} }}
    - {{ alert: Ill, expr: 'avg_over_time(probe_success{{service="app"}}[1s]) < 0.5', labels: {{ service: app, severity: critical }} }}
recover:
  mode: auto
  actions: {{ restart: {{ argv: [ "{restart}" ], timeout: 5s }} }}
  runbooks:
    - name: restart
      matchers: [ 'service="app"' ]
      mode: auto
      confirm: {{ checks: [ {{ probe: {{ http: "http://127.0.0.1:{port}/", timeout: 500ms }}, fails: 2, every: 50ms }} ] }}
      steps: [ {{ do: restart, verify: {{ probe: {{ http: "http://127.0.0.1:{port}/" }}, for: 1s, within: 8s }} }} ]
      limits: {{ attempts: 3/30m, backoff: 1s..1m, cooldown: 1s, no_help: 2 }}
notify:
  group_wait: 0s
  receivers: [ {{ name: ops, webhook_configs: [ {{ url: "{hook}" }} ] }} ]
"#,
            pid = pid.display(),
            restart = restart.display(),
        )
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            drop(
                Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status(),
            );
        }
    }
}
