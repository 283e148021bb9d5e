"""Logon with client certificates by the clients that people have, and a server certificate that changes."""

import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest
from urllib.parse import urlsplit

import authority
import house
import server
import test_four_classes
import wsman
from authority import DAY, NOW
from wsman import V2

MUTUAL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/secprofile/https/mutual"
USER = "alice@example.test"
CONFIG = """
[service]
Certificate = true

[tls]
certificate = "tls/server.pem"
key = "tls/server.key"
client_ca = "tls/clients.pem"
client_crl = "tls/crl.pem"

[logon]
delay_after = 0
lockout_after = 0
"""


def prepare(demo):
    """Certificates, a configuration that asks for them, and a user to whom those of `USER` belong."""
    demo.start()
    demo.stop()
    directory = demo.data / "tls"
    directory.mkdir()
    demo.server_files = authority.server_certificate(directory / "server")
    demo.authority = authority.Authority(directory)
    demo.revoked = demo.authority.issue("revoked", USER)
    demo.authority.revoke(demo.revoked[2])
    with open(demo.data / "wsnapd.toml", "a") as file:
        file.write(CONFIG)
    command = [server.BINARY, "user", "add", "alice", "--no-password", "--role", "administrator"]
    command += ["--cert", f"upn={USER}", "--users-file", demo.data / "users"]
    subprocess.run(command, check=True, timeout=30)
    demo.start()


def pypsrp(demo, files):
    address = urlsplit(demo.https_url)
    options = {"certificate_pem": files[0], "certificate_key_pem": files[1]}
    return wsman.PypsrpSend(address.hostname, address.port, None, None, demo.ca, auth="certificate", **options)


def pywinrm(demo, files):
    from winrm.protocol import Protocol

    send = wsman.PywinrmSend.__new__(wsman.PywinrmSend)
    send.protocol = Protocol(
        endpoint=demo.https_url,
        transport="certificate",
        cert_pem=files[0],
        cert_key_pem=files[1],
        server_cert_validation="validate",
        ca_trust_path=demo.ca,
        proxy=None,
    )
    return send


def curl(demo, files, header=MUTUAL):
    send = wsman.CurlSend(demo.https_url, None, None, demo.ca)
    send.command += ["--cert", files[0], "--key", files[1]] if files else []
    send.command += ["--header", f"Authorization: {header}"] if header else []
    return send


CLIENTS = {"pypsrp": pypsrp, "pywinrm": pywinrm, "curl": curl}


