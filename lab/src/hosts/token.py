"""Prints a signed token of a registry's token service (distribution: "Token Authentication Implementation").

    token.py KEY CERTIFICATE ISSUER SERVICE REPOSITORY
"""

import base64
import json
import subprocess
import sys
import time

key, certificate, issuer, service, repository = sys.argv[1:]


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


with open(certificate) as file:
    chain = "".join(line.strip() for line in file if not line.startswith("-"))
now = int(time.time())
header = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
claims = {
    "iss": issuer,
    "sub": "someone",
    "aud": service,
    "exp": now + 600,
    "nbf": now - 10,
    "iat": now - 10,
    "jti": "1",
    "access": [{"type": "repository", "name": repository, "actions": ["pull"]}],
}
text = b".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=text, stdout=subprocess.PIPE, check=True)
print((text + b"." + encoded(signed.stdout)).decode())
