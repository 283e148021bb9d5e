"""The commands of `wsnapd`: the client against a demo, and those for whoever runs a server."""

import pathlib
import re
import subprocess
import tempfile
import threading
import time
import unittest

import house
import server
import wsman
from wsman import V2

MB = 1 << 20


class Command(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = pathlib.Path(tempfile.mkdtemp(prefix="wsnapd-cli-"))
        cls.addClassCleanup(lambda: server.shutil.rmtree(cls.place, ignore_errors=True))

    def wsnapd(self, *arguments, code=0, environment=None):
        """Runs the program; gives what it printed (on both streams when it was to fail)."""
        done = subprocess.run(
            [server.BINARY, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            env={**server.clean_environment(self.place), **(environment or {})},
        )
        self.assertEqual(code, done.returncode, f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout if code == 0 else done.stdout + done.stderr


class Remote(Command):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.demo = server.Demo()
        cls.addClassCleanup(cls.demo.close)
        cls.demo.start()

    def call(self, *arguments, **options):
        """A client command, with the server on the command line."""
        demo = self.demo
        connection = ["--url", demo.https_url, "--user", demo.user, "--ca", demo.ca]
        return self.wsnapd(*arguments, *connection, "--password-file", demo.ready["password_file"], **options)

    def guid(self, listing, name):
        return next(line.split()[-1] for line in listing.splitlines() if line.split()[:2] and name in line)

    def test_vm(self):
        listing = self.call("vm", "list")
        names = [line.split()[0] for line in listing.splitlines()]
        self.assertEqual(["NAME", "db01", "web01"], names)
        self.assertIn("off", listing)
        cim = self.demo.cim()
        self.assertIn(house.machine(cim, "web01").keys["Name"], listing)
        # Machines of files cannot be started, and the answer says so.
        self.assertIn("not supported", self.call("vm", "start", "web01", code=1))
        self.assertIn("no machine", self.call("vm", "start", "web99", code=5))

    def test_snapshots(self):
        disks = self.demo.disks("db01")
        before = server.digests(disks)
        self.call("snapshot", "create", "db01", "--name", "first")
        server.scribble(disks)
        self.call("snapshot", "create", "db01", "--name", "second", "--type", "disk")
        middle = server.digests(disks)
        self.call("snapshot", "apply", "db01", "first")
        self.assertEqual(before, server.digests(disks))
        self.call("snapshot", "create", "db01", "--name", "third", "--type", "recovery")
        listing = self.call("snapshot", "list", "db01")
        for name in ("first", "second", "third"):
            self.assertIn(name, listing)
        self.assertIn("recovery", listing)
        tree = self.call("snapshot", "tree", "db01")
        self.assertRegex(tree, r"first \*")
        self.assertRegex(tree, r"(?m)^    [└├]── second|^│   [└├]── second")
        self.call("snapshot", "apply", "db01", self.guid(listing, "second"))
        self.assertEqual(middle, server.digests(disks))
        self.assertIn("no snapshot", self.call("snapshot", "apply", "db01", "fourth", code=5))
        self.call("snapshot", "destroy", "db01", "third")
        self.call("snapshot", "destroy", "db01", "first", "--tree")
        self.assertEqual([], self.demo.snapshot_files())
        self.assertNotIn("second", self.call("snapshot", "list"))

    def test_a_collection(self):
        self.call("snapshot", "create", "shop", "--collection")
        self.assertEqual(3, len(self.demo.snapshot_files()))
        cim = self.demo.cim()
        (group,) = cim.references_of_class(V2, "Msvm_SnapshotCollection")
        service = house.service(cim, "Msvm_CollectionSnapshotService")
        cim.run(service, "DestroySnapshot", AffectedSnapshotCollection=group)
        self.assertIn("no collection", self.call("snapshot", "create", "mall", "--collection", code=5))

    def test_volumes(self):
        self.assertRegex(self.call("volume", "list"), r"(?m)^vol1 +32.00 MiB +volume +\S+$")
        self.call("volume", "snapshot", "vol2", "--name", "vol2-monday")
        self.assertRegex(self.call("volume", "list"), r"(?m)^vol2-monday +32.00 MiB +snapshot +\S+$")
        self.assertIn("no volume", self.call("volume", "snapshot", "vol9", code=5))

    def test_jobs(self):
        self.call("snapshot", "create", "web01", "--name", "of a job")
        listing = self.call("job", "list")
        self.assertIn("completed", listing)
        job = listing.splitlines()[1].split()[0]
        self.assertIn("completed", self.call("job", "wait", job))
        self.assertIn("no job", self.call("job", "wait", "00000000-0000-0000-0000-000000000000", code=5))
        self.assertEqual(1, len(re.findall("not possible", self.call("job", "cancel", job, code=1))))
        self.call("snapshot", "destroy", "web01", "of a job")

    def test_the_environment_names_the_server(self):
        demo = self.demo
        environment = {
            "WSNAPD_URL": demo.http_url,
            "WSNAPD_USER": demo.user,
            "WSNAPD_PASSWORD_FILE": demo.ready["password_file"],
        }
        self.assertIn("web01", self.wsnapd("vm", "list", environment=environment))
        environment["WSNAPD_URL"] = demo.https_url
        self.wsnapd("vm", "list", environment=environment, code=3)
        environment["WSNAPD_CA"] = demo.ca
        self.assertIn("web01", self.wsnapd("vm", "list", environment=environment))

    def test_what_goes_wrong_with_the_connection(self):
        demo, wrong = self.demo, self.place / "wrong"
        wrong.write_text("wrong\n")
        password = ["--password-file", demo.ready["password_file"]]
        self.wsnapd("vm", "list", "--url", demo.https_url, "--ca", demo.ca, "--password-file", wrong, code=4)
        self.wsnapd("vm", "list", "--url", "https://127.0.0.1:1/wsman", "--ca", demo.ca, *password, code=3)
        self.wsnapd("vm", "fly", code=2)


class LongJob(Command):
    def test_progress_wait_and_cancel(self):
        """On a filesystem without shared blocks, so that there is something to wait for."""
        import mounts

        with mounts.Mounted("ext4", 2048) as mounted:
            demo = server.Demo(mounted.path)
            try:
                demo.add_machine("big", [{"name": "system", "path": "../disks/big.img"}])
                server.fill(demo.data / "disks" / "big.img", 700 * MB)
                with demo:
                    self.cancel_and_wait(demo)
            finally:
                demo.close()

    def cancel_and_wait(self, demo):
        connection = ["--url", demo.https_url, "--user", demo.user, "--ca", demo.ca]
        connection += ["--password-file", demo.ready["password_file"]]
        printed = []

        def create(code):
            done = subprocess.run(
                [server.BINARY, "snapshot", "create", "big", *connection],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
                env=server.clean_environment(self.place),
            )
            printed.append((done.returncode, done.stdout + done.stderr, code))

        for code, verb in [(1, "cancel"), (0, "wait")]:
            worker = threading.Thread(target=create, args=(code,))
            worker.start()
            job, deadline = None, time.monotonic() + 30
            while job is None and time.monotonic() < deadline:
                for line in self.wsnapd("job", "list", *connection).splitlines():
                    if "running" in line:
                        job = line.split()[0]
            self.assertIsNotNone(job, "the job was not seen running")
            self.wsnapd("job", verb, job, *connection)
            worker.join()
        for returned, text, code in printed:
            self.assertEqual(code, returned, text)
        self.assertIn("terminated", printed[0][1])
        percents = [int(found) for found in re.findall(r"(\d+) %", printed[1][1])]
        self.assertEqual(percents, sorted(percents))
        self.assertGreater(len(percents), 2, printed[1][1])
        self.assertEqual(100, percents[-1])


class Local(Command):
    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(dir=self.place))
        self.config = self.directory / "wsnapd.toml"
        self.config.write_text(server.EMPTY_CONFIG)
        (self.directory / "password").write_text("correct horse\n")

    def test_users(self):
        config, password = ["--config", self.config], ["--password-file", self.directory / "password"]
        self.assertEqual("", self.wsnapd("user", "list", *config))
        self.wsnapd("user", "add", "alice", *password, *config)
        self.wsnapd("user", "add", "bob", *password, *config)
        self.wsnapd("user", "add", "ALICE", *password, *config, code=1)
        listed = [line.split() for line in self.wsnapd("user", "list", *config).splitlines()]
        self.assertEqual([["alice", "administrator", "-"], ["bob", "administrator", "-"]], listed)
        self.wsnapd("user", "set", "bob", "--role", "reader", "--scope", "machine=web*", *config)
        self.wsnapd("user", "set", "bob", "--role", "owner", *config, code=2)
        self.assertEqual(["bob", "reader", "machine=web*"], self.wsnapd("user", "list", *config).split()[3:])
        file = self.directory / "users"
        self.assertEqual(0o600, file.stat().st_mode & 0o777)
        self.assertNotIn("horse", file.read_text())
        self.assertIn("$argon2id$", file.read_text())
        self.wsnapd("user", "remove", "alice", *config)
        self.wsnapd("user", "remove", "alice", *config, code=5)
        self.wsnapd("user", "passwd", "alice", *password, *config, code=5)
        self.assertEqual("bob", self.wsnapd("user", "list", *config).split()[0])

    def test_certificates(self):
        config = ["--config", self.config]
        self.wsnapd("cert", "show", *config, code=5)
        self.wsnapd("cert", "renew", *config)
        shown = self.wsnapd("cert", "show", *config)
        for word in ("localhost", "127.0.0.1", "Thumbprint"):
            self.assertIn(word, shown)
        der, pem = self.directory / "wsnapd.cer", self.directory / "wsnapd.pem"
        self.wsnapd("cert", "export", der, *config)
        self.wsnapd("cert", "export", "--pem", pem, *config)
        prints = []
        for file, form in [(der, "DER"), (pem, "PEM")]:
            done = subprocess.run(
                ["openssl", "x509", "-inform", form, "-in", file, "-noout", "-fingerprint", "-sha1", "-text"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            self.assertIn("DNS:localhost", done)
            prints.append(done.splitlines()[0].split("=")[1].replace(":", ""))
        self.assertEqual(prints[0], prints[1])
        self.assertIn(prints[0], shown)
        self.wsnapd("cert", "renew", *config)
        self.assertNotIn(prints[0], self.wsnapd("cert", "show", *config))

    def test_config_check(self):
        self.assertIn("is right", self.wsnapd("config", "check", "--config", self.config))
        self.config.write_text('data_dir = 5\nhost_nam = "x"\n[service]\nMaxConnections = 0\n')
        said = self.wsnapd("config", "check", "--config", self.config, code=1)
        for place in (":1:", ":2:", ":4:"):
            self.assertIn(f"wsnapd.toml{place}", said)
        self.assertIn("3 mistakes", said)

    def test_mof_check(self):
        good, bad = self.directory / "good.mof", self.directory / "bad.mof"
        good.write_text('#pragma namespace ("root/virtualization/v2")\n[Version("1.0.0")] class Test_One : CIM_ManagedElement { uint32 Count = 3; };\n')
        self.assertIn("1 files", self.wsnapd("mof", "check", good))
        bad.write_text("class Test_Two { uint32 Count; string = ; };\nclass Test_Three : Nowhere { };\n")
        said = self.wsnapd("mof", "check", bad, code=1)
        self.assertIn(f"{bad}:1:", said)
        self.assertIn(f"{bad}:2:", said)
        self.assertIn("^", said)
        self.assertIn("expected", said)
        self.assertIn("files without a mistake", self.wsnapd("mof", "check", server.ROOT / "schemas"))

    def refused_soon(self, send):
        """A change of the password file is seen within a second or so."""
        deadline = time.monotonic() + 5
        while send.post(wsman.identify_envelope()).status_code != 401:
            self.assertLess(time.monotonic(), deadline, "the old password is still taken")
            time.sleep(0.05)

    def test_serve_with_users_that_change(self):
        """`serve` on a configuration of one's own; users come and go while it serves."""
        self.wsnapd("user", "add", "alice", "--password-file", self.directory / "password", "--config", self.config)
        with open(self.config, "a") as file:
            file.write('[[listener]]\naddress = "127.0.0.1:0"\ntransport = "https"\n')
        process = subprocess.Popen(
            [server.BINARY, "serve", "--config", str(self.config), "--log", "info"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=server.clean_environment(self.place),
        )
        try:
            url, deadline = None, time.monotonic() + 30
            while url is None and time.monotonic() < deadline:
                line = process.stdout.readline()
                found = re.search(r"127\.0\.0\.1:\d+", line)
                url = found and f"https://{found[0]}/wsman"
            self.assertIsNotNone(url, "the log does not say where it listens")
            ca = str(self.directory / "state" / "tls" / "certificate.pem")
            send = wsman.RequestsSend(url, "alice", "correct horse", ca)
            self.assertEqual(200, send.post(wsman.identify_envelope()).status_code)
            (self.directory / "password").write_text("battery staple\n")
            arguments = ["--password-file", self.directory / "password", "--config", self.config]
            self.wsnapd("user", "passwd", "alice", *arguments)
            self.refused_soon(send)
            send.session.auth = ("alice", "battery staple")
            self.assertEqual(200, send.post(wsman.identify_envelope()).status_code)
            self.wsnapd("user", "remove", "alice", "--config", self.config)
            self.refused_soon(send)
        finally:
            process.terminate()
            self.assertEqual(0, process.wait(30))
            process.stdout.close()


if __name__ == "__main__":
    unittest.main()
