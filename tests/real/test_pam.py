"""Passwords that the host checks, with Linux-PAM and its modules, and no account of this host: pam_wrapper gives the
library a directory of services of our own."""

import json
import pathlib
import subprocess
import time
import unittest
import warnings
from urllib.parse import urlsplit

import house
import server
import wsman
from wsman import V2

PASSWORDS = {"Alice": "alice's password", "bob": "bob's password", "carol": "carol's password"}
SOAP = {"Content-Type": "application/soap+xml;charset=UTF-8"}
CONFIG = """
[logon]
pam_service = "wsnapd-test"
"""


def wrapper():
    """The library that leads the one of PAM to another directory."""
    found = sorted(pathlib.Path("/usr/lib").glob("*/libpam_wrapper.so"))
    if not found:
        raise AssertionError("libpam-wrapper is not installed")
    return str(found[0])


def hashed(password):
    """As in `/etc/shadow`."""
    made = subprocess.run(["openssl", "passwd", "-6", password], check=True, capture_output=True, text=True, timeout=30)
    return made.stdout.strip()


class Host(unittest.TestCase):
    """A server that asks a service of PAM."""

    FURTHER = ""

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo(None)
        cls.addClassCleanup(cls.demo.close)
        cls.demo.start()
        cls.demo.stop()
        cls.services = cls.demo.directory / "pam.d"
        cls.services.mkdir()
        cls.closed = cls.demo.directory / "closed"
        cls.closed.write_text("")
        cls.passwords = cls.demo.directory / "passwd"
        cls.write_passwords(PASSWORDS)
        cls.asked = cls.demo.directory / "asked"
        cls.write_service()
        with open(cls.demo.data / "wsnapd.toml", "a") as file:
            file.write(CONFIG + cls.FURTHER)
        for name, *rights in (("Alice",), ("bob", "--role", "reader")):
            cls.user("add", name, "--pam", *rights)
        cls.demo.environment = {
            "LD_PRELOAD": wrapper(),
            "PAM_WRAPPER": "1",
            "PAM_WRAPPER_SERVICE_DIR": str(cls.services),
        }
        cls.demo.start()

    @classmethod
    def user(cls, *arguments):
        command = [server.BINARY, "user", *arguments, "--users-file", str(cls.demo.data / "users")]
        return subprocess.run(command, check=True, timeout=30, capture_output=True, text=True).stdout

    @classmethod
    def write_passwords(cls, passwords):
        lines = [f"{user}:{hashed(password)}" for user, password in passwords.items()]
        # Nobody reads half of it.
        file = cls.passwords.with_suffix(".new")
        file.write_text("\n".join(lines) + "\n")
        file.rename(cls.passwords)

    @classmethod
    def write_service(cls):
        """Passwords of a file, with a note of what the library was told; accounts except those of a list."""
        note = cls.demo.directory / "note"
        note.write_text(f'#!/bin/sh\necho "$PAM_SERVICE $PAM_USER $PAM_RHOST" >>{cls.asked}\n')
        note.chmod(0o755)
        lines = [
            f"auth optional pam_exec.so quiet {note}",
            f"auth required pam_pwdfile.so pwdfile={cls.passwords} nodelay",
            f"account required pam_listfile.so item=user sense=deny onerr=fail file={cls.closed}",
        ]
        (cls.services / "wsnapd-test").write_text("\n".join(lines) + "\n")

    @classmethod
    def tearDownClass(cls):
        cls.demo.stop()

    def tearDown(self):
        self.closed.write_text("")
        self.write_passwords(PASSWORDS)

    def cim(self, user, password):
        return wsman.Cim(wsman.RequestsSend(self.demo.https_url, user, password, self.demo.ca), "requests")

    def status(self, user, password):
        """What the answer to a request was."""
        import requests

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            credentials = (user, password)
            answer = requests.post(
                self.demo.https_url, b"<a/>", auth=credentials, verify=self.demo.ca, headers=SOAP, timeout=30
            )
        return answer.status_code

    def audit(self):
        lines = (self.demo.state() / "audit.log").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == "logon"]


