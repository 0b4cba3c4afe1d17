//! Text messages by Twilio, one request per number. 201 means queued; what became of it is called back,
//! signed ([`twilio_signature`](crate::twilio_signature)).

use daruma_model::{Message, Receipt, ReceiptState, Span};

use crate::channel::{Call, Channel, Context, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed, needed_secret, there};
use crate::declared::{Answers, Code, Declared, Limit, Meaning, Rate, Receipts, Says, Unit, plain};
use crate::secret::Secret;
use crate::sign::{base64, percent, twilio_signed};
use crate::sms::{check_numbers, costly, fit_before};
use crate::text::line;
use crate::words::{Template, Words};

/// What the vendor takes, whatever it costs.
const BODY: Limit = Limit::of("body", 1600, Unit::Chars);
/// What is sent unless `segments_max` says otherwise; each part is paid for.
const PARTS: Limit = Limit::of("parts", 3, Unit::Segments);

/// A callback is a short form.
const CALLBACK_BYTES_MAX: usize = 16 << 10;

config! {
    /// One entry of `twilio_configs`.
    TwilioConfig;
    secrets {
        /// The account's token, or the secret of an API key.
        auth_token, auth_token_file, auth_token_env;
    }
    fields {
        /// Where the API is.
        api_url: String = "https://api.twilio.com".to_owned();
        /// The account, `AC…`.
        account_sid: String = String::new();
        /// The API key, `SK…`; left out: the account.
        api_key: String = String::new();
        /// The sender's number; exactly one of it and `messaging_service_sid`.
        from: String = String::new();
        /// The sender's service, `MG…`.
        messaging_service_sid: String = String::new();
        /// The numbers, such as `+15551234567`.
        to: Vec<String> = Vec::new();
        /// Instead of the built-in words.
        message: Option<Template> = None;
        /// Parts of a message, each of which is paid for.
        segments_max: usize = PARTS.max;
        /// Where the vendor tells somebody else what became of a message.
        status_callback: String = String::new();
        /// The vendor tells us what became of a message, below `notify.external_url`, which it must be
        /// able to reach.
        receipts: bool = false;
    }
}

impl TwilioConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "twilio",
        auth: "HTTP Basic with account and token",
        limits: &[BODY, PARTS],
        pace: &[Rate { count: 1, per: Span::secs(1) }],
        answers: Answers {
            statuses: &[201],
            says: &[Says::Has("/sid")],
            code_at: &["/code"],
            codes: &[
                Code("20429", Meaning::Later, ""),
                Code("30001", Meaning::Later, "its queue is full"),
                Code("20003", Meaning::Never, "set another `account_sid` or `auth_token`"),
                Code("20404", Meaning::Never, "set another `account_sid`"),
                Code("21211", Meaning::Never, "the number in `to` does not exist"),
                Code("21212", Meaning::Never, "the number in `from` does not exist"),
                Code("21408", Meaning::Never, "allow the number's country in the account"),
                Code("21606", Meaning::Never, "`from` cannot send text messages"),
                Code("21608", Meaning::Never, "a trial account sends to verified numbers only"),
                Code("21610", Meaning::Gone, "the number's owner has unsubscribed (STOP)"),
                Code("21614", Meaning::Never, "the number in `to` is no mobile number"),
                Code("21617", Meaning::Never, "set a smaller `segments_max`"),
            ],
            handle_at: &["/sid"],
            ..Answers::HTTP
        },
        deduplicates: None,
        edits: false,
        receipts: Receipts::Callback,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways = [
            self.auth_token.is_some(),
            self.auth_token_file.is_some(),
            self.auth_token_env.is_some(),
        ];
        needed_secret("auth_token", ways)?;
        needed("account_sid", &self.account_sid)?;
        if !self.account_sid.bytes().chain(self.api_key.bytes()).all(|b| b.is_ascii_alphanumeric())
        {
            return Err("`account_sid` and `api_key` are letters and digits".to_owned());
        }
        if self.from.is_empty() == self.messaging_service_sid.is_empty() {
            return Err("exactly one of `from` and `messaging_service_sid` must be set".to_owned());
        }
        if !(1..=10).contains(&self.segments_max) {
            return Err("`segments_max` is a number from 1 to 10".to_owned());
        }
        if !self.status_callback.is_empty() {
            check_url("status_callback", &self.status_callback)?;
        }
        if self.receipts && !self.status_callback.is_empty() {
            return Err("only one of `receipts` and `status_callback` can be told".to_owned());
        }
        if self.receipts && !self.api_key.is_empty() {
            let why = "`receipts` are signed with the account's token: leave `api_key` out";
            return Err(why.to_owned());
        }
        check_numbers("to", &self.to, false)?;
        check_url("api_url", &self.api_url)
    }
}

