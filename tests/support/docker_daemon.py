"""As much of a Docker daemon as testcontainers asks for; its containers are servers of this machine.

Docker itself is nowhere where these tests run. What is not shown with this: images, networks, and what a real daemon
answers when something goes wrong.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aioredis_kit.testing import RedisServer

IMAGES = {"redis:8", "valkey/valkey:9"}


class _Daemon(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Requests)
        self.created = []  # the images of all containers that there ever were
        self.containers = {}  # the server of each that is there

    def answer(self, method, path, body):
        """Return status and answer."""
        match method, path.strip("/").split("/"):
            case "GET", ["version"]:
                return 200, {"ApiVersion": "1.47", "MinAPIVersion": "1.24", "Version": "27.0.0"}
            case "GET", ["_ping"]:
                return 200, "OK"
            case "GET", ["networks"]:
                return 200, []
            case "GET", ["images", *name, "json"]:
                return (200, {}) if "/".join(name) in IMAGES else (404, {"message": "No such image"})
            case "POST", ["images", "create"]:
                return 404, {"message": "pull access denied"}
            case "POST", ["containers", "create"]:
                self.created.append(json.loads(body)["Image"])
                self.containers[f"c{len(self.created)}"] = RedisServer()
                return 201, {"Id": f"c{len(self.created)}", "Warnings": []}
            case "POST", ["containers", name, "start"]:
                self.containers[name].start()
                return 204, None
            case "GET", ["containers", "json"]:
                return 200, [self.describe(name) for name in self.containers]
            case "GET", ["containers", name, "json"]:
                return 200, self.describe(name)
            case "DELETE", ["containers", name]:
                self.containers.pop(name).stop()
                return 204, None
        return 501, {"message": f"{method} {path}: not here"}

    def describe(self, name):
        """Return what an inspection of a container and a list of them have in common, where it matters here."""
        server = self.containers[name]
        port = server.port if server.is_running else 0
        ports = {"6379/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
        networks = {"bridge": {"Gateway": "127.0.0.1", "IPAddress": "127.0.0.1"}}
        return {
            "Id": name,
            "Name": f"/{name}",
            "State": {"Status": "running", "Running": server.is_running},
            "Config": {"Image": "an image", "Labels": {}},
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Ports": ports, "Networks": networks},
        }


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = re.sub(r"^/v[\d.]+", "", self.path).partition("?")[0]
        status, answer = self.server.answer(self.command, path, body)
        data = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = answer

    def log_message(self, *arguments):
        """Say nothing."""


@contextmanager
def docker_daemon(monkeypatch):
    """Run such a daemon, as the one that Docker's clients find."""
    daemon = _Daemon()
    thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{daemon.server_port}")
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")  # it removes what a killed process leaves behind
    try:
        yield daemon
    finally:
        daemon.shutdown()
        thread.join()
        daemon.server_close()
        for server in daemon.containers.values():
            server.stop()
