//! A redirect is a new request against the same rules.

use bytes::Bytes;
use strongroom_consumers::http::BodySource;
use strongroom_wire::Code;
use strongroom_wire::policy::Placement;

use crate::support::*;

/// `/301?to` answers 301 with `Location: to`; everything else says what it got.
async fn redirecting(speaks: Speaks) -> Server {
    Server::start(speaks, |seen| {
        let (path, query) = seen.uri.split_once('?').unwrap_or((&seen.uri, ""));
        match path[1..].parse::<u16>() {
            Ok(status) => reply(status, &[("location", query)], "moved"),
            Err(_) => text(format!("{} {} {}", seen.method, seen.uri, seen.body.len())),
        }
    })
    .await
}

fn following(ask: Ask) -> Ask {
    Ask { follow: true, ..ask }
}

#[tokio::test]
async fn allowed_ones_are_followed_with_the_secret_placed_again() {
    for speaks in BOTH {
        let server = redirecting(speaks).await;
        let answered = following(Ask::get(server.url("/302?/v1/next"))).run(&engine()).await.ok();
        assert_eq!(answered.text(), "GET /v1/next 0");
        let head = answered.head.as_ref().unwrap();
        assert_eq!((head.status, head.url.as_str()), (200, server.url("/v1/next").as_str()));
        assert!(server.seen().iter().all(|seen| seen.header("authorization") == Some(&format!("Bearer {SECRET}"))));
        let hops: Vec<_> = answered.outcome.hops.iter().map(|hop| hop.status).collect();
        assert_eq!(hops, [Some(302), Some(200)]);
    }
}

#[tokio::test]
async fn they_are_not_followed_unless_asked() {
    let server = redirecting(Speaks::Http1).await;
    let answered = Ask::get(server.url("/302?/v1/next")).run(&engine()).await.ok();
    assert_eq!((answered.head.as_ref().unwrap().status, answered.header("location")), (302, Some("/v1/next")));
}

#[tokio::test]
async fn methods_and_bodies_follow_the_standard() {
    for (method, status, expected) in [
        ("POST", 301, "GET /x 0"),
        ("POST", 302, "GET /x 0"),
        ("POST", 303, "GET /x 0"),
        ("POST", 307, "POST /x 4"),
        ("POST", 308, "POST /x 4"),
        ("PUT", 301, "PUT /x 4"),
        ("PUT", 303, "GET /x 0"),
        ("DELETE", 302, "DELETE /x 4"),
    ] {
        let server = redirecting(Speaks::Http1).await;
        let mut ask = following(Ask::get(server.url(&format!("/{status}?/x"))))
            .header("content-type", "text/plain")
            .header("x-own", "1");
        ask.method = method;
        let answered = ask.run_with(&engine(), BodySource::Inline(Bytes::from_static(b"body"))).await.ok();
        assert_eq!(answered.text(), expected, "{method} {status}");
        let last = server.seen().pop().unwrap();
        assert_eq!(last.header("content-type").is_some(), expected.ends_with('4'));
        assert_eq!(last.header("x-own"), Some("1"));
    }
}

#[tokio::test]
async fn what_the_grants_have_left_is_for_all_bodies_together() {
    let server = redirecting(Speaks::Http1).await;
    // The body twice, and an answer of nine bytes.
    for (bytes_left, sent, received) in [(17, 8, 9), (16, 8, 0), (7, 4, 0), (3, 0, 0)] {
        let ask = Ask { bytes_left: Some(bytes_left), ..following(Ask::post(server.url("/307?/x"))) };
        let answered = ask.run_with(&engine(), BodySource::Inline(Bytes::from_static(b"body"))).await;
        let outcome = &answered.outcome;
        assert_eq!((answered.sent, answered.received), (sent, received), "{bytes_left}");
        let code = outcome.error.as_ref().map(|refusal| refusal.code);
        assert_eq!(code, (bytes_left < 17).then_some(Code::LimitBytes), "{bytes_left}");
    }
}

#[tokio::test]
async fn a_streamed_body_cannot_be_repeated() {
    let server = redirecting(Speaks::Http1).await;
    for (status, refused) in [(307, true), (308, true), (303, false)] {
        let (sender, body) = BodySource::stream(Some(4));
        sender.send(Bytes::from_static(b"body")).await.unwrap();
        sender.finish();
        let answered = following(Ask::post(server.url(&format!("/{status}?/x")))).run_with(&engine(), body).await;
        assert_eq!(
            answered.outcome.error.map(|refusal| refusal.code),
            refused.then_some(Code::RedirectRefused),
            "{status}"
        );
    }
}

