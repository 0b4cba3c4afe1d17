//! Text messages by Aliyun, one request per number, signed as `ACS3-HMAC-SHA256`; accepted only with
//! `Code` "OK".
//!
//! The text is a template approved by the vendor; its variables are short and must not look like links.

use std::collections::BTreeMap;

use daruma_model::{Message, ReceiptState, Span, Time};
use serde_json::{Map, Value};

use crate::channel::{Channel, Context, Notifier, Open, Request, Sent, To};
use crate::config::{check_url, config, needed, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit};
use crate::http::place;
use crate::secret::Secret;
use crate::sign::{hex, hmac_sha256, percent, sha256_hex};
use crate::sms::{check_numbers, check_variable, outcome, reference, variable};
use crate::words::Words;

const VARIABLE: Limit = Limit::of("variable", 35, Unit::Chars);

config! {
    /// One entry of `aliyun_sms_configs`.
    AliyunSmsConfig;
    secrets {
        /// The secret of the access key.
        access_key_secret, access_key_secret_file, access_key_secret_env;
    }
    fields {
        /// Where the API is.
        api_url: String = "https://dysmsapi.aliyuncs.com/".to_owned();
        /// The id of the access key.
        access_key_id: String = String::new();
        /// The numbers; those of mainland China need no country code.
        phone_numbers: Vec<String> = Vec::new();
        /// The approved signature.
        sign_name: String = String::new();
        /// The approved template, `SMS_…`.
        template_code: String = String::new();
        /// What fills each of its variables: `title`, `level`, `status`, `incident`, `receiver`,
        /// `label:NAME` or `=TEXT`.
        template_param: BTreeMap<String, String> = BTreeMap::new();
        /// The longest value of a variable, in characters.
        variable_max: usize = VARIABLE.max;
        /// The vendor is asked what became of a message; the key needs the right `dysms:QuerySendDetails`.
        receipts: bool = true;
    }
}

impl AliyunSmsConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "aliyun_sms",
        auth: "`Authorization: ACS3-HMAC-SHA256` over the request",
        limits: &[VARIABLE],
        pace: &[Rate { count: 10, per: Span::secs(1) }],
        answers: Answers {
            statuses: &[200],
            says: &[Says::Is("/Code", "OK")],
            code_at: &["/Code"],
            codes: &[
                Code(
                    "isv.BUSINESS_LIMIT_CONTROL",
                    Meaning::Later,
                    "too many messages to this number",
                ),
                Code("isv.DAY_LIMIT_CONTROL", Meaning::Later, "too many messages today"),
                Code("isp.*", Meaning::Later, ""),
                Code("Throttling*", Meaning::Later, ""),
                Code("ServiceUnavailable*", Meaning::Later, ""),
                Code("InternalError*", Meaning::Later, ""),
                Code("SignatureNonceUsed", Meaning::Later, ""),
                Code("InvalidTimeStamp.*", Meaning::Never, "set this host's clock"),
                Code("SignatureDoesNotMatch", Meaning::Never, "set another `access_key_secret`"),
                Code("IncompleteSignature", Meaning::Never, "set another `access_key_secret`"),
                Code("InvalidAccessKeyId.*", Meaning::Never, "set another `access_key_id`"),
                Code("isv.AMOUNT_NOT_ENOUGH", Meaning::Never, "the account has no money left"),
                Code("isv.OUT_OF_SERVICE", Meaning::Never, "the account has no money left"),
                Code("isv.PARAM_LENGTH_LIMIT", Meaning::Never, "set a smaller `variable_max`"),
                Code(
                    "isv.TEMPLATE_MISSING_PARAMETERS",
                    Meaning::Never,
                    "complete `template_param`",
                ),
                Code("isv.TEMPLATE_PARAMS_ILLEGAL", Meaning::Never, "see `template_param`"),
                Code("isv.SMS_TEMPLATE_ILLEGAL", Meaning::Never, "see `template_code`"),
                Code("isv.SMS_SIGNATURE_ILLEGAL", Meaning::Never, "see `sign_name`"),
                Code("isv.MOBILE_NUMBER_ILLEGAL", Meaning::Never, "see `phone_numbers`"),
                Code("isv.*", Meaning::Never, ""),
                Code("Forbidden*", Meaning::Never, "give the access key the right to send"),
                Code("NoPermission", Meaning::Never, "give the access key the right to send"),
            ],
            handle_at: &["/BizId"],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: false,
        receipts: Receipts::Query,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways = [
            self.access_key_secret.is_some(),
            self.access_key_secret_file.is_some(),
            self.access_key_secret_env.is_some(),
        ];
        needed_secret("access_key_secret", ways)?;
        needed("access_key_id", &self.access_key_id)?;
        needed("sign_name", &self.sign_name)?;
        needed("template_code", &self.template_code)?;
        if !self.access_key_id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',') {
            return Err("`access_key_id` holds a character none has".to_owned());
        }
        self.template_param.values().try_for_each(|source| check_variable(source))?;
        check_numbers("phone_numbers", &self.phone_numbers, true)?;
        check_url("api_url", &self.api_url)
    }
}

impl Channel for AliyunSmsConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn inquires(&self) -> bool {
        self.receipts
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let key = there("access_key_secret", self.access_key_secret()?)?;
        let host = place(&self.api_url)?.authority;
        let mut secrets = vec![key.clone()];
        let reach = self.reach(&mut secrets)?;
        let notifier = AliyunSms { config: self.clone(), context: context.clone(), key, host };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct AliyunSms {
    config: AliyunSmsConfig,
    context: Context,
    key: Secret,
    host: String,
}

/// What is signed of a request.
struct Call<'a> {
    host: &'a str,
    action: &'a str,
    version: &'a str,
    date: &'a str,
    nonce: &'a str,
    /// Sorted and encoded.
    query: &'a str,
    body: &'a [u8],
}

