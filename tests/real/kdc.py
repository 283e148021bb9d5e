"""A Kerberos realm of its own on loopback: database, KDC and keytabs in a directory that goes away."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

REALM = "EXAMPLE.TEST"
#: Kinds of keys: RFC 3962 and RFC 8009.
SHA1, SHA2, SHA2_128 = "aes256-cts-hmac-sha1-96", "aes256-cts-hmac-sha384-192", "aes128-cts-hmac-sha256-128"
#: How far clocks may differ, in seconds; so short that a ticket that ended is refused soon.
SKEW = 3


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Kdc:
    """The realm, and what the environment has to say for programs to use it."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="wsnapd-kdc-"))
        self.process = None
        port = free_port()
        (self.directory / "krb5.conf").write_text(
            f"""[libdefaults]
default_realm = {REALM}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
clockskew = {SKEW}
udp_preference_limit = 0

[realms]
{REALM} = {{
    kdc = 127.0.0.1:{port}
}}

[domain_realm]
localhost = {REALM}
.example.test = {REALM}
"""
        )
        (self.directory / "kdc.conf").write_text(
            f"""[kdcdefaults]
kdc_listen = 127.0.0.1:{port}
kdc_tcp_listen = 127.0.0.1:{port}

[realms]
{REALM} = {{
    database_name = {self.directory}/principal
    key_stash_file = {self.directory}/stash
    acl_file = {self.directory}/acl
    max_life = 10h
    supported_enctypes = {SHA1}:normal {SHA2}:normal {SHA2_128}:normal
}}

[logging]
kdc = FILE:{self.directory}/kdc.log
"""
        )
        #: For servers.
        self.environment = {
            "KRB5_CONFIG": str(self.directory / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.directory / "kdc.conf"),
        }

    def run(self, *command, text="", environment=None):
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        merged = {**os.environ, **self.environment, "PATH": path, **(environment or {})}
        done = subprocess.run(command, input=text, env=merged, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def admin(self, *commands):
        """Runs commands of `kadmin.local`, all at once."""
        shown = self.run("kadmin.local", "-r", REALM, text="\n".join(commands) + "\n")
        return shown

    def start(self):
        self.run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master key of a test")
        log = open(self.directory / "output", "wb")
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        program = shutil.which("krb5kdc", path=path)
        if program is None:
            raise AssertionError("krb5kdc is not installed")
        with log:
            self.process = subprocess.Popen(
                [program, "-n", "-r", REALM],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        return self

    def log_on_with(self, kind, user, password):
        """Gets a ticket for tickets, as a client that knows only this kind of key; gives its environment."""
        path = self.directory / f"krb5-{kind}.conf"
        line = f"[libdefaults]\npermitted_enctypes = {kind}\n"
        path.write_text((self.directory / "krb5.conf").read_text().replace("[libdefaults]\n", line))
        before, self.environment = self.environment, {**self.environment, "KRB5_CONFIG": str(path)}
        try:
            return {**self.environment, **self.log_on(user, password, kind)}
        finally:
            self.environment = before

    def keytab(self, name):
        return self.directory / name

    def log_on(self, user, password, cache, lifetime="8h"):
        """Gets a ticket for tickets; gives the environment that uses it."""
        environment = {"KRB5CCNAME": f"FILE:{self.directory / cache}"}
        for _ in range(50):
            try:
                self.run("kinit", "-l", lifetime, user, text=password + "\n", environment=environment)
                break
            except AssertionError as error:
                # The KDC needs a moment to listen.
                last = error
                time.sleep(0.1)
        else:
            raise last
        return environment

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)
