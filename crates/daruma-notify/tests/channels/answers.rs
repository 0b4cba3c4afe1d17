use daruma_notify::{DECLARED, Verdict};

/// What vendors answer, in their own words, and what it means. Most of these have status 200.
#[test]
fn only_what_the_vendor_calls_success_is_success() {
    let (ok, later, never, gone) = ('+', '~', '-', 'x');
    for (kind, status, body, want) in [
        ("slack", 200, "ok", ok),
        ("slack", 200, "", later),
        ("slack", 200, r#"{"ok":true,"channel":"C","ts":"1.2"}"#, ok),
        ("slack", 200, r#"{"ok":false,"error":"channel_not_found"}"#, never),
        ("slack", 200, r#"{"ok":false,"error":"ratelimited"}"#, later),
        ("slack", 200, r#"{"ok":false,"error":"invented_tomorrow"}"#, later),
        ("slack", 404, "no_service", never),
        ("slack", 200, "<html>Sign in to the hotel's network</html>", later),
        ("slack", 302, "", never),
        ("msteamsv2", 202, "", ok),
        ("msteamsv2", 200, "1", ok),
        ("msteamsv2", 200, "Microsoft Teams endpoint returned HTTP error 429", later),
        ("msteamsv2", 410, "", never),
        ("discord", 200, r#"{"id":"1"}"#, ok),
        ("discord", 204, "", later), // It was asked to wait for the message.
        ("discord", 404, r#"{"code":10015}"#, never),
        ("telegram", 200, r#"{"ok":true,"result":{}}"#, ok),
        ("telegram", 200, r#"{"ok":false}"#, later),
        ("telegram", 403, r#"{"ok":false,"error_code":403}"#, never),
        ("telegram", 429, r#"{"ok":false,"error_code":429,"parameters":{"retry_after":5}}"#, later),
        ("pagerduty", 202, r#"{"status":"success"}"#, ok),
        ("pagerduty", 200, r#"{"status":"success"}"#, later),
        ("pagerduty", 202, "", later),
        ("pagerduty", 400, r#"{"status":"invalid event"}"#, never),
        ("ntfy", 200, r#"{"id":"x","event":"message"}"#, ok),
        ("ntfy", 200, "<html></html>", later),
        ("ntfy", 403, r#"{"code":40301}"#, never),
        ("ntfy", 429, r#"{"code":42901}"#, later),
        ("ntfy", 507, r#"{"code":50701}"#, later),
        ("web_push", 201, "", ok),
        ("web_push", 410, "push subscription has unsubscribed", gone),
        ("web_push", 404, "", gone),
        ("web_push", 413, "", never),
        ("web_push", 502, "", later),
        ("twilio", 201, r#"{"sid":"SM1","status":"queued"}"#, ok),
        ("twilio", 200, r#"{"sid":"SM1"}"#, later),
        ("twilio", 400, r#"{"code":21211}"#, never),
        ("twilio", 400, r#"{"code":21610}"#, gone),
        ("twilio", 429, r#"{"code":20429}"#, later),
        ("aliyun_sms", 200, r#"{"Code":"OK"}"#, ok),
        ("aliyun_sms", 200, r#"{"Code":"isv.BUSINESS_LIMIT_CONTROL"}"#, later),
        ("aliyun_sms", 200, r#"{"Code":"isv.MOBILE_NUMBER_ILLEGAL"}"#, never),
        ("aliyun_sms", 400, r#"{"Code":"SignatureDoesNotMatch"}"#, never),
        ("aliyun_sms", 400, r#"{"Code":"Throttling.User"}"#, later),
        ("tencent_sms", 200, r#"{"Response":{"SendStatusSet":[{"Code":"Ok"}]}}"#, ok),
        (
            "tencent_sms",
            200,
            r#"{"Response":{"SendStatusSet":[{"Code":"Ok"},{"Code":"FailedOperation.X"}]}}"#,
            never,
        ),
        ("tencent_sms", 200, r#"{"Response":{"SendStatusSet":[]}}"#, later),
        (
            "tencent_sms",
            200,
            r#"{"Response":{"Error":{"Code":"AuthFailure.SignatureFailure"}}}"#,
            never,
        ),
        ("tencent_sms", 200, r#"{"Response":{"Error":{"Code":"InternalError"}}}"#, later),
        ("dingtalk", 200, r#"{"errcode":0,"errmsg":"ok"}"#, ok),
        ("dingtalk", 200, r#"{"errcode":310000,"errmsg":"sign not match"}"#, never),
        ("dingtalk", 200, r#"{"errcode":130101}"#, later),
        ("dingtalk", 200, r#"{"errcode":-1}"#, later),
        ("feishu", 200, r#"{"code":0,"msg":"success"}"#, ok),
        ("feishu", 200, r#"{"code":19021,"msg":"sign match fail"}"#, never),
        ("feishu", 200, r#"{"code":11232}"#, later),
        ("feishu", 200, r#"{"StatusCode":0}"#, later),
        ("wecom", 200, r#"{"errcode":0}"#, ok),
        ("wecom", 200, r#"{"errcode":93000}"#, never),
        ("wecom", 200, r#"{"errcode":45009}"#, later),
        ("wechat", 200, r#"{"errcode":0,"msgid":"1"}"#, ok),
        ("wechat", 200, r#"{"errcode":42001}"#, later),
        ("wechat", 200, r#"{"errcode":81013}"#, never),
        ("exec", 0, "", ok),
        ("exec", 1, "", later),
        ("exec", 75, "", later),
        ("exec", 78, "", never),
        ("webhook", 204, "", ok),
        ("email", 250, "", ok),
        ("email", 451, "", later),
        ("email", 550, "", never),
    ] {
        let declared = DECLARED.iter().find(|declared| declared.kind == kind).unwrap();
        let got = match declared.answers.judge(status, body).verdict {
            Verdict::Accepted => ok,
            Verdict::Retry(_) => later,
            Verdict::Rejected(_) => never,
            Verdict::Gone(_) => gone,
        };
        assert_eq!(got, want, "{kind}: {status} {body}");
    }
    let telegram = DECLARED.iter().find(|declared| declared.kind == "telegram").unwrap();
    let judged = telegram.answers.judge(429, r#"{"ok":false,"parameters":{"retry_after":5}}"#);
    assert_eq!(judged.wait, Some(daruma_model::Span::secs(5)));
}
