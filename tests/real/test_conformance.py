"""`wsnapd conformance` against the demo, against a demo with everything a profile can name, and against broken ones."""

import concurrent.futures
import json
import pathlib
import queue
import re
import shlex
import subprocess
import tempfile
import unittest

import breakages
import server

PAGE = server.ROOT / "docs" / "conformance.md"
SEMANTICS = server.ROOT / "docs" / "semantics.md"
ROWS = [f"C{number:03}" for number in range(1, 188)]
#: Fewer rows than this may be other than a pass.
LIMIT = 15
#: Broken servers that are tried at a time: most of a run waits for timers.
WORKERS = 6


def documented():
    """Row to result, as the page says: rows that are not listed there have to pass."""
    found = {}
    for rows, result in re.findall(r"(?m)^\| ((?:C\d{3}(?: to C\d{3})?(?:, )?)+) \| (not offered|not applicable) \|", SEMANTICS.read_text()):
        for part in rows.split(", "):
            first, _, last = part.partition(" to ")
            for number in range(int(first[1:]), int((last or first)[1:]) + 1):
                found.setdefault(f"C{number:03}", set()).add(result.replace(" ", "_"))
    return found


def run(url, demo, *arguments):
    """Runs the suite; gives its exit code and its report."""
    command = [server.BINARY, "conformance", "--url", url, "--user", demo.user, "--format", "json"]
    command += ["--password-file", demo.ready["password_file"], "--ca", demo.ca, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL)
    if not done.stdout.startswith("{"):
        raise AssertionError(f"exit code {done.returncode}: {done.stdout}{done.stderr}")
    return done.returncode, json.loads(done.stdout)


def failed(report):
    return {row["id"] for row in report["rows"] if row["result"] == "fail"}


def reasons(report, result):
    return "\n".join(f"{row['id']} {row['reason']}" for row in report["rows"] if row["result"] == result)


