//! Hostile URLs, and what the parser promises about every one it accepts.

use proptest::prelude::*;

use super::*;

fn parse(url: &str) -> Result<String, Code> {
    Target::parse(url).map(|target| target.to_string()).map_err(|refusal| refusal.code)
}

#[test]
fn plain_urls_stay_as_they_are() {
    for url in [
        "https://api.example.com/",
        "https://api.example.com/v1/items?limit=10&cursor=a%20b",
        "https://api.example.com:8443/v1/",
        "https://127.0.0.1:9443/x",
        "https://[::1]:9443/x",
        "https://xn--bcher-kva.example/%C3%BC",
        "https://a_b.example/",
        "https://a.example/100%25",
        "https://a.example/a%2541",
        "https://a.example/a:b@c;d=e,f/!$&'()*+~",
        "https://a.example/.well-known/x..y/...",
        "https://a.example/v1//x",
        "https://a.example/?filter[name]={a}|^`'",
        "https://a.example/?next=https://b.example/..%2f",
        "https://a.example/x?",
        "https://a.example/x?a?b",
    ] {
        assert_eq!(parse(url), Ok(url.to_owned()));
    }
}

#[test]
fn what_may_be_written_in_two_ways_gets_one() {
    assert_eq!(parse("HTTPS://API.Example.COM"), Ok("https://api.example.com/".into()));
    assert_eq!(parse("https://a.example:443?x"), Ok("https://a.example/?x".into()));
}

#[test]
fn hostile_urls_are_refused() {
    for url in [
        "",
        "https",
        "https:",
        "https:/",
        "https://",
        "https:///x",
        "https:a.example/",
        "https:/a.example/",
        "http://a.example/",
        "ftp://a.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//a.example/",
        "/x",
        "a.example",
        " https://a.example/",
        "https://a.example/ ",
        "ttps://a.example/",
        "https ://a.example/",
        "httpſ://a.example/",
        // userinfo
        "https://u@a.example/",
        "https://u:p@a.example/",
        "https://@a.example/",
        "https://a.example@b.example/",
        "https://a.example:443@b.example/",
        "https://a.example%40b.example/",
        // hosts
        "https://a.example./",
        "https://.a.example/",
        "https://a..example/",
        "https://a.example%2e/",
        "https://a%00.example/",
        "https://*.example/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://127.0.0.01/",
        "https://[::0001]/",
        "https://[::1/",
        "https://::1/",
        "https://[::1]x/",
        "https://[::1%25lo]/",
        "https://[fe80::1%25eth0]/",
        "https://[::FFFF:127.0.0.1]/",
        "https://a b.example/",
        "https://bücher.example/",
        "https://a.example\u{ff0f}b/",
        "https://a\u{3002}example/",
        "https://a.example,b.example/",
        "https://a;b/",
        "https://a'b/",
        "https://<a>/",
        "https://xn--/",
        "https://a.example\u{0}/",
        "https://a\texample/",
        "https://a\nexample/",
        // ports
        "https://a.example:/",
        "https://a.example:0/",
        "https://a.example:00443/",
        "https://a.example:65536/",
        "https://a.example:+443/",
        "https://a.example:4 43/",
        "https://a.example:443:443/",
        "https://a.example:x/",
        "https://:443/",
        // dot segments
        "https://a.example/.",
        "https://a.example/..",
        "https://a.example/a/../b",
        "https://a.example/a/./b",
        "https://a.example/%2e",
        "https://a.example/%2e%2E/b",
        "https://a.example/.%2e/b",
        "https://a.example/%2E./b",
        "https://a.example/%252e%252e/b",
        "https://a.example/%25252e./b",
        "https://a.example/%%32%65/b",
        "https://a.example/v1/..;/admin",
        "https://a.example/v1/..;a=b/admin",
        "https://a.example/v1/%2e%2e%3b/admin",
        "https://a.example/v1/..%20/admin",
        "https://a.example/v1/%20../admin",
        "https://a.example/v1/..%2520/admin",
        "https://a.example/v1/..?x",
        // separators
        "https://a.example/a%2fb",
        "https://a.example/a%2Fb",
        "https://a.example/a%5cb",
        "https://a.example/a%5Cb",
        "https://a.example/a%252fb",
        "https://a.example/a%25%32%66b",
        "https://a.example/a%2525255cb",
        "https://a.example/a\\b",
        "https://a.example\\b/",
        "https:\\\\a.example/",
        "https://a.example//b.example/x",
        "https://a.example/%c0%af..",
        "https://a.example/%c0%ae%c0%ae/x",
        "https://a.example/%ff",
        "https://a.example/%e0%80%af",
        // control bytes, spaces, what must be encoded
        "https://a.example/a b",
        "https://a.example/a\tb",
        "https://a.example/a\r\nHost: b.example",
        "https://a.example/\u{7f}",
        "https://a.example/%00",
        "https://a.example/%0d%0aX:y",
        "https://a.example/%0a",
        "https://a.example/%7f",
        "https://a.example/%250a",
        "https://a.example/ü",
        "https://a.example/?ü",
        "https://a.example/?a b",
        "https://a.example/?a\nb",
        "https://a.example/?\"",
        "https://a.example/<x>",
        "https://a.example/[x]",
        "https://a.example/{x}",
        "https://a.example/?<x>",
        "https://a.example/?a\\b",
        // percent signs
        "https://a.example/%",
        "https://a.example/%4",
        "https://a.example/%zz",
        "https://a.example/?%",
        "https://a.example/?%u0041",
        // fragments
        "https://a.example/#",
        "https://a.example/#x",
        "https://a.example#@b.example/",
        "https://a.example/?x#y",
    ] {
        assert_eq!(parse(url), Err(Code::UrlRefused), "{url:?}");
    }
    assert_eq!(parse(&format!("https://a.example/{}", "a".repeat(URL_CHARS_MAX))), Err(Code::UrlRefused));
    assert_eq!(parse(&format!("https://a.example/%{}41", "25".repeat(64))), Err(Code::UrlRefused));
}

