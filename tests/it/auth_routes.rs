//! Every action with every missing or wrong credential is refused before anything looks at it.

use std::sync::atomic::Ordering;

use wsnapd::transport::Limits;
use wsnapd::transport::auth::{ChannelBindingPolicy, LogonLimits};

use super::ntlm::{PASSWORD, SEALED, admit, challenge, header, type_3};
use super::transport::{Answer, TestServer, basic, request, tls_connect};

const ACTIONS: [&str; 16] = [
    "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get",
    "http://schemas.xmlsoap.org/ws/2004/09/transfer/Put",
    "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create",
    "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete",
    "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Enumerate",
    "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Pull",
    "http://schemas.xmlsoap.org/ws/2004/09/enumeration/Release",
    "http://schemas.xmlsoap.org/ws/2004/08/eventing/Subscribe",
    "http://schemas.xmlsoap.org/ws/2004/08/eventing/Renew",
    "http://schemas.xmlsoap.org/ws/2004/08/eventing/Unsubscribe",
    "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_VirtualSystemSnapshotService/CreateSnapshot",
    "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_VirtualSystemSnapshotService/ApplySnapshot",
    "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_VirtualSystemSnapshotService/DestroySnapshot",
    "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/virtualization/v2/Msvm_ConcreteJob/RequestStateChange",
    "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/Command",
    "",
];

fn body(action: &str) -> String {
    format!("<s:Envelope><s:Header><a:Action>{action}</a:Action></s:Header><s:Body/></s:Envelope>")
}

/// Headers that are no credentials, or wrong ones.
fn wrong() -> Vec<(&'static str, String)> {
    let forged = type_3(&[0; 56], "admin", PASSWORD, None).0;
    vec![
        ("no header", String::new()),
        ("an empty header", "Authorization: \r\n".to_owned()),
        ("an unknown scheme", "Authorization: Bearer abc\r\n".to_owned()),
        ("a scheme that is not set up", "Authorization: Kerberos YII=\r\n".to_owned()),
        ("Basic without credentials", "Authorization: Basic\r\n".to_owned()),
        ("Basic that is no base64", "Authorization: Basic %%%\r\n".to_owned()),
        ("Basic without a colon", "Authorization: Basic YWRtaW4=\r\n".to_owned()),
        ("an empty password", basic("admin:")),
        ("an empty name", basic(&format!(":{PASSWORD}"))),
        ("an unknown user", basic(&format!("nobody:{PASSWORD}"))),
        ("a wrong password", basic("admin:wrong")),
        ("the NT hash as a password", basic("admin:fc525c9683e8fe067095ba2ddc971889")),
        ("type 3 without type 2", header("Negotiate", &forged)),
        ("an empty token", "Authorization: Negotiate \r\n".to_owned()),
        ("a token that is nonsense", header("Negotiate", b"nonsense")),
        (
            "the certificate scheme without a certificate",
            "Authorization: http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual\r\n".to_owned(),
        ),
        ("two headers, both wrong", format!("{}{}", basic("admin:wrong"), basic("admin:wronger"))),
        ("a name in another header", "X-Remote-User: admin\r\nRemote-User: admin\r\n".to_owned()),
    ]
}

fn server() -> TestServer {
    let patient = LogonLimits { delay_after: 0, lockout_after: 0, ..LogonLimits::default() };
    let server = TestServer::defended(true, Limits::default(), ChannelBindingPolicy::Relaxed, patient);
    admit(&server, true);
    server
}

#[track_caller]
fn check(what: &str, action: &str, answer: &Answer) {
    assert_eq!((answer.status, answer.body.len()), (401, 0), "{what}, {action}: {answer:?}");
    assert!(answer.head.contains("www-authenticate: "), "{what}, {action}: {answer:?}");
}

#[tokio::test]
async fn no_action_is_reached_with_missing_or_wrong_credentials() {
    let server = server();
    let mut http = server.connect().await;
    let mut https = tls_connect(server.https, rustls::DEFAULT_VERSIONS).await;
    for (what, headers) in wrong() {
        for (index, action) in ACTIONS.into_iter().enumerate() {
            let text = request(&headers, body(action));
            check(what, action, &http.ask(&text).await);
            if headers.contains("Basic") && index > 0 {
                // A hash takes its time.
                continue;
            }
            check(what, action, &https.ask(&text).await);
            // The header that asks for Identify opens nothing else.
            let identify = request(&format!("{headers}WSMANIDENTIFY: unauthenticated\r\n"), body(action));
            check(what, action, &http.ask(&identify).await);
            let sealed = request(&format!("{headers}{SEALED}"), body(action));
            check(what, action, &http.ask(&sealed).await);
        }
    }
    for action in ACTIONS {
        let anonymous =
            String::from_utf8(request("", body(action))).unwrap().replace("/wsman ", "/wsman-anon/identify ");
        assert_eq!(http.ask(anonymous.as_bytes()).await.status, 403, "{action}");
        for path in ["/", "/wsman/shell", "/WSMAN/../wsman2", "/wsman-anon", "/powershell"] {
            let text = String::from_utf8(request("", body(action))).unwrap().replace("/wsman ", &format!("{path} "));
            assert_eq!(http.ask(text.as_bytes()).await.status, 404, "{path}");
        }
    }
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 0, "nothing was reached");
}

#[tokio::test]
async fn no_action_is_reached_in_the_middle_of_a_handshake() {
    let server = server();
    for action in ACTIONS {
        let mut wire = server.connect().await;
        challenge(&mut wire, "Negotiate", "").await;
        check("between two legs", action, &wire.ask(&request("", body(action))).await);
        let type_2 = challenge(&mut wire, "Negotiate", &body(action)).await;
        let wrong = type_3(&type_2, "admin", "wrong", None).0;
        check("a wrong proof", action, &wire.ask(&request(&header("Negotiate", &wrong), body(action))).await);
        check("after it", action, &wire.ask(&request("", body(action))).await);
    }
    assert_eq!(server.handler.calls.load(Ordering::SeqCst), 0, "nothing was reached");
}

#[tokio::test]
async fn an_account_that_is_removed_is_logged_off() {
    let server = server();
    let mut wire = server.connect().await;
    let type_2 = challenge(&mut wire, "Negotiate", "").await;
    let token = type_3(&type_2, "admin", PASSWORD, None).0;
    assert_eq!(wire.ask(&request(&header("Negotiate", &token), "")).await.status, 200);
    assert_eq!(wire.ask(&request("", body("x"))).await.status, 200);
    std::fs::write(&server.users_file, "").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(wire.ask(&request("", body("x"))).await.status, 401);
}
