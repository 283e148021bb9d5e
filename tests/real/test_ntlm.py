"""NTLM under Negotiate with the clients that people have, sealed over plain HTTP and bare over HTTPS."""

import pathlib
import subprocess
import tempfile
import unittest
from urllib.parse import urlsplit

import house
import server
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
