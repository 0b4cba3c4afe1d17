//! Serves a rich picture with moving series on `127.0.0.1:$DARUMA_PORT` (or a free port), to look at and
//! to test the pages with a real browser: incidents in every phase, unknown sources, hostile texts, long
//! texts, both writing directions. Commands are carried out on the picture. Its clock starts at 03:12 of
//! one night, so that two runs look alike. `DARUMA_SCENE=well` shows a quiet night instead,
//! `DARUMA_TOKEN` closes the door.
//!
//! Prints its address as the first line.

mod posted;
mod scene;

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use daruma_model::{Clock, Span};
use daruma_server::{CommandRequest, Config, Role, Shared, Token};
use daruma_store::Store;
use scene::{NIGHT, busy, described, facts, obey, quiet, samples, signal_path, tick};
use serde_json::json;
use tokio::sync::{mpsc, watch};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let clock: Clock = Arc::new(move || {
        NIGHT + Span::millis(i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX))
    });
    let store = Arc::new(Store::new(daruma_store::Config::default()));
    for second in (-4200..0).step_by(5) {
        store.append(&samples(NIGHT + Span::secs(second)));
    }
    let well = std::env::var("DARUMA_SCENE").is_ok_and(|scene| scene == "well");
    let view = if well { quiet(NIGHT) } else { busy(NIGHT) };
    let (show, shown) = watch::channel(Arc::new(view));
    let (commands, mut asked) = mpsc::channel::<CommandRequest>(16);

    let (show, moving, time) = (Arc::new(show), Arc::clone(&store), Arc::clone(&clock));
    let ticking = Arc::clone(&show);
    tokio::spawn(async move {
        for round in 0_u64.. {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = time();
            if round % 4 == 0 {
                moving.append(&samples(now));
            }
            ticking.send_modify(|view| tick(Arc::make_mut(view), now, round));
        }
    });
    let time = Arc::clone(&clock);
    tokio::spawn(async move {
        while let Some(CommandRequest { by, command, reply }) = asked.recv().await {
            let mut said = Ok(json!({ "id": null }));
            show.send_modify(|view| said = obey(Arc::make_mut(view), time(), &by, &command));
            drop(reply.send(said));
        }
    });

    let port = std::env::var("DARUMA_PORT").unwrap_or_else(|_| "0".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}", listener.local_addr()?);
    let tokens = std::env::var("DARUMA_TOKEN").ok().map(|secret| Token {
        name: "night-watch".to_owned(),
        token: Some(secret),
        token_file: None,
        role: Role::Responder,
    });
    let config = Config { tokens: tokens.into_iter().collect(), ..Config::default() };
    let shared = Shared {
        loop_asks: posted::loop_path(shown.clone()),
        view: shown,
        commands,
        asks: signal_path(Arc::clone(&store)),
        store,
        facts: Arc::new(facts),
        describe: Arc::new(described),
        described: Arc::new(drop),
        ack_links: daruma_server::AckLinks::new([7; 32]),
        receipts: Arc::new(|_, _, _, _| Err("no channel tells later".to_owned())),
        clock,
        host: "host-1".to_owned(),
        version: env!("CARGO_PKG_VERSION"),
        heartbeat: Arc::new(|name, _| name == "backup"),
        metrics: Arc::new(|| "# TYPE daruma_up gauge\ndaruma_up 1\n".to_owned()),
        ready: Arc::new(|| Ok(())),
        history: Arc::new(|query| Ok(vec![json!({ "seq": query.from, "kind": "started" })])),
        reload: scene::reloads(),
    };
    let (_stop, stopped) = watch::channel(false);
    daruma_server::serve(listener, &config, shared, stopped).await?;
    Ok(())
}
