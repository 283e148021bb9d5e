"""NTLM under Negotiate with the clients that people have, sealed over plain HTTP and bare over HTTPS."""

import base64
import http.client
import json
import pathlib
import ssl
import subprocess
import tempfile
import time
import unittest
from urllib.parse import urlsplit

import house
import server
import tickets
import wsman
from wsman import V2


class Ntlm(unittest.TestCase):
    """On a strict server: plain HTTP takes sealed messages only."""

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo(None, "--strict")
        cls.addClassCleanup(cls.demo.close)
        cls.demo.start()

    def pypsrp(self, auth, secure, password=None, **options):
        address = urlsplit(self.demo.https_url if secure else self.demo.http_url)
        return wsman.PypsrpSend(
            address.hostname,
            address.port,
            self.demo.user,
            password or self.demo.password,
            self.demo.ca,
            auth=auth,
            ssl=secure,
            **options,
        )

    def pywinrm(self, secure, password=None):
        url = self.demo.https_url if secure else self.demo.http_url
        return wsman.PywinrmSend(url, self.demo.user, password or self.demo.password, self.demo.ca, "ntlm")

    def curl(self, *options):
        client = wsman.CurlSend(self.demo.https_url, self.demo.user, self.demo.password, self.demo.ca)
        client.command += options
        return client

    def work(self, send, name):
        """Reads, takes a snapshot, sees a fault and goes on, then one snapshot of each class, all in one session."""
        cim = wsman.Cim(send, name)
        machine = house.machine(cim, "web01")
        self.assertEqual("web01", cim.get(machine)["ElementName"])
        snapshot = house.take(cim, "web01")
        house.destroy(cim, snapshot)
        with self.assertRaises(wsman.WsmanFault):
            cim.get(snapshot)
        self.assertEqual("web01", cim.get(machine)["ElementName"])
        house.snapshots_by_every_class(cim, name.replace(" ", "-"))

    def test_pypsrp_seals_over_http(self):
        for auth in ("negotiate", "ntlm"):
            with self.subTest(auth):
                self.work(self.pypsrp(auth, False), f"pypsrp {auth}")

    def test_pypsrp_over_https_with_and_without_channel_binding(self):
        for auth in ("negotiate", "ntlm"):
            for bound in (True, False):
                with self.subTest(auth, bound=bound):
                    send = self.pypsrp(auth, True, negotiate_send_cbt=bound)
                    self.work(send, f"pypsrp {auth} https")

    def test_pywinrm_seals_over_http_and_works_over_https(self):
        for secure in (False, True):
            with self.subTest(secure=secure):
                self.work(self.pywinrm(secure), "pywinrm ntlm")

    def test_curl_over_https(self):
        self.work(self.curl("--ntlm"), "curl --ntlm")

    def test_requests_over_https(self):
        from requests_ntlm import HttpNtlmAuth

        send = self.demo.requests()
        send.session.auth = HttpNtlmAuth(self.demo.user, self.demo.password)
        self.work(send, "requests ntlm")

    def test_a_wrong_password_is_refused(self):
        from pypsrp.exceptions import AuthenticationError
        from winrm.exceptions import InvalidCredentialsError

        get = (f"{wsman.X}/Get", wsman.class_uri(V2, "Msvm_ComputerSystem"), None, [])
        for secure in (False, True):
            for auth in ("negotiate", "ntlm"):
                with self.subTest(auth, secure=secure), self.assertRaises(AuthenticationError):
                    self.pypsrp(auth, secure, "wrong")(*get)
            with self.subTest("pywinrm", secure=secure), self.assertRaises(InvalidCredentialsError):
                self.pywinrm(secure, "wrong")(*get)

    def test_clear_text_over_http_is_refused(self):
        client = wsman.CurlSend(self.demo.http_url, self.demo.user, self.demo.password, None)
        client.command += ["--ntlm"]
        status, body = client.post(wsman.identify_envelope())
        self.assertEqual(500, status)
        self.assertIn(b"AccessDenied", body)


