"""A small WS-Management client for the tests, over four real HTTP stacks.

`Cim` speaks operations (Get, Enumerate, WQL, associations, Invoke) and hands each request to a `send`
function. There is one for pypsrp's `WSMan` class, one for pywinrm's `Protocol.send_message`, one for
`requests` and one for curl, so that a test can run the same steps with every client.
"""

import subprocess
import time
import uuid
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field

import requests

S = "http://www.w3.org/2003/05/soap-envelope"
A = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
W = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
N = "http://schemas.xmlsoap.org/ws/2004/09/enumeration"
X = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
B = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding.xsd"
ID = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
F = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
XSI = "http://www.w3.org/2001/XMLSchema-instance"
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
WQL = "http://schemas.microsoft.com/wbem/wsman/1/WQL"
ASSOCIATIONS = "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter"
WMI = "http://schemas.microsoft.com/wbem/wsman/1/wmi/"
V2 = "root/virtualization/v2"
CLUSTER = "root/HyperVCluster/v2"
STORAGE = "root/Microsoft/Windows/Storage/SM"

for _prefix, _uri in {"s": S, "a": A, "w": W, "n": N, "x": X, "wsmid": ID, "xsi": XSI}.items():
    ET.register_namespace(_prefix, _uri)

#: The states in which a job has ended.
FINAL = {7, 8, 9, 10, 32768}


def class_uri(namespace, name):
    """The resource URI of a class as Windows writes it."""
    return f"{WMI}{namespace}/{name}"


def local(element):
    """The local name of an element."""
    return element.tag.rsplit("}", 1)[-1]


class WsmanFault(Exception):
    """A SOAP fault."""

    def __init__(self, subcode, reason, code=None, status=None):
        super().__init__(f"{subcode}: {reason}")
        self.subcode, self.reason, self.code, self.status = subcode, reason, code, status


@dataclass(frozen=True)
class Ref:
    """An endpoint reference: a resource URI and its selectors."""

    uri: str
    selectors: tuple = ()

    @property
    def keys(self):
        return dict(self.selectors)

    @property
    def cls(self):
        return self.uri.rsplit("/", 1)[-1]

    def with_uri(self, uri):
        return Ref(uri, self.selectors)


def ref(namespace, cls, **keys):
    """The reference of an instance by its class and keys."""
    return Ref(class_uri(namespace, cls), tuple(sorted(keys.items())))


@dataclass
class Instance:
    """An instance, or the output of a method: class name and properties, nil as None."""

    cls: str
    properties: dict = field(default_factory=dict)

    def __getitem__(self, name):
        return self.properties[name]

    def get(self, name, default=None):
        return self.properties.get(name, default)

    def number(self, name):
        return int(self.properties[name])

    def list(self, name):
        value = self.properties.get(name)
        return [] if value is None else value if isinstance(value, list) else [value]


def read_ref(element):
    """The reference below an element: with or without an EndpointReference around it."""
    uri = element.find(f".//{{{W}}}ResourceURI")
    selectors = element.findall(f".//{{{W}}}Selector")
    return Ref(uri.text.strip(), tuple(sorted((one.get("Name"), one.text or "") for one in selectors)))


def read_value(element):
    if element.get(f"{{{XSI}}}nil") == "true":
        return None
    if element.find(f".//{{{W}}}ResourceURI") is not None:
        return read_ref(element)
    if len(element):
        return "".join(element.itertext())
    return element.text or ""


def read_instance(element):
    instance = Instance(local(element))
    for child in element:
        name, value = local(child), read_value(child)
        if name in instance.properties:
            instance.properties[name] = instance.list(name) + [value]
        else:
            instance.properties[name] = value
    return instance


def add_ref(parent, target):
    """Writes a reference as Windows does: its parts directly below the element."""
    ET.SubElement(parent, f"{{{A}}}Address").text = ANONYMOUS
    parameters = ET.SubElement(parent, f"{{{A}}}ReferenceParameters")
    ET.SubElement(parameters, f"{{{W}}}ResourceURI").text = target.uri
    selectors = ET.SubElement(parameters, f"{{{W}}}SelectorSet")
    for name, value in target.selectors:
        ET.SubElement(selectors, f"{{{W}}}Selector", Name=name).text = value


