//! Wires the stages together and keeps them running: start, reload, stop.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use daruma_alert::{Command, Event, Policy, View};
use daruma_collect::Position;
use daruma_journal::{Journal, Options};
use daruma_model::{Clock, Span, Time};
use daruma_server::{AckLinks, Ask, CommandRequest, LoopAsk, PingKind, Refusal, Reload, Shared};
use daruma_store::Store;
use tokio::sync::{mpsc, watch};

use crate::cli::{NOTHING, Places};
use crate::config::{self, Loaded};
use crate::control::{self, Control, Input};
use crate::performers::Performers;
use crate::records::{self, Ids};
use crate::{metrics, signals};

/// Deliveries in flight between sources and the signal path.
const DELIVERIES_MAX: usize = 4_096;
/// Events in flight to the loop.
const INBOX_MAX: usize = 8_192;
/// Questions of the API in flight to the signal path.
const ASKS_MAX: usize = 8;
/// How long stages may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How often the stop file is looked for.
const STOP_FILE_EVERY: Duration = Duration::from_millis(100);
/// How often the program's own figures become samples.
const OWN_EVERY: Duration = Duration::from_secs(5);

/// `daruma run`.
///
/// # Errors
/// It cannot start; the text says why and what to do.
pub fn main(places: &Places) -> Result<u8, String> {
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let running = start(places).await?;
        running.until_stopped().await;
        Ok(NOTHING)
    });
    // A blocked system call (a log on a dead network file system) must not hold the exit up.
    runtime.shutdown_timeout(STOP_WITHIN);
    ended
}

/// The runtime of the control path, the sources and the performers.
///
/// # Errors
/// The system refuses threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_name("daruma")
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// A running Daruma.
pub struct Running {
    places: Places,
    policy: Policy,
    clock: Clock,
    inbox: mpsc::Sender<Input>,
    /// The picture of its state.
    pub view: watch::Receiver<Arc<View>>,
    /// Where its pages are.
    pub listen: std::net::SocketAddr,
    actions: daruma_recover::Performer,
    sender: Arc<RwLock<Arc<daruma_notify::Sender>>>,
    reloads: std::sync::mpsc::Sender<daruma_detect::Detector>,
    asked: mpsc::Receiver<Reload>,
    deliveries: mpsc::Sender<daruma_collect::Delivery>,
    collector: daruma_collect::Handle,
    heartbeats: Arc<RwLock<daruma_collect::Heartbeats>>,
    control: tokio::task::JoinHandle<()>,
    path: std::thread::JoinHandle<()>,
    close_path: watch::Sender<bool>,
    close: watch::Sender<bool>,
    stop_server: watch::Sender<bool>,
    server: tokio::task::JoinHandle<()>,
    stop_file: Arc<RwLock<Option<std::path::PathBuf>>>,
    facts: crate::api::Known,
    ack_links: AckLinks,
    background: Vec<tokio::task::JoinHandle<()>>,
}

