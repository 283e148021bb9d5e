"""CredSSP with pypsrp and pywinrm, over HTTP where it seals and over HTTPS where it need not."""

import json
import unittest
from urllib.parse import urlsplit

import authority
import house
import server
import test_four_classes
import wsman
from cryptography.hazmat.primitives.asymmetric import rsa
from wsman import V2

CONFIG = """
[service]
CredSSP = true

[tls]
certificate = "tls/server.pem"
key = "tls/server.key"

[logon]
delay_after = 0
lockout_after = 0
"""
GET = (f"{wsman.X}/Get", wsman.class_uri(V2, "Msvm_ComputerSystem"), None, [])


def prepare(demo, further=""):
    demo.start()
    demo.stop()
    directory = demo.data / "tls"
    directory.mkdir()
    # The CredSSP of these clients (pyspnego) knows RSA keys only.
    authority.server_certificate(directory / "server", rsa.generate_private_key(65537, 2048))
    with open(demo.data / "wsnapd.toml", "a") as file:
        file.write(CONFIG + further)
    demo.start()


def pypsrp(demo, secure=False, password=None, **options):
    address = urlsplit(demo.https_url if secure else demo.http_url)
    credentials = (demo.user, password or demo.password, demo.ca)
    return wsman.PypsrpSend(address.hostname, address.port, *credentials, auth="credssp", ssl=secure, **options)


def pywinrm(demo, secure=False, password=None):
    url = demo.https_url if secure else demo.http_url
    return wsman.PywinrmSend(url, demo.user, password or demo.password, demo.ca, "credssp")


CLIENTS = {
    "pypsrp": lambda demo: pypsrp(demo),
    "pywinrm": lambda demo: pywinrm(demo),
    "requests": lambda demo: pypsrp(demo, True),
    "curl": lambda demo: pywinrm(demo, True),
}


class CredSsp(test_four_classes.FourClasses):
    """The whole life of snapshots on each of the four classes: `requests` and `curl` stand for pypsrp and pywinrm
    over HTTPS."""

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo(None, "--strict")
        cls.addClassCleanup(cls.demo.close)
        prepare(cls.demo)
        cls.clients = {name: wsman.Cim(make(cls.demo), name) for name, make in CLIENTS.items()}

    def audit(self):
        file = self.demo.state() / "audit.log"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [line for line in lines if line["event"] == "logon"]

    def test_the_trail_names_user_and_scheme_and_no_password(self):
        house.machine(wsman.Cim(pypsrp(self.demo)), "web01")
        last = self.audit()[-1]
        self.assertEqual((self.demo.user, "credssp", "done"), (last["user"], last["scheme"], last["outcome"]))
        self.assertNotIn(self.demo.password, (self.demo.state() / "audit.log").read_text())
        # The demo itself prints the password, in one line.
        lines = [line for line in self.demo.log_path.read_text().splitlines() if not line.startswith("Password")]
        self.assertNotIn(self.demo.password, "\n".join(lines))

    def test_both_mechanisms_inside(self):
        for mechanism in ("auto", "ntlm"):
            with self.subTest(mechanism):
                house.machine(wsman.Cim(pypsrp(self.demo, credssp_auth_mechanism=mechanism)), "web01")

    def test_long_messages_in_several_parts(self):
        cim = wsman.Cim(pypsrp(self.demo))
        snapshot = house.take(cim, "web01", SnapshotSettings=wsman.settings(Notes="x" * 60_000))
        self.assertEqual(60_000, len("".join(cim.get(snapshot).list("Notes"))))
        house.destroy(cim, snapshot)

    def test_a_wrong_password_is_refused(self):
        from pypsrp.exceptions import AuthenticationError
        from requests_credssp.exceptions import NTStatusException

        refusals = (AuthenticationError, NTStatusException)
        for make in (pypsrp, pywinrm):
            for secure in (False, True):
                with self.subTest(make.__name__, secure=secure):
                    with self.assertRaises(refusals) as refused:
                        make(self.demo, secure, "wrong")(*GET)
                    self.assertIn("STATUS_LOGON_FAILURE", str(refused.exception))
                    last = self.audit()[-1]
                    self.assertEqual(("credssp", "refused"), (last["scheme"], last["outcome"]))

    def test_another_public_key_is_noticed(self):
        """A client that sees another key, as it would with somebody in between."""
        import spnego._credssp

        right = spnego._credssp.get_certificate_public_key

        def wrong(data):
            key = bytearray(right(data))
            key[40] ^= 1
            return bytes(key)

        spnego._credssp.get_certificate_public_key = wrong
        try:
            with self.assertRaises(Exception):
                pypsrp(self.demo)(*GET)
        finally:
            spnego._credssp.get_certificate_public_key = right
        self.assertIn("another public key", self.audit()[-1]["reason"])

    def test_a_message_that_is_cut_off_is_refused(self):
        import spnego._credssp_structures as structures

        pack = structures.TSRequest.pack
        structures.TSRequest.pack = lambda self: pack(self)[:-1]
        try:
            with self.assertRaises(Exception):
                pypsrp(self.demo)(*GET)
        finally:
            structures.TSRequest.pack = pack
        house.machine(wsman.Cim(pypsrp(self.demo)), "web01")

    def test_old_clients_are_refused(self):
        import spnego._credssp

        version = spnego._credssp._CREDSSP_VERSION
        spnego._credssp._CREDSSP_VERSION = 4
        try:
            with self.assertRaises(Exception):
                pypsrp(self.demo)(*GET)
        finally:
            spnego._credssp._CREDSSP_VERSION = version

    def test_the_configuration_tells(self):
        auth = self.clients["pypsrp"].get(wsman.Ref("http://schemas.microsoft.com/wbem/wsman/1/config/service/auth"))
        self.assertEqual("true", auth["CredSSP"])


class OldVersions(unittest.TestCase):
    def test_they_work_where_they_are_asked_for(self):
        import spnego._credssp

        demo = server.Demo(None, "--strict")
        self.addCleanup(demo.close)
        prepare(demo, "credssp_oldest_version = 2\n")
        self.assertIn("CVE-2018-0886", demo.log())
        latest = spnego._credssp._CREDSSP_VERSION
        self.addCleanup(setattr, spnego._credssp, "_CREDSSP_VERSION", latest)
        for version in range(2, 7):
            with self.subTest(version):
                spnego._credssp._CREDSSP_VERSION = version
                house.machine(wsman.Cim(pypsrp(demo)), "web01")


if __name__ == "__main__":
    unittest.main()
