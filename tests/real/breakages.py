"""A proxy that breaks one rule of the traffic between a conformance suite and a right server.

Each breakage is a function of a request and its answer; most change nothing but what one rule is about, so
the suite has to fail in that row, and in others that look at the same thing, and nowhere else.
"""

import http.client
import http.server
import threading
from urllib.parse import urlsplit

ANONYMOUS_HEADER = "WSMANIDENTIFY"


class Exchange:
    """A request on its way to the server, then the answer on its way back. Texts are decoded."""

    def __init__(self, path, headers, body):
        self.path, self.headers, self.body = path, headers, body
        self.utf16 = body[:2] in (b"\xff\xfe", b"\xfe\xff")
        self.text = body.decode("utf-16" if self.utf16 else "utf-8", "replace")
        self.status, self.answer_headers, self.answer = 0, [], ""

    @property
    def credentials(self):
        return "Authorization" in self.headers

    def is_fault(self):
        return "<s:Fault>" in self.answer

    def replace(self, old, new, count=-1):
        self.answer = self.answer.replace(old, new, count)


class Breaking:
    """A running proxy. `request` and `answer` are called with the exchange before and after the server."""

    def __init__(self, url, breakage):
        self.upstream = urlsplit(url)
        request, answer = breakage
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                self.to_server = None

            def finish(self):
                if self.to_server:
                    self.to_server.close()
                super().finish()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                exchange = Exchange(self.path, self.headers, body)
                before = exchange.text
                request(exchange)
                if exchange.text != before:
                    body = exchange.text.encode("utf-16" if exchange.utf16 else "utf-8")
                status, headers, content = self.forward(body)
                utf16 = content[:2] == b"\xff\xfe"
                exchange.status, exchange.answer_headers = status, headers
                exchange.answer = content.decode("utf-16" if utf16 else "utf-8", "replace")
                plain = exchange.answer
                answer(exchange)
                if exchange.answer != plain or exchange.answer_headers is not headers:
                    utf16 = utf16 and exchange.answer_headers is headers
                    content = exchange.answer.encode("utf-16" if utf16 else "utf-8")
                self.send_response(exchange.status)
                for name, value in exchange.answer_headers:
                    if name.lower() not in ("content-length", "date", "server", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def forward(self, body):
                headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
                if self.to_server is None:
                    self.to_server = http.client.HTTPConnection(proxy.upstream.hostname, proxy.upstream.port)
                try:
                    self.to_server.request("POST", self.path, body, headers)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # A request that is too long is answered before it is read.
                response = self.to_server.getresponse()
                content = response.read()
                if response.will_close:
                    self.to_server.close()
                    self.to_server = None
                return response.status, response.getheaders(), content

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/wsman"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def between(text, start, end):
    return text.partition(start)[2].partition(end)[0]


def unchanged(_):
    pass


def in_request(old, new, only=""):
    """Text of requests replaced, so that the server sees another one."""

    def change(exchange):
        if only in exchange.text:
            exchange.text = exchange.text.replace(old, new)

    return change, unchanged


def in_answer(old, new, only="", fault=None, count=-1):
    """Text of answers replaced: of those to requests with `only`, of faults or of others."""

    def change(exchange):
        if only in exchange.text and fault in (None, exchange.is_fault()):
            exchange.replace(old, new, count)

    return unchanged, change


def answering(change):
    return unchanged, change


def without(exchange, start, end):
    """Takes the first element between two marks out of the answer."""
    inner = between(exchange.answer, start, end)
    exchange.replace(start + inner + end, "")


def lower_relates_to(exchange):
    whole = between(exchange.answer, "<a:RelatesTo>", "</a:RelatesTo>")
    exchange.replace(f"<a:RelatesTo>{whole}<", f"<a:RelatesTo>{whole.lower()}<")


def one_message_id(exchange):
    whole = between(exchange.answer, "<a:MessageID>", "</a:MessageID>")
    if whole:
        exchange.replace(whole, "uuid:8B1E7F0E-7E3D-4C39-9AF0-1C1B5C7F0D11")


def one_fault_action(exchange):
    whole = between(exchange.answer, "<a:Action>", "</a:Action>")
    if exchange.is_fault():
        exchange.replace(f"<a:Action>{whole}<", "<a:Action>http://schemas.xmlsoap.org/ws/2004/08/addressing/fault<")


def no_cookie(fault):
    def change(exchange):
        if exchange.is_fault() == fault and "c:Cookie" in exchange.answer:
            without(exchange, "<c:Cookie", "</c:Cookie>")

    return unchanged, change


def two_at_once(exchange):
    if "<n:Pull>" in exchange.text and "MaxElements" not in exchange.text:
        exchange.text = exchange.text.replace("</n:Pull>", "<n:MaxElements>2</n:MaxElements></n:Pull>")


def one_twice(exchange):
    if "<n:MaxElements>7</n:MaxElements>" in exchange.text:
        first = between(exchange.answer, "<w:Item>", "</w:Item>")
        exchange.replace("<w:Item>", f"<w:Item>{first}</w:Item><w:Item>", 1)


def utf16_in_utf8(exchange):
    if exchange.utf16 and not exchange.is_fault():
        exchange.answer_headers = [
            (name, value.replace("UTF-16", "UTF-8")) for name, value in exchange.answer_headers
        ]


def bare_datetimes(exchange):
    exchange.replace("<cim:Datetime>", "")
    exchange.replace("</cim:Datetime>", "")


def status(old, new, holds):
    def change(exchange):
        if exchange.status == old and holds(exchange):
            exchange.status = new

    return unchanged, change


def long_fault(exchange):
    if exchange.is_fault() and len(exchange.text) > 40_000:
        exchange.replace("<s:Reason>", "<s:Reason><!--" + "x" * 8192 + "-->")


def numbers_off_by_one(exchange):
    number = between(exchange.answer, ' Code="', '"')
    if exchange.is_fault() and number:
        exchange.replace(f' Code="{number}"', f' Code="{int(number) + 1}"')


def operation_id(exchange):
    whole = between(exchange.text, "<p:OperationID", "</p:OperationID>")
    if whole:
        header = f'<p:OperationID xmlns:p="http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"{whole}</p:OperationID>'
        header = header.replace(' s:mustUnderstand="false"', "")
        exchange.replace("</s:Header>", header + "</s:Header>")


def nowhere(exchange):
    if "eventing/Subscribe<" in exchange.text and "w:ResourceURI" not in exchange.text:
        exchange.replace("a:DestinationUnreachable", "w:InternalError")


def no_expiration(exchange):
    """Expirations of subscriptions, not of enumerations, and not those of Renew."""
    if "<e:SubscribeResponse" in exchange.answer:
        without(exchange, "<e:Expires>", "</e:Expires>")


def other_media_type(exchange):
    if any("multipart/encrypted" in value for _, value in exchange.answer_headers):
        exchange.answer_headers = [
            (name, value.replace("multipart/encrypted", "multipart/related")) for name, value in exchange.answer_headers
        ]


PULL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/Pull"
PUT = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Put<"
CREATE = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Create<"
DELETE = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Delete<"
PROFILES = "<wsmid:SecurityProfiles><wsmid:SecurityProfileName>x</wsmid:SecurityProfileName></wsmid:SecurityProfiles>"
GET = "http://schemas.xmlsoap.org/ws/2004/09/transfer/Get<"
NIL_ESTIMATE = (
    '<w:TotalItemsCountEstimate xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/>'
)
FAULT_DETAIL = "http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/"

#: Name, what is broken, the rows that must fail.
BREAKAGES = [
    ("EndTo is taken in silence", in_request("n:EndTo", "n:Ignored"), "C002 C003"),
    ("EndTo is refused with another detail", in_answer("/AddressingMode", "/Locale", "<n:EndTo>"), "C003"),
    ("a missing resource is an internal error", answering(nowhere), "C006"),
    ("a lower-case scheme is demanded", in_request("HTTP://", "urn:"), "C004"),
    ("an unexpected selector is an insufficient one", in_answer("/UnexpectedSelectors", "/InsufficientSelectors"), "C009"),
    ("selectors without regard to case are unknown", in_request("CREATIONCLASSNAME", "CREATION_CLASS_NAME"), "C007"),
    ("a selector twice is another mistake", in_answer("/DuplicateSelectors", "/UnexpectedSelectors"), "C010"),
    ("ambiguous selectors are unexpected", in_answer("/AmbiguousSelectors", "/UnexpectedSelectors"), "C012"),
    ("NotUnderstood is not named", in_answer("s:NotUnderstood", "s:NotKnown"), "C014"),
    (
        "strangers are forbidden, not asked for credentials",
        status(401, 403, lambda e: ANONYMOUS_HEADER not in e.headers and e.text.startswith("<s:")),
        "C016",
    ),
    ("the anonymous address asks for credentials", status(200, 401, lambda e: e.path != "/wsman"), "C017"),
    ("parameters of ReplyTo are lost", no_cookie(False), "C021"),
    ("parameters of FaultTo are lost", no_cookie(True), "C024"),
    ("RelatesTo is folded to lower case", answering(lower_relates_to), "C025"),
    ("every answer has the same MessageID", answering(one_message_id), "C026"),
    ("the Action of Get is answered by another", in_answer("transfer/GetResponse<", "transfer/GetResult<"), "C028"),
    ("every fault is one of addressing", answering(one_fault_action), "C029"),
    ("a negative timeout is taken", in_request("-PT1S", "PT1S"), "C032"),
    ("an answer does not say its language", in_answer(' xml:lang="en-US"', "", count=1), "C043"),
    ("MustComply is not looked at", in_request(' MustComply="true"', ""), "C046"),
    ("too many options have another detail", in_answer("/OptionLimit", "/SelectorLimit"), "C048"),
    ("a wrong representation is a wrong parameter", in_answer("x:InvalidRepresentation", "w:InvalidParameter", PUT), "C054 C055"),
    ("Put answers another value", in_answer("<p:ElementName>", "<p:ElementName>other ", PUT), "C056"),
    ("Delete of nothing is another fault", in_answer("a:DestinationUnreachable", "a:EndpointUnavailable", DELETE), "C006 C057"),
    ("Create of what is there is another fault", in_answer("w:AlreadyExists", "w:Concurrency", CREATE), "C058"),
    ("what was created has another name", in_answer("x:ResourceCreated", "x:Created", CREATE), "C057 C058 C059"),
    ("fragments have another wrapper", in_answer("w:XmlFragment", "w:Fragment", GET), "C060 C062"),
    ("a fragment header needs no mark", in_request("<w:FragmentTransfer>", '<w:FragmentTransfer s:mustUnderstand="true">'), "C063"),
    ("a path from the root is taken", in_request(">/ElementName<", ">ElementName<"), "C064"),
    ("a filter that is wrong is a fault of the schema", in_answer("n:CannotProcessFilter", "w:SchemaValidationError", "SELECT * FROM NoSuchClass"), "C069"),
    ("an expiration in the past is taken", in_request("2000-01-01T", "2999-01-01T"), "C072"),
    ("the count estimate is a word", in_answer(NIL_ESTIMATE, "<w:TotalItemsCountEstimate>many</w:TotalItemsCountEstimate>"), "C073"),
    ("the items are in the other namespace", in_answer("w:Items>", "n:Items>"), "C074"),
    ("two items where one is asked for", in_request("<w:OptimizeEnumeration/></n:Enumerate>", "<w:OptimizeEnumeration/><w:MaxElements>2</w:MaxElements></n:Enumerate>"), "C075"),
    ("the end is not marked", in_answer("<w:EndOfSequence/>", ""), "C076"),
    ("a Pull brings one more than asked for", in_request("<n:MaxElements>2<", "<n:MaxElements>3<"), "C078"),
    ("a Pull brings two", (two_at_once, unchanged), "C044 C079"),
    ("an item comes twice", answering(one_twice), "C082"),
    ("the Release of an old context is another mistake", in_answer("n:InvalidEnumerationContext", "n:TimedOut", "<n:Release>"), "C083"),
    ("Release has an answer in its body", in_answer("<s:Body></s:Body>", "<s:Body><n:ReleaseResponse/></s:Body>", "<n:Release>"), "C086"),
    ("a projection has another wrapper", in_answer("w:XmlFragment", "w:Fragment", "<n:Enumerate>"), "C087 C152"),
    ("references have another name", in_answer("a:EndpointReference", "a:Reference", ">EnumerateEPR<"), "C088 C179"),
    ("any EnumerationMode is taken", in_request("<w:EnumerationMode>Foo</w:EnumerationMode>", ""), "C089"),
    ("the quota is an internal error", in_answer("w:QuotaLimit", "w:InternalError"), "C090"),
    ("an unknown method is an internal error", in_answer("a:ActionNotSupported", "w:InternalError", "Service/NoSuchMethod<"), "C093"),
    ("the output has another name", in_answer("CreateSnapshot_OUTPUT", "CreateSnapshot_RESULT"), "C094 C143"),
    ("any delivery mode is taken", in_request('Mode="urn:x"', f'Mode="{PULL}"'), "C096"),
    ("a filter of any dialect is taken", in_answer("e:FilteringRequestedUnavailable", "w:InternalError"), "C097"),
    ("a retry without a pause is taken", in_request(">PT5S</w:ConnectionRetry>", ">PT0S</w:ConnectionRetry>"), "C098"),
    ("a subscription does not say when it ends", answering(no_expiration), "C099"),
    ("heartbeats are left out", in_request("<w:Heartbeats>PT1S</w:Heartbeats>", ""), "C100"),
    ("no bookmarks are sent", in_request("<w:SendBookmarks/>", ""), "C101"),
    ("any bookmark is taken", in_request("<w:Bookmark>no bookmark of this server</w:Bookmark>", ""), "C102"),
    ("a Renew says nothing", in_answer("e:RenewResponse", "e:Renewed"), "C106"),
    ("dropped events are not told", in_answer("w:DroppedEvents", "w:Dropped"), "C111"),
    ("Identify names another version", in_answer("wsman/1/wsman.xsd</wsmid:ProtocolVersion", "wsman/2/wsman.xsd</wsmid:ProtocolVersion"), "C113"),
    ("strangers are shown the profiles", answering(lambda e: e.credentials or e.replace("</wsmid:IdentifyResponse>", PROFILES + "</wsmid:IdentifyResponse>")), "C115"),
    ("strangers are shown the version", in_answer("OS: 0.0.0 SP", "OS: 10.0.20348 SP"), "C116"),
    ("the header of Identify forbids", status(401, 403, lambda e: ANONYMOUS_HEADER in e.headers), "C117"),
    ("SOAP 1.1 is a wrong schema", in_answer("s:VersionMismatch", "s:Sender"), "C120"),
    ("UTF-16 is answered in UTF-8", answering(utf16_in_utf8), "C122"),
    ("a long URI has another detail", in_answer("/URILimitExceeded", "/Whitespace"), "C123"),
    ("faults come with HTTP 400", status(500, 400, Exchange.is_fault), "C129"),
    ("reasons do not say their language", in_answer('<s:Text xml:lang="en-US">', "<s:Text>"), "C130"),
    ("faults are long", answering(long_fault), "C131"),
    ("details are abbreviated", in_answer(FAULT_DETAIL, "wsman:faultDetail/"), "C003 C133"),
    ("numbers are wrong by one", answering(numbers_off_by_one), "C134"),
    ("reasons show where the server lives", in_answer("</s:Text>", " /home/wsnapd/src</s:Text>", "", True), "C135"),
    ("polymorphism is refused with another detail", in_answer("b:PolymorphismModeNotSupported", "w:UnsupportedFeature", "ExcludeSubClassProperties"), "C148"),
    ("events of another class are told", in_answer("e:EventSourceUnableToProcess", "w:InternalError"), "C149"),
    ("all classes need no filter", in_answer("e:InvalidMessage", "w:InternalError", "eventing/Subscribe<"), "C156"),
    ("a filter beside an existing one is taken", in_answer("w:InvalidParameter", "w:InternalError", "CIM_IndicationFilter<"), "C158"),
    ("CIM errors are not marked", in_answer(' b:IsCIM_Error="true"', ""), "C162"),
    ("embedded instances do not say their class", in_answer("MSFT_SMExtendedStatus_Type", "MSFT_SMStatus_Type"), "C163"),
    ("datetimes are bare", answering(bare_datetimes), "C164"),
    ("null is empty", in_answer('<p:OtherEnabledState xsi:nil="true"/>', "<p:OtherEnabledState/>"), "C167"),
    ("null arrays are not marked", in_answer(' m:IsNullArray="true"', ""), "C168"),
    ("a request that is too long is a bad one", status(413, 400, lambda e: True), "C180"),
    ("control characters are left out", in_answer("bell ?!", "bell !"), "C181"),
    ("the OperationID comes back", answering(operation_id), "C185"),
    ("sealed answers are called something else", answering(other_media_type), "C187"),
]
