"""Checks the behaviour of a registry's blobs on which a client relies.

    oci.py BASE_URL REPOSITORY SHA256 SIZE [GUARDED_BASE_URL]

Each line of output is a check that passed. The first failure ends the script with a traceback.
"""

import hashlib
import http.client
import json
import sys
import urllib.error
import urllib.request

base, repository, sha256, size = sys.argv[1:5]
size = int(size)
digest = "sha256:" + sha256


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


opener = urllib.request.build_opener(NoRedirect)


def request(url, method="GET", **headers):
    message = urllib.request.Request(url, method=method, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        answer = opener.open(message)
    except urllib.error.HTTPError as error:
        answer = error
    try:
        body = answer.read()
    except http.client.IncompleteRead as error:
        # With a 416 Debian's registry announces the length of the blob, and then sends a line of text.
        body = error.partial
    return answer.status, answer.headers, body


def holds(what, condition):
    if not condition:
        raise AssertionError(what)
    print("    " + what)


blob = f"{base}/v2/{repository}/blobs/{digest}"
status, headers, _ = request(blob, method="HEAD")
holds("HEAD has the length and the digest", (status, headers["Content-Length"], headers["Docker-Content-Digest"]) == (200, str(size), digest))
status, headers, body = request(blob)
holds("GET gives the bytes", status == 200 and hashlib.sha256(body).hexdigest() == sha256)
status, headers, part = request(blob, Range="bytes=3-9")
holds("a range is a 206 with that range", (status, headers["Content-Range"], part) == (206, f"bytes 3-9/{size}", body[3:10]))
status, headers, part = request(blob, Range="bytes=0-0")
holds("one byte shows the size", (status, headers["Content-Range"]) == (206, f"bytes 0-0/{size}"))
status, headers, _ = request(blob, Range=f"bytes={size}-")
holds("a range past the end is a 416", status == 416)
holds("the validator is the digest", request(blob)[1]["ETag"] == f'"{digest}"')
status, _, text = request(f"{base}/v2/{repository}/blobs/sha256:{'0' * 64}")
holds("an unknown blob is a 404 in JSON", status == 404 and json.loads(text)["errors"][0]["code"] == "BLOB_UNKNOWN")
status, headers, _ = request(f"{base}/v2/")
holds("the version is in a header", headers["Docker-Distribution-Api-Version"] == "registry/2.0" and status == 200)
if len(sys.argv) > 5:
    status, headers, text = request(f"{sys.argv[5]}/v2/{repository}/blobs/{digest}")
    challenge = headers["WWW-Authenticate"]
    holds("without a token: 401 in JSON", status == 401 and json.loads(text)["errors"][0]["code"] == "UNAUTHORIZED")
    kind, _, words = challenge.partition(" ")
    names = [word.partition("=")[0] for word in words.split('",')]
    holds("the challenge has realm, service and scope", (kind, names) == ("Bearer", ["realm", "service", "scope"]))
    holds("the scope is to pull", f'scope="repository:{repository}:pull"' in challenge)
