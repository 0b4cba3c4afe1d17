//! The command line. Results on standard output, words on standard error; exit code 0: nothing to
//! report, 1: something is, 2: could not look.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use daruma_alert::{Command, View};
use daruma_model::{Matcher, Matchers, Span};

use crate::client::Client;
use crate::print::{self, Style};

/// Nothing to report.
pub const NOTHING: u8 = 0;
/// Something to report.
pub const SOMETHING: u8 = 1;
/// Could not look.
pub const FAILED: u8 = 2;

/// Monitoring that gets systems back up: detect, confirm, recover, verify, tell.
#[derive(Parser)]
#[command(name = "daruma", version, max_term_width = 100)]
struct Cli {
    /// One JSON object a line, for scripts
    #[arg(long, global = true)]
    json: bool,
    /// Where the running daruma listens
    #[arg(long, global = true, value_name = "HOST:PORT", default_value = "127.0.0.1:7878")]
    server: String,
    #[command(subcommand)]
    command: Verb,
}

/// Where things lie.
#[derive(Args, Clone, Default)]
pub struct Places {
    /// The configuration; without one this host is watched
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the journal is kept [default: /var/lib/daruma for root, else ~/.local/state/daruma]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where to listen, instead of `server.listen`
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<std::net::SocketAddr>,
    /// Where people find the pages, for links in messages, instead of `notify.external_url`
    #[arg(long, alias = "web.external-url", value_name = "URL")]
    pub external_url: Option<crate::config::ExternalUrl>,
    /// A prometheus.yml whose scrape_configs and rule_files are taken over
    #[arg(long, value_name = "FILE")]
    pub prometheus_config: Option<PathBuf>,
    /// An alertmanager.yml whose routes, receivers, inhibition and time intervals are taken over
    #[arg(long, value_name = "FILE")]
    pub alertmanager_config: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Watch, decide, repair, tell; serves the pages on http://127.0.0.1:7878
    Run(Places),
    /// Find what will not work in a configuration, before it matters
    Check(Places),
    /// Test rules and queries against written-down series
    #[command(subcommand)]
    Test(crate::testing::TestVerb),
    /// What is wrong now, and what is being done
    Status,
    /// Incidents
    #[command(subcommand)]
    Incident(IncidentVerb),
    /// Why something was done, or why nothing was: an incident's number, an alert's name, or matchers
    Why {
        /// 12, WebDown, or service="web"
        what: String,
    },
    /// Mute notifications
    #[command(subcommand)]
    Silence(SilenceVerb),
    /// Who is told of an alert, and why
    #[command(subcommand)]
    Route(crate::route::RouteVerb),
    /// Send a message that says it is a test, and tell what the far side said
    SendTest(crate::send_test::SendTest),
    /// Keep recovery off, e.g. in a deploy: daruma hold service=web --ttl 15m -- ./deploy.sh
    #[command(args_conflicts_with_subcommands = true)]
    Hold(HoldVerb),
    /// Stop every recovery (or let it go on with --off)
    Stop {
        /// Let recovery go on
        #[arg(long)]
        off: bool,
        /// Why
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Close a runbook's breaker again
    BreakerReset {
        /// The runbook's name
        runbook: String,
    },
    /// Templates of notifications
    #[command(subcommand)]
    Template(crate::templates::TemplateVerb),
    /// The durable record of everything
    #[command(subcommand)]
    Journal(JournalVerb),
    /// Watch a small victim being broken in three ways: fixable, not fixable, looks fixed
    Demo {
        /// Where its pages are served
        #[arg(long, default_value = "127.0.0.1:7979")]
        listen: std::net::SocketAddr,
        /// Run each fault once and end, instead of until Ctrl-C
        #[arg(long)]
        once: bool,
    },
    /// What the demonstration breaks and repairs
    #[command(hide = true)]
    DemoVictim {
        /// VERB DIR NAME
        arguments: Vec<String>,
    },
}

#[derive(Subcommand)]
enum IncidentVerb {
    /// Open ones first
    Ls {
        /// Resolved ones too
        #[arg(long)]
        all: bool,
        /// Read the journal in this folder instead of asking the running daruma
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// One with its whole story
    Show {
        /// Its number
        id: u64,
        /// Read the journal in this folder instead of asking the running daruma
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Say that you look after it
    Ack {
        /// Its number
        id: u64,
        /// For how long
        #[arg(long = "for", default_value = "1h")]
        ttl: Span,
        /// A word to the others
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Stop recovery in it for good
    Abort {
        /// Its number
        id: u64,
    },
}

#[derive(Subcommand)]
enum SilenceVerb {
    /// Mute matching alerts
    Add {
        /// service="web" severity=~"warning|info"
        #[arg(required = true)]
        matchers: Vec<Matcher>,
        /// For how long
        #[arg(long = "for")]
        ttl: Span,
        /// Why
        #[arg(long)]
        comment: String,
    },
    /// Oldest first
    Ls,
    /// End one
    End {
        /// Its number, or its id as Alertmanager's API has it
        id: String,
    },
}

#[derive(Args)]
struct HoldVerb {
    #[command(subcommand)]
    sub: Option<HoldSub>,
    /// What to hold: service=web
    matchers: Vec<Matcher>,
    /// When it ends by itself
    #[arg(long, default_value = "15m")]
    ttl: Span,
    /// Why
    #[arg(long, default_value = "")]
    comment: String,
    /// Hold while this command runs
    #[arg(last = true)]
    argv: Vec<String>,
}

#[derive(Subcommand)]
enum HoldSub {
    /// Oldest first
    Ls,
    /// End one
    End {
        /// Its number
        id: u64,
    },
}

/// What to do with a journal.
#[derive(Subcommand)]
pub enum JournalVerb {
    /// Records, newest last
    Show {
        /// Its folder
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// From this record on
        #[arg(long)]
        from: Option<u64>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// Only records whose kind begins so
        #[arg(long, default_value = "")]
        kind: String,
    },
    /// Check the hash chain: exit code 1 names the first bad record
    Verify {
        /// Its folder
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Every record as a line of JSON
    Export {
        /// Its folder
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// From this record on
        #[arg(long, default_value_t = 0)]
        from: u64,
    },
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { FAILED } else { NOTHING };
            // Nobody to tell if the terminal is gone.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let style = Style::new(cli.json);
    let client = Client { server: cli.server, token: std::env::var("DARUMA_TOKEN").ok() };
    let code = match cli.command {
        Verb::Run(places) => crate::run::main(&places),
        Verb::Check(places) => crate::config::check_command(&places, &client, style),
        Verb::Test(verb) => crate::testing::main(&verb, style),
        Verb::Template(verb) if !verb.asks() => verb.run(None, style),
        Verb::Journal(verb) => crate::offline::journal(&verb, style),
        Verb::Route(verb) => crate::route::main(verb, &client, style),
        Verb::SendTest(verb) => crate::send_test::main(verb, &client, style),
        Verb::Demo { listen, once } => crate::demo::main(listen, once),
        Verb::DemoVictim { arguments } => crate::demo::victim(&arguments),
        Verb::Incident(IncidentVerb::Ls { all, data: Some(data) }) => {
            crate::offline::view(&data).map(|view| incidents(style, &view, all))
        }
        Verb::Incident(IncidentVerb::Show { id, data: Some(data) }) => {
            crate::offline::view(&data).and_then(|view| show(style, &view, id))
        }
        verb => ask(client, style, verb),
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            crate::log::error(&error);
            ExitCode::from(FAILED)
        }
    }
}

fn ask(client: Client, style: Style, verb: Verb) -> Result<u8, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let view = || async { client.get::<View>("/api/view").await.map_err(|e| e.to_string()) };
        let tell = |command: Command| {
            let client = client.clone();
            async move { client.command(&command).await.map_err(|error| error.to_string()) }
        };
        let said = |answer: serde_json::Value, text: &str| {
            if style.json {
                print::object(&answer)
            } else {
                print::line(text)
            }
            Ok(NOTHING)
        };
        match verb {
            Verb::Template(verb) => verb.run(Some(&view().await?), style),
            Verb::Status => Ok(status(style, &view().await?)),
            Verb::Incident(IncidentVerb::Ls { all, .. }) => {
                Ok(incidents(style, &view().await?, all))
            }
            Verb::Incident(IncidentVerb::Show { id, .. }) => show(style, &view().await?, id),
            Verb::Incident(IncidentVerb::Ack { id, ttl, comment }) => {
                let command = Command::Ack { incident: id, ttl: Some(ttl), comment };
                said(tell(command).await?, &format!("incident {id} is yours for {ttl}"))
            }
            Verb::Incident(IncidentVerb::Abort { id }) => said(
                tell(Command::Abort { incident: id }).await?,
                &format!("no recovery runs in incident {id} any more"),
            ),
            Verb::Why { what } => {
                let view = view().await?;
                crate::why::main(&client, &view, &what, style).await
            }
            Verb::Silence(SilenceVerb::Add { matchers, ttl, comment }) => {
                let matchers = Matchers(matchers);
                let text = format!("{matchers} is silenced for {ttl}");
                let answer = tell(Command::Silence { matchers, ttl, comment }).await?;
                let number = answer["id"].as_u64().map_or_else(String::new, |id| format!("#{id} "));
                said(answer, &format!("{number}{text}"))
            }
            Verb::Silence(SilenceVerb::Ls) => {
                let view = view().await?;
                for silence in &view.silences {
                    if style.json {
                        print::object(silence);
                    } else {
                        let rest = silence.until.since(view.now).roughly();
                        print::line(&format!(
                            "#{} {} by {}, {rest} left: {}",
                            silence.id,
                            silence.matchers,
                            print::clean(&silence.by),
                            print::clean(&silence.comment)
                        ));
                    }
                }
                Ok(if view.silences.is_empty() { NOTHING } else { SOMETHING })
            }
            Verb::Silence(SilenceVerb::End { id }) => {
                let command = match id.trim_start_matches('#').parse() {
                    Ok(id) => Command::Unsilence { id },
                    Err(_) => Command::EndSilence { uuid: id.clone() },
                };
                said(tell(command).await?, &format!("silence {} is over", print::clean(&id)))
            }
            Verb::Hold(HoldVerb { sub: Some(HoldSub::Ls), .. }) => {
                let view = view().await?;
                for hold in &view.holds {
                    if style.json {
                        print::object(hold);
                    } else {
                        let rest = hold.until.since(view.now).roughly();
                        print::line(&format!(
                            "#{} {} by {}, {rest} left: {}",
                            hold.id,
                            hold.matchers,
                            print::clean(&hold.by),
                            print::clean(&hold.comment)
                        ));
                    }
                }
                Ok(if view.holds.is_empty() { NOTHING } else { SOMETHING })
            }
            Verb::Hold(HoldVerb { sub: Some(HoldSub::End { id }), .. }) => {
                said(tell(Command::Release { id }).await?, &format!("hold {id} is over"))
            }
            Verb::Hold(verb) => hold(&client, style, verb).await,
            Verb::Stop { off, comment } => {
                let text = if off { "recovery goes on" } else { "no action starts from now on" };
                said(tell(Command::Stop { on: !off, comment }).await?, text)
            }
            Verb::BreakerReset { runbook } => {
                let text = format!("the breaker of `{runbook}` is closed");
                said(tell(Command::ResetBreaker { runbook }).await?, &text)
            }
            Verb::Run(_)
            | Verb::Check(_)
            | Verb::Test(_)
            | Verb::Journal(_)
            | Verb::Route(_)
            | Verb::SendTest(_)
            | Verb::Demo { .. }
            | Verb::DemoVictim { .. } => Ok(FAILED),
        }
    })
}

/// Holds, runs the command if there is one, and releases whatever came of it. The exit code is the
/// command's.
async fn hold(client: &Client, style: Style, verb: HoldVerb) -> Result<u8, String> {
    if verb.matchers.is_empty() {
        return Err("say what to hold, e.g. `daruma hold service=web -- ./deploy.sh`".to_owned());
    }
    let matchers = Matchers(verb.matchers);
    let comment = match (verb.comment.as_str(), verb.argv.first()) {
        ("", Some(program)) => format!("while {program} runs"),
        (comment, _) => comment.to_owned(),
    };
    let command = Command::Hold { matchers: matchers.clone(), ttl: verb.ttl, comment };
    let answer = client.command(&command).await.map_err(|error| error.to_string())?;
    let Some(id) = answer.get("id").and_then(serde_json::Value::as_u64) else {
        return Err(format!("the hold was taken, but its number is missing in {answer}"));
    };
    let Some((program, arguments)) = verb.argv.split_first() else {
        if style.json {
            print::object(&answer);
        } else {
            print::line(&format!("{matchers} is held for {} (hold {id})", verb.ttl));
        }
        return Ok(NOTHING);
    };
    crate::log::info(&format!(
        "{matchers} is held (hold {id}) while {program} runs, at most {}",
        verb.ttl
    ));
    let ran = tokio::process::Command::new(program).args(arguments).status().await;
    let released = client.command(&Command::Release { id }).await;
    if let Err(error) = released {
        crate::log::warning(&format!("hold {id} ends only after {}: {error}", verb.ttl));
    }
    match ran {
        Ok(status) => Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)),
        Err(error) => Err(format!("{program} could not be run: {error}")),
    }
}

