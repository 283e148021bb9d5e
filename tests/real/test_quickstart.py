"""`docs/quickstart.md` followed word for word, on a clean home directory.

The page uses the default ports, so it is followed in a network namespace of its own, where they are free.
"""

import os
import pathlib
import re
import shlex
import subprocess
import tempfile
import time
import unittest

import server

PAGE = server.ROOT / "docs" / "quickstart.md"
START = "cargo run --release -- "


def blocks():
    """The shell blocks of the page."""
    return re.findall(r"(?ms)^```sh\n(.*?)^```", PAGE.read_text())


class Quickstart(unittest.TestCase):
    def test_word_for_word(self):
        self.assertEqual(0, os.geteuid(), "a network namespace needs root")
        first, *rest = blocks()
        self.assertTrue(first.startswith(START), first)
        home = pathlib.Path(tempfile.mkdtemp(prefix="wsnapd-quickstart-"))
        self.addCleanup(server.shutil.rmtree, home, ignore_errors=True)
        program = pathlib.Path(server.BINARY).resolve()
        # What cargo would start; and `target/release` in front of the path is where the page says it is.
        command = f"{shlex.quote(str(program))} {first.removeprefix(START).strip()}"
        work = home / "clone"
        (work / "target").mkdir(parents=True)
        (work / "target" / "release").symlink_to(program.parent)
        log = home / "demo.log"
        script = "\n".join(
            [
                "set -euo pipefail",
                "ip link set lo up",
                f"{command} > {shlex.quote(str(log))} 2>&1 &",
                "demo=$!",
                "trap 'kill $demo; wait $demo || true' EXIT",
                f"for _ in $(seq 600); do grep -q 'In clear text' {shlex.quote(str(log))} && break; sleep 0.1; done",
                "set -v",
                *rest,
            ]
        )
        environment = {**server.clean_environment(home), "HOME": str(home)}
        environment["PATH"] = f"{environment['PATH']}:/usr/sbin:/sbin"
        begun = time.monotonic()
        done = subprocess.run(
            ["unshare", "--net", "bash", "-c", script],
            cwd=work,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            env=environment,
        )
        said = done.stdout + done.stderr + log.read_text()
        self.assertEqual(0, done.returncode, said)
        sums = re.findall(r"(?m)^([0-9a-f]{64})  .*web01-system.img$", done.stdout)
        self.assertEqual(3, len(sums), said)
        self.assertEqual(sums[0], sums[2])
        self.assertNotEqual(sums[0], sums[1])
        self.assertIn("ReturnValue>4096<", done.stdout)
        self.assertIn("IdentifyResponse", done.stdout)
        counts = [int(number) for number in re.findall(r"(?m)^count (\d{8})\r?$", done.stdout)]
        self.assertEqual(3, len(counts), said)
        taken, later, again = counts
        self.assertGreater(later, taken + 3)
        self.assertAlmostEqual(taken, again, delta=2)
        self.assertIn("vol1-monday", done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"(?m)^alice\tadministrator\t-$")
        tour = log.read_text()
        for number in ("1. Msvm_VirtualSystemSnapshotService", "2. CIM_VirtualSystemSnapshotService",
                       "3. Msvm_CollectionSnapshotService", "4. MSFT_SMStorageVolume"):
            self.assertIn(number, tour)
        self.assertIn("└── ", tour)
        self.assertLess(time.monotonic() - begun, 120)

    def test_every_kind_of_line_is_on_the_page(self):
        text = "\n".join(blocks())
        for command in ("vm list", "snapshot create", "snapshot apply", "snapshot destroy", "snapshot tree",
                        "volume snapshot", "job wait", "user add", "cert export", "config check"):
            self.assertIn(f"wsnapd {command}", text)
        self.assertGreaterEqual(text.count("\ncurl "), 1)
        page = PAGE.read_text()
        self.assertIn("```powershell\n", page)
        self.assertIn("\nwsman ", page)


if __name__ == "__main__":
    unittest.main()