class Conformance(unittest.TestCase):
    def demo(self, settings="", *options):
        """A running demo with further settings of the service."""
        demo = server.Demo(None, *options)
        self.addCleanup(demo.close)
        if settings:
            demo.start()
            demo.stop()
            with open(demo.data / "wsnapd.toml", "a", encoding="utf-8") as file:
                file.write(f"\n[service]\n{settings}\n")
        return demo.start()

    def profile(self, text):
        file = pathlib.Path(self.directory()) / "profile.toml"
        file.write_text(text)
        return str(file)

    def directory(self):
        directory = tempfile.TemporaryDirectory(prefix="wsnapd-conformance-")
        self.addCleanup(directory.cleanup)
        return directory.name

    def judge(self, code, report):
        self.assertEqual(ROWS, [row["id"] for row in report["rows"]])
        self.assertEqual(set(), failed(report), reasons(report, "fail"))
        self.assertEqual(0, code)
        self.assertEqual([], report["left_behind"])
        page = documented()
        others = {row["id"]: row["result"] for row in report["rows"] if row["result"] != "pass"}
        surprising = {row for row, result in others.items() if result not in page.get(row, ())}
        self.assertEqual(set(), surprising, f"{SEMANTICS} does not say why: {others}")
        for row in report["rows"]:
            if row["result"] == "pass":
                self.assertTrue(any(one["sent"] and one["came"] for one in row["exchanges"]), row["id"])
            else:
                self.assertTrue(row["reason"], row["id"])
        self.assertLess(len(others), LIMIT, others)
        return others

    def test_the_demo_with_the_default_profile(self):
        demo = self.demo()
        before = demo.snapshot_files()
        self.judge(*run(demo.http_url, demo))
        self.assertEqual(before, demo.snapshot_files(), "the suite cleans up what it makes")

    def test_a_demo_with_everything_a_profile_can_name(self):
        settings = (
            "EnumerationTimeoutms = 2000\nMaxPacketRetrievalTimeSeconds = 2\nMaxConcurrentOperationsPerUser = 30\n"
            '[events]\npush_hosts = ["127.0.0.1"]'
        )
        demo = self.demo(settings, "--strict")
        password = pathlib.Path(self.directory()) / "password"
        password.write_text("of the other accounts\n")
        for user, role in (("second", "administrator"), ("reader", "reader")):
            command = [server.BINARY, "user", "add", user, "--role", role, "--password-file", str(password)]
            subprocess.run([*command, "--users-file", str(demo.data / "users")], check=True, timeout=60)
        demo.stop()
        demo.start()
        profile = self.profile(
            f'clear_text_url = "{demo.http_url}"\n'
            f'[second_account]\nuser = "second"\npassword_file = "{password}"\n'
            f'[reader_account]\nuser = "reader"\npassword_file = "{password}"\n'
        )
        others = self.judge(*run(demo.https_url, demo, "--profile", profile))
        tried = {"C031", "C067", "C080", "C085", "C118", "C182", "C184", "C186", "C187", *ROWS[94:111]}
        self.assertEqual(set(), tried & set(others), others)

    def test_rules_formats_and_exit_codes(self):
        demo = self.demo()
        code, report = run(demo.https_url, demo, "--rule", "C112", "--rule", "c052")
        self.assertEqual((0, ["C052", "C112"]), (code, [row["id"] for row in report["rows"]]))
        command = [server.BINARY, "conformance", "--url", demo.http_url, "--user", demo.user, "--password-file"]
        command += [demo.ready["password_file"], "--rule", "C033"]
        table = subprocess.run(command, capture_output=True, text=True, timeout=60)
        self.assertEqual(0, table.returncode, table.stderr)
        self.assertRegex(table.stdout, r"(?m)^C033  pass ")
        self.assertRegex(table.stdout, r"(?m)^1 rows: 1 pass, 0 fail, 0 not offered, 0 not applicable; ")
        junit = subprocess.run([*command, "--format", "junit"], capture_output=True, text=True, timeout=60)
        self.assertIn('tests="1" failures="0" skipped="0"', junit.stdout)
        self.assertEqual(5, subprocess.run([*command, "--rule", "C999"], capture_output=True, timeout=60).returncode)
        command[command.index("--url") + 1] = "http://127.0.0.1:9/wsman"
        self.assertEqual(3, subprocess.run(command, capture_output=True, timeout=60).returncode)
        with breakages.Breaking(demo.http_url, breakages.in_answer("_OUTPUT", "_RESULT")) as proxy:
            code, report = run(proxy.url, demo, "--rule", "C094")
        self.assertEqual((1, {"C094"}), (code, failed(report)))
        self.assertIn("CreateSnapshot_RESULT", report["rows"][0]["exchanges"][-1]["came"])

    def test_the_page_word_for_word(self):
        """In a network namespace of its own, where the default ports of the demo are free."""
        first, commands, settings, again = re.findall(r"(?ms)^```sh\n(.*?)^```", PAGE.read_text())
        start = "cargo run --release -- "
        self.assertTrue(first.startswith(start), first)
        home = pathlib.Path(self.directory())
        program = pathlib.Path(server.BINARY).resolve()
        work = home / "clone"
        (work / "target").mkdir(parents=True)
        (work / "target" / "release").symlink_to(program.parent)
        demo = f"""{shlex.quote(str(program))} {first.removeprefix(start).strip()} >> demo.log 2>&1 &
demo=$!
for _ in $(seq 300); do (exec 3<> /dev/tcp/127.0.0.1/5986) 2>/dev/null && break; sleep 0.1; done
"""
        stop = "kill $demo; wait $demo || true\n"
        trap = "trap 'kill $demo || true' EXIT\n"
        script = "set -euo pipefail\nip link set lo up\n"
        script += demo + trap + commands + stop + settings + demo + again + stop + "trap - EXIT\n"
        environment = {**server.clean_environment(home), "HOME": str(home)}
        environment["PATH"] = f"{environment['PATH']}:/usr/sbin:/sbin"
        command = ["unshare", "--net", "bash", "-c", script]
        done = subprocess.run(
            command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, env=environment
        )
        said = done.stdout + done.stderr + (work / "demo.log").read_text()
        self.assertEqual(0, done.returncode, said)
        tables = re.findall(r"(?m)^(\d+) rows: (\d+) pass, 0 fail, (\d+) not offered, (\d+) not applicable; ", done.stdout)
        self.assertEqual(["187", "2", "187"], [table[0] for table in tables], said)
        self.assertGreater(int(tables[2][1]), int(tables[0][1]), "more rows can be tried with the profile")
        self.assertIn('tests="187" failures="0"', (work / "conformance.xml").read_text())
        self.assertEqual(["C134"], [row["id"] for row in json.loads((work / "C134.json").read_text())["rows"]])

    def test_broken_servers_fail_exactly_there(self):
        self.assertGreaterEqual(len(breakages.BREAKAGES), 25)
        # What a server pushes does not come by the proxy: without a sink there is less to wait for.
        profile = self.profile('[limits]\nmessage_ids = 100\nwait_seconds = 1\n[events]\nsink = ""\n')
        # What a broken run leaves open must be gone when the next one opens as much as it may.
        settings = "MaxConcurrentOperationsPerUser = 60\nEnumerationTimeoutms = 3000\n[jobs]\nretention_seconds = 5"
        demos = queue.SimpleQueue()
        for _ in range(WORKERS):
            demos.put(self.demo(settings))

        def broken(case):
            name, breakage, _ = case
            demo = demos.get()
            try:
                with breakages.Breaking(demo.http_url, breakage) as proxy:
                    code, report = run(proxy.url, demo, "--profile", profile)
                    return code, failed(report), reasons(report, "fail")
            except (AssertionError, subprocess.TimeoutExpired) as error:
                return 0, {"no report"}, f"{name}: {error}"
            finally:
                demos.put(demo)

        right = ("nothing is broken", (breakages.unchanged, breakages.unchanged), "")
        cases = [right, *breakages.BREAKAGES]
        wrong = []
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            for (name, _, expected), result in zip(cases, pool.map(broken, cases), strict=True):
                code, rows, why = result
                if rows != set(expected.split()) or (code == 1) != bool(rows):
                    wrong.append(f"{name}: expected {expected}, failed {sorted(rows)}, exit code {code}\n{why}")
        self.assertEqual([], wrong, "\n".join(wrong))