#[tokio::test]
async fn they_end_after_five() {
    let server = Server::start(Speaks::Http2, |seen| reply(302, &[("location", &seen.uri)], "")).await;
    let (code, outcome) = following(Ask::get(server.url("/loop"))).refused(&engine()).await;
    assert_eq!((code, outcome.hops.len()), (Code::RedirectRefused, 6));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn each_is_checked() {
    let server = redirecting(Speaks::Http1).await;
    let other = redirecting(Speaks::Http1).await;
    let elsewhere = other.url("/x");
    let port = server.port;
    for location in [
        elsewhere.as_str(),
        "http://api.test/",
        &format!("http://api.test:{port}/x"),
        &format!("https://u:p@api.test:{port}/x"),
        &format!("https://api.test:{port}@evil.test/"),
        &format!("https://evil.test:{port}/x"),
        &format!("//evil.test:{port}/x"),
        "https://api.test/x",
        "/../x",
        "/%2e%2e/x",
        "/a%2fb",
        "\\\\evil.test",
        "javascript:alert(1)",
        "/a b",
    ] {
        let mut ask = following(Ask::get(server.url("/"))).header("x-to", location);
        ask.url = server.url("/go");
        let server = Server::start(Speaks::Http1, {
            let location = location.to_owned();
            move |_| reply(302, &[("location", &location)], "")
        })
        .await;
        ask.url = server.url("/go");
        let answered = ask.run(&engine()).await;
        let refusal = answered.outcome.error.unwrap_or_else(|| panic!("{location} is refused"));
        assert_eq!(refusal.code, Code::RedirectRefused, "{location}");
        assert!(answered.head.is_none() && refusal.rule.is_none());
        assert!(!refusal.to_string().contains("test"), "a guest does not learn where it led");
        assert_eq!(server.seen().len(), 1);
    }
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn another_host_of_the_rules_is_allowed() {
    let other = redirecting(Speaks::Http2).await;
    let server = redirecting(Speaks::Http1).await;
    let mut ask = following(Ask::get(server.url(&format!("/307?{}", other.url("/there")))));
    ask.more_hosts.push(format!("api.test:{}", other.port));
    assert_eq!(ask.run(&engine()).await.ok().text(), "GET /there 0");
    assert_eq!(other.only().header("authorization"), Some(format!("Bearer {SECRET}").as_str()));
}

#[tokio::test]
async fn method_and_path_limits_hold() {
    let server = redirecting(Speaks::Http1).await;
    let mut ask = following(Ask::post(server.url("/302?/302/x")));
    ask.limits.methods = vec!["POST".into()];
    assert_eq!(ask.refused(&engine()).await.0, Code::RedirectRefused, "it would become a GET");
    let mut ask = following(Ask::get(server.url("/302?/admin")));
    ask.limits.path_prefixes = vec!["/302".into()];
    assert_eq!(ask.refused(&engine()).await.0, Code::RedirectRefused);
}

#[tokio::test]
async fn the_secret_in_a_location_goes_nowhere() {
    let server =
        Server::start(Speaks::Http1, |_| reply(302, &[("location", &format!("/x/{SECRET}?k={SECRET}"))], "")).await;
    assert_eq!(following(Ask::get(server.url("/"))).refused(&engine()).await.0, Code::RedirectRefused);
    let answered = Ask::get(server.url("/")).run(&engine()).await.ok();
    assert_eq!(answered.header("location"), Some(format!("/x/{MASKED}?k={MASKED}").as_str()));
}

/// A host that adds a slash and keeps the query sends the credential back; it is placed once, not twice.
#[tokio::test]
async fn a_repeated_query_credential_is_placed_anew() {
    let server = Server::start(Speaks::Http1, |seen| match seen.uri.split_once('?') {
        Some(("/v1", query)) => reply(301, &[("location", &format!("/v1/?{query}"))], ""),
        _ => text(seen.uri.clone()),
    })
    .await;
    let answered = following(Ask::get(server.url("/v1?a=b")).placed(Placement::Query { name: "key".into() }))
        .run(&engine())
        .await
        .ok();
    assert_eq!(server.seen()[1].uri, format!("/v1/?a=b&key={SECRET}"));
    assert_eq!(answered.text(), format!("/v1/?a=b&key={MASKED}"));
    assert_eq!(answered.head.unwrap().url, server.url("/v1/?a=b"));
}