/// Starts everything: the journal is folded into the state, what was at work is taken up again.
///
/// # Errors
/// The configuration, the journal or the address cannot be used; the text says what to do.
pub async fn start(places: &Places) -> Result<Running, String> {
    let data = crate::offline::data_dir(places.data.as_deref());
    make_dir(&data)?;
    // Good configuration first: a mistake in it must not touch anything.
    let rough = crate::clock::system(Time::MIN);
    let loaded = config::load(places, &rough).map_err(|errors| join(&errors))?;
    let listener = tokio::net::TcpListener::bind(loaded.server.listen).await.map_err(|error| {
        let listen = loaded.server.listen;
        format!("cannot listen on {listen}: {error}; `--listen` names another address")
    })?;
    let listen = listener.local_addr().map_err(|error| error.to_string())?;

    let journal = Journal::open(&data, Options::default()).map_err(|error| error.to_string())?;
    let folded = {
        let journal = journal.clone();
        tokio::task::spawn_blocking(move || records::replay(&journal))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?
    };
    let ack_links = AckLinks::open(&data)?;
    let clock = crate::clock::system(folded.core.state().now);
    let now = clock();
    let positions = positions(&journal)?;
    if folded.tail > 0 {
        let open = folded.core.state().incidents.values().filter(|i| i.resolved.is_none()).count();
        let said = format!("{} records in {}, {open} incidents open", folded.tail, data.display());
        crate::log::info(&said);
    }

    let facts = crate::api::facts(now, places, &loaded);
    let mut detector = loaded.detector;
    for alert in folded.core.state().alerts.values() {
        if alert.state != daruma_alert::AlertState::Resolved {
            let texts = (&alert.finding.labels, &alert.finding.annotations);
            let fires = alert.state == daruma_alert::AlertState::Firing;
            detector.restore_alert(now, &alert.finding.rule, texts, alert.active_at, fires);
        }
    }

    let (inbox, events) = mpsc::channel(INBOX_MAX);
    // What a restart has to say comes before anything new.
    for event in folded.corrections(now) {
        push(&inbox, event).await;
    }
    if folded.core.state().policy != loaded.policy {
        push(&inbox, Event::Policy(Box::new(loaded.policy.clone()))).await;
    }
    push(&inbox, Event::Started).await;

    let store = Arc::new(Store::new(loaded.store.clone()));
    store.watch(&detector.selectors());
    let fence = folded.core.state().last_fence;
    let never_begun = !folded.never_begun.is_empty();
    let actions = daruma_recover::Performer::new(loaded.registry, Arc::clone(&clock));
    let actions = if fence > 0 || never_begun { actions.above(fence) } else { actions };
    let sender = loaded.sender.with_ack_tokens(tokens(&ack_links));
    let sender = Arc::new(RwLock::new(Arc::new(sender)));
    let (view_in, view) = watch::channel(Arc::new(View::of(folded.core.state())));
    let control_counters = Arc::new(control::Counters::default());
    let signal_counters = Arc::new(signals::Counters::default());

    let performers = Performers {
        inbox: inbox.clone(),
        actions: actions.clone(),
        sender: Arc::clone(&sender),
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        aborts: BTreeMap::new(),
        watches: BTreeMap::new(),
    };
    let (close, closing) = watch::channel(false);
    let control = Control {
        ids: Ids::new(folded.tail, now),
        tail: folded.tail,
        snapshot_at: folded.tail - folded.records.min(folded.tail),
        since_snapshot: 0,
        snapshot: None,
        core: folded.core,
        journal: journal.clone(),
        performers,
        clock: Arc::clone(&clock),
        view: view_in,
        counters: Arc::clone(&control_counters),
        closing,
        shown_at: Time(0),
        show_every: Span::ZERO,
        hidden: true,
    };
    let control = tokio::spawn(control.run(events));

    let (deliveries, delivered) = mpsc::channel(DELIVERIES_MAX);
    let (reloads, reloaded) = std::sync::mpsc::channel();
    let (close_path, path_closes) = watch::channel(false);
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let catalogue = Arc::new(crate::api::Catalogue::default());
    let path = signals::Path {
        catalogue: Arc::clone(&catalogue),
        store: Arc::clone(&store),
        detector,
        clock: Arc::clone(&clock),
        inbox: inbox.clone(),
        counters: Arc::clone(&signal_counters),
        reloads: reloaded,
        positions: Vec::new(),
        sources: BTreeMap::new(),
        asks: asked,
        closing: path_closes,
    };
    let handle = tokio::runtime::Handle::current();
    let path = std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || path.run(delivered, &handle))
        .map_err(|error| error.to_string())?;

    let context = daruma_collect::Context {
        clock: Arc::clone(&clock),
        deliveries: deliveries.clone(),
        positions,
    };
    let collector = daruma_collect::start(loaded.collect, context);
    let heartbeats = Arc::new(RwLock::new(collector.heartbeats()));

    let (stop_server, server_stops) = watch::channel(false);
    let stop_file = Arc::new(RwLock::new(loaded.policy.recover.stop_file.clone()));
    let figures = Arc::new(metrics::Figures {
        control: control_counters,
        signals: signal_counters,
        store: Arc::clone(&store),
        journal: journal.clone(),
        view: view.clone(),
        inbox: inbox.clone(),
        deliveries: deliveries.clone(),
        started: now,
        clock: Arc::clone(&clock),
    });
    let (reload, asked) = mpsc::channel(4);
    let edge = Edge {
        asks,
        facts: Arc::clone(&facts),
        reload,
        ack_links: ack_links.clone(),
        receipts: receipts(&sender),
        catalogue,
    };
    let shared = shared(&view, &inbox, &store, &clock, &heartbeats, &figures, edge);
    let server_config = loaded.server.clone();
    let server = tokio::spawn(async move {
        if let Err(error) =
            daruma_server::serve(listener, &server_config, shared, server_stops).await
        {
            crate::log::error(&format!("the pages are not served any more: {error}"));
        }
    });
    let background = vec![
        tokio::spawn(watch_stop_file(Arc::clone(&stop_file), inbox.clone())),
        tokio::spawn(own_figures(Arc::clone(&figures), deliveries.clone(), Arc::clone(&clock))),
        tokio::spawn(crate::inquiries::run(
            view.clone(),
            Arc::clone(&sender),
            inbox.clone(),
            Arc::clone(&clock),
        )),
    ];
    for warning in &loaded.warnings {
        crate::log::warning(warning);
    }
    crate::log::info(&format!("watching; pages on http://{listen}"));
    Ok(Running {
        places: places.clone(),
        policy: loaded.policy,
        clock,
        inbox,
        view,
        listen,
        actions,
        sender,
        reloads,
        asked,
        deliveries,
        collector,
        heartbeats,
        control,
        path,
        close_path,
        close,
        stop_server,
        server,
        stop_file,
        facts,
        ack_links,
        background,
    })
}

