"""A certificate authority for tests: client certificates that are right, and all the ways in which they are not."""

import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

UPN = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def utf8(text):
    """A UTF8String in DER."""
    data = text.encode()
    return bytes([0x0C, len(data)]) + data


def write(path, certificate, key):
    """Certificate and key as two PEM files; gives their names."""
    files = path.with_suffix(".pem"), path.with_suffix(".key")
    files[1].touch(0o600)
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    )
    return str(files[0]), str(files[1])


class Authority:
    def __init__(self, directory, name="clients"):
        self.directory = pathlib.Path(directory)
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Clients of the tests")])
        builder = self.builder(self.name, self.key).add_extension(x509.BasicConstraints(True, None), True)
        self.certificate = builder.sign(self.key, hashes.SHA256())
        self.file = write(self.directory / name, self.certificate, self.key)[0]

    def builder(self, subject, key, begin=NOW - DAY, end=NOW + 30 * DAY):
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        return builder.not_valid_before(begin).not_valid_after(end)

    def issue(self, name, user, **dates):
        """The files of a certificate with a user principal name, and the certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user)])
        names = x509.SubjectAlternativeName([x509.OtherName(UPN, utf8(user))])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self.builder(subject, key, **dates).add_extension(names, False).add_extension(usage, False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return *write(self.directory / name, certificate, key), certificate

    def revoke(self, *certificates):
        """Writes the revocation list; gives its file."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name)
        builder = builder.last_update(NOW - DAY).next_update(NOW + 30 * DAY)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(x509.CRLNumber(1), False).add_extension(identifier, False)
        for certificate in certificates:
            revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number)
            builder = builder.add_revoked_certificate(revoked.revocation_date(NOW - DAY).build())
        file = self.directory / "crl.pem"
        signed = builder.sign(self.key, hashes.SHA256())
        file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return str(file)


def server_certificate(path, key=None):
    """A new self-signed certificate for the loopback; gives its files and its SHA-1."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(NOW - DAY)
    builder = builder.not_valid_after(NOW + 90 * DAY).add_extension(x509.SubjectAlternativeName(names), False)
    certificate = builder.sign(key, hashes.SHA256())
    return *write(path, certificate, key), certificate.fingerprint(hashes.SHA1()).hex().upper()
