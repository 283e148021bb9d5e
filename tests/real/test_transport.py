"""HTTP, TLS and logon as clients meet them."""

import http.client
import re
import socket
import ssl
import unittest
from urllib.parse import urlsplit

import requests

import house
import server
import wsman
from wsman import V2

ANONYMOUS_VERSION = "OS: 0.0.0 SP: 0.0 Stack: 3.0"
SOAP = "application/soap+xml;charset=UTF-8"


def anon(url):
    """The URL for Identify without credentials."""
    return url.removesuffix("/wsman") + "/wsman-anon/identify"


def identified(answer):
    """What Identify said."""
    body = wsman.read_answer(answer.content)
    response = body.find(f"{{{wsman.ID}}}IdentifyResponse")
    version = response.findtext(f"{{{wsman.ID}}}ProductVersion")
    return version, response.find(f"{{{wsman.ID}}}SecurityProfiles")


class OneServer(unittest.TestCase):
    options = ()
    config = None

    @classmethod
    def setUpClass(cls):
        cls.demo = server.Demo(None, *cls.options)
        cls.addClassCleanup(cls.demo.close)
        if cls.config:
            cls.demo.data.mkdir(parents=True)
            (cls.demo.data / "wsnapd.toml").write_text(server.EMPTY_CONFIG + cls.config)
        cls.demo.start()

    def session(self, url=None, user=None, password=None):
        return wsman.RequestsSend(url or self.demo.https_url, user, password, self.demo.ca)

    def connection(self, timeout=30):
        """A plain HTTP connection, to see what happens to it."""
        address = urlsplit(self.demo.http_url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)
        self.addCleanup(connection.close)
        return connection

    def headers(self):
        credentials = requests.auth._basic_auth_str(self.demo.user, self.demo.password)
        return {"Content-Type": SOAP, "Authorization": credentials}


class Logon(OneServer):
    def test_identify_without_credentials_on_both_paths_and_protocols(self):
        for url in (self.demo.http_url, self.demo.https_url):
            plain = self.session(url)
            for answer in (
                plain.post(wsman.identify_envelope(), url=anon(url)),
                plain.post(wsman.identify_envelope(), headers={"WSMANIDENTIFY": "unauthenticated"}),
            ):
                self.assertEqual(200, answer.status_code)
                self.assertEqual(SOAP, answer.headers["Content-Type"])
                version, profiles = identified(answer)
                self.assertEqual(ANONYMOUS_VERSION, version)
                self.assertIsNone(profiles)

    def test_identify_with_credentials_says_more(self):
        for url in (self.demo.http_url, self.demo.https_url):
            answer = self.session(url, self.demo.user, self.demo.password).post(wsman.identify_envelope())
            version, profiles = identified(answer)
            self.assertRegex(version, r"^OS: (6|10)\.\d+\.\d+ SP: \d+\.\d+ Stack: \d+\.\d+$")
            self.assertTrue(len(profiles))

    def test_only_identify_is_anonymous(self):
        get = wsman.envelope(f"{wsman.X}/Get", wsman.class_uri(V2, "Msvm_ComputerSystem"))
        for url in (self.demo.http_url, self.demo.https_url):
            plain = self.session(url)
            self.assertEqual(401, plain.post(wsman.identify_envelope()).status_code)
            self.assertEqual(401, plain.post(get).status_code)
            self.assertEqual(401, plain.post(get, headers={"WSMANIDENTIFY": "unauthenticated"}).status_code)
            self.assertNotEqual(200, plain.post(get, url=anon(url)).status_code)

    def test_wrong_credentials(self):
        right = (self.demo.user, self.demo.password)
        for user, password in [
            (right[0], "wrong"),
            (right[0], ""),
            (right[0], right[1] + "x"),
            (right[0], right[1][:-1]),
            (right[0] + "x", right[1]),
            ("nobody", right[1]),
            ("", ""),
        ]:
            answer = self.session(None, user, password).post(wsman.identify_envelope())
            self.assertEqual(401, answer.status_code, (user, password))
            self.assertIn("Basic", answer.headers["WWW-Authenticate"])
            self.assertEqual(b"", answer.content)
        self.assertEqual(200, self.session(None, *right).post(wsman.identify_envelope()).status_code)

    def test_credentials_belong_to_the_request(self):
        connection = self.connection()
        body = wsman.identify_envelope().encode()
        for credentials, status in [(True, 200), (False, 401), (True, 200)]:
            headers = self.headers()
            if not credentials:
                del headers["Authorization"]
            connection.request("POST", "/wsman", body, headers)
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(status, answer.status)

    def test_clear_text_basic_is_allowed_in_the_demo(self):
        cim = wsman.Cim(self.session(self.demo.http_url, self.demo.user, self.demo.password))
        self.assertEqual("web01", cim.get(house.machine(cim, "web01"))["ElementName"])

    def test_the_certificate_is_needed_and_fits_every_name(self):
        with self.assertRaises(requests.exceptions.SSLError):
            requests.post(self.demo.https_url, data=b"", timeout=10)
        address = urlsplit(self.demo.https_url)
        for name in ("127.0.0.1", "localhost", socket.gethostname()):
            context = ssl.create_default_context(cafile=self.demo.ca)
            with socket.create_connection((address.hostname, address.port), 10) as plain:
                with context.wrap_socket(plain, server_hostname=name):
                    pass

    def test_tls_versions(self):
        address = urlsplit(self.demo.https_url)
        for version, works in [
            (ssl.TLSVersion.TLSv1_1, False),
            (ssl.TLSVersion.TLSv1_2, True),
            (ssl.TLSVersion.TLSv1_3, True),
        ]:
            context = ssl.create_default_context(cafile=self.demo.ca)
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            with socket.create_connection((address.hostname, address.port), 10) as plain:
                if works:
                    context.wrap_socket(plain, server_hostname="localhost").close()
                else:
                    with self.assertRaises((ssl.SSLError, ConnectionResetError)):
                        context.wrap_socket(plain, server_hostname="localhost")