fn authorization(call: &Call<'_>, key_id: &str, secret: &str) -> String {
    let digest = sha256_hex(call.body);
    let headers = [
        ("host", call.host),
        ("x-acs-action", call.action),
        ("x-acs-content-sha256", &digest),
        ("x-acs-date", call.date),
        ("x-acs-signature-nonce", call.nonce),
        ("x-acs-version", call.version),
    ];
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = headers.map(|(name, _)| name).join(";");
    let canonical = format!("POST\n/\n{}\n{lines}\n{names}\n{digest}", call.query);
    let text = format!("ACS3-HMAC-SHA256\n{}", sha256_hex(canonical.as_bytes()));
    let signature = hex(&hmac_sha256(secret.as_bytes(), text.as_bytes()));
    format!("ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={names},Signature={signature}")
}

/// Seconds, as the vendor wants it.
fn date(now: Time) -> String {
    crate::webhook::rfc3339(Time(now.0.div_euclid(1000).saturating_mul(1000)))
}

impl AliyunSms {
    /// A call of the API; `fields` are sorted by name.
    fn signed(&self, action: &str, fields: &[(&str, &str)]) -> Request {
        let pairs = fields.iter().map(|(name, value)| format!("{name}={}", percent(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let date = date(self.context.now);
        // Another one for every attempt and number, without a source of chance.
        let seed = format!("{action}\n{}\n{}\n{query}", self.context.now.0, self.key.expose());
        let nonce = &sha256_hex(seed.as_bytes())[..32];
        let version = "2017-05-25";
        let call = Call {
            host: &self.host,
            action,
            version,
            date: &date,
            nonce,
            query: &query,
            body: b"",
        };
        let base = self.config.api_url.trim_end_matches('/');
        let authorization = authorization(&call, &self.config.access_key_id, self.key.expose());
        Request::Post {
            url: Secret::new(format!("{base}/?{query}")),
            headers: vec![
                ("authorization", authorization),
                ("x-acs-action", action.to_owned()),
                ("x-acs-version", version.to_owned()),
                ("x-acs-date", date.clone()),
                ("x-acs-signature-nonce", nonce.to_owned()),
                ("x-acs-content-sha256", sha256_hex(b"")),
            ],
            body: Vec::new(),
        }
    }
}

impl Notifier for AliyunSms {
    fn declared(&self) -> &'static Declared {
        &AliyunSmsConfig::DECLARED
    }

    fn parts(&self) -> Vec<String> {
        self.config.phone_numbers.clone()
    }

    fn request(&self, message: &Message, to: To<'_>) -> Request {
        let config = &self.config;
        let words = Words::of(message, &self.context);
        let filled = config.template_param.iter().map(|(name, source)| {
            (
                name.clone(),
                Value::from(variable(source, message, &words, &self.context, config.variable_max)),
            )
        });
        let param = Value::Object(filled.collect::<Map<_, _>>()).to_string();
        let id = reference(message.id, message.created);
        let fields = [
            ("OutId", id.as_str()),
            ("PhoneNumbers", to.part.trim_start_matches('+')),
            ("SignName", &config.sign_name),
            ("TemplateCode", &config.template_code),
            ("TemplateParam", &param),
        ];
        self.signed("SendSms", &fields)
    }

    fn inquiry(&self, sent: &Sent<'_>, part: &str) -> Option<Request> {
        // The vendor's days are those of Beijing.
        let day = crate::webhook::rfc3339(sent.at + Span::hours(8));
        let day = day.get(..10)?.replace('-', "");
        let fields = [
            ("CurrentPage", "1"),
            ("PageSize", "50"),
            ("PhoneNumber", part.trim_start_matches('+')),
            ("SendDate", &day),
        ];
        Some(self.signed("QuerySendDetails", &fields))
    }

    fn heard(
        &self,
        sent: &Sent<'_>,
        answer: &Value,
    ) -> Result<Option<(ReceiptState, String)>, String> {
        if answer["Code"] != "OK" {
            return Err(format!("{} {}", answer["Code"], answer["Message"]));
        }
        let all = answer.pointer("/SmsSendDetailDTOs/SmsSendDetailDTO").and_then(Value::as_array);
        let id = reference(sent.message, sent.created);
        let ours = all.into_iter().flatten().filter(|one| one["OutId"] == id.as_str());
        Ok(outcome(ours.map(|one| {
            let state = match one["SendStatus"].as_i64() {
                Some(2) => Some(ReceiptState::Lost),
                Some(3) => Some(ReceiptState::Delivered),
                _ => None,
            };
            (state, one["ErrCode"].as_str().unwrap_or_default())
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the vendor's description of its signature, version 3.
    #[test]
    fn the_signature_is_the_published_one() {
        let call = Call {
            host: "ecs.cn-shanghai.aliyuncs.com",
            action: "RunInstances",
            version: "2014-05-26",
            date: "2023-10-26T10:22:32Z",
            nonce: "3156853299f313e23d1673dc12e1703d",
            query: "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai",
            body: b"",
        };
        let text = authorization(&call, "YourAccessKeyId", "YourAccessKeySecret");
        let want = "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0";
        assert!(text.ends_with(want), "{text}");
    }

    #[test]
    fn times_have_no_fraction() {
        assert_eq!(date(Time(1_698_315_752_999)), "2023-10-26T10:22:32Z");
    }
}
