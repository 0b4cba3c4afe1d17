//! What vendors that can be asked tell about messages that they took.

use std::collections::BTreeSet;

use daruma_model::{Message, Receipt, ReceiptState, Time};
use daruma_notify::{Sender, Sent};

use super::server::{Reply, far_side};
use super::stand_ins as far;
use super::vendors::{VENDORS, channel};
use super::{NOW, message, sender};

fn configured(kind: &str, port: u16) -> Sender {
    let vendor = VENDORS.iter().find(|vendor| vendor.kind == kind).unwrap();
    sender(&(vendor.config)(port))
}

fn took(message: &Message) -> Sent<'_> {
    Sent {
        message: message.id,
        channel: &message.channel,
        created: message.created,
        at: Time::from_secs(NOW - 5),
    }
}

fn states(heard: &[Receipt]) -> Vec<(&str, ReceiptState, &str)> {
    heard.iter().map(|it| (it.part.as_str(), it.state, it.said.as_str())).collect()
}

/// Of two numbers one has it; the other is on its way, then lost. Others' messages are none of ours.
#[tokio::test]
async fn aliyun_tells_what_became_of_each_number() {
    let message = message(&channel("aliyun_sms"), "web is down", "");
    let (port, seen) = far_side(far::aliyun).await;
    configured("aliyun_sms", port).send(&message, 1).await;
    let asked = seen.lock().unwrap()[0].query_fields();
    let id = asked.into_iter().find(|(name, _)| name == "OutId").unwrap().1;

    let ask = async |second: Vec<(i64, &'static str)>, known: &[&str]| {
        let id = id.clone();
        let (port, _) = far_side(move |seen| {
            let to_second = seen.query.contains("13900000000");
            let theirs = ("16-18bcf1b5cd0".to_owned(), 3, "DELIVERED");
            let ours = if to_second { second.clone() } else { vec![(3, "DELIVERED")] };
            let ours = ours.into_iter().map(|(status, code)| (id.clone(), status, code));
            let all: Vec<_> = [theirs].into_iter().chain(ours).collect();
            far::aliyun_details(seen, "20231115", &all)
        })
        .await;
        let known: BTreeSet<String> = known.iter().map(|part| (*part).to_owned()).collect();
        configured("aliyun_sms", port).inquire(took(&message), &known).await
    };
    let first = ("13800000000", ReceiptState::Delivered, "");
    let (heard, ended) = ask(vec![(1, "")], &[]).await;
    assert_eq!((states(&heard), ended), (vec![first], Ok(())));
    assert_eq!((heard[0].message, heard[0].of), (17, 2));
    let (heard, _) = ask(Vec::new(), &[]).await;
    assert_eq!(states(&heard), [first], "none of ours");
    let lost = ("13900000000", ReceiptState::Lost, "MOBILE_NOT_ON_SERVICE");
    let (heard, _) = ask(vec![(2, "MOBILE_NOT_ON_SERVICE")], &["13800000000"]).await;
    assert_eq!(states(&heard), [lost]);
    // Sent twice: it counts as lost only once nothing of it is on its way, as arrived once one did.
    let (heard, _) = ask(vec![(2, "x"), (1, "")], &["13800000000"]).await;
    assert_eq!(states(&heard), []);
    let (heard, _) = ask(vec![(3, "DELIVERED"), (2, "x")], &["13800000000"]).await;
    assert_eq!(states(&heard), [("13900000000", ReceiptState::Delivered, "")]);
}

#[tokio::test]
async fn tencent_tells_what_became_of_the_number() {
    let message = message(&channel("tencent_sms"), "web is down", "");
    let (port, seen) = far_side(far::tencent).await;
    configured("tencent_sms", port).send(&message, 1).await;
    let id = seen.lock().unwrap()[0].json()["SessionContext"].as_str().unwrap().to_owned();
    for (known, want) in [
        (vec![("SUCCESS", "DELIVRD")], vec![(ReceiptState::Delivered, "")]),
        (vec![("FAIL", "phone is off")], vec![(ReceiptState::Lost, "phone is off")]),
        (vec![("FAIL", "x"), ("SUCCESS", "DELIVRD")], vec![(ReceiptState::Delivered, "")]),
        (vec![], vec![]),
    ] {
        let id = id.clone();
        let (port, _) = far_side(move |seen| {
            let ours = known.iter().map(|(status, words)| (id.clone(), *status, *words));
            let theirs = ("17".to_owned(), "SUCCESS", "DELIVRD");
            let all: Vec<_> = [theirs].into_iter().chain(ours).collect();
            far::tencent_status(seen, NOW - 5, &all)
        })
        .await;
        let (heard, ended) =
            configured("tencent_sms", port).inquire(took(&message), &BTreeSet::new()).await;
        let heard: Vec<_> = heard.iter().map(|it| (it.state, it.said.as_str())).collect();
        assert_eq!((heard, ended), (want, Ok(())));
    }
}

/// No right to ask, an answer that is none, nobody there: the reason is told, without the secret.
#[tokio::test]
async fn a_vendor_that_does_not_tell_is_quoted() {
    for kind in ["aliyun_sms", "tencent_sms"] {
        let message = message(&channel(kind), "web is down", "");
        let (port, _) = far_side(move |seen| match kind {
            "aliyun_sms" => far::aliyun(seen),
            _ => far::tencent(seen),
        })
        .await;
        let sender = configured(kind, port);
        let (heard, ended) = sender.inquire(took(&message), &BTreeSet::new()).await;
        assert_eq!(heard, []);
        assert!(ended.as_ref().is_err_and(|why| why.contains("InvalidAction")), "{ended:?}");
        let (port, _) =
            far_side(|_| Reply::text(502, &format!("<html>{}</html>", far::SECRET))).await;
        let sender = configured(kind, port);
        let why = sender.inquire(took(&message), &BTreeSet::new()).await.1.unwrap_err();
        assert!(why.starts_with("502") && !why.contains(far::SECRET), "{why}");
        assert!(sender.inquires(&message.channel));
    }
    let quiet = "aliyun_sms_configs: [{access_key_id: a, access_key_secret: b, sign_name: c, \
                 template_code: d, phone_numbers: ['13800000000'], receipts: false}]";
    assert!(!sender(quiet).inquires("ops/aliyun_sms[0]"));
    assert!(!sender("webhook_configs: [{url: 'http://127.0.0.1:9/'}]").inquires("ops/webhook[0]"));
}
