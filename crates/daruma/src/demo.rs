//! `daruma demo`: three small services are broken in three ways (one that a restart cures, one that
//! nothing cures, one that only looks cured), watched in the browser. Everything is real: processes,
//! probes, the journal, the pages; only the services are toys.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use daruma_alert::View;

use crate::cli::{FAILED, NOTHING, Places};
use crate::print::{self, Style};

/// The services, and what is done to each.
const SERVICES: [(&str, &str); 3] = [
    ("shop", "its process is killed; a restart cures it"),
    ("mail", "its configuration is broken; it ends at every start, and no restart cures it"),
    (
        "search",
        "it answers 500 for good; after a restart it runs and listens, and still answers 500",
    ),
];
/// How long the demonstration may take until all three have come to their end.
const END_WITHIN: Duration = Duration::from_secs(120);

/// The hidden commands behind the demonstration: the toy service and its operator's commands.
///
/// # Errors
/// The service cannot start.
pub fn victim(arguments: &[String]) -> Result<u8, String> {
    let [verb, dir, name] = arguments else { return Err("demo-victim VERB DIR NAME".to_owned()) };
    let dir = Path::new(dir);
    match verb.as_str() {
        "serve" => serve(dir, name),
        "start" => begin(dir, name),
        "restart" => {
            end(dir, name);
            begin(dir, name)
        }
        _ => Err(format!("`{verb}` is not a command of the demonstration")),
    }
}

fn file(dir: &Path, name: &str, kind: &str) -> PathBuf {
    dir.join(format!("{name}.{kind}"))
}

/// The toy: answers `/health` until it is broken.
fn serve(dir: &Path, name: &str) -> Result<u8, String> {
    if file(dir, name, "unstartable").exists() {
        eprintln!("CRITICAL {name}: the configuration does not parse");
        return Ok(3);
    }
    let port =
        std::fs::read_to_string(file(dir, name, "port")).map_err(|error| error.to_string())?;
    let address = format!("127.0.0.1:{}", port.trim());
    let listener = TcpListener::bind(&address).map_err(|error| format!("{address}: {error}"))?;
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        let ill = file(dir, name, "ill").exists();
        let mut head = [0; 1024];
        // Whoever only connects and says nothing gets nothing.
        let answered = stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .and_then(|()| stream.read(&mut head))
            .and_then(|_| {
                let (status, body) =
                    if ill { ("500 Internal Server Error", "broken") } else { ("200 OK", "well") };
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
            });
        drop(answered); // The client may have gone away.
    }
    Ok(NOTHING)
}

/// Starts the toy apart from its caller and waits until it listens or has ended.
fn begin(dir: &Path, name: &str) -> Result<u8, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(["demo-victim", "serve"]).arg(dir).arg(name);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let write = std::fs::write(file(dir, name, "pid"), format!("{}\n", child.id()));
    write.map_err(|error| error.to_string())?;
    let port =
        std::fs::read_to_string(file(dir, name, "port")).map_err(|error| error.to_string())?;
    for _ in 0..100 {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("{name} ended at its start: {status}"));
        }
        if TcpStream::connect(format!("127.0.0.1:{}", port.trim())).is_ok() {
            return Ok(NOTHING);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{name} does not listen"))
}

fn end(dir: &Path, name: &str) {
    let Ok(text) = std::fs::read_to_string(file(dir, name, "pid")) else { return };
    #[cfg(unix)]
    if let Some(pid) = text.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
        // Gone already is as good as ended.
        if rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    #[cfg(not(unix))]
    drop(text);
}

fn configuration(dir: &Path, ports: &BTreeMap<&str, u16>) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let (program, folder) = (program.display(), dir.display());
    let mut yaml = String::from("collect:\n  host: { every: 1s }\n  processes:\n");
    let mut add = |text: String| yaml.push_str(&text);
    for name in ports.keys() {
        add(format!(
            "    - {{ name: {name}, pid_file: \"{folder}/{name}.pid\", every: 200ms, labels: {{ service: {name} }} }}\n"
        ));
    }
    add("  probes:\n".to_owned());
    for (name, port) in ports {
        add(format!(
            "    - {{ name: {name}, http: \"http://127.0.0.1:{port}/health\", every: 250ms, labels: {{ service: {name} }} }}\n"
        ));
    }
    add("detect:\n  interval: 500ms\n  rules:\n".to_owned());
    for name in ports.keys() {
        add(format!(
            "    - {{ alert: Down, expr: 'avg_over_time(probe_success{{service=\"{name}\"}}[1s]) < 0.5', labels: {{ service: {name}, severity: critical }}, annotations: {{ summary: {name} does not answer }} }}\n"
        ));
    }
    add("recover:\n  mode: auto\n  min_healthy: 0%\n  actions:\n".to_owned());
    for name in ports.keys() {
        add(format!(
            "    restart_{name}: {{ argv: [ \"{program}\", demo-victim, restart, \"{folder}\", {name} ], timeout: 5s }}\n"
        ));
    }
    add("  runbooks:\n".to_owned());
    for (name, port) in ports {
        let probe = format!("probe: {{ http: \"http://127.0.0.1:{port}/health\" }}");
        add(format!(
            "    - {{ name: restart-{name}, matchers: [ 'alertname=\"Down\"', 'service=\"{name}\"' ], mode: auto, confirm: {{ checks: [ {{ {probe}, fails: 3 }} ] }}, \
             steps: [ {{ do: restart_{name}, verify: {{ {probe}, for: 2s, within: 5s }} }} ], limits: {{ attempts: 3/30m, backoff: 3s..1m, cooldown: 10s, no_help: 2 }} }}\n"
        ));
    }
    Ok(yaml)
}

