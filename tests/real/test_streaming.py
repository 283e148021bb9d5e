"""A hundred thousand instances by Pull: each exactly once, and never all of them in the server's memory."""

import base64
import http.client
import pathlib
import re
import tempfile
import time
import unittest
from urllib.parse import urlsplit

import server
import wsman

MACHINES, DISKS = 500, 100
CLASS = "CIM_ResourceAllocationSettingData"
#: Megabytes of the whole process, the records of 50,000 disks included.
MEMORY = 60
KEY = re.compile(rb"<p:InstanceID>([^<]*)</p:InstanceID>")
CONTEXT = re.compile(rb"<n:EnumerationContext>([^<]*)</n:EnumerationContext>")
ENVELOPE = (
    '<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"'
    ' xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing" xmlns:n="http://schemas.xmlsoap.org/ws/2004/09/enumeration"'
    ' xmlns:w="http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"><s:Header><a:To>http://host/wsman</a:To>'
    "<w:ResourceURI>{uri}</w:ResourceURI><a:ReplyTo><a:Address>"
    "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>"
    "<a:Action>http://schemas.xmlsoap.org/ws/2004/09/enumeration/{action}</a:Action>"
    "<a:MessageID>uuid:{number}</a:MessageID></s:Header><s:Body>{body}</s:Body></s:Envelope>"
)


class Streaming(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory(prefix="wsnapd-streaming-")
        cls.addClassCleanup(directory.cleanup)
        cls.demo = server.Demo(pathlib.Path(directory.name))
        cls.addClassCleanup(cls.demo.close)
        cls.demo.data.mkdir(parents=True, exist_ok=True)
        for number in range(MACHINES):
            disks = [{"name": f"d{disk}", "path": f"/simulated/{number}-{disk}.qcow2"} for disk in range(DISKS)]
            cls.demo.add_machine(f"vm{number:03d}", disks)
        config = server.EMPTY_CONFIG + '[backend]\nkind = "simulated"\n'
        (cls.demo.data / "wsnapd.toml").write_text(config)
        cls.demo.start()

    def memory(self):
        """Most and present memory of the server in megabytes."""
        status = pathlib.Path(f"/proc/{self.demo.process.pid}/status").read_text()
        return [int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024 for name in ("VmHWM", "VmRSS")]

    def keys(self, size):
        """The keys of all instances, in the order they came, and the number of exchanges."""
        url = urlsplit(self.demo.http_url)
        connection = http.client.HTTPConnection(url.hostname, url.port)
        credentials = base64.b64encode(f"{self.demo.user}:{self.demo.password}".encode()).decode()
        headers = {"Content-Type": "application/soap+xml;charset=UTF-8", "Authorization": f"Basic {credentials}"}
        uri, found, number = wsman.class_uri(wsman.V2, CLASS), [], 0
        action, body = "Enumerate", "<n:Enumerate/>"
        while True:
            number += 1
            text = ENVELOPE.format(uri=uri, action=action, number=number, body=body)
            connection.request("POST", url.path, text, headers)
            answer = connection.getresponse()
            content = answer.read()
            self.assertEqual(200, answer.status, content[:2000])
            keys = KEY.findall(content)
            self.assertLessEqual(len(keys), size)
            found.extend(keys)
            context = CONTEXT.search(content)
            if context is None:
                self.assertIn(b"<n:EndOfSequence/>", content)
                connection.close()
                return found, number
            context = context[1].decode()
            action = "Pull"
            body = f"<n:Pull><n:EnumerationContext>{context}</n:EnumerationContext><n:MaxElements>{size}</n:MaxElements></n:Pull>"

    def test_each_instance_comes_once_and_memory_is_bounded(self):
        print()
        (_, before), all_keys = self.memory(), None
        for size in (32_000, 100, 7, 1):
            begun = time.monotonic()
            found, exchanges = self.keys(size)
            most, _ = self.memory()
            print(
                f"    MaxElements {size}: {len(found)} instances in {exchanges} exchanges, {time.monotonic() - begun:.0f} s,"
                f" at most {most:.1f} MB, {before:.1f} MB before"
            )
            self.assertGreaterEqual(len(found), 100_000)
            self.assertEqual(len(found), len(set(found)), "an instance came twice")
            all_keys = all_keys or set(found)
            self.assertEqual(all_keys, set(found))
            self.assertLess(most, MEMORY)