/// What messages' links are made by.
fn tokens(links: &AckLinks) -> Arc<daruma_notify::AckTokens> {
    let links = links.clone();
    Arc::new(move |message| links.token(message))
}

/// Judges what far sides tell about messages, by the configuration in force.
fn receipts(sender: &Arc<RwLock<Arc<daruma_notify::Sender>>>) -> Arc<daruma_server::Receipts> {
    let sender = Arc::clone(sender);
    Arc::new(move |channel, message, signature, body| {
        let sender = Arc::clone(&sender.read().unwrap_or_else(PoisonError::into_inner));
        sender.receipt(channel, message, signature, body)
    })
}

fn join(errors: &[config::ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn make_dir(data: &Path) -> Result<(), String> {
    let error = |why: std::io::Error| {
        format!("the folder {} cannot be made: {why}; `--data DIR` names another", data.display())
    };
    std::fs::create_dir_all(data).map_err(error)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Incidents quote logs: not everybody's to read.
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)).map_err(error)?;
    }
    Ok(())
}

fn positions(journal: &Journal) -> Result<BTreeMap<String, Position>, String> {
    let kept = journal.checkpoints(signals::POSITION).map_err(|error| error.to_string())?;
    let mut positions = BTreeMap::new();
    for (name, bytes) in kept {
        match serde_json::from_slice::<Position>(&bytes) {
            Ok(position) => {
                positions.insert(position.key(), position);
            }
            Err(error) => crate::log::warning(&format!("{name} is not a log position: {error}")),
        }
    }
    Ok(positions)
}

async fn push(inbox: &mpsc::Sender<Input>, event: Event) {
    // Fails only when the loop has ended, that is, when the program ends.
    drop(inbox.send(Input::of(event)).await);
}

/// What the edge asks, and what it knows.
struct Edge {
    asks: mpsc::Sender<Ask>,
    facts: crate::api::Known,
    reload: mpsc::Sender<Reload>,
    ack_links: AckLinks,
    receipts: Arc<daruma_server::Receipts>,
    catalogue: Arc<crate::api::Catalogue>,
}

fn shared(
    view: &watch::Receiver<Arc<View>>,
    inbox: &mpsc::Sender<Input>,
    store: &Arc<Store>,
    clock: &Clock,
    heartbeats: &Arc<RwLock<daruma_collect::Heartbeats>>,
    figures: &Arc<metrics::Figures>,
    edge: Edge,
) -> Shared {
    let Edge { asks, facts, reload, ack_links, receipts, catalogue } = edge;
    let (commands, mut asked) = mpsc::channel::<CommandRequest>(256);
    let to_loop = inbox.clone();
    tokio::spawn(async move {
        while let Some(CommandRequest { by, command, reply }) = asked.recv().await {
            let (answer, answered) = tokio::sync::oneshot::channel();
            let event = Some(Event::Commanded { by, command });
            let input = Input { event, reply: Some(answer), ..Input::of(Event::Tick) };
            if to_loop.send(input).await.is_err() {
                break;
            }
            tokio::spawn(async move {
                let said = match answered.await {
                    Ok(Ok(value)) => Ok(value),
                    Ok(Err(why)) if why.starts_with("there is no") || why.ends_with("is over") => {
                        Err(Refusal::NotFound(why))
                    }
                    Ok(Err(why)) if why.starts_with("this link") => Err(Refusal::Invalid(why)),
                    Ok(Err(why)) => Err(Refusal::Unavailable(why)),
                    Err(_) => Err(Refusal::Unavailable("daruma is stopping".to_owned())),
                };
                // Whoever asked may have gone away.
                drop(reply.send(said));
            });
        }
    });
    let loop_asks = loop_asks(inbox);
    let known = Arc::clone(&catalogue);
    let (beats, beat_clock) = (Arc::clone(heartbeats), Arc::clone(clock));
    let (text, ready, journal) =
        (Arc::clone(figures), Arc::clone(figures), figures.journal.clone());
    Shared {
        view: view.clone(),
        commands,
        loop_asks,
        store: Arc::clone(store),
        asks,
        facts: Arc::new(move || facts.read().unwrap_or_else(PoisonError::into_inner).clone()),
        describe: Arc::new(move || known.all()),
        described: Arc::new(move |said| catalogue.learn(said)),
        ack_links,
        receipts,
        clock: Arc::clone(clock),
        host: metrics::host(),
        version: env!("CARGO_PKG_VERSION"),
        heartbeat: Arc::new(move |name, kind| {
            let beats = beats.read().unwrap_or_else(PoisonError::into_inner);
            beats.ping(name, ping(kind), beat_clock())
        }),
        metrics: Arc::new(move || text.text()),
        ready: Arc::new(move || ready.ready()),
        history: Arc::new(move |query| {
            let events =
                journal.read(query.from, query.limit).map_err(|error| error.to_string())?;
            events
                .iter()
                .map(|event| serde_json::to_value(event).map_err(|error| error.to_string()))
                .collect()
        }),
        reload,
    }
}

