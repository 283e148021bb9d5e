"""The logons that real clients made elsewhere, as they were recorded (`fixtures/logons`), against this server.

Exact, byte for byte: every head, the requests with Basic and with a certificate, the first leg of CredSSP, and all of
a token of Kerberos, of SPNEGO around it and of a sealed message that is not encrypted.

Made again, because it was encrypted with keys that nobody has any more: with Kerberos what is inside of ticket and
authenticator and the sealed bytes, each as long as what it replaces, with the recorded clear text; with CredSSP, which
has a TLS connection inside, every leg but the first, with a clear text as long as the recorded one but for the names
in our challenge, and the sealed bytes. NTLM needs no key of the recording server: see
`src/transport/auth/recorded_tests.rs`.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import socket
import ssl
import struct
import subprocess
import unittest
from unittest import mock
from urllib.parse import urlsplit

import authority
import server
import test_credssp
import tickets
from cryptography import x509
from cryptography.hazmat.primitives import serialization

RECORDED = server.ROOT / "fixtures" / "logons"
USER, PASSWORD = "admin", "Passw0rd!"
OCTETS = b"Content-Type: application/octet-stream\r\n"
RELATES = re.compile(r"<\w+:RelatesTo>([^<]+)</")
MESSAGE_ID = re.compile(r"<\w+:MessageID[^>]*>([^<]+)</")


def requests(folder):
    """The recorded requests, and the clear text of those that were sealed."""
    for path in sorted((RECORDED / folder).glob("*.http")):
        clear = path.with_suffix(".clear.xml")
        yield path.read_bytes(), clear.read_bytes() if clear.exists() else None


class Connection:
    """Bytes to the server, and its answers."""

    def __init__(self, url, context=None):
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=20)
        if context:
            self.socket = context.wrap_socket(self.socket)
        self.file = self.socket.makefile("rb")

    def ask(self, request):
        """Status, head and body of the answer."""
        self.socket.sendall(request)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.file.readline()
            if not line:
                raise AssertionError(f"the connection ended: {head}")
            head += line
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        return int(head.split()[1]), head.decode(), self.file.read(int(length[1]) if length else 0)

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def offers(head):
    return re.findall(r"(?im)^www-authenticate: (.*)\r$", head)


def token_of(message):
    """Scheme and token of a request or an answer."""
    found = re.search(r"(?im)^(?:authorization|www-authenticate): (\w+) (\S+)\r$", message)
    return found and (found[1], base64.b64decode(found[2]))


def with_token(request, token):
    """A recorded request with another token."""
    encoded = base64.b64encode(token)
    return re.sub(rb"(?m)^(Authorization: \w+) \S+\r$", lambda found: found[1] + b" " + encoded + b"\r", request)


def split(request):
    head, _, body = request.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def user_command(demo, *arguments):
    command = [server.BINARY, "user", *arguments, "--users-file", str(demo.data / "users")]
    subprocess.run(command, check=True, timeout=60)


def with_recorded_password(demo):
    """The demo has a user of the recorded name, whose password it reads at its start."""
    (demo.data / "password").write_text(PASSWORD + "\n")


def logons(demo):
    lines = (demo.state() / "audit.log").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == "logon"]


class Kerberos(unittest.TestCase):
    """Tickets of pypsrp, pywinrm and omicli: raw under both words and in SPNEGO, with one mechanism and with two."""

    #: Folder, realm and user: the length of the authenticators tells how long their names were.
    CLIENTS = [
        ("pypsrp-kerberos", "TEST.LOCAL", "admin"),
        ("pypsrp-negotiate-kerberos", "TEST.LOCAL", "admin"),
        ("pypsrp-spnego-kerberos", "TEST.LOCAL", "admin"),
        ("pywinrm-kerberos-kerberos", "TEST.LOCAL", "admin"),
        ("pywinrm-kerberos-negotiate", "TEST.LOCAL", "admin"),
        ("omicli-kerberos", "OMI.TEST", "omitest"),
        ("omicli-negotiate-kerberos", "OMI.TEST", "omitest"),
    ]
    SERVICES = [("TEST.LOCAL", "WSMAN"), ("TEST.LOCAL", "HTTP"), ("OMI.TEST", "http")]

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo(None, "--strict")
        cls.addClassCleanup(cls.demo.close)
        cls.key = os.urandom(32)
        (cls.demo.directory / "krb5.conf").write_text(
            "[libdefaults]\ndefault_realm = TEST.LOCAL\ndns_lookup_kdc = false\ndns_canonicalize_hostname = false\n"
        )
        cls.demo.environment = {"KRB5_CONFIG": str(cls.demo.directory / "krb5.conf")}
        cls.demo.start()
        cls.demo.stop()
        keytab = cls.demo.directory / "keytab"
        # The recorded tickets are for the second key of each service.
        keytab.write_bytes(tickets.keytab((realm, name, "localhost", 2, cls.key) for realm, name in cls.SERVICES))
        keytab.chmod(0o600)
        with open(cls.demo.data / "wsnapd.toml", "a") as file:
            file.write(f"\n[kerberos]\nkeytab = {json.dumps(str(keytab))}\n")
            file.write("\n[logon]\ndelay_after = 0\nlockout_after = 0\n")
        for principal in ("admin@TEST.LOCAL", "omitest@OMI.TEST"):
            user_command(cls.demo, "add", principal)
        cls.demo.start()

    def unsealed(self, head, body, logon):
        """The clear text of an answer, which is framed as the request was."""
        length = int(re.search(rb"Length=(\d+)", body)[1])
        at = body.index(OCTETS) + len(OCTETS)
        size = struct.unpack("<I", body[at : at + 4])[0]
        header, data = body[at + 4 : at + 4 + size], body[at + 4 + size : at + 4 + size + length]
        self.assertEqual((60, b"--Encrypted Boundary--\r\n"), (size, body[at + 4 + size + length :]))
        return logon.unseal(header, data).decode()

    def test_the_recorded_logons_with_keys_of_ours(self):
        for folder, realm, user in self.CLIENTS:
            with self.subTest(folder), Connection(self.demo.http_url) as wire:
                logon = tickets.Logon(self.key, user, realm)
                sealed = 0
                for request, clear in requests(folder):
                    sent = token_of(request.decode("latin-1"))
                    if clear is not None:
                        self.sealed_message(wire, logon, request, clear)
                        sealed += 1
                    elif sent is None:
                        status, head, _ = wire.ask(request)
                        self.assertEqual((401, ["Negotiate", "Kerberos"]), (status, offers(head)[:2]))
                    else:
                        self.first_leg(wire, logon, request, sent, f"{user}@{realm}")
                # omicli was refused where it was recorded, so it sealed nothing.
                self.assertEqual(sealed > 0, not folder.startswith("omicli"))

    def first_leg(self, wire, logon, request, sent, principal):
        scheme, recorded = sent
        token = logon.request(recorded)
        self.assertEqual(len(recorded), len(token))
        status, head, body = wire.ask(with_token(request, token))
        answered = token_of(head)
        self.assertEqual((200, b"", scheme), (status, body, answered[0]))
        # In kind: raw for raw, SPNEGO for SPNEGO.
        self.assertEqual(0x60 if recorded[4:].startswith(tickets.KRB5) else 0xA1, answered[1][0])
        logon.answered(answered[1])
        last = logons(self.demo)[-1]
        self.assertEqual((principal, "kerberos", "done"), (last["user"], last["scheme"], last["outcome"]))

    def sealed_message(self, wire, logon, request, clear):
        head, body = split(request)
        at = body.index(OCTETS) + len(OCTETS) + 4
        header, data = logon.seal(clear)
        self.assertEqual(struct.pack("<I", len(header)), body[at - 4 : at])
        ours = body[:at] + header + data + body[at + len(header) + len(data) :]
        self.assertEqual(len(body), len(ours))
        status, answer, sealed = wire.ask(head + ours)
        protocol = re.search(rb'protocol="([^"]+)"', head)[1].decode()
        self.assertIn(f'multipart/encrypted;protocol="{protocol}"', answer)
        # They ask for what there is nowhere here: the fault is about their message, and sealed.
        fault = self.unsealed(answer, sealed, logon)
        self.assertEqual(500, status)
        self.assertEqual(MESSAGE_ID.search(clear.decode())[1], RELATES.search(fault)[1])

    def test_the_recorded_tickets_themselves_are_of_other_keys(self):
        for folder, _, _ in self.CLIENTS:
            before = len(logons(self.demo))
            with self.subTest(folder), Connection(self.demo.http_url) as wire:
                for request, _ in requests(folder):
                    if token_of(request.decode("latin-1")):
                        self.assertEqual(401, wire.ask(request)[0])
                lines = logons(self.demo)[before:]
                self.assertEqual([("kerberos", "refused")], [(line["scheme"], line["outcome"]) for line in lines])

    def test_a_ticket_that_was_made_again_counts_once(self):
        request = next(request for request, _ in requests("pypsrp-kerberos") if token_of(request.decode("latin-1")))
        token = tickets.Logon(self.key, "admin", "TEST.LOCAL").request(token_of(request.decode("latin-1"))[1])
        for expected in (200, 401):
            with Connection(self.demo.http_url) as wire:
                self.assertEqual(expected, wire.ask(with_token(request, token))[0])


class Inner:
    """The TLS connection inside of CredSSP."""

    def __init__(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.taken, self.given = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.taken, self.given, server_hostname="localhost")

    def handshake(self, token=b""):
        """The next bytes for the server."""
        self.taken.write(token)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self.given.read()

    def seal(self, clear):
        self.tls.write(clear)
        return self.given.read()

    def unseal(self, token):
        self.taken.write(token)
        clear = b""
        while True:
            try:
                clear += self.tls.read(65536)
            except ssl.SSLWantReadError:
                return clear

    def key(self):
        """`SubjectPublicKey` of the server: what the BIT STRING holds."""
        certificate = x509.load_der_x509_certificate(self.tls.getpeercert(True))
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        info = certificate.public_key().public_bytes(serialization.Encoding.DER, form)
        return tickets.walk(info, 0x30, 0x03)[1:]


class CredSsp(unittest.TestCase):
    """CredSSP of pypsrp: raw NTLM inside of version 6, and messages of one and of two parts."""

    NONCE = bytes(range(32))
    #: The recorded challenge had the names VM, WORKSTATION and vm in it, and ours has vm four times.
    NAMES = 2 * len("VMWORKSTATIONvm") + 3 * 4 - 4 * (2 * len("vm") + 4)

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo(None, "--strict")
        cls.addClassCleanup(cls.demo.close)
        cls.demo.start()
        cls.demo.stop()
        with_recorded_password(cls.demo)
        # The name of the recording server.
        config = cls.demo.data / "wsnapd.toml"
        config.write_text('host_name = "vm"\n' + config.read_text())
        test_credssp.prepare(cls.demo)

    def proof(self, inner, direction):
        return hashlib.sha256(b"CredSSP %s Binding Hash\0" % direction + self.NONCE + inner.key()).digest()

    def leg(self, wire, request, token):
        """A recorded head with another token; gives the token of the answer."""
        status, head, body = wire.ask(with_token(request, token))
        self.assertEqual((401, b""), (status, body))
        scheme, answer = token_of(head)
        self.assertEqual("CredSSP", scheme)
        return answer

    def test_the_recorded_logon_and_its_messages(self):
        recorded = list(requests("credssp"))
        (bare, _), *legs = [entry for entry in recorded if entry[1] is None]
        with Connection(self.demo.http_url) as wire:
            status, head, _ = wire.ask(bare)
            self.assertEqual((401, True), (status, "CredSSP" in offers(head)))
            inner = self.log_on(wire, [request for request, _ in legs])
            last = logons(self.demo)[-1]
            self.assertEqual((USER, "credssp", "done"), (last["user"], last["scheme"], last["outcome"]))
            for request, clear in recorded:
                if clear is not None:
                    self.sealed_message(wire, inner, request, clear)

    def log_on(self, wire, legs):
        import spnego

        hello, finished, negotiate, authenticate, credentials = legs
        inner = Inner()
        last = inner.handshake(self.leg(wire, hello, inner.handshake()))
        self.assertIsNotNone(inner.tls.version())
        inner.unseal(self.leg(wire, finished, last))

        def sized(request, clear, names=0):
            """Of the length that the recorded leg had, less what the names of this server are shorter."""
            record = token_of(request.decode("latin-1"))[1]
            # Five bytes of head, and 17 that TLS 1.3 adds.
            self.assertEqual(len(record) - 22 - names, len(clear))
            return inner.seal(clear)

        with mock.patch.dict(os.environ, NETBIOS_COMPUTER_NAME="VM"):
            options = spnego.NegotiateOptions.use_ntlm
            client = spnego.client(
                f"WORKGROUP\\{USER}", PASSWORD, hostname="localhost", service="HTTP", protocol="ntlm", options=options
            )
            token = request_of(nego=client.step())
            answer = inner.unseal(self.leg(wire, negotiate, sized(negotiate, token)))
            challenge = tickets.walk(answer, 0x30, 0xA1, 0x30, 0x30, 0xA0, 0x04)
            type_3 = client.step(challenge)
        proof = client.wrap(self.proof(inner, b"Client-To-Server")).data
        token = request_of(nego=type_3, proof=proof, nonce=self.NONCE)
        answer = inner.unseal(self.leg(wire, authenticate, sized(authenticate, token, self.NAMES)))
        theirs = client.unwrap(tickets.walk(answer, 0x30, 0xA3, 0x04)).data
        self.assertEqual(self.proof(inner, b"Server-To-Client"), theirs)
        token = request_of(credentials=client.wrap(handed_over("WORKGROUP", USER, PASSWORD)).data)
        status, head, body = wire.ask(with_token(credentials, sized(credentials, token)))
        self.assertEqual((200, b"", []), (status, body, offers(head)))
        return inner

    def sealed_message(self, wire, inner, request, clear):
        head, body = split(request)
        ours, rest = b"", body
        lengths = [int(length) for length in re.findall(rb"Length=(\d+)", body)]
        self.assertEqual(len(clear), sum(lengths))
        for length in lengths:
            at = rest.index(OCTETS) + len(OCTETS) + 4
            # 17 is what the recorded client tells of TLS 1.3.
            self.assertEqual(struct.pack("<I", 17), rest[at - 4 : at])
            record, clear = inner.seal(clear[:length]), clear[length:]
            self.assertEqual(length + 22, len(record))
            ours, rest = ours + rest[:at] + record, rest[at + len(record) :]
        status, answer, sealed = wire.ask(head + ours + rest)
        self.assertEqual((500, len(body)), (status, len(ours + rest)))
        self.assertIn("multipart/", answer)
        parts = sealed.split(OCTETS)[1:]
        record = b"".join(part[4 : 9 + struct.unpack(">H", part[7:9])[0]] for part in parts)
        fault = inner.unseal(record).decode()
        message = next(text for one, text in requests("credssp") if one == request).decode()
        self.assertEqual(MESSAGE_ID.search(message)[1], RELATES.search(fault)[1])

    def test_the_recorded_first_leg_itself(self):
        legs = [request for request, clear in requests("credssp") if clear is None]
        with Connection(self.demo.http_url) as wire:
            status, head, body = wire.ask(legs[1])
            self.assertEqual((401, b""), (status, body))
            answer = token_of(head)[1]
            # A record of the handshake with a ServerHello.
            self.assertEqual((22, 2), (answer[0], answer[5]))
            # What follows was for another server.
            status, head, _ = wire.ask(legs[2])
            self.assertEqual((401, ["CredSSP"]), (status, offers(head)))
            status, head, _ = wire.ask(legs[3])
            self.assertEqual((401, ["CredSSP"]), (status, offers(head)))


def request_of(nego=None, credentials=None, proof=None, nonce=None):
    """A `TSRequest` of version 6."""
    fields = [tickets.field(0, tickets.number(6))]
    if nego:
        token = tickets.element(0x30, tickets.field(0, tickets.element(4, nego)))
        fields.append(tickets.field(1, tickets.element(0x30, token)))
    for index, content in ((2, credentials), (3, proof), (5, nonce)):
        if content:
            fields.append(tickets.field(index, tickets.element(4, content)))
    return tickets.element(0x30, *fields)


def handed_over(domain, user, password):
    """`TSCredentials` with a password."""
    texts = (part.encode("utf-16-le") for part in (domain, user, password))
    inner = tickets.element(0x30, *(tickets.field(at, tickets.element(4, part)) for at, part in enumerate(texts)))
    return tickets.element(0x30, tickets.field(0, tickets.number(1)), tickets.field(1, tickets.element(4, inner)))


class Others(unittest.TestCase):
    """Requests that carry all of the logon: nothing of them is changed."""

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo(None)
        cls.addClassCleanup(cls.demo.close)
        cls.demo.start()
        cls.demo.stop()
        with_recorded_password(cls.demo)
        directory = cls.demo.data / "tls"
        directory.mkdir()
        vouching = authority.Authority(directory)
        *cls.files, _ = vouching.issue("admin", "admin@example.test")
        with open(cls.demo.data / "wsnapd.toml", "a") as file:
            file.write('\n[service]\nCertificate = true\n\n[tls]\nclient_ca = "tls/clients.pem"\n')
        user_command(cls.demo, "add", "mapped", "--no-password", "--cert", "upn=admin@example.test")
        cls.demo.start()

    def check(self, folder, context, scheme, user):
        ((request, _),) = requests(folder)
        with Connection(self.demo.https_url, context) as wire:
            status, _, body = wire.ask(request)
            self.assertEqual(500, status)
            self.assertEqual(MESSAGE_ID.search(request.decode())[1], RELATES.search(body.decode())[1])
        last = logons(self.demo)[-1]
        self.assertEqual((user, scheme, "done"), (last["user"], last["scheme"], last["outcome"]))

    def context(self):
        context = ssl.create_default_context(cafile=str(self.demo.ca))
        context.check_hostname = False
        return context

    def test_basic(self):
        self.check("basic-https", self.context(), "basic", USER)

    def test_certificate(self):
        context = self.context()
        context.load_cert_chain(*self.files)
        self.check("cert-https", context, "certificate", "mapped")


if __name__ == "__main__":
    unittest.main()
