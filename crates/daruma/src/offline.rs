//! What can be read without a running program: the journal, and the state folded from it.

use std::path::{Path, PathBuf};

use daruma_alert::View;
use daruma_journal::ReadOnly;

use crate::cli::{JournalVerb, NOTHING, SOMETHING};
use crate::print::{self, Style};

/// Where the journal is kept unless said: `/var/lib/daruma` for root, else `~/.local/state/daruma`.
#[must_use]
pub fn data_dir(wanted: Option<&Path>) -> PathBuf {
    if let Some(path) = wanted {
        return path.to_owned();
    }
    if let Some(path) = std::env::var_os("XDG_STATE_HOME").filter(|path| !path.is_empty()) {
        return PathBuf::from(path).join("daruma");
    }
    match std::env::var_os("HOME") {
        Some(home) if home != "/root" && !home.is_empty() => {
            PathBuf::from(home).join(".local/state/daruma")
        }
        _ => PathBuf::from("/var/lib/daruma"),
    }
}

fn open(data: Option<&Path>) -> Result<ReadOnly, String> {
    ReadOnly::open(&data_dir(data)).map_err(|error| error.to_string())
}

/// The picture at the end of a journal.
///
/// # Errors
/// The journal cannot be read.
pub fn view(data: &Path) -> Result<View, String> {
    let journal = open(Some(data))?;
    let replayed = crate::records::replay(&journal).map_err(|error| error.to_string())?;
    Ok(View::of(replayed.core.state()))
}

/// `daruma journal …`.
///
/// # Errors
/// The journal cannot be read.
pub fn journal(verb: &JournalVerb, style: Style) -> Result<u8, String> {
    let text = |error: daruma_journal::JournalError| error.to_string();
    match verb {
        JournalVerb::Show { data, from, limit, kind } => {
            let journal = open(data.as_deref())?;
            let tail = journal.tail().map_err(text)?;
            let first = journal.first_seq().map_err(text)?;
            let newest = tail.saturating_sub(*limit as u64).saturating_add(1);
            let mut next = from.unwrap_or(newest).max(first);
            let mut left = *limit;
            while left > 0 {
                let events = journal.read(next, 1_000).map_err(text)?;
                let Some(last) = events.last() else { break };
                next = last.seq + 1;
                for event in events.iter().filter(|event| event.kind.starts_with(kind)).take(left) {
                    left -= 1;
                    if style.json {
                        print::object(event);
                    } else {
                        let body: String = event.body.to_string().chars().take(200).collect();
                        print::line(&format!(
                            "{:>8} {} {:<12} {}",
                            event.seq,
                            print::exact(event.at),
                            style.paint("36", &event.kind),
                            print::clean(&body)
                        ));
                    }
                }
            }
            Ok(NOTHING)
        }
        JournalVerb::Verify { data } => {
            let report = open(data.as_deref())?.verify().map_err(text)?;
            let damage = report.damage.as_ref();
            if style.json {
                print::object(&serde_json::json!({
                    "checked": report.checked, "first_seq": report.first_seq, "tail": report.tail,
                    "unchecked": report.unchecked,
                    "damage": damage.map(|d| serde_json::json!({
                        "seq": d.seq, "shard": d.shard, "shard_seq": d.shard_seq,
                        "kind": format!("{:?}", d.kind), "said": d.said,
                    })),
                }));
            } else if let Some(damage) = damage {
                print::line(
                    &style.paint("31", &format!("✗ record {}: {}", damage.seq, damage.said)),
                );
            } else {
                let said =
                    format!("✓ {} records are whole, the last is {}", report.checked, report.tail);
                print::line(&style.paint("32", &said));
            }
            Ok(if damage.is_none() { NOTHING } else { SOMETHING })
        }
        JournalVerb::Export { data, from } => {
            let journal = open(data.as_deref())?;
            let mut out = std::io::BufWriter::new(std::io::stdout().lock());
            journal.export(*from, &mut out).map_err(text)?;
            std::io::Write::flush(&mut out).map_err(|error| error.to_string())?;
            Ok(NOTHING)
        }
    }
}
