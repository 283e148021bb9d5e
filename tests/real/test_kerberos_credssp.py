"""Kerberos inside of CredSSP, with a real KDC: the clients fetch a ticket with the password that they hand over."""

import os
import subprocess
import time
import unittest
from unittest import mock
from urllib.parse import urlsplit

import authority
import house
import server
import test_credssp
import test_kerberos
import wsman
from cryptography.hazmat.primitives.asymmetric import rsa
from test_kerberos import PASSWORD, STRANGER, USER


class Inside(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        test_kerberos.set_up(cls)
        cls.demo.stop()
        directory = cls.demo.data / "tls"
        directory.mkdir()
        authority.server_certificate(directory / "server", rsa.generate_private_key(65537, 2048))
        with open(cls.demo.data / "wsnapd.toml", "a") as file:
            file.write(test_credssp.CONFIG)
        cls.demo.start()
        for attribute in ("http_url", "https_url"):
            setattr(cls.demo, attribute, getattr(cls.demo, attribute).replace("127.0.0.1", "localhost"))
        # The clients have nothing but name and password.
        os.environ["KRB5CCNAME"] = f"FILE:{cls.kdc.directory / 'nobody'}"

    def pypsrp(self, user, password, secure=False, mechanism="kerberos"):
        address = urlsplit(self.demo.https_url if secure else self.demo.http_url)
        credentials = (user, password, self.demo.ca)
        options = {"auth": "credssp", "ssl": secure, "credssp_auth_mechanism": mechanism}
        return wsman.PypsrpSend(address.hostname, address.port, *credentials, **options)

    def logons(self):
        return [line for line in test_kerberos.audit_lines(self.demo) if line["event"] == "logon"]

    def test_pypsrp_takes_snapshots(self):
        for secure in (False, True):
            with self.subTest(secure=secure):
                cim = wsman.Cim(self.pypsrp(USER, PASSWORD, secure), "pypsrp credssp kerberos")
                house.snapshots_by_every_class(cim, f"credssp-{secure}")
        last = self.logons()[-1]
        self.assertEqual((USER, "credssp", "done"), (last["user"], last["scheme"], last["outcome"]))

    def test_kerberos_in_spnego_in_credssp(self):
        before = len(self.logons())
        house.machine(wsman.Cim(self.pypsrp(USER, PASSWORD, mechanism="auto")), "web01")
        self.assertEqual([(USER, "done")], [(line["user"], line["outcome"]) for line in self.logons()[before:]])

    def test_ntlm_inside_goes_on_beside_it(self):
        house.machine(wsman.Cim(self.pypsrp(self.demo.user, self.demo.password, mechanism="ntlm")), "web01")
        last = self.logons()[-1]
        self.assertEqual((self.demo.user, "credssp", "done"), (last["user"], last["scheme"], last["outcome"]))

    def test_a_principal_who_is_not_in_the_list_is_refused(self):
        with self.assertRaises(Exception):
            self.pypsrp(STRANGER, PASSWORD)(*test_credssp.GET)
        last = self.logons()[-1]
        self.assertEqual((STRANGER, "credssp", "refused"), (last["user"], last["scheme"], last["outcome"]))
        self.assertIn("no user has this name", last["reason"])

    def test_credentials_of_somebody_else_end_the_logon(self):
        import spnego._credssp as credssp

        right = credssp.TSPasswordCreds
        self.addCleanup(setattr, credssp, "TSPasswordCreds", right)
        credssp.TSPasswordCreds = lambda domain, user, password: right(domain, "eve", password)
        with self.assertRaises(Exception):
            self.pypsrp(USER, PASSWORD)(*test_credssp.GET)
        last = self.logons()[-1]
        self.assertEqual((USER, "credssp", "refused"), (last["user"], last["scheme"], last["outcome"]))
        self.assertIn("not of the user who logged on", last["reason"])

    def test_a_removed_principal_is_logged_off(self):
        users = ["--users-file", str(self.demo.data / "users")]
        send = self.pypsrp(USER, PASSWORD)
        house.machine(wsman.Cim(send), "web01")
        subprocess.run([server.BINARY, "user", "remove", USER, *users], check=True, timeout=30)
        try:
            time.sleep(1.2)
            with self.assertRaises(Exception):
                send(*test_credssp.GET)
            self.assertIn("removed", " ".join(str(line.get("reason")) for line in self.logons()[-3:]))
        finally:
            subprocess.run([server.BINARY, "user", "add", USER, *users], check=True, timeout=30)


class SecondChoice(unittest.TestCase):
    """A server without a keytab, and a client that hopes for Kerberos and has a ticket: it is told of NTLM, begins anew
    with it, and signs its list."""

    def test_ntlm_is_the_second_choice(self):
        import spnego._negotiate as negotiate

        test_kerberos.set_up(self)
        self.demo.stop()
        config = self.demo.data / "wsnapd.toml"
        text, _, _ = config.read_text().partition("\n[kerberos]")
        config.write_text(text + test_credssp.CONFIG)
        directory = self.demo.data / "tls"
        directory.mkdir()
        authority.server_certificate(directory / "server", rsa.generate_private_key(65537, 2048))
        self.demo.start()
        # Whoever has a password here has the same one in the realm.
        self.kdc.admin(f'addprinc -pw "{self.demo.password}" {self.demo.user}')
        os.environ["KRB5CCNAME"] = f"FILE:{self.kdc.directory / 'nobody'}"

        taken, unpack = [], negotiate.unpack_token

        def watched(*arguments, **options):
            taken.append(unpack(*arguments, **options))
            return taken[-1]

        address = urlsplit(self.demo.http_url.replace("127.0.0.1", "localhost"))
        credentials = (self.demo.user, self.demo.password, self.demo.ca)
        options = {"auth": "credssp", "ssl": False, "credssp_auth_mechanism": "auto"}
        with mock.patch.object(negotiate, "unpack_token", watched):
            send = wsman.PypsrpSend(address.hostname, address.port, *credentials, **options)
            house.snapshots_by_every_class(wsman.Cim(send, "pypsrp second choice"), "second-choice")
        told, challenge, last = taken[:3]
        self.assertEqual(
            (negotiate.NegState.request_mic, negotiate.GSSMech.ntlm.value, None),
            (told.neg_state, told.supported_mech, told.response_token),
        )
        self.assertTrue(challenge.response_token.startswith(b"NTLMSSP\0\2"))
        self.assertEqual(negotiate.NegState.accept_complete, last.neg_state)
        self.assertEqual(16, len(last.mech_list_mic))
        last = [line for line in test_kerberos.audit_lines(self.demo) if line["event"] == "logon"][-1]
        self.assertEqual((self.demo.user, "credssp", "done"), (last["user"], last["scheme"], last["outcome"]))


if __name__ == "__main__":
    unittest.main()
