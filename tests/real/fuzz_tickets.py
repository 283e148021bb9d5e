"""Writes what the fuzz oracles of Kerberos begin with: `python tests/real/fuzz_tickets.py`.

The tickets are for the keys in `fixtures/kerberos/keytab` and last until 2055, and `fixtures/kerberos/krb5.conf` lets
clocks differ by as much, so that the saved tokens are accepted for decades. What they are encrypted with is known to
everybody; no server has these keys.
"""

import datetime
import hashlib
import pathlib
import struct

import tickets

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "fixtures"
#: The key of every service in the keytab.
SERVICE_KEY = b"B" * 32
#: Folder of the recorded logon, realm and user.
RECORDED = [
    ("pypsrp-kerberos", "TEST.LOCAL", "admin"),
    ("pypsrp-spnego-kerberos", "TEST.LOCAL", "admin"),
    ("pywinrm-kerberos-negotiate", "TEST.LOCAL", "admin"),
    ("omicli-negotiate-kerberos", "OMI.TEST", "omitest"),
]
#: The clear texts of the sealed messages, in the order in which they were sealed.
MESSAGES = [b"<a/>", b"", b"<b>" + b"x" * 300 + b"</b>"]
#: RC4 with HMAC (RFC 4757), which the oracle can do itself, and the key of the session.
RC4, SESSION = 23, bytes(range(16))
#: What a client asks for (RFC 4121 §4.1.1.1).
DELEGATION, MUTUAL, DCE_STYLE = 1, 2, 0x1000
#: In the options of a request (RFC 4120 §5.5.1).
MUTUAL_REQUIRED, SESSION_KEY = 0x20, 0x40


def lasting(user, realm, flags=tickets.Logon.FLAGS):
    logon = tickets.Logon(SERVICE_KEY, user, realm, flags)
    year = lambda number: datetime.datetime(number, 1, 1, tzinfo=datetime.timezone.utc)
    logon.begin, logon.now, logon.end = year(2020), year(2026), year(2055)
    return logon


def tokens():
    """Those of the recorded clients, with our keys."""
    folder = FIXTURES / "fuzz" / "kerberos"
    for name, realm, user in RECORDED:
        captured = (folder / f"{name}_captured").read_bytes()
        (folder / name).write_bytes(lasting(user, realm).request(captured))
    ended = lasting("admin", "TEST.LOCAL")
    # Longer ago than clocks may differ.
    ended.begin, ended.end = (ended.begin.replace(year=year) for year in (1980, 1990))
    (folder / "pypsrp-kerberos_ended").write_bytes(ended.request((folder / "pypsrp-kerberos_captured").read_bytes()))


def sealed():
    """A token without mutual authentication, so that no key comes from the server, and messages of that session."""
    logon = lasting("admin", "TEST.LOCAL", tickets.Logon.FLAGS & ~MUTUAL)
    token = logon.request((FIXTURES / "fuzz/kerberos/pypsrp-kerberos_captured").read_bytes())
    options = tickets.field(2, tickets.element(3, bytes([0, MUTUAL_REQUIRED, 0, 0, 0])))
    token = tickets.replaced(token, options, options.replace(bytes([MUTUAL_REQUIRED]), b"\0"))
    (FIXTURES / "kerberos/token").write_bytes(token)
    framed = []
    for clear in MESSAGES:
        message = b"".join(logon.seal(clear))
        framed.append(struct.pack(">H", len(message)) + message)
    folder = FIXTURES / "fuzz/sealed"
    folder.mkdir(exist_ok=True)
    for name, messages in (("one", framed[:1]), ("two", framed[:2]), ("three", framed), ("without-first", framed[1:])):
        (folder / name).write_bytes(b"".join(messages))


def authenticators():
    """A ticket, and what its owner may say in clear, behind a byte with the options of the request."""
    logon = lasting("admin", "TEST.LOCAL")
    logon.session, logon.session_kind = SESSION, RC4
    encrypted = tickets.encrypt(SERVICE_KEY, tickets.TICKET, logon.ticket(200))
    data = tickets.element(
        0x30,
        tickets.field(0, tickets.number(tickets.KIND)),
        tickets.field(1, tickets.number(2)),
        tickets.field(2, tickets.element(4, encrypted)),
    )
    ticket = tickets.element(
        0x30,
        tickets.field(0, tickets.number(5)),
        tickets.field(1, tickets.text("TEST.LOCAL")),
        tickets.field(2, tickets.name("HTTP", "localhost", kind=3)),
        tickets.field(3, data),
    )
    (FIXTURES / "kerberos/ticket").write_bytes(tickets.element(0x61, ticket))
    folder = FIXTURES / "fuzz/authenticator"
    folder.mkdir(exist_ok=True)

    def write(name, options=MUTUAL_REQUIRED, flags=tickets.Logon.FLAGS, **further):
        logon.flags = flags
        (folder / name).write_bytes(bytes([options]) + logon.authenticator(**further))

    one_way = tickets.Logon.FLAGS & ~MUTUAL
    write("mutual")
    write("one-way", 0, one_way)
    write("signs-only", flags=tickets.Logon.FLAGS & ~0x10)
    write("three-legs", flags=tickets.Logon.FLAGS | DCE_STYLE)
    write("session-key", SESSION_KEY)
    # A channel binding of no addresses (RFC 4121 §4.1.1.2), and the two that do not fit.
    binding = b"tls-server-end-point:" + bytes(32)
    write("bound", binding=hashlib.md5(bytes(16) + struct.pack("<I", len(binding)) + binding).digest())
    write("bound-to-another", binding=bytes(range(16)))
    credentials = tickets.element(0x76, tickets.element(0x30, tickets.field(0, tickets.number(5))))
    write(
        "delegates",
        flags=tickets.Logon.FLAGS | DELEGATION,
        further=struct.pack("<HH", 1, len(credentials)) + credentials,
    )


if __name__ == "__main__":
    tokens()
    sealed()
    authenticators()
