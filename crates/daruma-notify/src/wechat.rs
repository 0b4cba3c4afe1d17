//! Applications of WeCom, which Alertmanager calls `wechat`: logs in for a token that serves two hours,
//! then posts with it.

use daruma_model::{Message, Span};
use serde_json::json;

use crate::channel::{Channel, Context, Login, Notifier, Open, Request, To};
use crate::config::{check_url, config, needed, needed_secret, there};
use crate::declared::{Answers, Declared, Limit, Rate, Receipts, Says, Unit};
use crate::dingtalk::{TextOrMarkdown, made_inert};
use crate::secret::Secret;
use crate::sign::percent;
use crate::wecom::{ANSWERS, content};
use crate::words::Template;

config! {
    /// One entry of `wechat_configs`.
    WeChatConfig;
    secrets {
        /// The secret of the application.
        api_secret, api_secret_file, api_secret_env;
    }
    fields {
        /// Where the interface is.
        api_url: String = "https://qyapi.weixin.qq.com/cgi-bin/".to_owned();
        /// The company.
        corp_id: String = String::new();
        /// The application.
        agent_id: String = String::new();
        /// Users, separated by `|`; `@all` for everybody.
        to_user: String = String::new();
        /// Departments, separated by `|`.
        to_party: String = String::new();
        /// Tags, separated by `|`.
        to_tag: String = String::new();
        /// Instead of the built-in words.
        message: Option<Template> = None;
        /// The form of messages.
        message_type: TextOrMarkdown = TextOrMarkdown::Text;
    }
}

/// The answer to a login: `errcode` 0 and the token.
static LOGIN: Answers =
    Answers { says: &[Says::Is("/errcode", "0")], handle_at: &["/access_token"], ..ANSWERS };

impl WeChatConfig {
    pub(crate) const DECLARED: Declared = Declared {
        kind: "wechat",
        auth: "`corp_id` and `api_secret` for a token, which stands in the address",
        limits: &[Limit::of("text", 2048, Unit::Bytes), Limit::of("markdown", 4096, Unit::Bytes)],
        pace: &[Rate { count: 30, per: Span::secs(60) }],
        answers: ANSWERS,
        deduplicates: None,
        edits: false,
        receipts: Receipts::None,
    };

    fn well_formed(&self) -> Result<(), String> {
        let ways = [
            self.api_secret.is_some(),
            self.api_secret_file.is_some(),
            self.api_secret_env.is_some(),
        ];
        needed_secret("api_secret", ways)?;
        needed("corp_id", &self.corp_id)?;
        check_url("api_url", &self.api_url)
    }
}

impl Channel for WeChatConfig {
    fn send_resolved(&self) -> bool {
        self.send_resolved
    }

    fn open(&self, context: &Context) -> Result<Open, String> {
        let secret = there("api_secret", self.api_secret()?)?;
        let base = self.api_url.trim_end_matches('/');
        let (corp, key) = (percent(&self.corp_id), percent(secret.expose()));
        let login = Login {
            url: Secret::new(format!("{base}/gettoken?corpid={corp}&corpsecret={key}")),
            answers: &LOGIN,
        };
        let mut secrets = vec![secret];
        let reach = self.reach(&mut secrets)?;
        let notifier = WeChat { config: self.clone(), context: context.clone() };
        Ok(Open { login: Some(login), ..Open::of(notifier, reach, secrets) })
    }
}

struct WeChat {
    config: WeChatConfig,
    context: Context,
}

impl Notifier for WeChat {
    fn declared(&self) -> &'static Declared {
        &WeChatConfig::DECLARED
    }

    fn request(&self, message: &Message, to: To<'_>) -> Request {
        let config = &self.config;
        let escape = match config.message_type {
            TextOrMarkdown::Markdown => made_inert,
            TextOrMarkdown::Text => str::to_owned,
        };
        let own = self.context.own("message", config.message.as_ref(), message, escape);
        let content = content(config.message_type, own, message, &self.context);
        let form = match config.message_type {
            TextOrMarkdown::Markdown => "markdown",
            TextOrMarkdown::Text => "text",
        };
        let [user, party, tag, agent] = [
            ("to_user", &config.to_user),
            ("to_party", &config.to_party),
            ("to_tag", &config.to_tag),
            ("agent_id", &config.agent_id),
        ]
        .map(|(name, text)| self.context.one_line(name, text, message));
        let nobody = user.is_empty() && party.is_empty() && tag.is_empty();
        let body = json!({
            "touser": if nobody { "@all" } else { &user },
            "toparty": party,
            "totag": tag,
            "agentid": agent,
            "msgtype": form,
            form: {"content": content},
        });
        let base = config.api_url.trim_end_matches('/');
        let url = format!("{base}/message/send?access_token={}", percent(to.token));
        Request::post_json(&Secret::new(url), &body)
    }
}
