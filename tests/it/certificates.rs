//! Logon with certificates of clients over real sockets, and certificates of the server that change.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, OtherNameValue, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use wsnapd::access::Role;
use wsnapd::transport::auth::{CertificateRule, ChannelBindingPolicy, LogonLimits, User, UsersFile};
use wsnapd::transport::{ClientAuthorities, Limits, TlsSettings};

use super::ntlm::offers;
use super::transport::{Answer, TestServer, Wire, basic, certs, request, tls_connect, tls_connect_with};

const MUTUAL: &str = "Authorization: http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual\r\n";

type Client = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate with a user principal name.
    fn issue(&self, upn: &str, change: impl FnOnce(&mut CertificateParams)) -> Client {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, upn);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let name = OtherNameValue::Utf8String(upn.to_owned());
        params.subject_alt_names.push(SanType::OtherName((vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], name)));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// A revocation list with these numbers.
    fn revoke(&self, serials: &[u64], until: i32) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

struct World {
    directory: TempDir,
    authority: Authority,
    server: TestServer,
}

impl World {
    fn new(revoked: Option<&[u64]>, required: bool) -> Self {
        let directory = TempDir::new().unwrap();
        let authority = Authority::new("Clients");
        let file = |name: &str| directory.path().join(name);
        fs::write(file("ca.pem"), &authority.pem).unwrap();
        let list = revoked.map(|serials| {
            fs::write(file("crl.pem"), authority.revoke(serials, 2090)).unwrap();
            file("crl.pem")
        });
        fs::copy(certs("server.pem"), file("server.pem")).unwrap();
        fs::copy(certs("server.key"), file("server.key")).unwrap();
        let clients = Some(ClientAuthorities { authorities: file("ca.pem"), revoked: list, required });
        let tls = TlsSettings { clients, ..TlsSettings::new(&file("server.pem"), &file("server.key")) };
        let logon = LogonLimits { delay_after: 0, lockout_after: 6, ..LogonLimits::default() };
        let server = TestServer::secured(tls, true, Limits::default(), ChannelBindingPolicy::Relaxed, logon);
        admit(&server.users_file, &["upn=alice@example.test"]);
        Self { directory, authority, server }
    }

    fn alice(&self) -> Client {
        self.authority.issue("Alice@Example.test", |_| ())
    }

    async fn connect(&self, client: Option<Client>) -> Wire<TlsStream<TcpStream>> {
        self.try_connect(client).await.unwrap()
    }

    async fn try_connect(&self, client: Option<Client>) -> std::io::Result<Wire<TlsStream<TcpStream>>> {
        tls_connect_with(self.server.https, rustls::DEFAULT_VERSIONS, test_roots(), client).await
    }

    /// A logon on a connection of its own.
    async fn log_on(&self, client: Client) -> Answer {
        self.connect(Some(client)).await.ask(&request(MUTUAL, "<a/>")).await
    }

    /// One refused logon and what the trail tells of it; the server goes on.
    #[track_caller]
    fn told(&self, what: &str) {
        let told = self.server.audit.take();
        assert!(told.len() == 1 && told[0].contains(" certificate logon refused: "), "{told:?}");
        assert!(told[0].contains(what), "{told:?} instead of {what}");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn test_roots() -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs("ca.pem")).unwrap()).unwrap();
    roots
}

/// A user without a password to whom these certificates belong.
fn admit(users_file: &Path, rules: &[&str]) {
    let mut users = UsersFile::load(users_file).unwrap();
    let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    users.set(User::without_password("alice").unwrap().with_certificates(rules).with_role(Role::Operator, None));
    users.save(users_file).unwrap();
}

#[tokio::test]
async fn a_certificate_logs_on_as_the_user_it_belongs_to() {
    let world = World::new(None, false);
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let client = Some(world.alice());
        let mut wire = tls_connect_with(world.server.https, versions, test_roots(), client).await.unwrap();
        for _ in 0..3 {
            let answer = wire.ask(&request(MUTUAL, "<a/>")).await;
            assert_eq!((answer.status, answer.text()), (200, "alice Utf8 <a/>"));
        }
        assert_eq!(world.server.audit.take(), ["alice 127.0.0.1 certificate logon done"], "once for a connection");
    }
    // By other parts of it, whatever else the user may do.
    let carol = world.authority.issue("carol", |params| {
        params.subject_alt_names.push(SanType::Rfc822Name("carol@example.test".try_into().unwrap()));
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
    });
    let thumbprint = CertificateRule::of_certificate(&carol.0[0]).to_string();
    for rule in ["subject=O=shop, CN=Carol", "email=CAROL@example.test", &thumbprint] {
        admit(&world.server.users_file, &["dns=nowhere", rule]);
        let answer = world.log_on((carol.0.clone(), carol.1.clone_key())).await;
        assert_eq!((answer.status, answer.text()), (200, "alice Utf8 <a/>"), "{rule}");
    }
}

