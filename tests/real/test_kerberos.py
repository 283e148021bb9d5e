"""Kerberos with a real KDC: the clients that people have, sealed over plain HTTP and bare over HTTPS, and tickets
that are not good."""

import base64
import http.client
import json
import os
import re
import ssl
import struct
import subprocess
import sys
import time
import unittest
from urllib.parse import urlsplit

import house
import kdc
import server
import test_four_classes
import wsman
from wsman import V2

USER, PASSWORD = f"alice@{kdc.REALM}", "alice's password"
STRANGER = f"mallory@{kdc.REALM}"
SPNEGO = "application/HTTP-SPNEGO-session-encrypted"
KERBEROS = "application/HTTP-Kerberos-session-encrypted"


def set_up(cls, policy=""):
    """A realm, and a strict server with a keytab of it."""
    cls.kdc = kdc.Kdc()
    cls.addClassCleanup(cls.kdc.close)
    cls.kdc.start()
    keytab = cls.kdc.keytab("server.keytab")
    sha2 = f"{kdc.SHA2}:normal,{kdc.SHA2_128}:normal"
    cls.kdc.admin(
        f'addprinc -pw "{PASSWORD}" alice',
        f'addprinc -pw "{PASSWORD}" mallory',
        "addprinc -randkey HTTP/localhost",
        "addprinc -randkey host/localhost",
        # One service has keys of SHA-2 only.
        f"addprinc -randkey -e {sha2} WSMAN/localhost",
        "addprinc -randkey HTTP/wrong.example.test",
        "addprinc -randkey HTTP/absent.example.test",
        "addprinc -randkey nfs/localhost",
        f"ktadd -q -k {keytab} HTTP/localhost host/localhost HTTP/wrong.example.test nfs/localhost",
        f"ktadd -q -e {sha2} -k {keytab} WSMAN/localhost",
        # Another key with the number of the one in the keytab.
        "cpw -randkey HTTP/wrong.example.test",
        "modprinc -kvno 2 HTTP/wrong.example.test",
    )
    before = {name: os.environ.get(name) for name in ("KRB5_CONFIG", "KRB5CCNAME", "KRB5_KTNAME")}

    def restore():
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    cls.addClassCleanup(restore)
    cls.alice = cls.kdc.log_on("alice", PASSWORD, "alice")
    cls.mallory = cls.kdc.log_on("mallory", PASSWORD, "mallory")
    os.environ.update(cls.kdc.environment | cls.alice)

    cls.demo = server.Demo(None, "--strict")
    cls.addClassCleanup(cls.demo.close)
    cls.demo.environment = dict(cls.kdc.environment)
    cls.demo.start()
    cls.demo.stop()
    config = cls.demo.data / "wsnapd.toml"
    # Before the first table.
    text = config.read_text()
    config.write_text(f"{text}\n[kerberos]\nkeytab = {json.dumps(str(keytab))}\n{policy}")
    command = [server.BINARY, "user", "add", USER, "--users-file", str(cls.demo.data / "users")]
    subprocess.run(command, check=True, timeout=30)
    cls.demo.start()
    for attribute in ("http_url", "https_url"):
        # Tickets are for names, not for addresses.
        url = getattr(cls.demo, attribute)
        setattr(cls.demo, attribute, url.replace("127.0.0.1", "localhost"))


def audit_lines(demo):
    path = demo.state() / "audit.log"
    return [json.loads(line) for line in path.read_text().splitlines()]


class RequestsGssapi(wsman.RequestsSend):
    """`requests` with the adaptor of requests-gssapi."""

    def __init__(self, url, ca):
        from requests_gssapi import HTTPSPNEGOAuth

        super().__init__(url, None, None, ca)
        self.session.auth = HTTPSPNEGOAuth(mutual_authentication=True, opportunistic_auth=True)


