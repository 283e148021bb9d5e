"""Tickets and sealed messages of Kerberos made by hand, byte by byte: AES-256 with SHA-1 (RFC 3961, RFC 3962), tickets
and authenticators (RFC 4120), Wrap tokens in the order in which Windows and its imitators send them (RFC 4121)."""

import datetime
import hashlib
import hmac
import os
import struct
from math import gcd

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

#: aes256-cts-hmac-sha1-96
KIND = 18
#: What keys are used for (RFC 4120 §7.5.1, RFC 4121 §2).
TICKET, AP_REP, AUTHENTICATOR, ACCEPTOR_SEAL, INITIATOR_SEAL = 2, 12, 11, 22, 24
#: What a sealed part has in front of it and behind it.
BLOCK, TAG = 16, 12
#: The frame of a token: mechanism, and the kind of token.
KRB5 = bytes.fromhex("06092a864886f712010202")


# -- AES with SHA-1 ---------------------------------------------------------------------------------


def fold(data, size):
    """`n-fold` of RFC 3961 §5.1."""

    def rotated(count):
        bits, value = 8 * len(data), int.from_bytes(data, "big")
        count %= bits
        return ((value >> count) | (value << (bits - count)) & ((1 << bits) - 1)).to_bytes(len(data), "big")

    total = len(data) * size // gcd(len(data), size)
    long = b"".join(rotated(13 * index) for index in range(total // len(data)))
    sums = [sum(column) for column in zip(*(long[at : at + size] for at in range(0, total, size)))]
    while any(value > 255 for value in sums):
        sums = [(sums[(at + 1) % size] >> 8) + (sums[at] & 255) for at in range(size)]
    return bytes(sums)


def aes(key, mode=None):
    return Cipher(algorithms.AES(key), mode or modes.ECB())


def derived(key, usage, kind):
    """The key for one use; `kind` is 0xaa to encrypt and 0x55 to sign."""
    block, out = fold(struct.pack(">IB", usage, kind), BLOCK), b""
    while len(out) < len(key):
        block = aes(key).encryptor().update(block)
        out += block
    return out[: len(key)]


def encrypt(key, usage, clear, confounder=None):
    """Encrypted and signed; 28 bytes longer than the clear text."""
    clear = (confounder or os.urandom(BLOCK)) + clear
    last = len(clear) % BLOCK or BLOCK
    padded = clear + bytes(BLOCK - last)
    blocks = aes(derived(key, usage, 0xAA), modes.CBC(bytes(BLOCK))).encryptor().update(padded)
    # The last two blocks change places, and the one that is the last then is cut.
    stolen = blocks[: -2 * BLOCK] + blocks[-BLOCK:] + blocks[-2 * BLOCK : -BLOCK][:last]
    return stolen + hmac.new(derived(key, usage, 0x55), clear, hashlib.sha1).digest()[:TAG]


def decrypt(key, usage, sealed):
    body, tag = sealed[:-TAG], sealed[-TAG:]
    encryption = derived(key, usage, 0xAA)
    last = len(body) % BLOCK or BLOCK
    head, second, cut = body[: -last - BLOCK], body[-last - BLOCK : -last], body[-last:]
    opened = aes(encryption).decryptor().update(second)
    whole = cut + opened[last:]
    clear = aes(encryption, modes.CBC(bytes(BLOCK))).decryptor().update(head + whole)
    clear += bytes(left ^ right for left, right in zip(opened, cut))
    if hmac.new(derived(key, usage, 0x55), clear, hashlib.sha1).digest()[:TAG] != tag:
        raise AssertionError("what is sealed does not fit its signature")
    return clear[BLOCK:]


# -- DER ----------------------------------------------------------------------------------------------


def element(tag, *content):
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def number(value):
    return element(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def field(index, content):
    return element(0xA0 | index, content)


def text(value):
    return element(0x1B, value.encode())


def time(value):
    return element(0x18, value.strftime("%Y%m%d%H%M%SZ").encode())


def name(*parts, kind=1):
    return element(0x30, field(0, number(kind)), field(1, element(0x30, *map(text, parts))))


def key_of(key, kind=KIND):
    return element(0x30, field(0, number(kind)), field(1, element(4, key)))


def elements(data):
    """Tag and content of each element."""
    at, found = 0, []
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        found.append((tag, data[at : at + length]))
        at += length
    return found


def walk(data, *tags):
    """The content of the first element with each tag, one in the other."""
    for tag in tags:
        data = next(content for known, content in elements(data) if known == tag)
    return data


# -- tickets ------------------------------------------------------------------------------------------


class Logon:
    """A ticket for a service whose key is known, and the keys of the session that it begins."""

    #: Mutual, replays, sequence, sealing and signing (RFC 4121 §4.1.1.1).
    FLAGS = 0x3E

    def __init__(self, service_key, user, realm, flags=FLAGS):
        self.service_key, self.user, self.realm, self.flags = service_key, user, realm, flags
        self.session, self.subkey, self.acceptor = os.urandom(32), os.urandom(32), None
        self.session_kind = KIND
        now, hour = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(hours=1)
        #: When the user asks for the service, and the ticket's beginning and end.
        self.now, self.begin, self.end = now, now - hour, now + 8 * hour
        #: 30 bits, as MIT Kerberos chooses it.
        self.sequence = int.from_bytes(os.urandom(4), "big") & 0x3FFFFFFF | 0x01000000

    def request(self, captured):
        """The token of a client with our ciphertexts in the place of the captured ones; all else stays as it was."""
        # Ticket and authenticator are all that is encrypted in an AP-REQ.
        at = captured.index(KRB5 + b"\1\0") + len(KRB5) + 2
        body = walk(captured[at:], 0x6E, 0x30)
        ticket = walk(body, 0xA3, 0x61, 0x30, 0xA3, 0x30, 0xA2, 0x04)
        authenticator = walk(body, 0xA4, 0x30, 0xA2, 0x04)
        ours = encrypt(self.service_key, TICKET, self.ticket(len(ticket) - BLOCK - TAG))
        token = replaced(captured, ticket, ours)
        ours = encrypt(self.session, AUTHENTICATOR, self.authenticator())
        return replaced(token, authenticator, ours)

    def ticket(self, size):
        """What a KDC puts into a ticket, made as long as it was by data about the user that nobody reads."""

        def made(filler):
            # Data that may be skipped (AD-IF-RELEVANT), of a kind that nobody knows.
            inner = element(0x30, field(0, number(0x7001)), field(1, element(4, bytes(filler))))
            data = element(0x30, field(0, number(1)), field(1, element(4, element(0x30, inner))))
            body = element(
                0x30,
                # Forwardable, pre-authenticated.
                field(0, element(3, b"\0\x40\x20\0\0")),
                field(1, key_of(self.session, self.session_kind)),
                field(2, text(self.realm)),
                field(3, name(self.user)),
                field(4, element(0x30, field(0, number(1)), field(1, element(4)))),
                field(5, time(self.begin)),
                field(6, time(self.begin)),
                field(7, time(self.end)),
                field(10, element(0x30, data)),
            )
            return element(0x63, body)

        fitting = (body for body in map(made, range(size)) if len(body) >= size)
        body = next(fitting)
        if len(body) != size:
            raise AssertionError(f"no ticket has {size} bytes")
        return body

    def authenticator(self, binding=bytes(16), further=b""):
        # `binding` is the MD5 of the channel binding, or zeros; `further` goes behind the flags (RFC 4121 §4.1.1).
        flags = struct.pack("<I16sI", 16, binding, self.flags) + further
        body = element(
            0x30,
            field(0, number(5)),
            field(1, text(self.realm)),
            field(2, name(self.user)),
            field(3, element(0x30, field(0, number(0x8003)), field(1, element(4, flags)))),
            # So that it has three bytes always, and each ticket another one.
            field(4, number(0x80000 + int.from_bytes(os.urandom(2), "big"))),
            field(5, time(self.now)),
            field(6, key_of(self.subkey)),
            field(7, number(self.sequence)),
        )
        return element(0x62, body)

    def answered(self, token):
        """Takes the server's proof, which has its key of the session."""
        at = token.index(KRB5 + b"\2\0") + len(KRB5) + 2
        sealed = walk(token[at:], 0x6F, 0x30, 0xA2, 0x30, 0xA2, 0x04)
        proof = walk(decrypt(self.session, AP_REP, sealed), 0x7B, 0x30)
        self.acceptor = walk(proof, 0xA2, 0x30, 0xA1, 0x04)

    # -- messages -------------------------------------------------------------------------------------

    def seal(self, clear):
        """Header (60 bytes) and data of a sealed message."""
        # Sealed, with the key of the server if it gave one; no filler, and the last 28 bytes go to the front.
        kind = 6 if self.acceptor else 2
        plain = struct.pack(">HBBHHQ", 0x0504, kind, 0xFF, 0, 0, self.sequence)
        header = struct.pack(">HBBHHQ", 0x0504, kind, 0xFF, 0, BLOCK + TAG, self.sequence)
        self.sequence += 1
        sealed = encrypt(self.acceptor or self.subkey, INITIATOR_SEAL, clear + plain)
        turned = sealed[-BLOCK - TAG :] + sealed[: -BLOCK - TAG]
        return header + turned[: 2 * BLOCK + TAG], turned[2 * BLOCK + TAG :]

    def unseal(self, header, data):
        identity, flags, filler, extra, turn, _ = struct.unpack(">HBBHHQ", header[:BLOCK])
        if (identity, flags, filler, extra) != (0x0504, 7, 0xFF, 0):
            raise AssertionError(f"not a Wrap token of an acceptor: {header[:BLOCK].hex()}")
        turned = header[BLOCK:] + data
        clear = decrypt(self.acceptor, ACCEPTOR_SEAL, turned[turn:] + turned[:turn])
        if clear[-BLOCK:] != header[:6] + b"\0\0" + header[8:BLOCK]:
            raise AssertionError("the sealed header is another one")
        return clear[:-BLOCK]


def replaced(data, old, new):
    if len(old) != len(new) or data.count(old) != 1:
        raise AssertionError(f"{len(new)} bytes in the place of {len(old)}, which are there {data.count(old)} times")
    return data.replace(old, new)


def keytab(entries):
    """A keytab (version 5.2) of `(realm, service, host, number, key)`."""
    file = b"\5\2"
    for realm, service, host, version, key in entries:
        parts = b"".join(struct.pack(">H", len(part)) + part.encode() for part in (realm, service, host))
        entry = struct.pack(">H", 2) + parts + struct.pack(">IIB", 3, 0, version)
        entry += struct.pack(">HH", KIND, len(key)) + key + struct.pack(">I", version)
        file += struct.pack(">i", len(entry)) + entry
    return file