#[tokio::test]
async fn a_rule_may_ask_for_one_authority() {
    let world = World::new(None, false);
    let other = Authority::new("Others");
    fs::write(world.directory.path().join("ca.pem"), format!("{}{}", world.authority.pem, other.pem)).unwrap();
    world.server.identity.reload().unwrap();
    let of = |authority: &Authority| {
        let rule = CertificateRule::of_certificate(&CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap());
        rule.to_string().replace("thumbprint=", "issuer=") + ";upn=alice@example.test"
    };
    let forged = || other.issue("alice@example.test", |_| ());
    let forged_status = async || world.log_on(forged()).await.status;
    assert_eq!(forged_status().await, 200, "every authority can name every user");
    admit(&world.server.users_file, &[&of(&world.authority)]);
    assert_eq!((world.log_on(world.alice()).await.status, forged_status().await), (200, 401));
    admit(&world.server.users_file, &[&of(&other)]);
    assert_eq!((world.log_on(world.alice()).await.status, forged_status().await), (401, 200));
    // Both are shown by their SHA-1.
    let shown = world.server.identity.authorities();
    assert!(shown.len() == 2 && shown.iter().all(|digits| digits.len() == 40), "{shown:?}");
    admit(&world.server.users_file, &[&format!("issuer={};upn=alice@example.test", shown[1].to_lowercase())]);
    assert_eq!((world.log_on(world.alice()).await.status, forged_status().await), (401, 200));
}

#[tokio::test]
async fn other_schemes_go_on_beside_certificates() {
    let world = World::new(None, false);
    for client in [None, Some(world.alice())] {
        let answer = world.connect(client).await.ask(&request(&basic("admin:secret"), "<a/>")).await;
        assert_eq!((answer.status, answer.text()), (200, "Admin Utf8 <a/>"));
    }
    // A user without a password has none that could be guessed.
    for password in ["", "*"] {
        let answer = world.connect(None).await.ask(&request(&basic(&format!("alice:{password}")), "<a/>")).await;
        assert_eq!(answer.status, 401);
    }
}

#[tokio::test]
async fn what_does_not_count_is_refused_and_recorded() {
    let world = World::new(Some(&[77]), false);
    let foreign = Authority::new("Clients");
    let cases: Vec<(&str, Client)> = vec![
        ("xpired", world.authority.issue("alice@example.test", |params| params.not_after = date_time_ymd(2026, 1, 1))),
        (
            "not valid yet",
            world.authority.issue("alice@example.test", |params| {
                params.not_before = date_time_ymd(2080, 1, 1);
            }),
        ),
        (
            "evoked",
            world.authority.issue("alice@example.test", |params| {
                params.serial_number = Some(SerialNumber::from(77));
            }),
        ),
        ("does not count", foreign.issue("alice@example.test", |_| ())),
        (
            "does not count",
            world.authority.issue("alice@example.test", |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
    ];
    for (what, client) in cases {
        let answer = world.log_on(client).await;
        assert_eq!((answer.status, answer.body.len()), (401, 0), "{what}");
        assert_eq!(offers(&answer), ["Basic realm=\"WSMAN\""], "{what}");
        world.told(what);
    }
    assert_eq!(world.log_on(world.alice()).await.status, 200, "the server goes on");
    let mallory = world.authority.issue("mallory@example.test", |_| ());
    world.server.audit.take();
    assert_eq!(world.log_on(mallory).await.status, 401);
    world.told("mallory@example.test 127.0.0.1 certificate logon refused: the certificate belongs to no user");
    assert_eq!(world.log_on(world.alice()).await.status, 401, "six are too many");
}

#[tokio::test]
async fn header_and_certificate_are_nothing_without_each_other() {
    let world = World::new(None, false);
    let mut bare = world.connect(None).await;
    assert_eq!(bare.ask(&request(MUTUAL, "<a/>")).await.status, 401);
    world.told("the client has shown no certificate");
    let mut shown = world.connect(Some(world.alice())).await;
    for _ in 0..2 {
        assert_eq!(shown.ask(&request("", "<a/>")).await.status, 401);
    }
    world.told("no Authorization header that asks for it");
    assert_eq!(shown.ask(&request(MUTUAL, "<a/>")).await.status, 200);
    assert_eq!(shown.ask(&request("", "<a/>")).await.status, 401, "each request has to ask for it");
    assert_eq!(world.server.connect().await.ask(&request(MUTUAL, "<a/>")).await.status, 401, "never on plain HTTP");
    let closed = TestServer::start();
    let mut wire = tls_connect(closed.https, rustls::DEFAULT_VERSIONS).await;
    assert_eq!(wire.ask(&request(MUTUAL, "<a/>")).await.status, 401, "not switched on");
}

#[tokio::test]
async fn a_certificate_that_fits_two_users_logs_on_as_none() {
    let world = World::new(None, false);
    let mut users = UsersFile::load(&world.server.users_file).unwrap();
    let rule = vec!["subject=CN=alice@example.test".parse().unwrap()];
    users.set(User::without_password("bob").unwrap().with_certificates(rule));
    users.save(&world.server.users_file).unwrap();
    let client = world.authority.issue("alice@example.test", |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "alice@example.test");
    });
    assert_eq!(world.log_on(client).await.status, 401);
    world.told("fits several users");
}

