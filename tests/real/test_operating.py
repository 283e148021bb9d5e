"""`docs/operating.md`: the machines under QEMU, word for word.

The page's paths lie in `/srv`, `/run` and `/var/log`; here they are those of a scratch directory.
"""

import os
import pathlib
import re
import subprocess
import unittest

import guest
import house
import server
from guest import OFF, RUNNING

PAGE = server.ROOT / "docs" / "operating.md"


def blocks(kind):
    """The blocks of the section about QEMU."""
    text = PAGE.read_text()
    section = text[text.index("\n## Machines under QEMU\n") : text.index("\n## Stopping and restarting\n")]
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```", section)


class Page(unittest.TestCase):
    def setUp(self):
        self.host = guest.Host()
        self.addCleanup(self.host.close)
        self.place = self.host.directory / "root"
        for name in ("srv/vm", "run", "var/log"):
            (self.place / name).mkdir(parents=True)

    def moved(self, text):
        """The text with its paths below the scratch directory."""
        return re.sub(r"(?<![\w/])/(srv/vm|run|var/log)/", lambda found: f"{self.place}/{found[1]}/", text)

    def define(self, text):
        name = re.search(r"# machines.d/(\S+)\.toml", text).group(1)
        directory = self.host.data / "guests"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{name}.toml").write_text(self.moved(text))

    def wsnapd(self, line):
        """A line of the page, as a client of the server."""
        environment = {
            **os.environ,
            "PATH": f"{pathlib.Path(server.BINARY).resolve().parent}:{os.environ['PATH']}",
            "WSNAPD_URL": self.host.https_url,
            "WSNAPD_USER": self.host.user,
            "WSNAPD_PASSWORD_FILE": self.host.ready["password_file"],
            "WSNAPD_CA": self.host.ca,
        }
        done = subprocess.run(
            ["bash", "-euc", line], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        return done.stdout

    def test_a_machine_that_the_server_starts(self):
        definition, inspection = blocks("toml")[:2]
        inspect = inspection.strip().removeprefix("arguments = [").removesuffix("]")
        self.assertIn('arguments = ["-nic"', definition)
        # Both lists of arguments of the page at once.
        self.define(definition.replace('arguments = [', f"arguments = [{inspect}, "))
        guest.Disk(self.place / "srv/vm/web01.qcow2").make()
        self.host.start()
        self.assertIn("started", self.wsnapd("wsnapd vm start web01"))
        cim = self.host.cim()
        machine = house.machine(cim, "web01")
        self.assertEqual(RUNNING, guest.state_of(cim, machine))
        with guest.Qmp(self.place / "run/web01-inspect.sock") as monitor:
            self.assertEqual("running", monitor.status())
        directory = self.host.state() / "machines" / machine.keys["Name"]
        names = re.findall(r"(?m)^\| `([\w.-]+)` \|", PAGE.read_text())
        self.assertLessEqual({"qemu.pid", "qmp.sock", "agent.sock", "machine-type", "launch.json"}, set(names))
        for name in ("qemu.pid", "qmp.sock", "agent.sock", "machine-type", "launch.json"):
            self.assertTrue((directory / name).exists(), name)
        self.host.stop()
        self.host.start()
        self.assertEqual({"web01": RUNNING}, guest.running_of(self.host.cim()))
        self.wsnapd("wsnapd vm stop web01")
        self.assertEqual({"web01": OFF}, guest.running_of(self.host.cim()))
        self.host.stop()

    def test_a_machine_that_runs_already(self):
        command, lines = (self.moved(block) for block in blocks("sh"))
        self.define(blocks("toml")[2])
        guest.Disk(self.place / "srv/vm/db01.qcow2").make()
        pid = self.place / "pid"
        guest.call("bash", "-euc", f"{command.rstrip()} -pidfile {pid}")
        self.addCleanup(lambda: guest.end(int(pid.read_text())))
        self.host.start()
        said = self.wsnapd(lines)
        self.assertRegex(said, r"(?m)^db01 +running ")
        self.assertIn("before the update", said)
        with guest.Qmp(self.place / "run/db01-own.sock") as monitor:
            self.assertEqual("running", monitor.status())
        self.assertEqual(1, len(guest.Disk(self.place / "srv/vm/db01.qcow2").tags()))
        self.host.stop()


if __name__ == "__main__":
    unittest.main()