def envelope(action, uri, body=None, selectors=(), timeout="PT60S", message_id=None):
    """A whole request as text, with the headers of a Windows client."""
    root = ET.Element(f"{{{S}}}Envelope")
    header = ET.SubElement(root, f"{{{S}}}Header")
    must = {f"{{{S}}}mustUnderstand": "true"}
    ET.SubElement(header, f"{{{A}}}Action", must).text = action
    ET.SubElement(header, f"{{{A}}}To").text = "http://localhost/wsman"
    ET.SubElement(header, f"{{{W}}}ResourceURI", must).text = uri
    ET.SubElement(header, f"{{{A}}}MessageID").text = message_id or f"uuid:{uuid.uuid4()}"
    ET.SubElement(ET.SubElement(header, f"{{{A}}}ReplyTo"), f"{{{A}}}Address").text = ANONYMOUS
    ET.SubElement(header, f"{{{W}}}OperationTimeout").text = timeout
    if selectors:
        parent = ET.SubElement(header, f"{{{W}}}SelectorSet")
        for name, value in selectors:
            ET.SubElement(parent, f"{{{W}}}Selector", Name=name).text = value
    content = ET.SubElement(root, f"{{{S}}}Body")
    if body is not None:
        content.append(body)
    return ET.tostring(root, encoding="unicode")


def identify_envelope():
    root = ET.Element(f"{{{S}}}Envelope")
    ET.SubElement(root, f"{{{S}}}Header")
    ET.SubElement(ET.SubElement(root, f"{{{S}}}Body"), f"{{{ID}}}Identify")
    return ET.tostring(root, encoding="unicode")


def read_answer(text, status=None):
    """The Body of an answer; a fault is raised."""
    body = ET.fromstring(text).find(f"{{{S}}}Body")
    fault = body.find(f"{{{S}}}Fault")
    if fault is None:
        return body
    subcode = fault.find(f"{{{S}}}Code/{{{S}}}Subcode/{{{S}}}Value")
    detail = fault.find(f".//{{{F}}}WSManFault")
    raise WsmanFault(
        "" if subcode is None else subcode.text.split(":")[-1],
        fault.findtext(f"{{{S}}}Reason/{{{S}}}Text"),
        None if detail is None else int(detail.get("Code")),
        status,
    )