class Clients(test_four_classes.Cycles, unittest.TestCase):
    """Every client that knows Kerberos runs all four classes' CreateSnapshot."""

    @classmethod
    def setUpClass(cls):
        set_up(cls)

    def pypsrp(self, auth, secure, **options):
        address = urlsplit(self.demo.https_url if secure else self.demo.http_url)
        options.setdefault("negotiate_service", "HTTP")
        return wsman.PypsrpSend(
            address.hostname, address.port, None, None, self.demo.ca, auth=auth, ssl=secure, **options
        )

    def pywinrm(self, secure):
        url = self.demo.https_url if secure else self.demo.http_url
        return wsman.PywinrmSend(url, None, None, self.demo.ca, "kerberos")

    def work(self, send, name):
        """`CreateSnapshot` of each class, once, where another test goes the whole way with the same client."""
        house.snapshots_by_every_class(wsman.Cim(send, name), name)

    def four_classes(self, send, name):
        """All of them, and the audit trail tells who did it and how."""
        cim, before = wsman.Cim(send, name), len(audit_lines(self.demo))
        self.machine_cycle(cim, "CIM_VirtualSystemSnapshotService", V2)
        self.machine_cycle(cim, "Msvm_VirtualSystemSnapshotService", V2)
        self.group_cycle(cim)
        self.volume_cycle(cim)
        lines = audit_lines(self.demo)[before:]
        self.assertEqual({("kerberos", USER)}, {(line["scheme"], line["user"]) for line in lines})
        self.assertIn(("logon", "done"), {(line["event"], line["outcome"]) for line in lines})

    def test_pypsrp_kerberos_http(self):
        self.four_classes(self.pypsrp("kerberos", False), "pypsrp kerberos http")

    def test_pypsrp_kerberos_https(self):
        self.work(self.pypsrp("kerberos", True), "pypsrp kerberos https")

    def test_pypsrp_negotiate_http(self):
        self.work(self.pypsrp("negotiate", False), "pypsrp negotiate http")

    def test_pypsrp_negotiate_https(self):
        self.four_classes(self.pypsrp("negotiate", True), "pypsrp negotiate https")

    def test_pypsrp_with_the_other_services(self):
        for service in ("host", "WSMAN"):
            for secure in (False, True):
                with self.subTest(service, secure=secure):
                    cim = wsman.Cim(self.pypsrp("kerberos", secure, negotiate_service=service), service)
                    self.assertEqual("web01", cim.get(house.machine(cim, "web01"))["ElementName"])

    def test_pywinrm_http(self):
        self.four_classes(self.pywinrm(False), "pywinrm kerberos http")

    def test_pywinrm_https(self):
        self.work(self.pywinrm(True), "pywinrm kerberos https")

    def test_curl(self):
        send = wsman.CurlSend(self.demo.https_url, "", "", self.demo.ca)
        send.command += ["--negotiate", "--user", ":"]
        self.four_classes(send, "curl negotiate")

    def test_requests(self):
        self.four_classes(RequestsGssapi(self.demo.https_url, self.demo.ca), "requests gssapi")

    def test_the_offer_and_the_configuration_name_kerberos(self):
        status, headers, _ = Wire(self.demo.http_url).post(b"")
        self.assertEqual((401, ["Negotiate", "Kerberos"]), (status, headers))