#[test]
fn the_refusal_says_what_to_write() {
    let detail = |url| Target::parse(url).expect_err("refused").detail.unwrap_or_default();
    assert_eq!(detail("https://127.1/"), "The URL's host is not written in its plain form, which is 127.0.0.1.");
    assert_eq!(detail("https://a.example/a b"), "The URL holds a space; write %20.");
    assert_eq!(detail("http://a.example/"), "The URL must start with https://.");
}

#[test]
fn parts_are_as_sent() {
    let target = Target::parse("https://a.example:8443/v1/x?a=1&b").expect("a URL");
    assert_eq!(target.destination().to_string(), "a.example:8443");
    assert_eq!((target.path(), target.query()), ("/v1/x", Some("a=1&b")));
    assert_eq!(target.request_target(), "/v1/x?a=1&b");
    assert_eq!(Target::parse("https://a.example").expect("a URL").request_target(), "/");
}

#[test]
fn locations_are_joined_and_checked_alike() {
    let base = Target::parse("https://a.example:8443/v1/x?q").expect("a URL");
    let join = |reference: &str| base.join(reference).map(|target| target.to_string()).map_err(|refusal| refusal.code);
    assert_eq!(join("https://b.example/y#f"), Ok("https://b.example/y".into()));
    assert_eq!(join("//b.example/y"), Ok("https://b.example/y".into()));
    assert_eq!(join("/y?z"), Ok("https://a.example:8443/y?z".into()));
    assert_eq!(join("?z"), Ok("https://a.example:8443/v1/x?z".into()));
    assert_eq!(join("y/z"), Ok("https://a.example:8443/v1/y/z".into()));
    assert_eq!(join("#f"), Ok("https://a.example:8443/v1/x?q".into()));
    assert_eq!(join("y:z/w"), Err(Code::UrlRefused), "y: is a scheme");
    for bad in [
        "http://a.example/",
        "HTTP://a.example:8443/",
        "https://u:p@a.example/",
        "//u@a.example/",
        "../y",
        "./y",
        "/../y",
        "/%2e%2e/y",
        "\\\\b.example/",
        "/\\b.example",
        "javascript:x",
        "data:,x",
        "https:/b.example/y",
        "https:y",
        "///b.example/y",
        "/ y",
        "/\u{fc}",
    ] {
        assert_eq!(join(bad), Err(Code::UrlRefused), "{bad:?}");
    }
    let long = "a".repeat(URL_CHARS_MAX + 1);
    assert_eq!(join(&long), Err(Code::UrlRefused));
}

