"""Subscriptions over a running server: each delivery mode, sinks that misbehave, restarts, the sequence of W7."""

import http.server
import re
import threading
import time
import unittest
import xml.etree.ElementTree as ET

import house
import server
import wsman
from wsman import V2

ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
EVENTING = "http://schemas.xmlsoap.org/ws/2004/08/eventing"
ENUMERATION = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman"
PUSH = "http://schemas.xmlsoap.org/ws/2004/08/eventing/DeliveryModes/Push"
ALL = f"http://schemas.microsoft.com/wbem/wsman/1/wmi/{V2}/*"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
OF_JOBS = "SELECT * FROM __InstanceOperationEvent WITHIN 1 WHERE TargetInstance ISA 'Msvm_ConcreteJob'"
CONFIG = server.EMPTY_CONFIG + (
    '[backend]\nkind = "simulated"\n[backend.simulated]\ncreate_ms = 1500\n'
    '[events]\npush_hosts = ["127.0.0.1"]\ndelivery_timeout_ms = 700\n'
)


def parse(text):
    return ET.fromstring(text)


def first(element, name):
    for found in element.iter():
        if wsman.local(found) == name:
            return found
    return None


def step(event):
    """State and percentage of the job of an event."""
    target = first(event, "TargetInstance")
    return first(target, "JobState").text, int(first(target, "PercentComplete").text)


def subscribe_body(mode, query, inner="", further=""):
    text = (
        f'<e:Subscribe xmlns:e="{EVENTING}" xmlns:w="{WSMAN}.xsd" xmlns:a="{ADDRESSING}">'
        f'<e:Delivery Mode="{mode}">{inner}</e:Delivery>'
        f'<w:Filter Dialect="{WQL}">{query}</w:Filter>{further}</e:Subscribe>'
    )
    return ET.fromstring(text)


class Sink:
    """A server on loopback that keeps what it gets and does what it is told to."""

    def __init__(self):
        sink = self
        self.messages, self.say, self.lock = [], "well", threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                text = self.rfile.read(int(self.headers["Content-Length"])).decode("utf-8")
                say = sink.say
                if say == "slow":
                    time.sleep(2)
                    return
                envelope = parse(text)
                if say == "refuse":
                    fault = "<s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:DeliveryRefused</s:Value></s:Subcode></s:Code></s:Fault>"
                    return self.reply(500, "", fault)
                with sink.lock:
                    sink.messages.append(envelope)
                header = ""
                if first(envelope, "AckRequested") is not None:
                    related = first(envelope, "MessageID").text
                    header = f"<a:Action>{WSMAN}/Ack</a:Action><a:RelatesTo>{related}</a:RelatesTo>"
                self.reply(200, header, "")

            def reply(self, status, header, body):
                soap = "http://www.w3.org/2003/05/soap-envelope"
                text = (
                    f'<s:Envelope xmlns:s="{soap}" xmlns:a="{ADDRESSING}" xmlns:w="{WSMAN}.xsd">'
                    f"<s:Header>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
                ).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/soap+xml;charset=UTF-8")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/events"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def events(self):
        with self.lock:
            messages = list(self.messages)
        return [
            element
            for message in messages
            for element in message.iter()
            if re.fullmatch(r"__Instance\w+Event", wsman.local(element))
        ]

    def wait_for_end(self, jobs, timeout=60):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            ends = [state for state, _ in map(step, self.events()) if state in "7 8 9 10".split()]
            if len(ends) >= jobs:
                return self.events()
            time.sleep(0.05)
        raise AssertionError(f"the end does not come: {list(map(step, self.events()))}")