class Handshakes(unittest.TestCase):
    """Handshakes that are dragged on: in tokens, in bytes and in time. Each is refused with the word alone and is a
    line of the audit trail, and whoever comes next is served, on the same connection and on others."""

    TIME, TOKENS, CREDSSP_TOKENS, BYTES = 2, 8, 12, 64 * 1024
    SPNEGO, NTLM = bytes.fromhex("2b0601050502"), bytes.fromhex("2b06010401823702020a")
    KERBEROS, NEGOEX = bytes.fromhex("2a864886f712010202"), bytes.fromhex("2b06010401823702021e")
    TYPE_1 = b"NTLMSSP\0\x01\0\0\0\x31\x02\x08\xe0"

    def setUp(self):
        self.demo = server.Demo(None, "--strict")
        self.addCleanup(self.demo.close)
        self.demo.start()
        self.demo.stop()
        with open(self.demo.data / "wsnapd.toml", "a") as file:
            file.write(f"\n[service]\nCredSSP = true\nHandshakeTimeoutms = {1000 * self.TIME}\n")
        self.demo.start()
        address = urlsplit(self.demo.http_url)
        self.wire = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        self.addCleanup(self.wire.close)

    def offer(self, token, word="Negotiate"):
        """The token of the answer; empty when the server wants no more of this handshake."""
        value = f"{word} {base64.b64encode(token).decode()}"
        self.wire.request("POST", "/wsman", b"", {"Authorization": value})
        answer = self.wire.getresponse()
        offers = answer.headers.get_all("WWW-Authenticate")
        self.assertEqual((401, b"", 1), (answer.status, answer.read(), len(offers)))
        got, _, token = offers[0].partition(" ")
        self.assertEqual(word, got)
        return base64.b64decode(token)

    def lines(self):
        lines = (self.demo.state() / "audit.log").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == "logon"]

    def refused(self, reason, scheme="negotiate"):
        last = self.lines()[-1]
        keys = ("user", "scheme", "outcome", "reason")
        self.assertEqual(("", scheme, "refused", reason), tuple(last.get(key, "") for key in keys))
        self.goes_on()

    def client(self):
        import spnego

        options = spnego.NegotiateOptions.use_ntlm
        return spnego.client(
            self.demo.user, self.demo.password, hostname="localhost", service="HTTP", protocol="ntlm", options=options
        )

    def goes_on(self):
        """A handshake on this connection, and a client on another one."""
        client = self.client()
        token = base64.b64encode(client.step(self.offer(client.step()))).decode()
        self.wire.request("POST", "/wsman", b"", {"Authorization": f"Negotiate {token}"})
        answer = self.wire.getresponse()
        self.assertEqual((200, b""), (answer.status, answer.read()))
        address = urlsplit(self.demo.http_url)
        credentials = (self.demo.user, self.demo.password, self.demo.ca)
        send = wsman.PypsrpSend(address.hostname, address.port, *credentials, auth="negotiate", ssl=False)
        house.machine(wsman.Cim(send, "pypsrp"), "web01")

    def first(self, *names, token=None):
        mechanisms = tickets.element(0x30, *(tickets.element(6, name) for name in names))
        hoped = [tickets.field(2, tickets.element(4, token))] if token is not None else []
        body = tickets.field(0, tickets.element(0x30, tickets.field(0, mechanisms), *hoped))
        return tickets.element(0x60, tickets.element(6, self.SPNEGO), body)

    @staticmethod
    def further(token=None, mic=None, state=None):
        parts = [tickets.field(0, tickets.element(10, bytes([state])))] if state is not None else []
        parts += [tickets.field(at, tickets.element(4, part)) for at, part in ((2, token), (3, mic)) if part is not None]
        return tickets.element(0xA1, tickets.element(0x30, *parts))

    def test_no_handshake_has_more_than_eight_tokens(self):
        firsts = [
            self.TYPE_1,
            self.first(self.NTLM),
            self.first(self.NTLM, token=self.TYPE_1),
            self.first(self.KERBEROS, self.NTLM, token=b"\x60\x0d\x06\x09" + self.KERBEROS + b"\x01\0"),
            self.first(self.NEGOEX, self.KERBEROS, self.NTLM, token=b"NEGOEXTS"),
        ]
        furthers = [
            self.further(),
            self.further(token=b""),
            self.further(token=self.TYPE_1),
            self.further(token=self.TYPE_1[:9]),
            self.further(token=self.TYPE_1, mic=bytes(16)),
            self.further(token=self.TYPE_1, state=1),
            self.further(mic=bytes(16)),
            self.further(state=1),
            self.further(state=3),
            self.TYPE_1[9:],
        ]

        def goes_on(tokens):
            # The first token begins anew, whatever was before.
            return all([self.offer(token) for token in tokens])

        longest, ways = 0, [[token] for token in firsts if goes_on([token])]
        self.assertEqual(len(firsts), len(ways))
        while ways:
            longest += 1
            self.assertLess(longest, self.TOKENS, "the handshake goes on after the last token that it may have")
            ways = [[*way, token] for way in ways for token in furthers if goes_on([*way, token])]
        # NTLM has three at most: to be told of it, to begin, and the proof.
        self.assertEqual(2, longest)

        # Whoever just goes on is refused from there on, as often as it may be.
        self.assertTrue(goes_on([firsts[-1], furthers[2]]))
        for _ in range(2 * self.TOKENS):
            self.assertEqual(b"", self.offer(furthers[2]))
        lines = self.lines()
        kinds = {(line["user"], line["scheme"], line["outcome"]) for line in lines}
        self.assertEqual((10, {("", "negotiate", "refused")}), (len(lines), kinds), "the others are counted")
        self.goes_on()

    def test_fragments_end_at_the_twelfth_token(self):
        """CredSSP takes what is cut in pieces, because TLS is inside."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        hello = ssl.MemoryBIO()
        with self.assertRaises(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
        hello = hello.read()
        # The head of record and message, and then a byte each.
        pieces = [hello[:6]] + [bytes([byte]) for byte in hello[6:]]
        for piece in pieces[: self.CREDSSP_TOKENS]:
            self.assertEqual(b"", self.offer(piece, "CredSSP"))
        self.assertEqual([], self.lines())
        self.assertEqual(b"", self.offer(pieces[self.CREDSSP_TOKENS], "CredSSP"))
        self.refused("the handshake takes too long", "credssp")
        # All at once it is no error.
        self.assertNotEqual(b"", self.offer(hello, "CredSSP"))

    def test_a_token_has_at_most_64_kib(self):
        self.offer(self.TYPE_1)
        # The longest is looked into.
        self.assertEqual(b"", self.offer(self.further(token=bytes(self.BYTES - 16)).ljust(self.BYTES, b"x")))
        self.refused("malformed NTLM message")
        self.offer(self.TYPE_1)
        self.assertEqual(b"", self.offer(bytes(self.BYTES + 1)))
        self.refused("the token is no Base64, or too long")
        # A head with a longer one is not read to its end.
        self.wire.request("POST", "/wsman", b"", {"Authorization": "Negotiate " + "A" * 200_000})
        self.assertEqual(431, self.wire.getresponse().status)
        self.wire.close()
        self.goes_on()

    def test_a_handshake_has_to_end_in_time(self):
        client = self.client()
        challenge = self.offer(client.step())
        time.sleep(self.TIME + 0.3)
        self.assertEqual(b"", self.offer(client.step(challenge)))
        self.refused("the handshake takes too long")


class Users(unittest.TestCase):
    """`wsnapd user` keeps an NT hash only for those who are to have one."""

    def test_the_hash_comes_and_goes(self):
        with tempfile.TemporaryDirectory() as name:
            directory = pathlib.Path(name)
            file, password = directory / "users", directory / "password"
            password.write_text("Passw0rd!\n")

            def user(*arguments):
                command = [server.BINARY, "user", *arguments, "--users-file", file]
                return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout

            given = ["--password-file", password]
            marker = ":$NT$fc525c9683e8fe067095ba2ddc971889\n"
            user("add", "alice", *given)
            self.assertNotIn("$NT$", file.read_text())
            user("passwd", "alice", "--ntlm", *given)
            self.assertIn(marker, file.read_text())
            self.assertEqual("alice\tadministrator\t-\tNTLM\n", user("list"))
            password.write_text("another\n")
            user("passwd", "alice", *given)
            self.assertIn("$NT$", file.read_text())
            self.assertNotIn(marker, file.read_text())
            user("passwd", "alice", "--no-ntlm", *given)
            self.assertNotIn("$NT$", file.read_text())
            self.assertEqual("alice\tadministrator\t-\n", user("list"))
            self.assertEqual(0o600, file.stat().st_mode & 0o777)
