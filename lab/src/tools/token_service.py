"""A registry's token service (distribution: "Token Authentication Implementation").

    token_service.py KEY CERTIFICATE NAME PORT USER PASSWORD

NAME is its issuer and its service. Each request becomes a line of JSON on standard output.
"""

import base64
import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

key, certificate, name, port, user, password = sys.argv[1:]
login = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
with open(certificate) as file:
    chain = "".join(line.strip() for line in file if not line.startswith("-"))


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def token(scopes):
    access = []
    for scope in scopes:
        kind, repository, actions = scope.split(":")
        access.append({"type": kind, "name": repository, "actions": actions.split(",")})
    now = int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
    claims = {
        "iss": name,
        "sub": user,
        "aud": name,
        "exp": now + 600,
        "nbf": now - 10,
        "iat": now - 10,
        "jti": "1",
        "access": access,
    }
    text = b".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    command = ["openssl", "dgst", "-sha256", "-sign", key]
    signed = subprocess.run(command, input=text, stdout=subprocess.PIPE, check=True)
    return (text + b"." + encoded(signed.stdout)).decode()


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        query = parse_qs(urlsplit(self.path).query)
        service, scope = (query.get(key, [""])[0] for key in ("service", "scope"))
        is_login_right = self.headers.get("Authorization") == login
        print(json.dumps({"service": service, "scope": scope, "is_login_right": is_login_right}), flush=True)
        if is_login_right:
            self.answer(200, {"token": token(scope.split())})
        else:
            self.answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]})

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("127.0.0.1", int(port)), Service).serve_forever()