class Logons(Host):
    FURTHER = "delay_after = 0\nlockout_after = 0\n"

    def test_every_client_takes_snapshots_with_a_password_of_the_host(self):
        address = urlsplit(self.demo.https_url)
        credentials = ("alice", PASSWORDS["Alice"], self.demo.ca)
        for send in (
            wsman.PypsrpSend(address.hostname, address.port, *credentials),
            wsman.PywinrmSend(self.demo.https_url, *credentials),
            wsman.RequestsSend(self.demo.https_url, *credentials),
            wsman.CurlSend(self.demo.https_url, *credentials),
        ):
            name = type(send).__name__
            with self.subTest(name):
                house.snapshots_by_every_class(wsman.Cim(send, name), name)
        last = self.audit()[-1]
        self.assertEqual(("alice", "basic", "done"), (last["user"], last["scheme"], last["outcome"]))

    def test_role_and_case_are_those_of_the_store(self):
        self.asked.write_text("")
        cim = self.cim("ALICE", PASSWORDS["Alice"])
        house.machine(cim, "web01")
        # The name is that of the account of the host, however the client writes it.
        self.assertEqual(["wsnapd-test Alice 127.0.0.1"], self.asked.read_text().splitlines())
        reader = self.cim("bob", PASSWORDS["bob"])
        with self.assertRaises(wsman.WsmanFault) as refused:
            house.take(reader, "web01")
        self.assertIn("AccessDenied", str(refused.exception.subcode))
        listed = self.user("list")
        self.assertIn("Alice\tadministrator\t-\tPAM\n", listed)
        self.assertIn("bob\treader\t-\tPAM\n", listed)

    def test_accounts_of_the_host_that_are_not_in_the_store_cannot_log_on(self):
        self.asked.write_text("")
        self.assertEqual(401, self.status("carol", PASSWORDS["carol"]))
        self.assertEqual("", self.asked.read_text())

    def test_an_account_that_is_closed_is_refused_with_the_reason(self):
        self.user("add", "dora", "--pam")
        self.write_passwords({**PASSWORDS, "dora": "dora's password"})
        self.closed.write_text("dora\n")
        self.assertEqual(401, self.status("dora", "dora's password"))
        self.assertIn("does not let the account log on", self.audit()[-1]["reason"])

    def test_a_change_on_the_host_counts_at_the_next_logon_and_a_removal_at_once(self):
        self.user("add", "carol", "--pam")
        try:
            self.assertEqual(500, self.status("carol", PASSWORDS["carol"]))
            self.write_passwords({**PASSWORDS, "carol": "another"})
            # What was right is remembered for half a minute; what is new is asked about.
            self.assertEqual(500, self.status("carol", "another"))
        finally:
            self.user("remove", "carol")
        time.sleep(2.1)
        self.assertEqual(401, self.status("carol", PASSWORDS["carol"]))
        self.assertEqual(401, self.status("carol", "another"))

    def test_a_host_that_cannot_tell_is_an_answer_of_its_own(self):
        self.passwords.rename(self.passwords.with_suffix(".away"))
        # No wrong password: it locks nobody out.
        for _ in range(7):
            self.assertEqual(503, self.status("bob", "another password"))
        self.write_passwords(PASSWORDS)
        self.assertEqual(500, self.status("bob", PASSWORDS["bob"]))

    def test_users_of_the_host_have_no_ntlm(self):
        import requests
        from requests_ntlm import HttpNtlmAuth

        auth = HttpNtlmAuth("alice", PASSWORDS["Alice"])
        answer = requests.post(self.demo.https_url, b"<a/>", auth=auth, verify=self.demo.ca, headers=SOAP, timeout=30)
        self.assertEqual(401, answer.status_code)
        self.assertEqual("ntlm", self.audit()[-1]["scheme"])

    def test_neither_log_nor_audit_holds_a_password(self):
        self.status("alice", PASSWORDS["Alice"])
        for text in (self.demo.log_path.read_text(), (self.demo.state() / "audit.log").read_text()):
            for password in PASSWORDS.values():
                self.assertNotIn(password, text)


class Defence(Host):
    FURTHER = "delay_after = 3\ndelay_ms = 300\ndelay_limit_ms = 300\nlockout_after = 6\nlockout_seconds = 2\n"

    def test_wrong_passwords_are_counted_delayed_and_locked_out(self):
        self.assertEqual(500, self.status("alice", PASSWORDS["Alice"]))
        for number in range(6):
            begun = time.monotonic()
            self.assertEqual(401, self.status("alice", f"guess {number}"))
            if number >= 2:
                self.assertGreater(time.monotonic() - begun, 0.25)
            last = self.audit()[-1]
            self.assertEqual(("alice", "basic", "refused"), (last["user"], last["scheme"], last["outcome"]))
        self.assertIn("locked out", last["reason"])
        self.asked.write_text("")
        self.assertEqual(401, self.status("alice", PASSWORDS["Alice"]))
        self.assertEqual("", self.asked.read_text(), "nothing is compared")
        time.sleep(2.1)
        self.assertEqual(500, self.status("alice", PASSWORDS["Alice"]))
