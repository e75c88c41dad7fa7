"""The proxy under test."""

import json
import os
import re
import signal
import tempfile
import urllib.error
import urllib.request

from . import metrics
from .poll import eventually
from .process import Program
from .suite import binary

# How long the admin interface may take to answer.
ADMIN_SECONDS = 10

# Drains in no time: tests that do not look at draining do not wait for it.
QUICK_DRAIN = {"pre_drain": "0s", "spread": "0s", "grace": "1s"}


class Proxy(Program):
    """`evenkeel proxy`, ready to take calls at `address`."""

    def __init__(self, arguments, *, listeners=1, env=None, open_files=None):
        # What a shell limits, the program that it becomes cannot raise.
        limited = ["sh", "-c", f'ulimit -n {open_files} && exec "$0" "$@"'] if open_files else []
        super().__init__([*limited, binary(), "proxy", *arguments], title="evenkeel proxy", env=env)
        # A log line may be JSON.
        pattern = r'listening on ([^\s"]+)'
        self.wait_for_line(pattern)
        # The listeners' lines come together, and before the admin interface's.
        found = eventually(lambda: self._listening(pattern, listeners), f"{listeners} listeners")
        self.addresses = found
        self.address = found[0]
        self.admin = self.wait_for_line(r'admin interface on (http://[^\s"]+)').group(1)

    def end(self):
        """Ends it without a drain, which takes its time and is tested elsewhere."""
        self.kill()

    def _listening(self, pattern, listeners):
        found = [match.group(1) for match in (re.search(pattern, line) for line in self.output()) if match]
        return found if len(found) >= listeners else None

    def get(self, path, *, headers=None, method="GET"):
        """Asks the admin interface; gives back the HTTP status and the body as text."""
        request = urllib.request.Request(self.admin + path, headers=headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ADMIN_SECONDS) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metrics(self):
        """The metrics by name and labels."""
        status, text = self.get("/metrics")
        assert status == 200, f"GET /metrics gave {status}"
        return metrics.parse(text)

    def clusters(self):
        """The body of GET /clusters by the clusters' names."""
        status, text = self.get("/clusters")
        assert status == 200, f"GET /clusters gave {status}"
        return {cluster["name"]: cluster for cluster in json.loads(text)["clusters"]}

    def endpoints(self, cluster="default"):
        """The endpoints of a cluster by address."""
        return {endpoint["address"]: endpoint for endpoint in self.clusters()[cluster]["endpoints"]}

    def wait_until_ready(self, count, cluster="default"):
        """Waits until so many endpoints take calls."""

        def ready():
            states = [endpoint["state"] for endpoint in self.endpoints(cluster).values()]
            assert states.count("READY") == count, f"endpoints are {states}"
            return True

        # One that was lost is tried again after up to 16 s.
        eventually(ready, f"{count} endpoints are ready", 20)

    def configuration(self):
        """The body of GET /config."""
        return json.loads(self.get("/config")[1])

    def reload(self):
        """SIGHUP."""
        self.signal(signal.SIGHUP)


def start(stage, to, *, policy=None, workers=1, arguments=(), open_files=None):
    """Starts a proxy with flags. One worker, so that what is exact per worker is exact."""
    flags = ["--listen", "127.0.0.1:0", "--to", to, "--workers", str(workers), "--admin", "127.0.0.1:0"]
    if policy:
        flags += ["--policy", policy]
    return stage.add_program(Proxy([*flags, *arguments], open_files=open_files))


class ConfigFile:
    """A configuration file that is replaced as a whole, as `docs/configuration.md` asks for."""

    def __init__(self, directory, config, name="evenkeel.yaml"):
        self.path = os.path.join(directory, name)
        self.write(config)

    def write(self, config):
        """Writes a configuration (JSON is YAML), or a text as it is."""
        text = config if isinstance(config, str) else json.dumps(config, indent=2)
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(self.path + ".new", self.path)


def config(clusters, *, routes=None, listener=None, **top):
    """A configuration with one listener and the clusters of a mapping from name to target or settings.

    Without routes, all calls go to the first cluster.
    """
    listed = []
    for name, settings in clusters.items():
        settings = {"target": settings} if isinstance(settings, str) else settings
        listed.append({"name": name, **settings})
    return {
        "listeners": [
            {"address": "127.0.0.1:0", "routes": routes or [{"cluster": listed[0]["name"]}], **(listener or {})}
        ],
        "clusters": listed,
        "admin": {"address": "127.0.0.1:0"},
        "workers": 1,
        "drain": QUICK_DRAIN,
        **top,
    }


def start_with_file(stage, configuration, *, arguments=()):
    """Starts a proxy with a configuration file; gives back the proxy and the file."""
    file = ConfigFile(stage.enter(tempfile.TemporaryDirectory()), configuration)
    listeners = 1 if isinstance(configuration, str) else len(configuration["listeners"])
    proxy = stage.add_program(Proxy(["--config", file.path, *arguments], listeners=listeners))
    return proxy, file