fn status(style: Style, view: &View) -> u8 {
    let open: Vec<_> = view.incidents.iter().filter(|v| v.incident.resolved.is_none()).collect();
    let failing = view.sources.iter().filter(|s| s.state != daruma_model::SourceState::Ok).count();
    if style.json {
        print::object(&serde_json::json!({
            "now": view.now, "open": open.len(), "healing": open.iter().filter(|v| v.healing).count(),
            "alerts": view.alerts.len(), "sources": view.sources.len(), "sources_failing": failing,
            "stopped": view.stopped, "resolved_total": view.resolved_total, "healed_total": view.healed_total,
        }));
    } else {
        if let Some(why) = &view.stopped {
            print::line(
                &style.paint("1;31", &format!("recovery is stopped: {}", print::clean(why))),
            );
        }
        for incident in &open {
            print::incident_line(style, view.now, incident);
        }
        for source in view.sources.iter().filter(|s| s.state != daruma_model::SourceState::Ok) {
            print::line(&format!(
                "▨ {} {:?}: {}",
                print::clean(&source.source),
                source.state,
                print::clean(&source.said)
            ));
        }
        if open.is_empty() {
            let well =
                format!("✓ nothing is wrong that {} sources can see", view.sources.len() - failing);
            print::line(&style.paint("32", &well));
        }
        print::line(&format!(
            "{} incidents ended so far, {} of them healed",
            view.resolved_total, view.healed_total
        ));
    }
    if open.is_empty() && failing == 0 && view.stopped.is_none() { NOTHING } else { SOMETHING }
}

fn incidents(style: Style, view: &View, all: bool) -> u8 {
    let shown = view.incidents.iter().filter(|v| all || v.incident.resolved.is_none());
    let mut open = 0;
    for incident in shown {
        open += usize::from(incident.incident.resolved.is_none());
        if style.json {
            print::object(incident);
        } else {
            print::incident_line(style, view.now, incident);
        }
    }
    if open == 0 { NOTHING } else { SOMETHING }
}

pub fn show(style: Style, view: &View, id: u64) -> Result<u8, String> {
    let Some(incident) = view.incidents.iter().find(|v| v.incident.id == id) else {
        return Err(format!("there is no incident {id}; `daruma incident ls --all` lists them"));
    };
    if style.json {
        print::object(incident);
    } else {
        print::incident(style, view.now, incident);
    }
    Ok(if incident.incident.resolved.is_some() { NOTHING } else { SOMETHING })
}