#[tokio::test]
async fn revocation_and_removal_end_a_logon_that_is_open() {
    let world = World::new(Some(&[]), false);
    let client = || {
        world.authority.issue("alice@example.test", |params| {
            params.serial_number = Some(SerialNumber::from(5));
        })
    };
    let mut wire = world.connect(Some(client())).await;
    assert_eq!(wire.ask(&request(MUTUAL, "<a/>")).await.status, 200);
    fs::write(world.file("crl.pem"), world.authority.revoke(&[5], 2090)).unwrap();
    world.server.identity.reload().unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(wire.ask(&request(MUTUAL, "<a/>")).await.status, 401);
    // A list that is out of date says nothing, and then nobody is let in.
    fs::write(world.file("crl.pem"), world.authority.revoke(&[], 2021)).unwrap();
    world.server.identity.reload().unwrap();
    assert_eq!(wire.ask(&request(MUTUAL, "<a/>")).await.status, 401);
    fs::write(world.file("crl.pem"), world.authority.revoke(&[], 2090)).unwrap();
    world.server.identity.reload().unwrap();
    assert_eq!(wire.ask(&request(MUTUAL, "<a/>")).await.status, 200);
    admit(&world.server.users_file, &[]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(wire.ask(&request(MUTUAL, "<a/>")).await.status, 401);
}

#[tokio::test]
async fn where_certificates_are_required_nobody_else_is_talked_to() {
    let world = World::new(None, true);
    assert_eq!(world.log_on(world.alice()).await.status, 200);
    let mut wire = world.connect(Some(world.alice())).await;
    assert_eq!(wire.ask(&request(&basic("admin:secret"), "<a/>")).await.status, 200, "other schemes have to have one");
    world.server.audit.take();
    for client in [None, Some(Authority::new("Clients").issue("alice@example.test", |_| ()))] {
        // With TLS 1.3 the client learns of it with its first read.
        if let Ok(mut wire) = world.try_connect(client).await {
            wire.send(&request(MUTUAL, "<a/>")).await;
            assert!(wire.is_gone().await);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.told("no TLS without a certificate");
    }
}

#[tokio::test]
async fn a_new_certificate_is_served_and_a_broken_one_is_not() {
    let world = World::new(None, false);
    let old = world.server.identity.thumbprint();
    let mut open = world.connect(None).await;
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let new = params.self_signed(&key).unwrap();
    fs::write(world.file("server.pem"), new.pem()).unwrap();
    assert!(world.server.identity.reload().is_err(), "the key is still the old one");
    assert_eq!(world.server.identity.thumbprint(), old);
    world.connect(None).await;
    fs::write(world.file("server.key"), key.serialize_pem()).unwrap();
    world.server.identity.reload().unwrap();
    assert_ne!(world.server.identity.thumbprint(), old);
    assert_eq!(open.ask(&request(&basic("admin:secret"), "<a/>")).await.status, 200, "an open connection stays");
    assert!(world.try_connect(None).await.is_err(), "new ones get the new certificate, which is not trusted here");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(new.der().clone()).unwrap();
    let versions = rustls::DEFAULT_VERSIONS;
    let mut wire = tls_connect_with(world.server.https, versions, roots, None).await.unwrap();
    assert_eq!(wire.ask(&request(&basic("admin:secret"), "<a/>")).await.status, 200);
    for broken in ["", "nonsense"] {
        fs::write(world.file("server.key"), broken).unwrap();
        assert!(world.server.identity.reload().is_err());
    }
    let reason = world.server.identity.reload().unwrap_err().to_string();
    assert!(reason.contains("server.key"), "{reason}");
}

#[tokio::test]
async fn tls_1_2_can_be_switched_off() {
    let tls = TlsSettings { tls12: false, ..TlsSettings::new(&certs("server.pem"), &certs("server.key")) };
    let limits = Limits::default();
    let server = TestServer::secured(tls, true, limits, ChannelBindingPolicy::Relaxed, LogonLimits::default());
    let old = &[&rustls::version::TLS12];
    assert!(tls_connect_with(server.https, old, test_roots(), None).await.is_err());
    let mut wire = tls_connect(server.https, &[&rustls::version::TLS13]).await;
    assert_eq!(wire.ask(&request(&basic("admin:secret"), "<a/>")).await.status, 200);
}

#[test]
fn authorities_that_cannot_be_read_are_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("ca.pem");
    for text in [None, Some(""), Some("nonsense")] {
        if let Some(text) = text {
            fs::write(&file, text).unwrap();
        }
        let clients = Some(ClientAuthorities { authorities: file.clone(), revoked: None, required: false });
        let tls = TlsSettings { clients, ..TlsSettings::new(&certs("server.pem"), &certs("server.key")) };
        let error = wsnapd::transport::TlsIdentity::open(tls).unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }
}