#[test]
fn parameters_are_found_under_any_spelling() {
    for query in [
        "api_key=x",
        "a=b&api_key=x",
        "API_KEY=x",
        "api%5Fkey=x",
        "api_key",
        "api_key[]=x",
        "a;api_key=x",
        "+api_key=x",
        "api_key%5B0%5D=x",
    ] {
        let target = Target::parse(&format!("https://a.example/?{query}")).expect("a URL");
        assert!(target.has_parameter("api_key"), "{query}");
        assert!(!target.without_parameter("api_key").has_parameter("api_key"), "{query}");
    }
    for query in ["api_keys=x", "x=api_key", "api=key", "apikey=x"] {
        let target = Target::parse(&format!("https://a.example/?{query}")).expect("a URL");
        assert!(!target.has_parameter("api_key"), "{query}");
        assert_eq!(target.clone().without_parameter("api_key"), target);
    }
    let target = Target::parse("https://a.example/x?a=1&api_key=2&b=3").expect("a URL");
    assert_eq!(target.without_parameter("api_key").request_target(), "/x?a=1&b=3");
    let target = Target::parse("https://a.example/x?api_key=2").expect("a URL");
    assert_eq!(target.without_parameter("api_key").request_target(), "/x");
}

/// URLs made of the pieces that parsers disagree about.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("https://"),
        Just("http://"),
        Just("a.example"),
        Just("127.1"),
        Just("[::1]"),
        Just(":443"),
        Just(":8443"),
        Just(":0"),
        Just("/"),
        Just("//"),
        Just("."),
        Just(".."),
        Just("%2e"),
        Just("%2F"),
        Just("%5c"),
        Just("%25"),
        Just("%252f"),
        Just("%41"),
        Just("%c3%bc"),
        Just("\\"),
        Just("@"),
        Just("?"),
        Just("#"),
        Just(";"),
        Just("&"),
        Just("a=b"),
        Just("v1"),
        Just("%"),
        Just("\t"),
        Just("\r\n"),
        Just(" "),
        Just("é"),
        Just("'"),
        Just("["),
        Just("{"),
        Just("|"),
        Just("%00"),
        Just("xn--"),
        Just("A"),
    ];
    (any::<bool>(), proptest::collection::vec(piece, 0..14)).prop_map(|(start, pieces)| {
        let body = pieces.concat();
        if start { format!("https://a.example{body}") } else { body }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn what_is_accepted_reads_back_the_same(url in hostile()) {
        if let Ok(target) = Target::parse(&url) {
            prop_assert_eq!(Target::parse(&target.to_string()), Ok(target));
        }
    }

    /// The parser of the WHATWG standard, which normalises, finds nothing to normalise and the same parts.
    #[test]
    fn a_browser_reads_the_same(url in hostile()) {
        if let Ok(target) = Target::parse(&url) {
            let other = url::Url::parse(&url).expect("what we accept is a URL");
            prop_assert_eq!(other.host_str(), Some(target.destination().host.as_str()));
            prop_assert_eq!(other.port_or_known_default(), Some(target.destination().port));
            prop_assert_eq!(other.path(), target.path());
            prop_assert_eq!(other.query().map(str::to_owned), target.query().map(|query| query.replace('\'', "%27")));
            prop_assert!(other.username().is_empty() && other.password().is_none());
        }
    }

    #[test]
    fn any_text_is_answered(url in any::<String>(), reference in any::<String>()) {
        let _ = Target::parse(&url);
        let base = Target::parse("https://a.example/v1/x?q").expect("a URL");
        if let Ok(joined) = base.join(&reference) {
            prop_assert_eq!(Target::parse(&joined.to_string()), Ok(joined));
        }
    }

    #[test]
    fn a_joined_location_is_what_a_browser_joins(reference in hostile()) {
        let base = Target::parse("https://a.example/v1/x?q").expect("a URL");
        if let Ok(joined) = base.join(&reference) {
            let other = url::Url::parse("https://a.example/v1/x?q").expect("a URL").join(&reference).expect("a reference");
            prop_assert_eq!(other.path(), joined.path());
            prop_assert_eq!(other.host_str(), Some(joined.destination().host.as_str()));
        }
    }
}
