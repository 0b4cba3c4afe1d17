//! Text messages by Tencent, one request per number, signed as `TC3-HMAC-SHA256`; accepted only when
//! the number's own `Code` is "Ok": errors arrive with status 200.

use daruma_model::{Message, ReceiptState, Span, Time};
use serde_json::{Value, json};

use crate::channel::{Channel, Context, Notifier, Open, Request, Sent, To};
use crate::config::{check_url, config, needed, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit};
use crate::http::place;
use crate::secret::Secret;
use crate::sign::{hex, hmac_sha256, sha256_hex};
use crate::sms::{check_numbers, check_variable, outcome, reference, variable};
use crate::words::Words;

const VARIABLE: Limit = Limit::of("variable", 12, Unit::Chars);
const CONTENT_TYPE: &str = "application/json; charset=utf-8";

config! {
    /// One entry of `tencent_sms_configs`.
    TencentSmsConfig;
    secrets {
        /// The secret of the key.
        secret_key, secret_key_file, secret_key_env;
    }
    fields {
        /// Where the API is.
        api_url: String = "https://sms.tencentcloudapi.com/".to_owned();
        /// The id of the key.
        secret_id: String = String::new();
        /// The region.
        region: String = "ap-guangzhou".to_owned();
        /// The application.
        sms_sdk_app_id: String = String::new();
        /// The numbers, such as `+8613800000000`.
        phone_numbers: Vec<String> = Vec::new();
        /// The approved signature.
        sign_name: String = String::new();
        /// The approved template.
        template_id: String = String::new();
        /// What fills its variables, in order: `title`, `level`, `status`, `incident`, `receiver`,
        /// `label:NAME` or `=TEXT`.
        template_params: Vec<String> = Vec::new();
        /// The longest value of a variable, in characters.
        variable_max: usize = VARIABLE.max;
        /// The vendor is asked what became of a message; the key needs the right
        /// `sms:PullSmsSendStatusByPhoneNumber`.
        receipts: bool = true;
    }
}

impl TencentSmsConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "tencent_sms",
        auth: "`Authorization: TC3-HMAC-SHA256` over the request",
        limits: &[VARIABLE],
        pace: &[Rate { count: 20, per: Span::secs(1) }],
        answers: Answers {
            statuses: &[200],
            says: &[Says::Is("/Response/SendStatusSet/*/Code", "Ok")],
            code_at: &["/Response/Error/Code", "/Response/SendStatusSet/*/Code"],
            codes: &[
                Code("RequestLimitExceeded*", Meaning::Later, ""),
                Code("LimitExceeded*", Meaning::Later, "too many messages to this number"),
                Code("InternalError*", Meaning::Later, ""),
                Code(
                    "FailedOperation.InsufficientBalanceInSmsPackage",
                    Meaning::Never,
                    "buy messages",
                ),
                Code(
                    "FailedOperation.PhoneNumberInBlacklist",
                    Meaning::Gone,
                    "its owner unsubscribed",
                ),
                Code("AuthFailure.SignatureExpire", Meaning::Never, "set this host's clock"),
                Code("AuthFailure*", Meaning::Never, "set another `secret_id` or `secret_key`"),
                Code("UnauthorizedOperation*", Meaning::Never, "give the key the right to send"),
                Code(
                    "InvalidParameterValue.TemplateParameterLengthLimit",
                    Meaning::Never,
                    "set a smaller `variable_max`",
                ),
                Code("InvalidParameter*", Meaning::Never, ""),
                Code("MissingParameter*", Meaning::Never, ""),
                Code("FailedOperation.*", Meaning::Never, ""),
                Code("UnsupportedOperation*", Meaning::Never, ""),
            ],
            handle_at: &["/Response/SendStatusSet/0/SerialNo"],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: false,
        receipts: Receipts::Query,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways = [
            self.secret_key.is_some(),
            self.secret_key_file.is_some(),
            self.secret_key_env.is_some(),
        ];
        needed_secret("secret_key", ways)?;
        needed("secret_id", &self.secret_id)?;
        needed("sms_sdk_app_id", &self.sms_sdk_app_id)?;
        needed("sign_name", &self.sign_name)?;
        needed("template_id", &self.template_id)?;
        let words = [&self.secret_id, &self.region];
        if !words.iter().all(|w| w.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')) {
            return Err("`secret_id` or `region` holds a character none has".to_owned());
        }
        self.template_params.iter().try_for_each(|source| check_variable(source))?;
        check_numbers("phone_numbers", &self.phone_numbers, true)?;
        check_url("api_url", &self.api_url)
    }
}

impl Channel for TencentSmsConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn inquires(&self) -> bool {
        self.receipts
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let key = there("secret_key", self.secret_key()?)?;
        let host = place(&self.api_url)?.authority;
        let mut secrets = vec![key.clone()];
        let reach = self.reach(&mut secrets)?;
        let notifier = TencentSms { config: self.clone(), context: context.clone(), key, host };
        Ok(Open::of(notifier, reach, secrets))
    }
}