class Cim:
    """Operations over a `send(action, uri, body, selectors) -> Body` function."""

    def __init__(self, send, name="raw"):
        self.send, self.name = send, name

    def get(self, target):
        return read_instance(self.send(f"{X}/Get", target.uri, None, target.selectors)[0])

    def enumerate(self, uri, dialect=None, condition=None, mode=None, batch=20):
        """All instances, (with `mode`) references; Pull until the end."""
        body = ET.Element(f"{{{N}}}Enumerate")
        ET.SubElement(body, f"{{{W}}}OptimizeEnumeration")
        ET.SubElement(body, f"{{{W}}}MaxElements").text = str(batch)
        if mode:
            ET.SubElement(body, f"{{{W}}}EnumerationMode").text = mode
        if dialect:
            element = ET.SubElement(body, f"{{{W}}}Filter", Dialect=dialect)
            if isinstance(condition, str):
                element.text = condition
            else:
                element.append(condition)
        answer = self.send(f"{N}/Enumerate", uri, body, ())[0]
        items, found = answer.find(f"{{{W}}}Items"), []
        ended = answer.find(f"{{{W}}}EndOfSequence") is not None
        while True:
            if items is not None:
                found.extend(items)
            if ended:
                break
            pull = ET.Element(f"{{{N}}}Pull")
            context = answer.findtext(f"{{{N}}}EnumerationContext")
            ET.SubElement(pull, f"{{{N}}}EnumerationContext").text = context
            ET.SubElement(pull, f"{{{N}}}MaxElements").text = str(batch)
            answer = self.send(f"{N}/Pull", uri, pull, ())[0]
            items = answer.find(f"{{{N}}}Items")
            ended = answer.find(f"{{{N}}}EndOfSequence") is not None
        return [read_ref(item) if mode == "EnumerateEPR" else read_instance(item) for item in found]

    def query(self, namespace, text, mode=None):
        return self.enumerate(class_uri(namespace, "*"), WQL, text, mode)

    def references_of_class(self, namespace, cls):
        return self.enumerate(class_uri(namespace, cls), mode="EnumerateEPR")

    def associated(self, namespace, source, association, result=None, role=None, result_role=None, mode=None):
        """Far ends by an association filter."""
        condition = ET.Element(f"{{{B}}}AssociatedInstances")
        add_ref(ET.SubElement(condition, f"{{{B}}}Object"), source)
        for name, value in [
            ("AssociationClassName", association),
            ("Role", role),
            ("ResultClassName", result),
            ("ResultRole", result_role),
        ]:
            if value:
                ET.SubElement(condition, f"{{{B}}}{name}").text = value
        return self.enumerate(class_uri(namespace, "*"), ASSOCIATIONS, condition, mode)

    def associators_of(self, namespace, source, association, result=None, mode=None):
        """The same by WQL."""
        keys = ",".join(f"{name}='{value}'" for name, value in source.selectors if name != "__cimnamespace")
        text = f"ASSOCIATORS OF {{{source.cls}.{keys}}} WHERE AssocClass = {association}"
        if result:
            text += f" ResultClass = {result}"
        return self.query(namespace, text, mode)

    def invoke(self, target, method, **arguments):
        """Calls a method; arguments are text, numbers, references, or None for nil."""
        body = ET.Element(f"{{{target.uri}}}{method}_INPUT")
        for name, value in arguments.items():
            for one in value if isinstance(value, list) else [value]:
                element = ET.SubElement(body, f"{{{target.uri}}}{name}")
                if isinstance(one, Ref):
                    add_ref(element, one)
                elif one is None:
                    element.set(f"{{{XSI}}}nil", "true")
                else:
                    element.text = str(one)
        answer = self.send(f"{target.uri}/{method}", target.uri, body, target.selectors)[0]
        output = read_instance(answer)
        if output.cls != f"{method}_OUTPUT":
            raise AssertionError(f"{output.cls} instead of {method}_OUTPUT")
        return output

    def wait(self, job, timeout=120.0, pause=0.02):
        """Polls a job to its end and returns it. A job that is seen in a state clients cannot bear fails."""
        deadline, percent = time.monotonic() + timeout, 0
        while True:
            instance = self.get(job)
            state = instance.number("JobState")
            if state in FINAL:
                return instance
            if state not in (4, 6):
                raise AssertionError(f"a job was seen in state {state}")
            now = int(instance.get("PercentComplete") or 0)
            if now < percent or now > 100:
                raise AssertionError(f"progress went from {percent} to {now}")
            percent = now
            if time.monotonic() > deadline:
                raise AssertionError(f"job {job.keys} has not ended in {timeout} s: {instance.properties}")
            time.sleep(pause)

    def run(self, target, method, timeout=120.0, **arguments):
        """Calls a method that makes a job (or is done at once) and waits for success; gives (output, job)."""
        output = self.invoke(target, method, **arguments)
        value = output.number("ReturnValue")
        if value == 0:
            return output, None
        if value != 4096:
            raise AssertionError(f"{method} returned {value}")
        job = self.wait(output["Job"], timeout)
        if job.number("JobState") != 7:
            raise AssertionError(f"{method} ended in {job['JobState']}: {job.get('ErrorDescription')}")
        return output, job