/// What is asked of the loop goes its one way, in order with everything else.
fn loop_asks(inbox: &mpsc::Sender<Input>) -> mpsc::Sender<LoopAsk> {
    let (asks, mut asked) = mpsc::channel::<LoopAsk>(256);
    let to_loop = inbox.clone();
    tokio::spawn(async move {
        while let Some(ask) = asked.recv().await {
            let input = match ask {
                LoopAsk::Post { alerts, reply } => {
                    let (answer, answered) =
                        tokio::sync::oneshot::channel::<Result<serde_json::Value, String>>();
                    tokio::spawn(async move {
                        let said = match answered.await {
                            Ok(said) => said.map(drop),
                            Err(_) => Err("daruma is stopping".to_owned()),
                        };
                        // Whoever asked may have gone away.
                        drop(reply.send(said));
                    });
                    Input { reply: Some(answer), ..Input::of(Event::Posted(alerts)) }
                }
                LoopAsk::Listing { reply } => {
                    Input { event: None, look: Some(reply), ..Input::of(Event::Tick) }
                }
            };
            if to_loop.send(input).await.is_err() {
                break;
            }
        }
    });
    asks
}

fn ping(kind: PingKind) -> daruma_collect::Ping {
    match kind {
        PingKind::Start => daruma_collect::Ping::Start,
        PingKind::Success => daruma_collect::Ping::Success,
        PingKind::Fail => daruma_collect::Ping::Fail,
    }
}

/// The stop file acts as the command does, so that `touch` works when nothing else does.
async fn watch_stop_file(
    path: Arc<RwLock<Option<std::path::PathBuf>>>,
    inbox: mpsc::Sender<Input>,
) {
    let mut stopped = false;
    loop {
        let wanted = path.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(path) = wanted {
            let there = path.exists();
            if there != stopped {
                stopped = there;
                let comment = format!("stop file {}", path.display());
                let command = Command::Stop { on: there, comment };
                push(&inbox, Event::Commanded { by: "stop file".to_owned(), command }).await;
            }
        }
        tokio::time::sleep(STOP_FILE_EVERY).await;
    }
}

async fn own_figures(
    figures: Arc<metrics::Figures>,
    deliveries: mpsc::Sender<daruma_collect::Delivery>,
    clock: Clock,
) {
    loop {
        tokio::time::sleep(OWN_EVERY).await;
        let commit = signals::own_samples(clock(), &figures.list());
        let signal = daruma_collect::Delivery::Signal(daruma_model::Signal::Samples(commit));
        if deliveries.send(signal).await.is_err() {
            break;
        }
    }
}

