//! A rule's template as it stands in a configuration: read with its place, refused with a reason.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

use crate::Template;

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Template;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Template, E> {
                Template::parse(text).map_err(|error| E::custom(format_args!("template, {error}")))
            }
            // `severity: 1` and `paged: true` are texts in YAML rule files, too.
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Template, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Template, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Template, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Template, E> {
                self.visit_str(if truth { "true" } else { "false" })
            }
            fn visit_unit<E: de::Error>(self) -> Result<Template, E> {
                self.visit_str("")
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
