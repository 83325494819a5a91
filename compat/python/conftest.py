"""A fresh hub per test session, started as by an operator, and helpers for tests.

The SDKs trust the hub's CA only through the environment (SSL_CERT_FILE for the device SDK,
REQUESTS_CA_BUNDLE for the service SDK): their code is unmodified.
"""

import os
import pathlib
import signal
import subprocess
import time
import zlib

import pytest
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager

BIN = pathlib.Path(os.environ["DOORFLEET_BIN"])


def wait_for(what, condition, seconds=20.0):
    """Polls `condition` until it is true and returns it; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        last = condition()
        if last:
            return last
        time.sleep(0.05)
    pytest.fail(f"waited {seconds} s for {what}; last seen: {last!r}")


class Hub:
    """A running `door-hub` and an operator's tools for it."""

    def __init__(self, directory):
        self.directory = directory
        self.data = directory / "hub"
        self.log = open(directory / "door-hub.log", "wb")
        self.process = self._serve()
        secret = self.data / "service-connection-string"
        wait_for(
            "the hub's first start", lambda: self.process.poll() is not None or secret.exists()
        )
        assert self.process.poll() is None, (directory / "door-hub.log").read_text()
        os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = str(self.data / "ca.pem")
        self.connection_string = secret.read_text().strip()
        self.environment = dict(os.environ, DOORCTL_CONFIG=str(directory / "doorctl.toml"))
        wait_for("doorctl to reach the hub", self._add_context)
        self.registry = IoTHubRegistryManager.from_connection_string(self.connection_string)
        self.jobs = IoTHubJobManager.from_connection_string(self.connection_string)

    def _serve(self):
        return subprocess.Popen(
            [
                BIN / "door-hub",
                "serve",
                "--data",
                self.data,
                "--name",
                "localhost",
                "--listen",
                "127.0.0.1",
            ],
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )

    def restart(self):
        """Restarts the hub on the same data; returns when it answers."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0, "door-hub did not drain cleanly on SIGTERM"
        self.process = self._serve()
        wait_for(
            "the hub to answer again",
            lambda: self.doorctl("devices", "list", check=False).returncode == 0,
        )

    def _add_context(self):
        added = self.doorctl(
            "context",
            "add",
            "compat",
            "--connection-string-file",
            self.data / "service-connection-string",
            "--ca",
            self.data / "ca.pem",
            check=False,
        )
        if added.returncode != 0:
            self.doorctl("context", "remove", "compat", check=False)
        return added.returncode == 0

    def doorctl(self, *arguments, check=True):
        """Runs doorctl and returns the process; with `check`, its failure fails the test."""
        done = subprocess.run(
            [BIN / "doorctl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if check and done.returncode != 0:
            pytest.fail(
                f"doorctl {arguments} ended {done.returncode}\n{done.stdout}\n{done.stderr}"
            )
        return done

    def device_connection_string(self, device_id):
        """Registers a device with the service SDK and returns its connection string."""
        device = self.registry.create_device_with_sas(device_id, "", "", "enabled")
        key = device.authentication.symmetric_key.primary_key
        return f"HostName=localhost;DeviceId={device_id};SharedAccessKey={key}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=30) == 0, "door-hub did not drain cleanly on SIGTERM"
        self.log.close()


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    running = Hub(tmp_path_factory.mktemp("fleet"))
    yield running
    running.stop()


@pytest.fixture
def agent(hub, request):
    """A door-agent with a simulated board, set up with doorctl; yields its name."""
    name = f"door-{zlib.crc32(request.node.name.encode()):08x}"
    folder = hub.directory / name
    folder.mkdir()
    config = folder / f"{name}.toml"
    hub.doorctl(
        "devices", "add", name, "--building", "43", "--floor", "3", "--agent-config", config
    )
    with open(folder / "door-agent.log", "wb") as log:
        process = subprocess.Popen(
            [BIN / "door-agent", "--config", config], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_for(
                f"{name} to connect and report",
                lambda: process.poll() is not None
                or "door" in hub.registry.get_twin(name).properties.reported,
            )
            assert process.poll() is None, (folder / "door-agent.log").read_text()
            yield name
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0, "door-agent did not drain cleanly on SIGTERM"