impl Channel for TwilioConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn receipt(&self, context: &Context, call: &Call<'_>) -> Result<Option<Receipt>, String> {
        let unproven = || "this is not signed by the vendor".to_owned();
        if !self.receipts || call.body.len() > CALLBACK_BYTES_MAX {
            return Err("this channel tells nothing later".to_owned());
        }
        let token = there("auth_token", self.auth_token()?)?;
        let url = context.receipt_url(call.channel, call.message).ok_or_else(unproven)?;
        let fields: Vec<_> = form_urlencoded::parse(call.body).collect();
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (&**k, &**v)).collect();
        if !twilio_signed(token.expose(), &url, &pairs, call.signature) {
            return Err(unproven());
        }
        let get =
            |name: &str| pairs.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| *value);
        let state = match get("MessageStatus") {
            "delivered" => ReceiptState::Delivered,
            "read" => ReceiptState::Read,
            "undelivered" | "failed" => ReceiptState::Lost,
            // On its way.
            _ => return Ok(None),
        };
        let Some(part) = self.to.iter().find(|to| *to == get("To")) else { return Ok(None) };
        let said = match (state, get("ErrorCode")) {
            (ReceiptState::Lost, code) if !code.is_empty() => {
                let known =
                    Self::DECLARED.answers.codes.iter().find(|Code(name, ..)| *name == code);
                let word = known.map_or_else(|| lost(code), |Code(_, _, word)| word);
                line(&format!("{code} {word}"), 200).trim_end().to_owned()
            }
            _ => String::new(),
        };
        Ok(Some(Receipt {
            message: call.message,
            channel: call.channel.to_owned(),
            part: part.clone(),
            of: u32::try_from(self.to.len()).unwrap_or(u32::MAX),
            state,
            said,
        }))
    }

    fn advice(&self) -> Vec<String> {
        let text = self.message.as_ref().map(|message| message.0.as_str()).unwrap_or_default();
        let marks: String = costly(&outside(text)).into_iter().collect();
        if marks.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "`{marks}` in `message` is in no short alphabet: parts hold 70 characters rather than 160"
        )]
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let token = there("auth_token", self.auth_token()?)?;
        let user = if self.api_key.is_empty() { &self.account_sid } else { &self.api_key };
        let basic = Secret::new(base64(format!("{user}:{}", token.expose()).as_bytes()));
        let mut secrets = vec![token, basic.clone()];
        let reach = self.reach(&mut secrets)?;
        let notifier = Twilio { config: self.clone(), context: context.clone(), basic };
        Ok(Open::of(notifier, reach, secrets))
    }
}

/// The vendor's codes for what was lost on its way.
fn lost(code: &str) -> &'static str {
    match code {
        "30002" => "the account is suspended",
        "30003" => "the phone is off or cannot be reached",
        "30004" => "the number is blocked",
        "30005" => "the number does not exist",
        "30006" => "a landline, or its network takes no text messages",
        "30007" => "the network took it for spam",
        _ => "",
    }
}

/// What of a template stands outside its holes.
fn outside(template: &str) -> String {
    let rest = template.split("{{").enumerate();
    rest.map(|(at, text)| match text.split_once("}}") {
        Some((_, text)) if at > 0 => text,
        _ if at > 0 => "",
        _ => text,
    })
    .collect()
}

struct Twilio {
    config: TwilioConfig,
    context: Context,
    basic: Secret,
}

impl Notifier for Twilio {
    fn declared(&self) -> &'static Declared {
        &TwilioConfig::DECLARED
    }

    fn parts(&self) -> Vec<String> {
        self.config.to.clone()
    }

    fn request(&self, message: &Message, to: To<'_>) -> Request {
        let config = &self.config;
        let own = self.context.own("message", config.message.as_ref(), message, str::to_owned);
        let parts = Limit { max: config.segments_max, ..PARTS };
        let (text, fit) = if let Some(text) = own {
            let fit = parts.fit(&BODY.fit(&text, plain), plain);
            (text, fit)
        } else {
            // A link leads somewhere whole or not at all: the words before it are cut. Only one is paid
            // for, that by which whoever reads it takes the incident on, where there is one.
            let words = Words::of(message, &self.context);
            let end = words.ack.or(words.link).map_or_else(String::new, |link| format!("\n{link}"));
            let fit = fit_before(&words.title, &end, config.segments_max);
            let text = format!("{}{end}", words.title);
            (text, fit.unwrap_or_else(|| parts.fit(&words.title, plain)))
        };
        if fit != text {
            let (all, max) = (parts.measure(&text), config.segments_max);
            self.context.note(&format!("cut to {max} parts of {all}, see `segments_max`"));
        }
        let text = fit;
        let sender = match config.from.as_str() {
            "" => ("MessagingServiceSid", config.messaging_service_sid.as_str()),
            from => ("From", from),
        };
        let mut fields = vec![("To", to.part), sender, ("Body", text.as_str())];
        let mut back = config.status_callback.clone();
        let receipts = self.context.receipt_url(&message.channel, message.id);
        match receipts.filter(|_| config.receipts) {
            Some(url) => back = url,
            None if config.receipts => self.context.advise(|| {
                "`receipts` need `notify.external_url`, by which the vendor reaches us".to_owned()
            }),
            None => {}
        }
        if !back.is_empty() {
            fields.push(("StatusCallback", back.as_str()));
        }
        let pairs = fields.iter().map(|(name, value)| format!("{name}={}", percent(value)));
        let (base, sid) = (config.api_url.trim_end_matches('/'), &config.account_sid);
        Request::Post {
            url: Secret::new(format!("{base}/2010-04-01/Accounts/{sid}/Messages.json")),
            headers: vec![
                ("content-type", "application/x-www-form-urlencoded".to_owned()),
                ("authorization", format!("Basic {}", self.basic.expose())),
            ],
            body: pairs.collect::<Vec<_>>().join("&").into_bytes(),
        }
    }
}
