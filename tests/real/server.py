"""Starting, stopping and killing `wsnapd`, and what lies in the data directory of a demo."""

import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
import tomllib
from urllib.parse import urlsplit

import wsman

ROOT = pathlib.Path(__file__).resolve().parents[2]
#: The program under test; `tests/run` points to the release build.
BINARY = os.environ.get("WSNAPD", str(ROOT / "target" / "release" / "wsnapd"))

EMPTY_CONFIG = 'data_dir = "state"\nusers_file = "users"\n'


def clean_environment(directory):
    """The environment of a user without any settings of his own."""
    keep = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return {**keep, "HOME": str(directory), "XDG_STATE_HOME": str(directory / ".local" / "state")}


class Demo:
    """A running `wsnapd demo` on a directory of its own."""

    def __init__(self, directory=None, *options):
        self.owned = directory is None
        self.directory = pathlib.Path(directory or tempfile.mkdtemp(prefix="wsnapd-test-"))
        self.data = self.directory / "data"
        # What the machines of the demo do is of `test_demo.py` alone.
        self.options = ["--no-qemu", *options]
        #: What the server finds in its environment besides.
        self.environment = {}
        self.process = None
        self.log_path = self.directory / "server.log"

    # -- life ------------------------------------------------------------------------------------

    def start(self, wait=30.0):
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        command = [BINARY, "demo", "--no-tour", "--data-dir", str(self.data), "--ready-file", str(ready)]
        command += ["--http", "127.0.0.1:0", "--https", "127.0.0.1:0", *self.options]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**clean_environment(self.directory), **self.environment},
            )
        deadline = time.monotonic() + wait
        while not ready.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the server is not ready after {wait} s:\n{self.log()}")
            time.sleep(0.005)
        self.ready = json.loads(ready.read_text())
        self.http_url, self.https_url = self.ready["http_url"], self.ready["https_url"]
        self.user, self.ca = self.ready["user"], self.ready["ca_file"]
        self.password = pathlib.Path(self.ready["password_file"]).read_text().splitlines()[0]
        if self.ready["pid"] != self.process.pid:
            raise AssertionError("the pid in the ready file is not that of the server")
        return self

    def stop(self):
        """Ends the server in good order."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("the server did not stop within 30 s of SIGTERM") from None
        self.process = None
        if code != 0:
            raise AssertionError(f"the server stopped with {code}:\n{self.log()}")

    def kill(self):
        """kill -9."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def close(self):
        if self.process is not None:
            self.kill()
        if self.owned:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.stop()
        finally:
            self.close()

    def log(self, lines=40):
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    # -- clients ---------------------------------------------------------------------------------

    def requests(self, url=None, **options):
        return wsman.RequestsSend(url or self.https_url, self.user, self.password, self.ca, **options)

    def cim(self):
        return wsman.Cim(self.requests(), "requests")

    def clients(self):
        """One client for each library, all over HTTPS with Basic."""
        address = urlsplit(self.https_url)
        credentials = (self.user, self.password, self.ca)
        return [
            wsman.Cim(wsman.PypsrpSend(address.hostname, address.port, *credentials), "pypsrp"),
            wsman.Cim(wsman.PywinrmSend(self.https_url, *credentials), "pywinrm"),
            wsman.Cim(self.requests(), "requests"),
            wsman.Cim(wsman.CurlSend(self.https_url, *credentials), "curl"),
        ]

    # -- disks -----------------------------------------------------------------------------------

    def definitions(self):
        return [tomllib.loads(path.read_text()) for path in sorted((self.data / "machines.d").glob("*.toml"))]

    def machine_definition(self, name):
        return next(one for one in self.definitions() if one["name"] == name)

    def disks(self, name):
        """The disk files of a machine."""
        base = self.data / "machines.d"
        return [pathlib.Path(os.path.normpath(base / disk["path"])) for disk in self.machine_definition(name)["disk"]]

    def state(self):
        """The directory with the records and snapshot files."""
        return self.data / tomllib.loads((self.data / "wsnapd.toml").read_text())["data_dir"]

    def snapshot_files(self):
        """Every file below the snapshot directory."""
        return sorted(path for path in (self.state() / "snapshots").rglob("*") if path.is_file())

    def leftovers(self):
        """Temporary files of the server's making, wherever disks, snapshots and volumes lie."""
        names = [".wsnapd-", ".partial", ".staged"]
        everything = [path for path in self.data.rglob("*") if path.is_file()]
        return [path for path in everything if any(part in path.name for part in names)]

    def add_machine(self, name, disks, notes=""):
        """Defines a machine; to be called before the start. `disks` are tables of the definition."""
        directory = self.data / "machines.d"
        directory.mkdir(parents=True, exist_ok=True)
        identity = str(wsman.uuid.uuid4()).upper()
        text = f'id = "{identity}"\nname = "{name}"\nnotes = "{notes}"\n'
        for disk in disks:
            text += "\n[[disk]]\n"
            for key, value in disk.items():
                text += f"{key} = {json.dumps(value if isinstance(value, bool) else str(value))}\n"
        (directory / f"{name}.toml").write_text(text)
        return identity


def digest(path):
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(paths):
    return [digest(path) for path in paths]


def scribble(paths, seed=None):
    """Changes a few blocks of each file."""
    chance = random.Random(seed)
    for path in paths:
        size = path.stat().st_size
        with open(path, "r+b") as file:
            for _ in range(8):
                file.seek(chance.randrange(0, max(1, size - 4096)))
                file.write(chance.randbytes(4096))
            file.flush()
            os.fsync(file.fileno())


def fill(path, size, seed=1):
    """Writes a file full of data that cannot be shared or skipped."""
    chance = random.Random(seed)
    block = chance.randbytes(1 << 20)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        written = 0
        while written < size:
            piece = written.to_bytes(8, "big") + block[8:]
            file.write(piece[: min(len(piece), size - written)])
            written += len(piece)
        file.flush()
        os.fsync(file.fileno())