class Certificates(test_four_classes.FourClasses):
    """The whole life of snapshots with certificates, on each of the four classes."""

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo(None, "--strict")
        cls.addClassCleanup(cls.demo.close)
        prepare(cls.demo)
        cls.files = cls.demo.authority.issue("alice", USER)
        make = lambda name: wsman.Cim(CLIENTS[name](cls.demo, cls.files), name)
        cls.clients = {name: make(name) for name in CLIENTS}

    def audit(self):
        file = self.demo.state() / "audit.log"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def test_the_trail_names_user_and_scheme(self):
        house.machine(wsman.Cim(curl(self.demo, self.files)), "web01")
        last = [line for line in self.audit() if line["event"] == "logon"][-1]
        self.assertEqual(("alice", "certificate", "done"), (last["user"], last["scheme"], last["outcome"]))

    def test_our_own_client_takes_a_snapshot(self):
        command = [server.BINARY, "snapshot", "create", "web01", "--type", "disk", "--name", "by certificate"]
        command += ["--url", self.demo.https_url, "--ca", self.demo.ca]
        command += ["--cert", self.files[0], "--key", self.files[1]]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        cim = self.clients["curl"]
        snapshot = house.only(house.snapshots_of(cim, house.machine(cim, "web01")), "snapshot")
        self.assertEqual("by certificate", cim.get(snapshot)["ElementName"])
        house.destroy(cim, snapshot)

    def test_what_does_not_count_is_refused_and_recorded(self):
        foreign = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, foreign)
        issue = self.demo.authority.issue
        cases = {
            "expired": issue("expired", USER, begin=NOW - 9 * DAY, end=NOW - DAY),
            "not valid yet": issue("early", USER, begin=NOW + DAY, end=NOW + 9 * DAY),
            "revoked": self.demo.revoked,
            "does not count": authority.Authority(foreign, "foreign").issue("alice", USER),
            "belongs to no user": issue("mallory", "mallory@example.test"),
        }
        get = wsman.envelope(f"{wsman.X}/Get", wsman.class_uri(V2, "Msvm_ComputerSystem"))
        for what, files in cases.items():
            with self.subTest(what):
                self.assertEqual((401, b""), curl(self.demo, files).post(get))
                last = self.audit()[-1]
                self.assertEqual(("logon", "certificate", "refused"), (last["event"], last["scheme"], last["outcome"]))
                self.assertIn(what, last["reason"].lower())
        with self.subTest("no header"):
            self.assertEqual(401, curl(self.demo, self.files, None).post(get)[0])
            self.assertIn("no Authorization header", self.audit()[-1]["reason"])
        with self.subTest("no certificate"):
            self.assertEqual(401, curl(self.demo, None).post(get)[0])
            self.assertIn("no certificate", self.audit()[-1]["reason"])
        house.machine(self.clients["curl"], "web01")

    def test_the_configuration_tells(self):
        cim = self.clients["curl"]
        auth = cim.get(wsman.Ref("http://schemas.microsoft.com/wbem/wsman/1/config/service/auth"))
        self.assertEqual("true", auth["Certificate"])


class Reload(unittest.TestCase):
    """The server's own certificate is replaced while it serves."""

    def thumbprint(self, cim):
        config = cim.get(wsman.Ref("http://schemas.microsoft.com/wbem/wsman/1/config/service"))
        return config["CertificateThumbprint"]

    def wait(self, what, check):
        deadline = time.monotonic() + 15
        while not check():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.2)

    def test_new_files_are_served_and_broken_ones_are_not(self):
        demo = server.Demo(None, "--strict")
        self.addCleanup(demo.close)
        prepare(demo)
        tls, files = demo.data / "tls", demo.authority.issue("alice", USER)
        demo.ca = str(demo.data / "old.pem")
        shutil.copy(tls / "server.pem", demo.ca)
        open_cim = wsman.Cim(demo.requests(), "requests")
        old = demo.server_files[2]
        self.assertEqual(old, self.thumbprint(open_cim))
        new = authority.server_certificate(tls / "new")
        shutil.copy(tls / "new.pem", tls / "server.pem")
        # The key of the old one: nothing changes, and the log says so.
        self.wait("the broken pair is told", lambda: "cannot be used" in demo.log())
        self.assertEqual(old, self.thumbprint(open_cim))
        house.machine(wsman.Cim(demo.requests()), "web01")
        shutil.copy(tls / "new.key", tls / "server.key")
        self.wait("the new one is shown", lambda: self.thumbprint(open_cim) == new[2])
        fresh = wsman.Cim(wsman.RequestsSend(demo.https_url, demo.user, demo.password, new[0]))
        house.machine(fresh, "web01")
        # Channel bindings follow: NTLM over TLS is bound to the new certificate on new connections.
        address = urlsplit(demo.https_url)
        bound = wsman.PypsrpSend(address.hostname, address.port, demo.user, demo.password, new[0], auth="ntlm")
        house.machine(wsman.Cim(bound), "web01")
        demo.ca = new[0]
        house.machine(wsman.Cim(curl(demo, files)), "web01")
        # And the connection of before goes on.
        house.destroy(open_cim, house.take(open_cim, "web01"))


def load_tests(loader, standard, pattern):
    """Of the inherited tests, those of the clients that know certificates."""
    suite = unittest.TestSuite()
    for case in (Certificates, Reload):
        for name in loader.getTestCaseNames(case):
            if "_requests_" not in name:
                suite.addTest(case(name))
    return suite


if __name__ == "__main__":
    unittest.main()
