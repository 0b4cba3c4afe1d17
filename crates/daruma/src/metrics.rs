//! The program's own figures: for `GET /metrics`, as samples for its own rules, and as the answer to
//! "are you ready". It refuses to look healthy when a stage stalls.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use daruma_alert::View;
use daruma_journal::Journal;
use daruma_model::{Clock, Level, SourceState, Span, Time};
use daruma_store::Store;
use tokio::sync::{mpsc, watch};

use crate::control::Input;
use crate::{control, signals};

/// A stage that has not turned for so long stalls.
const STALL: Span = Span::secs(90);

/// Where the figures are read.
pub struct Figures {
    /// Of the loop.
    pub control: Arc<control::Counters>,
    /// Of the signal path.
    pub signals: Arc<signals::Counters>,
    /// Series.
    pub store: Arc<Store>,
    /// The record.
    pub journal: Journal,
    /// The state.
    pub view: watch::Receiver<Arc<View>>,
    /// For its fill.
    pub inbox: mpsc::Sender<Input>,
    /// For its fill.
    pub deliveries: mpsc::Sender<daruma_collect::Delivery>,
    /// When the program started.
    pub started: Time,
    /// The time.
    pub clock: Clock,
}

/// This host's name.
#[must_use]
pub fn host() -> String {
    #[cfg(unix)]
    {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }
    #[cfg(not(unix))]
    {
        std::env::var("COMPUTERNAME").unwrap_or_else(|_| "localhost".to_owned())
    }
}

impl Figures {
    /// Name and value of every figure.
    #[must_use]
    pub fn list(&self) -> Vec<(&'static str, f64)> {
        let view = Arc::clone(&self.view.borrow());
        let stats = self.store.stats();
        let health = self.journal.health();
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let open = view.incidents.iter().filter(|v| v.incident.resolved.is_none());
        let pages = open.clone().filter(|v| v.incident.level == Level::Critical).count();
        let failing = view.sources.iter().filter(|s| s.state == SourceState::Failing).count();
        let fill = |used: usize, max: usize| (max - used) as f64;
        vec![
            ("daruma_incidents_open", open.clone().count() as f64),
            ("daruma_incidents_critical", pages as f64),
            ("daruma_incidents_healing", open.filter(|v| v.healing).count() as f64),
            ("daruma_incidents_resolved_total", view.resolved_total as f64),
            ("daruma_incidents_healed_total", view.healed_total as f64),
            ("daruma_alerts_active", view.alerts.len() as f64),
            ("daruma_sources", view.sources.len() as f64),
            ("daruma_sources_failing", failing as f64),
            ("daruma_recovery_stopped", f64::from(u8::from(view.stopped.is_some()))),
            ("daruma_events_total", count(&self.control.events)),
            ("daruma_decisions_total", count(&self.control.decisions)),
            ("daruma_commands_refused_total", count(&self.control.refused)),
            ("daruma_journal_write_failures_total", count(&self.control.write_failures)),
            ("daruma_journal_events_total", health.appended as f64),
            ("daruma_journal_commit_seconds", health.last_commit_ms / 1000.0),
            ("daruma_journal_queue_length", health.queue_len as f64),
            ("daruma_journal_reserve_used", f64::from(u8::from(health.reserve_used))),
            ("daruma_samples_total", count(&self.signals.samples)),
            ("daruma_log_records_total", count(&self.signals.records)),
            ("daruma_samples_refused_total", count(&self.signals.refused)),
            ("daruma_rule_errors_total", count(&self.signals.errors)),
            ("daruma_rule_iterations_missed_total", count(&self.signals.missed)),
            ("daruma_rule_evaluation_seconds_total", count(&self.signals.evaluation_us) / 1e6),
            ("daruma_store_series", stats.series as f64),
            ("daruma_store_points", stats.points as f64),
            ("daruma_store_bytes", stats.bytes as f64),
            ("daruma_inbox_length", fill(self.inbox.capacity(), self.inbox.max_capacity())),
            (
                "daruma_deliveries_length",
                fill(self.deliveries.capacity(), self.deliveries.max_capacity()),
            ),
            ("daruma_uptime_seconds", (self.clock)().since(self.started).as_secs_f64()),
        ]
    }

    /// Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.list() {
            let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
            text.push_str(&format!("# TYPE {name} {kind}\n{name} {value}\n"));
        }
        text
    }

    /// Whether every stage turns and the journal takes writes.
    ///
    /// # Errors
    /// Which one does not.
    pub fn ready(&self) -> Result<(), String> {
        let now = (self.clock)();
        for (stage, turned) in
            [("the loop", &self.control.turned_at), ("the signal path", &self.signals.turned_at)]
        {
            let turned = Time(i64::try_from(turned.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
            let still = now.since(turned.max(self.started));
            if still > STALL {
                return Err(format!("{stage} has stood still for {still}"));
            }
        }
        let health = self.journal.health();
        match health.state {
            daruma_journal::HealthState::Well | daruma_journal::HealthState::Reserve => Ok(()),
            _ => Err(health.said),
        }
    }
}