struct TencentSms {
    config: TencentSmsConfig,
    context: Context,
    key: Secret,
    host: String,
}

/// `headers` sorted by name, in lower case.
fn authorization(
    service: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    seconds: i64,
    id: &str,
    secret: &str,
) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", sha256_hex(body));
    let date = crate::webhook::rfc3339(Time::from_secs(seconds));
    let date = date.get(..10).unwrap_or_default();
    let scope = format!("{date}/{service}/tc3_request");
    let text = format!("TC3-HMAC-SHA256\n{seconds}\n{scope}\n{}", sha256_hex(canonical.as_bytes()));
    let mut key = hmac_sha256(format!("TC3{secret}").as_bytes(), date.as_bytes());
    for step in [service, "tc3_request", &text] {
        key = hmac_sha256(&key, step.as_bytes());
    }
    format!(
        "TC3-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={}",
        hex(&key)
    )
}

impl TencentSms {
    /// A call of the API.
    fn signed(&self, action: &str, body: &Value) -> Request {
        let config = &self.config;
        let body = body.to_string().into_bytes();
        let seconds = self.context.now.0.div_euclid(1000);
        let lower = action.to_ascii_lowercase();
        let headers =
            [("content-type", CONTENT_TYPE), ("host", &self.host), ("x-tc-action", &lower)];
        let signed =
            authorization("sms", &headers, &body, seconds, &config.secret_id, self.key.expose());
        Request::Post {
            url: Secret::new(&*config.api_url),
            headers: vec![
                ("content-type", CONTENT_TYPE.to_owned()),
                ("authorization", signed),
                ("x-tc-action", action.to_owned()),
                ("x-tc-version", "2021-01-11".to_owned()),
                ("x-tc-region", config.region.clone()),
                ("x-tc-timestamp", seconds.to_string()),
            ],
            body,
        }
    }
}

impl Notifier for TencentSms {
    fn declared(&self) -> &'static Declared {
        &TencentSmsConfig::DECLARED
    }

    fn parts(&self) -> Vec<String> {
        self.config.phone_numbers.clone()
    }

    fn request(&self, message: &Message, to: To<'_>) -> Request {
        let config = &self.config;
        let words = Words::of(message, &self.context);
        let params: Vec<String> = config
            .template_params
            .iter()
            .map(|source| variable(source, message, &words, &self.context, config.variable_max))
            .collect();
        let body = json!({
            "PhoneNumberSet": [to.part],
            "SmsSdkAppId": config.sms_sdk_app_id,
            "SignName": config.sign_name,
            "TemplateId": config.template_id,
            "TemplateParamSet": params,
            "SessionContext": reference(message.id, message.created),
        });
        self.signed("SendSms", &body)
    }

    fn inquiry(&self, sent: &Sent<'_>, part: &str) -> Option<Request> {
        // The vendor's clock may be behind ours.
        let begin = sent.at.0.div_euclid(1000) - 300;
        let body = json!({
            "BeginTime": begin,
            "Offset": 0,
            "Limit": 100,
            "PhoneNumber": part,
            "SmsSdkAppId": self.config.sms_sdk_app_id,
        });
        Some(self.signed("PullSmsSendStatusByPhoneNumber", &body))
    }

    fn heard(
        &self,
        sent: &Sent<'_>,
        answer: &Value,
    ) -> Result<Option<(ReceiptState, String)>, String> {
        let all = answer.pointer("/Response/PullSmsSendStatusSet").and_then(Value::as_array);
        let Some(all) = all else {
            let error = &answer["Response"]["Error"];
            return Err(format!("{} {}", error["Code"], error["Message"]));
        };
        let id = reference(sent.message, sent.created);
        let ours = all.iter().filter(|one| one["SessionContext"] == id.as_str());
        Ok(outcome(ours.map(|one| {
            let state = match one["ReportStatus"].as_str() {
                Some("SUCCESS") => Some(ReceiptState::Delivered),
                Some("FAIL") => Some(ReceiptState::Lost),
                _ => None,
            };
            (state, one["Description"].as_str().unwrap_or_default())
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two examples of the vendor's description of its signature, version 3.
    #[test]
    fn the_signatures_are_the_published_ones() {
        let body = br#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#;
        let host = ("host", "cvm.tencentcloudapi.com");
        let kind = ("content-type", CONTENT_TYPE);
        let action = ("x-tc-action", "describeinstances");
        let stars = "*".repeat(32);
        for (headers, secret, want) in [
            (
                vec![kind, host],
                "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
                "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168",
            ),
            (
                vec![kind, host, action],
                &*stars,
                "10b1a37a7301a02ca19a647ad722d5e43b4b3cff309d421d85b46093f6ab6c4f",
            ),
        ] {
            let text = authorization("cvm", &headers, body, 1_551_113_065, "AKID", secret);
            assert!(text.ends_with(want), "{text}");
            assert!(text.contains("Credential=AKID/2019-02-25/cvm/tc3_request, "), "{text}");
        }
    }
}