class RequestsSend:
    """Raw envelopes with `requests`, over one kept-alive connection."""

    def __init__(self, url, user, password, ca=None, encoding="utf-8"):
        self.url, self.encoding = url, encoding
        self.session = requests.Session()
        self.session.trust_env = False
        if user is not None:
            self.session.auth = (user, password)
        self.session.verify = ca or True

    def post(self, text, url=None, headers=None, **options):
        kind = "application/soap+xml;charset=" + ("UTF-16" if self.encoding.startswith("utf-16") else "UTF-8")
        data = text if isinstance(text, bytes) else text.encode(self.encoding)
        merged = {"Content-Type": kind, **(headers or {})}
        return self.session.post(url or self.url, data=data, headers=merged, timeout=60, **options)

    def __call__(self, action, uri, body, selectors):
        answer = self.post(envelope(action, uri, body, selectors))
        if answer.status_code not in (200, 500) or not answer.content:
            raise AssertionError(f"HTTP {answer.status_code}: {answer.content[:200]!r}")
        if self.encoding.startswith("utf-16"):
            if not answer.content.startswith(b"\xff\xfe"):
                raise AssertionError(f"the answer to UTF-16 is not UTF-16: {answer.content[:40]!r}")
        return read_answer(answer.content, answer.status_code)


class PypsrpSend:
    """pypsrp's `WSMan` class."""

    def __init__(self, host, port, user, password, ca):
        from pypsrp.wsman import WSMan

        self.wsman = WSMan(
            host, port=port, ssl=True, username=user, password=password, auth="basic", cert_validation=ca
        )

    def __call__(self, action, uri, body, selectors):
        from pypsrp.exceptions import WSManFaultError
        from pypsrp.wsman import SelectorSet

        chosen = None
        if selectors:
            chosen = SelectorSet()
            for name, value in selectors:
                chosen.add_option(name, value)
        operations = {
            f"{X}/Get": self.wsman.get,
            f"{N}/Enumerate": self.wsman.enumerate,
            f"{N}/Pull": self.wsman.pull,
        }
        try:
            if action in operations:
                return operations[action](uri, body, selector_set=chosen)
            return self.wsman.invoke(action, uri, body, None, chosen).find(f"{{{S}}}Body")
        except WSManFaultError as fault:
            raise WsmanFault("", fault.reason or fault.message, fault.code, 500) from fault


class PywinrmSend:
    """pywinrm's `Protocol.send_message` with raw envelopes."""

    def __init__(self, url, user, password, ca):
        from winrm.protocol import Protocol

        self.protocol = Protocol(
            endpoint=url,
            transport="basic",
            username=user,
            password=password,
            server_cert_validation="validate",
            ca_trust_path=ca,
            proxy=None,
        )

    def __call__(self, action, uri, body, selectors):
        from winrm.exceptions import WSManFaultError

        try:
            return read_answer(self.protocol.send_message(envelope(action, uri, body, selectors)))
        except WSManFaultError as fault:
            raise WsmanFault("", str(fault), fault.wsman_fault_code, 500) from fault


class CurlSend:
    """curl with a request on its standard input."""

    def __init__(self, url, user, password, ca):
        self.command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60"]
        if ca:
            self.command += ["--cacert", ca]
        if user:
            self.command += ["--user", f"{user}:{password}"]
        self.url = url

    def post(self, text, url=None, options=()):
        """The status and the body of an answer."""
        command = self.command + list(options) + ["--header", "Content-Type: application/soap+xml;charset=UTF-8"]
        command += ["--data-binary", "@-", "--write-out", "\n%{http_code}", url or self.url]
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=90, check=True)
        body, _, status = done.stdout.rpartition(b"\n")
        return int(status), body

    def __call__(self, action, uri, body, selectors):
        status, answer = self.post(envelope(action, uri, body, selectors))
        if status not in (200, 500):
            raise AssertionError(f"HTTP {status}")
        return read_answer(answer, status)


def settings(cls="Msvm_VirtualSystemSettingData", **properties):
    """An embedded instance as CIM-XML text."""
    kinds = {int: "uint8", bool: "boolean", str: "string"}
    root = ET.Element("INSTANCE", CLASSNAME=cls)
    for name, value in properties.items():
        prop = ET.SubElement(root, "PROPERTY", NAME=name, TYPE=kinds[type(value)])
        ET.SubElement(prop, "VALUE").text = str(value).upper() if isinstance(value, bool) else str(value)
    return ET.tostring(root, encoding="unicode")
