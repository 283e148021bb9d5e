//! `n:Expires` of Enumerate: told in the answer, and kept (`ws-management.md` §6.6 rules 6 and 12).

use chrono::TimeDelta;

use crate::exchange::Exchange;
use crate::support::TestServer;
use crate::wsman::{between, fault_of};

const MACHINES: &str = "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_ComputerSystem";

#[tokio::test]
async fn a_context_tells_its_end_before_itself() {
    let server = TestServer::start().await;
    let optimized = "<w:OptimizeEnumeration/><w:MaxElements>1</w:MaxElements>";
    for more in ["", optimized] {
        for (asked, told) in [
            ("", None),
            ("<n:Expires>PT60S</n:Expires>", Some("PT60S")),
            ("<n:Expires> P0DT1M </n:Expires>", Some("PT60S")),
            ("<n:Expires>2026-01-15T10:20:40.125Z</n:Expires>", Some("PT10S")),
            ("<n:Expires>2026-01-15T11:20:40.625+01:00</n:Expires>", Some("PT10.5S")),
            // Longer than time is counted: it does not expire.
            ("<n:Expires>P900000Y</n:Expires>", None),
        ] {
            let body = Exchange::enumerate(MACHINES, &format!("{asked}{more}")).send(&server).await;
            let expected = match told {
                Some(told) => format!("<n:EnumerateResponse><n:Expires>{told}</n:Expires><n:EnumerationContext>uuid:"),
                None => "<n:EnumerateResponse><n:EnumerationContext>uuid:".to_owned(),
            };
            assert!(body.contains(&expected), "{asked}: {body}");
        }
    }
    // There is nothing to expire when everything came at once.
    let whole = "<n:Expires>PT60S</n:Expires><w:OptimizeEnumeration/><w:MaxElements>99</w:MaxElements>";
    let body = Exchange::enumerate(MACHINES, whole).send(&server).await;
    assert!(body.contains("<n:EnumerateResponse><n:EnumerationContext/>"), "{body}");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn a_context_ends_when_it_said() {
    let server = TestServer::start().await;
    let body = Exchange::enumerate(MACHINES, "<n:Expires>PT10S</n:Expires>").send(&server).await;
    let context = between(&body, "<n:EnumerationContext>", "</n:EnumerationContext>").to_owned();
    server.clock.advance(TimeDelta::seconds(9));
    let body = Exchange::pull(MACHINES, &context, "").send(&server).await;
    let context = between(&body, "<n:EnumerationContext>", "</n:EnumerationContext>").to_owned();
    assert!(!context.is_empty(), "{body}");
    // A Pull does not put the end off.
    server.clock.advance(TimeDelta::seconds(2));
    let body = Exchange::pull(MACHINES, &context, "").send(&server).await;
    assert_eq!(fault_of(&body), "n:InvalidEnumerationContext//2150858779");
    server.engine.shutdown().await;
}

#[tokio::test]
async fn who_never_releases_gets_to_a_limit_and_bothers_nobody() {
    let server = TestServer::start().await;
    let limit = wsnapd::wsman::Limits::default().max_concurrent_operations_per_user;
    let open = Exchange::enumerate(MACHINES, "");
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let body = open.send(&server).await;
        if body.contains("<s:Fault>") {
            assert_eq!(fault_of(&body), "w:QuotaLimit//2150859174");
            refused += 1;
        } else {
            opened += 1;
        }
    }
    assert_eq!((opened, refused), (limit, 10_000 - limit));
    // Others have a limit of their own.
    let other = wsnapd::cimom::Principal::local("other");
    let answer = server.service.handle(&other, &open.text(), wsnapd::wsman::Encoding::Utf8).await;
    assert!(!answer.is_fault, "{}", answer.body);
    // Contexts that idle are forgotten, without any request of their user.
    server.clock.advance(TimeDelta::from_std(wsnapd::wsman::Limits::default().enumeration_timeout).unwrap());
    server.service.sweep();
    assert!(!open.send(&server).await.contains("<s:Fault>"));
    server.engine.shutdown().await;
}