impl Running {
    /// Serves until SIGTERM or SIGINT; SIGHUP loads the configuration anew.
    pub async fn until_stopped(mut self) {
        let mut signals = Signals::catch();
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    // What was wrong has been said in the log.
                    Asked::Reload => drop(self.reload().await),
                    Asked::Stop => break,
                },
                Some(reply) = self.asked.recv() => {
                    let said = self.reload().await;
                    drop(reply.send(said)); // Whoever asked may have gone away.
                }
            }
        }
        crate::log::info("stopping");
        self.stop().await;
    }

    /// Loads the configuration anew; a bad one is refused and the running one stays.
    ///
    /// # Errors
    /// Every mistake, as it is logged.
    pub async fn reload(&mut self) -> Result<(), String> {
        let loaded = match config::load(&self.places, &self.clock) {
            Ok(loaded) => loaded,
            Err(errors) => {
                let said = join(&errors);
                crate::log::error(&format!("{said}\nthe running configuration stays"));
                crate::api::not_loaded(&self.facts);
                return Err(said);
            }
        };
        crate::api::loaded(&self.facts, (self.clock)(), &self.places, &loaded);
        let Loaded { collect, detector, policy, registry, sender, server, warnings, .. } = loaded;
        if server.listen.port() != 0 && server.listen != self.listen {
            crate::log::warning("`server.listen` changes only at a restart");
        }
        // The sources stop first, so that none speaks to rules that do not know it; log files go on
        // at the byte where they were.
        let context = |positions| daruma_collect::Context {
            clock: Arc::clone(&self.clock),
            deliveries: self.deliveries.clone(),
            positions,
        };
        let fresh = daruma_collect::Config::default();
        let idle = daruma_collect::start(fresh, context(BTreeMap::new()));
        let old = std::mem::replace(&mut self.collector, idle);
        let heard = old.heartbeats();
        let positions = old.shutdown().await;
        // The path takes the new rules before it sees a signal of the new sources.
        if self.reloads.send(detector).is_err() {
            crate::log::error("the signal path has ended; restart daruma");
        }
        self.actions.reload(registry);
        {
            let mut old = self.sender.write().unwrap_or_else(PoisonError::into_inner);
            let sender = sender.with_ack_tokens(tokens(&self.ack_links)).in_place_of(&old);
            *old = Arc::new(sender);
        }
        *self.stop_file.write().unwrap_or_else(PoisonError::into_inner) =
            policy.recover.stop_file.clone();
        if policy != self.policy {
            push(&self.inbox, Event::Policy(Box::new(policy.clone()))).await;
            self.policy = policy;
        }
        let idle = std::mem::replace(
            &mut self.collector,
            daruma_collect::start(collect, context(positions)),
        );
        drop(idle.shutdown().await);
        // A heartbeat that was heard before goes on from there: a reload is no silence.
        let heartbeats = self.collector.heartbeats();
        let mut beats = self.heartbeats.write().unwrap_or_else(PoisonError::into_inner);
        heartbeats.adopt(heard.heard());
        *beats = heartbeats;
        drop(beats);
        for warning in warnings {
            crate::log::warning(&warning);
        }
        crate::log::info("the configuration was loaded anew");
        Ok(())
    }

    /// Stops in the order of the flow, so that nothing that was taken in is lost.
    pub async fn stop(self) {
        let Running {
            inbox,
            close_path,
            close,
            collector,
            control,
            path,
            stop_server,
            server,
            background,
            ..
        } = self;
        for task in background {
            task.abort();
        }
        drop(collector.shutdown().await);
        stop_server.send_replace(true);
        if tokio::time::timeout(STOP_WITHIN, server).await.is_err() {
            crate::log::warning("the pages did not end in time");
        }
        // Nothing brings signals any more: what is on the channel is still taken in.
        close_path.send_replace(true);
        let path = tokio::task::spawn_blocking(move || path.join());
        if tokio::time::timeout(STOP_WITHIN, path).await.is_err() {
            crate::log::warning("the signal path did not end in time");
        }
        drop(inbox);
        close.send_replace(true);
        if tokio::time::timeout(STOP_WITHIN, control).await.is_err() {
            crate::log::warning("the loop did not end in time; the next start folds the journal");
        }
    }
}

enum Asked {
    Reload,
    Stop,
}

/// Caught from the start to the end: one that comes in the middle of a reload waits for its turn.
struct Signals {
    #[cfg(unix)]
    streams: Option<[tokio::signal::unix::Signal; 3]>,
}

impl Signals {
    #[cfg(unix)]
    fn catch() -> Signals {
        use tokio::signal::unix::{SignalKind, signal};
        let streams = (
            signal(SignalKind::hangup()),
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
        );
        let (Ok(hup), Ok(term), Ok(int)) = streams else {
            crate::log::error("signals cannot be caught; stopping");
            return Signals { streams: None };
        };
        Signals { streams: Some([hup, term, int]) }
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Asked {
        let Some([hup, term, int]) = &mut self.streams else { return Asked::Stop };
        tokio::select! {
            _ = hup.recv() => Asked::Reload,
            _ = term.recv() => Asked::Stop,
            _ = int.recv() => Asked::Stop,
        }
    }

    #[cfg(not(unix))]
    fn catch() -> Signals {
        Signals {}
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Asked {
        if tokio::signal::ctrl_c().await.is_err() {
            crate::log::error("signals cannot be caught; stopping");
        }
        Asked::Stop
    }
}