class Eventing(unittest.TestCase):
    def setUp(self):
        self.demo = server.Demo()
        self.addCleanup(self.demo.close)
        self.demo.data.mkdir(parents=True)
        (self.demo.data / "wsnapd.toml").write_text(CONFIG)
        self.demo.start()
        self.sink = Sink()
        self.addCleanup(self.sink.close)
        self.connect()

    def connect(self):
        self.send = self.demo.requests()
        self.cim = self.demo.cim()

    def restart(self, kill=False):
        (self.demo.kill if kill else self.demo.stop)()
        self.demo.start()
        self.connect()

    def call(self, action, body, send=None):
        return (send or self.send)(action, ALL, body, ())

    def subscribe(self, mode, query=OF_JOBS, inner="", further="", send=None):
        return self.call(f"{EVENTING}/Subscribe", subscribe_body(mode, query, inner, further), send)

    def push(self, mode, inner="", further=""):
        uri = PUSH if mode == "Push" else f"{WSMAN}/{mode}"
        to = f'<e:NotifyTo><a:Address>{self.sink.url}</a:Address></e:NotifyTo>{inner}'
        return self.subscribe(uri, inner=to, further=further)

    def pull_once(self, context, elements=10, wait="PT5S", send=None):
        text = (
            f'<n:Pull xmlns:n="{ENUMERATION}"><n:EnumerationContext>{context}</n:EnumerationContext>'
            f"<n:MaxTime>{wait}</n:MaxTime><n:MaxElements>{elements}</n:MaxElements></n:Pull>"
        )
        answer = self.call(f"{ENUMERATION}/Pull", ET.fromstring(text), send)
        return list(first(answer, "Items")), first(answer, "EnumerationContext").text

    def begin(self, name="web01"):
        service = house.service(self.cim, "Msvm_VirtualSystemSnapshotService")
        target = house.machine(self.cim, name)
        output = self.cim.invoke(service, "CreateSnapshot", AffectedSystem=target, SnapshotType=2)
        self.assertEqual("4096", output["ReturnValue"])
        return output["Job"]

    def check(self, steps, jobs):
        starts = [index for index, (state, percent) in enumerate(steps) if (state, percent) == ("4", 0)]
        ends = [percent for state, percent in steps if state == "7"]
        between = [percent for state, percent in steps if state == "4" and percent > 0]
        self.assertTrue(starts, steps)
        self.assertEqual([100] * jobs, ends, steps)
        self.assertGreaterEqual(len(between), 3 * jobs, steps)
        # Acceptance and beginning of a job look the same; everything behind them comes once.
        later = [one for one in zip(self.numbers(steps), steps) if one[1][1] > 0]
        self.assertEqual(len(later), len(set(later)), f"an event came twice: {steps}")

    @staticmethod
    def numbers(steps):
        """Which job each step belongs to: a job ends before the next one begins."""
        number, numbers = 0, []
        for state, _ in steps:
            numbers.append(number)
            number += state == "7"
        return numbers

    def test_each_push_mode_sees_start_steps_and_end_over_a_restart(self):
        for mode in ("Push", "PushWithAck", "Events"):
            with self.subTest(mode=mode):
                self.sink.messages.clear()
                answer = self.push(mode, further="<w:SendBookmarks/>")
                identifier = first(answer, "Identifier").text
                self.cim.wait(self.begin())
                self.sink.wait_for_end(1)
                self.restart()
                self.cim.wait(self.begin())
                events = self.sink.wait_for_end(2)
                self.check([step(event) for event in events if wsman.local(event) != "__InstanceDeletionEvent"], 2)
                self.unsubscribe(identifier)

    def unsubscribe(self, identifier):
        text = self.raw(f"{EVENTING}/Unsubscribe", identifier, f'<e:Unsubscribe xmlns:e="{EVENTING}"/>')
        self.assertIn("UnsubscribeResponse", text)

    def raw(self, action, identifier, body):
        soap = "http://www.w3.org/2003/05/soap-envelope"
        text = (
            f'<s:Envelope xmlns:s="{soap}" xmlns:a="{ADDRESSING}" xmlns:e="{EVENTING}"><s:Header>'
            f"<a:To>{self.demo.https_url}</a:To><a:Action>{action}</a:Action><a:MessageID>uuid:7</a:MessageID>"
            f"<a:ReplyTo><a:Address>{ADDRESSING}/role/anonymous</a:Address></a:ReplyTo>"
            f"<e:Identifier>{identifier}</e:Identifier></s:Header><s:Body>{body}</s:Body></s:Envelope>"
        )
        return self.send.post(text).text

    def test_pull_sees_start_steps_and_end_over_restarts(self):
        answer = self.subscribe(f"{WSMAN}/Pull")
        context = first(answer, "EnumerationContext").text
        steps = []
        for kill in (False, True):
            job = self.begin()
            items, context = self.pull_once(context, 2)
            steps += map(step, items)
            self.cim.wait(job)
            self.restart(kill)
        while [state for state, _ in steps].count("7") < 2:
            items, context = self.pull_once(context)
            steps += [step(item) for item in items if wsman.local(item) != "__InstanceDeletionEvent"]
        self.check(steps, 2)

    def test_w7_with_pypsrp(self):
        """CreateSnapshot; on 4096 a subscription to the job, then the snapshot."""
        host, port = self.demo.https_url.split("/")[2].split(":")
        send = wsman.PypsrpSend(host, int(port), self.demo.user, self.demo.password, self.demo.ca)
        cim = wsman.Cim(send, "pypsrp")
        service = house.service(cim, "Msvm_VirtualSystemSnapshotService")
        machines = cim.query(V2, "SELECT * FROM Msvm_ComputerSystem WHERE Caption = 'Virtual Machine'")
        self.assertTrue(machines)
        target = house.machine(cim, "web01")
        output = cim.invoke(service, "CreateSnapshot", AffectedSystem=target, SnapshotType=2)
        self.assertEqual("4096", output["ReturnValue"])
        identity = output["Job"].keys["InstanceID"]
        query = (
            "SELECT * FROM __InstanceModificationEvent WITHIN 1 WHERE TargetInstance ISA 'Msvm_ConcreteJob'"
            f" AND TargetInstance.InstanceID = '{identity}'"
        )
        answer = self.subscribe(f"{WSMAN}/Pull", query, send=send)
        context, state = first(answer, "EnumerationContext").text, None
        while state != "7":
            items, context = self.pull_once(context, send=send)
            state = step(items[-1])[0]
        made = house.affected(cim, output["Job"], "Msvm_VirtualSystemSettingData")
        self.assertEqual(1, len(made))

    def test_a_sink_that_is_down_slow_or_refuses_blocks_nobody(self):
        for say in ("slow", "refuse"):
            with self.subTest(say=say):
                self.sink.say = say
                self.push("PushWithAck", inner='<w:ConnectionRetry Total="1">PT0.1S</w:ConnectionRetry>')
                job = self.begin()
                begun = time.monotonic()
                self.cim.get(job)
                self.assertLess(time.monotonic() - begun, 1.0)
                self.cim.wait(job)
        self.sink.say = "well"
        down = self.push("Events")
        self.sink.close()
        self.cim.wait(self.begin())
        self.unsubscribe(first(down, "Identifier").text)
        self.assertEqual([], self.sink.messages)

    def test_hosts_that_are_not_listed_get_nothing(self):
        to = "<e:NotifyTo><a:Address>http://localhost:9/</a:Address></e:NotifyTo>"
        with self.assertRaises(wsman.WsmanFault) as caught:
            self.subscribe(PUSH, inner=to)
        self.assertIn("push_hosts", str(caught.exception))


if __name__ == "__main__":
    unittest.main()