class Http(OneServer):
    def test_keep_alive(self):
        connection = self.connection()
        connection.connect()
        first = connection.sock
        for _ in range(50):
            connection.request("POST", "/wsman", wsman.identify_envelope().encode(), self.headers())
            answer = connection.getresponse()
            self.assertEqual(200, answer.status)
            answer.read()
            self.assertIs(first, connection.sock, "the server closed the connection")

    def test_answers_by_path_method_and_media_type(self):
        body = wsman.identify_envelope().encode()
        connection = self.connection()
        for method, path, kind, status in [
            ("POST", "/wsman", SOAP, 200),
            ("POST", "/wsman/", SOAP, 200),
            ("POST", "/WSMAN", SOAP, 200),
            ("POST", "/wsman?PSVersion=5.1", SOAP, 200),
            ("POST", "/wsman", "text/xml", 200),
            ("POST", "/wsman", 'application/soap+xml; charset="utf-8"', 200),
            ("POST", "/elsewhere", SOAP, 404),
            ("GET", "/wsman", SOAP, 405),
            ("PUT", "/wsman", SOAP, 405),
            ("POST", "/wsman", "application/json", 415),
            ("POST", "/wsman", "", 400),
        ]:
            headers = self.headers()
            headers["Content-Type"] = kind
            if not kind:
                del headers["Content-Type"]
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            self.assertEqual(status, answer.status, (method, path, kind))
            if status == 405:
                self.assertEqual("POST", answer.headers["Allow"])

    def test_too_large_is_413(self):
        text = wsman.identify_envelope().replace("<s:Header", "<!--" + "x" * (600 << 10) + "--><s:Header", 1)
        body = text.encode()

        def chunks():
            for start in range(0, len(body), 8192):
                yield body[start : start + 8192]

        for content, headers in [(body, {}), (chunks(), {"Transfer-Encoding": "chunked"})]:
            connection = self.connection()
            try:
                connection.request(
                    "POST", "/wsman", content, {**self.headers(), **headers}, encode_chunked=bool(headers)
                )
            except (BrokenPipeError, ConnectionResetError):
                # The server may stop reading; its answer is there all the same.
                pass
            answer = connection.getresponse()
            self.assertEqual(413, answer.status)
        smaller = wsman.identify_envelope().replace("<s:Header", "<!--" + "x" * (400 << 10) + "--><s:Header", 1)
        send = self.session(None, self.demo.user, self.demo.password)
        self.assertEqual(200, send.post(smaller).status_code)

    def test_utf_16(self):
        name = "Schnappschuß \u4e2d \U0001f4be"
        for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
            send = self.demo.requests(encoding=encoding)
            if encoding == "utf-16-be":
                # Without a byte-order mark the text is taken as little-endian.
                original = send.post
                send.post = lambda text, original=original, **options: original(
                    b"\xfe\xff" + text.encode("utf-16-be"), **options
                )
            cim = wsman.Cim(send, encoding)
            text = '<?xml version="1.0" encoding="UTF-16"?>' + wsman.settings(ElementName=name)
            snapshot = house.take(cim, "web01", SnapshotSettings=text)
            self.assertEqual(name, cim.get(snapshot)["ElementName"], encoding)
            house.destroy(cim, snapshot)

    def test_a_fault_comes_in_the_encoding_of_the_request(self):
        send = self.demo.requests(encoding="utf-16")
        with self.assertRaises(wsman.WsmanFault) as caught:
            wsman.Cim(send).get(wsman.ref(V2, "Msvm_ConcreteJob", InstanceID="none"))
        self.assertEqual((500, "DestinationUnreachable"), (caught.exception.status, caught.exception.subcode))

    def test_broken_text_is_a_fault_and_the_server_goes_on(self):
        send = self.demo.requests()
        good = wsman.envelope(f"{wsman.X}/Get", wsman.class_uri(V2, "Msvm_ComputerSystem"))
        bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>' + good
        deep = good.replace("<s:Body />", "<s:Body>" + "<a>" * 20000 + "</a>" * 20000 + "</s:Body>")
        for text in ["", "no xml", good[:-20], good.replace("</s:Header>", ""), bomb, deep, "\0" * 100, "<a/>"]:
            answer = send.post(text)
            if text:
                self.assertEqual(500, answer.status_code, text[:60])
                with self.assertRaises(wsman.WsmanFault):
                    wsman.read_answer(answer.content)
            else:
                self.assertIn(answer.status_code, (200, 400, 401, 500))
        self.assertEqual(200, send.post(wsman.identify_envelope()).status_code)
        self.assertIsNone(self.demo.process.poll())


