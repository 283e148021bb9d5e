#!/bin/sh
# Makes the test CA and its leaves anew: a server certificate for this machine's loopback names and
# a client certificate. Needs openssl. They are for tests only; nothing trusts them by default.
set -eu
cd "$(dirname "$0")"

days=7300
key() { openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
leaf() { # name, subject, extensions
    key "$1.key"
    openssl req -new -key "$1.key" -subj "$2" |
        openssl x509 -req -CA ca.pem -CAkey ca.key -days "$days" -sha256 -set_serial "0x$(openssl rand -hex 12)" \
            -extfile "$3" -out "$1.pem" 2>/dev/null
}

extensions=$(mktemp)
trap 'rm -f "$extensions"' EXIT

key ca.key
openssl req -x509 -new -key ca.key -sha256 -days "$days" -subj "/CN=wsnapd test CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" -out ca.pem

cat >"$extensions" <<EOF
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1
authorityKeyIdentifier=keyid
EOF
leaf server "/CN=localhost" "$extensions"

# The user principal name is what a client certificate is mapped to an account by.
cat >"$extensions" <<EOF
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth
subjectAltName=otherName:1.3.6.1.4.1.311.20.2.3;UTF8:admin@localhost
authorityKeyIdentifier=keyid
EOF
leaf client "/CN=admin" "$extensions"
echo "made ca.pem, server.pem and client.pem with their keys"