/// `daruma demo`.
///
/// # Errors
/// It cannot start.
pub fn main(listen: SocketAddr, once: bool) -> Result<u8, String> {
    let dir = std::env::temp_dir().join(format!("daruma-demo-{}", std::process::id()));
    std::fs::create_dir_all(&dir).map_err(|error| error.to_string())?;
    let code = show(&dir, listen, once);
    for (name, _) in SERVICES {
        end(&dir, name);
    }
    if let Err(error) = std::fs::remove_dir_all(&dir) {
        crate::log::warning(&format!("{} stays: {error}", dir.display()));
    }
    code
}

fn show(dir: &Path, listen: SocketAddr, once: bool) -> Result<u8, String> {
    let style = Style::new(false);
    let mut ports = BTreeMap::new();
    for (name, _) in SERVICES {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        std::fs::write(file(dir, name, "port"), port.to_string())
            .map_err(|error| error.to_string())?;
        ports.insert(name, port);
        begin(dir, name)?;
    }
    let config = dir.join("daruma.yaml");
    std::fs::write(&config, configuration(dir, &ports)?).map_err(|error| error.to_string())?;
    let places = Places {
        config: Some(config),
        data: Some(dir.join("data")),
        listen: Some(listen),
        ..Places::default()
    };
    crate::run::runtime()?.block_on(async {
        let running = crate::run::start(&places).await?;
        let url = format!("http://{}", running.listen);
        print::line(&format!("Watch it on {}", style.paint("1;4", &url)));
        let mut view = running.view.clone();
        let mut printed = Printed::default();
        pause(&mut view, &mut printed, style, Duration::from_secs(4)).await;
        for (name, what) in SERVICES {
            print::line(&style.paint("1", &format!("\n— {name}: {what}")));
            break_it(dir, name)?;
            let began = Instant::now();
            // Until this one has come to its end: healed, or a person was called.
            while began.elapsed() < END_WITHIN / 3 && !ended(&view.borrow(), name) {
                pause(&mut view, &mut printed, style, Duration::from_millis(200)).await;
            }
        }
        let outcomes: Vec<(&str, &str)> =
            SERVICES.iter().map(|(name, _)| (*name, outcome(&view.borrow(), name))).collect();
        print::line("");
        for (name, outcome) in &outcomes {
            print::line(&format!("{name:<8} {outcome}"));
        }
        if !once {
            print::line(&format!("\n{url} stays up; Ctrl-C ends the demonstration"));
            running.until_stopped().await;
            return Ok(NOTHING);
        }
        running.stop().await;
        let want = [("shop", HEALED), ("mail", CALLED), ("search", CALLED)];
        Ok(if outcomes == want { NOTHING } else { FAILED })
    })
}

const HEALED: &str = "healed, and proved; nobody was woken";
const CALLED: &str = "not healed, and said so: a person was called, and it is touched no more";

fn break_it(dir: &Path, name: &str) -> Result<(), String> {
    let mark =
        |kind: &str| std::fs::write(file(dir, name, kind), "").map_err(|error| error.to_string());
    match name {
        "mail" => mark("unstartable")?,
        "search" => return mark("ill"),
        _ => {}
    }
    end(dir, name);
    Ok(())
}

fn of<'a>(view: &'a View, name: &str) -> Option<&'a daruma_alert::IncidentView> {
    view.incidents.iter().find(|v| v.incident.group == format!("service {name}"))
}

fn ended(view: &View, name: &str) -> bool {
    of(view, name).is_some_and(|v| v.incident.resolved.is_some() || v.incident.escalated.is_some())
}

fn outcome(view: &View, name: &str) -> &'static str {
    match of(view, name) {
        Some(v) if v.incident.healed => HEALED,
        Some(v) if v.incident.escalated.is_some() => CALLED,
        Some(_) => "still at work",
        None => "not noticed",
    }
}

/// How much of each incident's story is on the screen.
#[derive(Default)]
struct Printed(BTreeMap<u64, usize>);

async fn pause(
    view: &mut tokio::sync::watch::Receiver<std::sync::Arc<View>>,
    printed: &mut Printed,
    style: Style,
    how_long: Duration,
) {
    let until = tokio::time::Instant::now() + how_long;
    loop {
        let now = view.borrow_and_update().clone();
        for incident in now.incidents.iter().map(|v| &v.incident) {
            let shown = printed.0.entry(incident.id).or_default();
            for entry in incident.timeline.iter().skip(*shown) {
                let (mark, word) = print::mark(entry.kind);
                let text = print::clean(&entry.text);
                print::line(&format!(
                    "  {}  {mark} {} {text}",
                    print::clock(entry.at),
                    style.paint("36", &format!("{word:<10}"))
                ));
            }
            *shown = incident.timeline.len();
        }
        if tokio::time::timeout_at(until, view.changed()).await.is_err() {
            return;
        }
    }
}
