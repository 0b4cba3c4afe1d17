//! What the configurations of channels have in common: secrets three ways, authentication, timeouts.

/// Defines the configuration of a channel that is reached over HTTP. Each secret has three keys: its
/// text, a file that holds it, and an environment variable; a method of the secret's name reads the
/// one that is set, at each attempt.
macro_rules! config {
    (
        $(#[$doc:meta])* $name:ident;
        secrets { $($(#[$sdoc:meta])* $secret:ident, $file:ident, $env:ident;)* }
        fields { $($(#[$fdoc:meta])* $field:ident: $type:ty = $default:expr;)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields, remote = "Self")]
        pub struct $name {
            $(
                $(#[$sdoc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $secret: Option<$crate::Secret>,
                #[doc = concat!("The file that holds `", stringify!($secret), "`, read at each attempt.")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $file: Option<std::path::PathBuf>,
                #[doc = concat!("The environment variable that holds `", stringify!($secret), "`.")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $env: Option<String>,
            )*
            $($(#[$fdoc])* pub $field: $type,)*
            /// Whether it is told the end.
            pub send_resolved: bool,
            /// Authentication and TLS.
            pub http_config: $crate::HttpConfig,
            /// From the connection to the end of the answer; 0 or left out: 10 s.
            pub timeout: daruma_model::Span,
        }

        impl Default for $name {
            fn default() -> $name {
                $name {
                    $($secret: None, $file: None, $env: None,)*
                    $($field: $default,)*
                    send_resolved: true,
                    http_config: $crate::HttpConfig::default(),
                    timeout: daruma_model::Span::ZERO,
                }
            }
        }

        impl $name {
            $(
                #[allow(dead_code)]
                fn $secret(&self) -> Result<Option<$crate::Secret>, String> {
                    $crate::Secret::of_three(
                        self.$secret.as_ref(), self.$file.as_deref(), self.$env.as_deref(),
                    )
                }
            )*

            fn secrets_well_formed(&self) -> Result<(), String> {
                $(
                    $crate::secret::one_of_three(
                        stringify!($secret),
                        [self.$secret.is_some(), self.$file.is_some(), self.$env.is_some()],
                    )?;
                )*
                Ok(())
            }

            fn reach(
                &self,
                secrets: &mut Vec<$crate::Secret>,
            ) -> Result<$crate::channel::Reach, String> {
                let timeout = match self.timeout {
                    daruma_model::Span::ZERO => $crate::TIMEOUT,
                    timeout => timeout.to_std(),
                };
                self.http_config.reach(timeout, secrets).map($crate::channel::Reach::Http)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let config = $name::deserialize(deserializer)?;
                let checked = config.secrets_well_formed().and_then(|()| config.well_formed());
                checked.map_err(serde::de::Error::custom)?;
                Ok(config)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $name::serialize(self, serializer)
            }
        }
    };
}

pub(crate) use config;

use crate::Secret;
use crate::http::place;

/// A field that must not be empty.
pub(crate) fn needed(name: &str, value: &str) -> Result<(), String> {
    if value.trim().is_empty() { Err(format!("`{name}` must be set")) } else { Ok(()) }
}

/// One of three ways to a secret must be taken.
pub(crate) fn needed_secret(name: &str, ways: [bool; 3]) -> Result<(), String> {
    if ways.contains(&true) {
        return Ok(());
    }
    Err(format!("one of `{name}`, `{name}_file` and `{name}_env` must be set"))
}

/// The address under a name of its own.
pub(crate) fn check_url(name: &str, url: &str) -> Result<(), String> {
    place(url).map(drop).map_err(|why| why.replace("`url`", &format!("`{name}`")))
}

/// A secret that must be there by the time of an attempt.
pub(crate) fn there(name: &str, secret: Option<Secret>) -> Result<Secret, String> {
    secret.ok_or_else(|| format!("one of `{name}`, `{name}_file` and `{name}_env` must be set"))
}