class Wire:
    """One connection with tickets, tokens and sealed messages in our own hands."""

    def __init__(self, url, ca=None):
        address = urlsplit(url)
        if address.scheme == "https":
            context = ssl.create_default_context(cafile=ca)
            self.connection = http.client.HTTPSConnection(
                address.hostname, address.port, timeout=30, context=context
            )
        else:
            self.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        self.context = None

    def post(self, body, **headers):
        self.connection.request("POST", "/wsman", body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.headers.get_all("WWW-Authenticate") or [], answer.read()

    def token(self, service="HTTP", host="localhost", binding=None, flags=None, mech=None):
        """A first token, made with the credentials of the environment."""
        import gssapi

        name = gssapi.Name(f"{service}@{host}", gssapi.NameType.hostbased_service)
        flag = gssapi.RequirementFlag
        wanted = flag.mutual_authentication | flag.confidentiality | flag.integrity
        wanted |= flag.replay_detection | flag.out_of_sequence_detection
        bound = gssapi.raw.ChannelBindings(application_data=binding) if binding else None
        self.context = gssapi.SecurityContext(
            name=name,
            usage="initiate",
            mech=mech or gssapi.MechType.kerberos,
            flags=wanted if flags is None else flags,
            channel_bindings=bound,
        )
        return self.context.step()

    def offer(self, token, scheme="Kerberos"):
        return self.post(b"", Authorization=f"{scheme} {base64.b64encode(token).decode()}")

    def log_on(self, scheme="Kerberos", **options):
        status, headers, body = self.offer(self.token(**options), scheme)
        if status == 200:
            self.context.step(base64.b64decode(headers[0].split()[1]))
            assert self.context.complete and not body
        return status, headers

    def seal(self, text):
        """Header and data."""
        import gssapi

        kinds = gssapi.raw.IOVBufferType
        iov = gssapi.raw.IOV(kinds.header, text.encode(), kinds.padding, std_layout=False)
        gssapi.raw.wrap_iov(self.context, iov, confidential=True)
        return iov[0].value, iov[1].value + (iov[2].value or b"")

    def sealed(self, header, data, label=KERBEROS):
        body = (
            f"--Encrypted Boundary\r\n\tContent-Type: {label}\r\n"
            f"\tOriginalContent: type=application/soap+xml;charset=UTF-8;Length={len(data)}\r\n"
            f"--Encrypted Boundary\r\n\tContent-Type: application/octet-stream\r\n"
        ).encode()
        body += struct.pack("<I", len(header)) + header + data + b"--Encrypted Boundary--\r\n"
        content_type = f'multipart/encrypted;protocol="{label}";boundary="Encrypted Boundary"'
        return self.post(body, **{"Content-Type": content_type})

    def unseal(self, body):
        start = body.index(b"octet-stream\r\n") + len(b"octet-stream\r\n")
        length = struct.unpack("<I", body[start : start + 4])[0]
        end = body.rindex(b"--Encrypted Boundary--")
        return length, self.context.unwrap(body[start + 4 : end]).message.decode()


class Tickets(unittest.TestCase):
    """Tickets that are good, and all others."""

    @classmethod
    def setUpClass(cls):
        set_up(cls)

    def wire(self, secure=False):
        return Wire(self.demo.https_url if secure else self.demo.http_url, self.demo.ca)

    def refused(self, answer, reason, scheme="Kerberos", user="", token=False):
        """401 with the bare scheme, one line of audit, and the next one logs on as if nothing had been."""
        status, headers, body = answer
        self.assertEqual((401, b""), (status, body))
        if not token:
            self.assertEqual([scheme], headers)
        line = audit_lines(self.demo)[-1]
        found = tuple(line.get(name) for name in ("event", "scheme", "user", "outcome"))
        self.assertEqual(("logon", "kerberos", user, "refused"), found, line)
        self.assertRegex(line["reason"], reason)
        self.assertEqual(200, self.wire().log_on()[0], "the server goes on")

    def test_messages_are_sealed_both_ways(self):
        for kind, size in ((kdc.SHA1, 60), (kdc.SHA2_128, 64), (kdc.SHA2, 72)):
            os.environ.update(self.kdc.log_on_with(kind, "alice", PASSWORD))
            self.addCleanup(os.environ.update, self.kdc.environment | self.alice)
            for label in (KERBEROS, SPNEGO):
                with self.subTest(kind, label=label):
                    wire = self.wire()
                    self.assertEqual(200, wire.log_on(service="HTTP" if kind == kdc.SHA1 else "WSMAN")[0])
                    for _ in range(3):
                        header, data = wire.seal(wsman.identify_envelope())
                        self.assertEqual(size, len(header))
                        status, _, body = wire.sealed(header, data, label)
                        self.assertEqual(200, status)
                        self.assertIn(label.encode(), body)
                        length, text = wire.unseal(body)
                        self.assertEqual(size, length)
                        self.assertIn("IdentifyResponse", text)

    def test_spnego_and_raw_tickets_under_both_words(self):
        import gssapi

        spnego = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
        for scheme, mech in (("Negotiate", None), ("Kerberos", None), ("Negotiate", spnego)):
            with self.subTest(scheme, mech=mech):
                wire = self.wire()
                status, headers = wire.log_on(scheme, mech=mech)
                self.assertEqual(200, status)
                self.assertEqual(scheme, headers[0].split()[0])
                header, data = wire.seal(wsman.identify_envelope())
                self.assertEqual(200, wire.sealed(header, data)[0])

    def test_no_bit_of_a_sealed_message_may_change(self):
        header, data = self.logged_on().seal("<a/>")
        self.assertEqual((60, 4), (len(header), len(data)))
        for bit in range((len(header) + len(data)) * 8):
            # Each takes a logon of its own.
            wire = self.logged_on()
            header, data = wire.seal("<a/>")
            whole = bytearray(header + data)
            whole[bit // 8] ^= 1 << bit % 8
            status, _, body = wire.sealed(bytes(whole[: len(header)]), bytes(whole[len(header) :]))
            self.assertEqual((400, b""), (status, body), bit)
        line = audit_lines(self.demo)[-1]
        self.assertEqual((USER, "kerberos", "refused"), tuple(line[n] for n in ("user", "scheme", "outcome")))
        self.assertIn("cannot be unsealed", line["reason"])

    def logged_on(self):
        wire = self.wire()
        self.assertEqual(200, wire.log_on()[0])
        return wire

    def test_a_sealed_message_counts_once_in_its_order_and_on_its_connection(self):
        import gssapi

        # Also for clients that do not ask the library to look at numbers.
        flag = gssapi.RequirementFlag
        for flags in (None, flag.mutual_authentication | flag.confidentiality | flag.integrity):
            wire = self.wire()
            self.assertEqual(200, wire.log_on(flags=flags)[0])
            first, second = wire.seal(wsman.identify_envelope()), wire.seal(wsman.identify_envelope())
            self.assertEqual(200, wire.sealed(*first)[0])
            self.assertEqual(200, wire.sealed(*second)[0])
            self.assertEqual(400, wire.sealed(*first)[0])
        wire, other = self.logged_on(), self.logged_on()
        self.assertEqual(400, other.sealed(*wire.seal(wsman.identify_envelope()))[0])
        signed = self.logged_on()
        token = signed.context.wrap(wsman.identify_envelope().encode(), False).message
        self.assertEqual(400, signed.sealed(token[:16], token[16:])[0], "signed only")

    def test_clear_text_over_http_is_refused(self):
        wire = self.logged_on()
        body = wsman.identify_envelope().encode()
        status, _, body = wire.post(body, **{"Content-Type": "application/soap+xml;charset=UTF-8"})
        self.assertEqual(500, status)
        self.assertIn(b"AccessDenied", body)

    def test_a_replayed_ticket(self):
        wire = self.wire()
        token = wire.token()
        self.assertEqual(200, wire.offer(token)[0])
        self.refused(self.wire().offer(token), "(?i)replay")

    def test_a_ticket_after_a_restart_is_still_a_replay(self):
        token = self.wire().token()
        self.assertEqual(200, self.wire().offer(token)[0])
        self.demo.stop()
        self.demo.start()
        for attribute in ("http_url", "https_url"):
            setattr(self.demo, attribute, getattr(self.demo, attribute).replace("127.0.0.1", "localhost"))
        self.refused(self.wire().offer(token), "(?i)replay|skew")

    def test_a_ticket_for_a_key_that_is_wrong_or_absent(self):
        wire = self.wire()
        self.refused(wire.offer(wire.token(host="wrong.example.test")), "(?i)integrity|decrypt|key")
        wire = self.wire()
        self.refused(wire.offer(wire.token(host="absent.example.test")), "(?i)absent.example.test")

    def test_a_ticket_for_another_service(self):
        wire = self.wire()
        self.refused(wire.offer(wire.token(service="nfs")), "nfs/localhost")

    def test_a_ticket_whose_owner_is_no_user(self):
        os.environ.update(self.mallory)
        try:
            token = self.wire().token()
        finally:
            os.environ.update(self.alice)
        self.refused(self.wire().offer(token), "no user has this name", user=STRANGER)

    def test_a_ticket_that_was_changed(self):
        wire = self.wire()
        token = bytearray(wire.token())
        token[-1] ^= 1
        self.refused(wire.offer(bytes(token)), "(?i)integrity|decrypt")

    def test_tokens_that_cannot_be_read(self):
        token = self.wire().token()
        for wrong in (token[:2], token[:-1], token + b"\0", token[:17] + b"\xff" * 60, b"NTLMSSP\0\1\0\0\0"):
            status, headers, _ = self.wire().offer(wrong)
            self.assertEqual((401, ["Kerberos"]), (status, headers), wrong[:20])
        self.assertEqual(200, self.wire().log_on()[0])

    def test_clocks_that_differ(self):
        script = (
            "import sys; sys.path.insert(0, sys.argv[1]); import base64, test_kerberos as t;"
            "print(base64.b64encode(t.Wire('http://localhost').token()).decode())"
        )
        # The ticket is fetched at the right time.
        self.wire().token()
        command = ["faketime", "-f", "+600s", sys.executable, "-c", script, os.path.dirname(__file__)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(0, made.returncode, made.stderr)
        answer = self.wire().offer(base64.b64decode(made.stdout))
        self.refused(answer, "(?i)skew", token=True)
        word, token = answer[1][0].split()
        self.assertEqual("Kerberos", word)
        error = base64.b64decode(token)
        # A KRB-ERROR with the code 37, which clients correct their clocks by.
        self.assertEqual(b"\x03\x00\x7e", error[13:16])
        self.assertIn(b"\xa6\x03\x02\x01\x25", error)

    def test_a_ticket_that_ended(self):
        environment = self.kdc.log_on("alice", PASSWORD, "short", lifetime="4s")
        os.environ.update(environment)
        try:
            wire, late = self.wire(), self.wire()
            self.assertEqual(200, wire.log_on()[0])
            token = late.token()
        finally:
            os.environ.update(self.alice)
        self.assertEqual(200, wire.sealed(*wire.seal(wsman.identify_envelope()))[0])
        time.sleep(4 + kdc.SKEW + 2)
        status, headers, _ = wire.sealed(*wire.seal(wsman.identify_envelope()))
        self.assertEqual((401, ["Negotiate", "Kerberos"]), (status, headers))
        self.assertIn("the ticket has ended", audit_lines(self.demo)[-1]["reason"])
        self.refused(late.offer(token), "(?i)expired|skew", token=True)

    def test_a_user_who_is_removed_is_logged_off(self):
        wire = self.logged_on()
        file = self.demo.data / "users"
        before = file.read_text()
        try:
            file.write_text("".join(line + "\n" for line in before.splitlines() if "@" not in line))
            time.sleep(1.2)
            self.assertEqual(401, wire.sealed(*wire.seal(wsman.identify_envelope()))[0])
        finally:
            file.write_text(before)

    def test_the_role_is_that_of_the_user(self):
        file = str(self.demo.data / "users")
        command = [server.BINARY, "user", "set", USER, "--users-file", file, "--role"]
        subprocess.run([*command, "reader"], check=True, timeout=30)
        try:
            cim = wsman.Cim(RequestsGssapi(self.demo.https_url, self.demo.ca), "requests")
            with self.assertRaises(wsman.WsmanFault) as caught:
                house.take(cim, "web01")
            self.assertIn("AccessDenied", caught.exception.subcode)
        finally:
            subprocess.run([*command, "administrator"], check=True, timeout=30)


class Bindings(unittest.TestCase):
    """Channel bindings under the strict policy; the relaxed one is that of `Tickets`."""

    @classmethod
    def setUpClass(cls):
        set_up(cls, '[service]\nCbtHardeningLevel = "Strict"\n')

    def binding(self):
        import hashlib

        pem = open(self.demo.ca).read()
        der = ssl.PEM_cert_to_DER_cert(re.search("-----BEGIN.*?-----END CERTIFICATE-----\n", pem, re.S)[0])
        return b"tls-server-end-point:" + hashlib.sha256(der).digest()

    def test_bindings_must_be_there_and_right(self):
        wire = lambda: Wire(self.demo.https_url, self.demo.ca)
        right = self.binding()
        self.assertEqual(200, wire().log_on(binding=right)[0])
        for wrong, reason in (
            (None, "channel binding"),
            (right[:-1] + bytes([right[-1] ^ 1]), "(?i)channel bindings"),
            (b"tls-unique:" + right, "(?i)channel bindings"),
        ):
            self.assertEqual(401, wire().log_on(binding=wrong)[0], wrong)
            line = audit_lines(self.demo)[-1]
            self.assertEqual("refused", line["outcome"])
            self.assertRegex(line["reason"], reason)
        # There is nothing to bind to on plain HTTP.
        self.assertEqual(200, Wire(self.demo.http_url).log_on()[0])

    def test_clients_send_them(self):
        address = urlsplit(self.demo.https_url)
        for auth in ("kerberos", "negotiate"):
            for bound in (True, False):
                with self.subTest(auth, bound=bound):
                    send = wsman.PypsrpSend(
                        address.hostname,
                        address.port,
                        None,
                        None,
                        self.demo.ca,
                        auth=auth,
                        negotiate_service="HTTP",
                        negotiate_send_cbt=bound,
                    )
                    cim = wsman.Cim(send, auth)
                    if bound:
                        house.machine(cim, "web01")
                    else:
                        with self.assertRaises(Exception):
                            house.machine(cim, "web01")


class Start(unittest.TestCase):
    """A keytab that is of no use is told at the start, and what to do."""

    def told(self, keytab, services=""):
        demo = server.Demo()
        self.addCleanup(demo.close)
        demo.data.mkdir(parents=True)
        config = demo.directory / "wsnapd.toml"
        config.write_text(f"{server.EMPTY_CONFIG}[kerberos]\nkeytab = {json.dumps(str(keytab))}\n{services}")
        command = [server.BINARY, "serve", "--config", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        self.assertNotEqual(0, done.returncode)
        return done.stderr

    def test_keytabs(self):
        realm = kdc.Kdc().start()
        self.addCleanup(realm.close)
        self.assertIn("cannot read the keytab", self.told(realm.keytab("none")))
        self.assertIn("is not a keytab", self.told(realm.directory / "krb5.conf"))
        realm.admin("addprinc -randkey nfs/localhost", f"ktadd -q -k {realm.keytab('nfs')} nfs/localhost")
        self.assertIn("has no key of HTTP, WSMAN, host", self.told(realm.keytab("nfs")))
        self.assertIn("not the name of a service", self.told(realm.keytab("nfs"), 'services = ["HTTP/x"]\n'))


if __name__ == "__main__":
    unittest.main()