class Strict(OneServer):
    options = ("--strict",)

    def test_plain_http_answers_identify_and_refuses_clear_text(self):
        url = self.demo.http_url
        get = wsman.envelope(f"{wsman.X}/Get", wsman.class_uri(V2, "Msvm_ComputerSystem"))
        plain = self.session(url)
        for answer in (
            plain.post(wsman.identify_envelope(), url=anon(url)),
            plain.post(wsman.identify_envelope(), headers={"WSMANIDENTIFY": "unauthenticated"}),
        ):
            self.assertEqual(200, answer.status_code)
            self.assertEqual(ANONYMOUS_VERSION, identified(answer)[0])
        for user, password in [(None, None), (self.demo.user, self.demo.password), (self.demo.user, "wrong")]:
            answer = self.session(url, user, password).post(get)
            self.assertEqual(401, answer.status_code, user)
            self.assertEqual("Negotiate", answer.headers["WWW-Authenticate"])

    def test_https_works_as_ever(self):
        cim = self.demo.cim()
        self.assertEqual("web01", cim.get(house.machine(cim, "web01"))["ElementName"])


class Limits(OneServer):
    config = "[service]\nMaxConnections = 3\nMaxEnvelopeSizekb = 32\nMaxPacketRetrievalTimeSeconds = 1\n"

    def test_one_connection_too_many_is_503(self):
        held = []
        for _ in range(3):
            connection = self.connection()
            connection.request("POST", "/wsman", wsman.identify_envelope().encode(), self.headers())
            self.assertEqual(200, connection.getresponse().read() and 200)
            held.append(connection)
        extra = self.connection()
        extra.request("POST", "/wsman", wsman.identify_envelope().encode(), self.headers())
        self.assertEqual(503, extra.getresponse().status)
        for connection in held:
            connection.close()
        # The places come back.
        for _ in range(50):
            again = self.connection()
            again.request("POST", "/wsman", wsman.identify_envelope().encode(), self.headers())
            if again.getresponse().status == 200:
                return
        self.fail("closed connections still count")

    def test_a_slow_body_ends_in_500(self):
        address = urlsplit(self.demo.http_url)
        with socket.create_connection((address.hostname, address.port), 10) as plain:
            head = f"POST /wsman HTTP/1.1\r\nHost: x\r\nContent-Type: {SOAP}\r\nContent-Length: 500\r\n"
            head += f"Authorization: {self.headers()['Authorization']}\r\n\r\n<s:Env"
            plain.sendall(head.encode())
            answer = b""
            while piece := plain.recv(4096):
                answer += piece
            self.assertTrue(re.match(rb"HTTP/1\.1 500 ", answer), answer[:80])

    def test_the_configured_size_counts(self):
        text = wsman.identify_envelope().replace("<s:Header", "<!--" + "x" * (40 << 10) + "--><s:Header", 1)
        connection = self.connection()
        connection.request("POST", "/wsman", text.encode(), self.headers())
        self.assertEqual(413, connection.getresponse().status)


# The base class has no tests of its own.
if __name__ == "__main__":
    unittest.main()
