//! Files of templates, and `daruma template render`: what a template makes of a message, tried before
//! it is needed.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use daruma_alert::View;
use daruma_model::{Message, MessageStatus, Time};
use daruma_template::{Data, Escape, Templates};

use crate::cli::NOTHING;
use crate::config::ConfigError;
use crate::print::{self, Style};

/// Files of templates at most.
const FILES_MAX: usize = 1000;

/// `templates` with those of all files that fit `globs` over them, relative to `base`; and what will
/// work but is probably not meant.
///
/// # Errors
/// Every file that cannot be read or is no file of templates, with line and column.
pub fn load(
    mut templates: Templates,
    base: &Path,
    globs: &[String],
) -> Result<(Templates, Vec<String>), Vec<ConfigError>> {
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for glob in globs {
        let found = crate::glob::expand(base, glob, FILES_MAX);
        if found.is_empty() {
            warnings.push(format!("templates: no file fits {glob}"));
        }
        for file in found {
            let text = match crate::config::read(&file) {
                Ok(text) => text,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            if let Err(found) = templates.add(&file.to_string_lossy(), &text) {
                let place = Some((found.error.line as u64, found.error.column as u64));
                errors.push(ConfigError { file, place, said: found.error.message });
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    warnings.extend(templates.loose_ends().iter().map(ToString::to_string));
    Ok((templates, warnings))
}

/// `daruma template …`
#[derive(Subcommand)]
pub enum TemplateVerb {
    /// What a template makes of a message; its flags are those of `amtool template render`
    Render(Render),
}

/// What to render.
#[derive(Args)]
pub struct Render {
    /// Files of templates; may be given several times
    #[arg(long = "template.glob", value_name = "GLOB")]
    globs: Vec<String>,
    /// The template, such as '{{ template "slack.default.title" . }}'
    #[arg(long = "template.text", value_name = "TEXT")]
    text: String,
    /// Whether it is HTML
    #[arg(long = "template.type", value_enum, default_value = "text")]
    kind: Type,
    /// What to fill it with, as JSON; left out: a message that says it is a test
    #[arg(long = "template.data", value_name = "FILE", conflicts_with = "incident")]
    data: Option<PathBuf>,
    /// Fill it with the newest message of this incident
    #[arg(long)]
    incident: Option<u64>,
    /// Look the incident up in the journal in this folder instead of asking the running daruma
    #[arg(long = "data", value_name = "DIR", requires = "incident")]
    journal: Option<PathBuf>,
    /// Where people find the pages
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7878")]
    external_url: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    Text,
    Html,
}

impl TemplateVerb {
    /// Whether the running program must be asked.
    #[must_use]
    pub fn asks(&self) -> bool {
        let TemplateVerb::Render(render) = self;
        render.incident.is_some() && render.journal.is_none()
    }

    /// Prints what came of it; `view` is what the running program shows.
    ///
    /// # Errors
    /// The templates, the message or the result cannot be had.
    pub fn run(&self, view: Option<&View>, style: Style) -> Result<u8, String> {
        let TemplateVerb::Render(render) = self;
        let (templates, warnings) = load(Templates::built_in(), Path::new(""), &render.globs)
            .map_err(|errors| {
                let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
                errors.join("\n")
            })?;
        for warning in warnings {
            crate::log::warning(&warning);
        }
        let data = match (&render.data, render.incident, &render.journal) {
            (Some(file), ..) => {
                let text = crate::config::read(file).map_err(|error| error.to_string())?;
                let data: Data = serde_json::from_str(&text)
                    .map_err(|error| format!("{}: {error}", file.display()))?;
                let now = crate::clock::system(Time(0))();
                Data { now, ..data }
            }
            (None, Some(incident), Some(journal)) => {
                let view = crate::offline::view(journal)?;
                daruma_notify::data(newest(&view, incident)?, &render.external_url)
            }
            (None, Some(incident), None) => {
                let view = view.ok_or("the running daruma was not asked")?;
                daruma_notify::data(newest(view, incident)?, &render.external_url)
            }
            (None, None, _) => {
                let now = crate::clock::system(Time(0))();
                let message =
                    daruma_notify::trial_message("test/webhook[0]", MessageStatus::Firing, now);
                daruma_notify::data(&message, &render.external_url)
            }
        };
        let escape = match render.kind {
            Type::Text => Escape::Text,
            Type::Html => Escape::Html,
        };
        templates.check(&render.text).map_err(|error| format!("--template.text:{error}"))?;
        let text = templates.expand(&render.text, &data, escape)?;
        if style.json {
            print::object(&serde_json::json!({ "text": text }));
        } else {
            print::line(&text);
        }
        Ok(NOTHING)
    }
}

/// The newest message of an incident that is still known.
fn newest(view: &View, incident: u64) -> Result<&Message, String> {
    let known = view.incidents.iter().find(|known| known.incident.id == incident);
    let known = known.ok_or_else(|| format!("there is no incident {incident}"))?;
    let of_ledger = view.ledger.iter().filter(|out| out.message.incident == incident);
    let all = known.messages.iter().chain(of_ledger).map(|out| &out.message);
    all.max_by_key(|message| message.id)
        .ok_or_else(|| format!("no message of incident {incident} is kept"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_loaded_in_order_and_mistakes_have_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("a.tmpl", "{{ define \"x\" }}a{{ end }}");
        put(
            "b.tmpl",
            "{{ define \"x\" }}b{{ end }}\n{{ define \"y\" }}{{ template \"z\" }}{{ end }}",
        );
        let globs = ["*.tmpl".to_owned(), "nothing/*.tmpl".to_owned()];
        let (templates, warnings) = load(Templates::built_in(), folder.path(), &globs).unwrap();
        let got = templates.expand("{{ template \"x\" . }}", &Data::default(), Escape::Text);
        assert_eq!(got.unwrap(), "b");
        assert!(warnings[0].contains("no file fits nothing"), "{warnings:?}");
        assert!(warnings[1].ends_with("b.tmpl:2:17: template \"z\" not defined"), "{warnings:?}");
        put("c.tmpl", "{{ define \"x\" }}\n{{ nosuch }}{{ end }}");
        let errors = load(Templates::built_in(), folder.path(), &globs).unwrap_err();
        let said = errors[0].to_string();
        assert!(said.contains("c.tmpl:2:4:") && said.contains("\"nosuch\" not defined"), "{said}");
    }
}
