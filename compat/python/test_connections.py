"""Connections of Azure's device SDK: WebSocket, certificates, hub restart, token renewal."""

import hashlib
import signal
import ssl
import subprocess

import pytest
from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse, X509
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

from conftest import wait_for

PING = CloudToDeviceMethod(
    method_name="ping",
    payload={"n": 1},
    connect_timeout_in_seconds=60,
    response_timeout_in_seconds=60,
)


def answering(client):
    """Connects `client` so that it answers every method."""
    client.on_method_request_received = lambda request: client.send_method_response(
        MethodResponse.create_from_method_request(request, 200, request.payload)
    )
    client.connect()
    return client


def assert_reachable(hub, device_id):
    answer = hub.registry.invoke_device_method(device_id, PING)
    assert (answer.status, answer.payload) == (200, {"n": 1})


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


def key_and_certificate(folder, name, *how):
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    openssl(
        "req",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        key,
        "-x509",
        "-days",
        "2",
        "-subj",
        f"/CN={name}",
        "-out",
        certificate,
        *how,
    )
    return key, certificate


def test_a_device_over_a_websocket_is_like_any_other(hub):
    client = IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string("by-websocket"), websockets=True
    )
    patches = []
    client.on_twin_desired_properties_patch_received = patches.append
    answering(client)
    try:
        assert_reachable(hub, "by-websocket")
        hub.registry.update_twin(
            "by-websocket", Twin(properties=TwinProperties(desired={"floor": 3})), "*"
        )
        wait_for("the desired patch", lambda: patches)
        client.patch_twin_reported_properties({"floor": 3, "note": "x" * 4000})
        assert client.get_twin()["reported"]["floor"] == 3
        client.send_message(Message("hello"))
    finally:
        client.shutdown()
    wait_for(
        "the goodbye",
        lambda: hub.registry.get_twin("by-websocket").connection_state == "Disconnected",
    )


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_a_device_is_known_by_the_thumbprint_of_its_certificate(hub, tmp_path, digest):
    name = f"by-{digest}"
    key, certificate = key_and_certificate(tmp_path, name)
    thumbprint = hashlib.new(digest, ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
    hub.registry.create_device_with_x509(name, "0" * len(thumbprint), thumbprint, "enabled")
    client = IoTHubDeviceClient.create_from_x509_certificate(
        X509(str(certificate), str(key)), hostname="localhost", device_id=name
    )
    answering(client)
    try:
        assert_reachable(hub, name)
        assert hub.registry.get_twin(name).authentication_type == "selfSigned"
    finally:
        client.shutdown()


def test_a_device_is_known_by_the_authority_of_its_certificate(hub, tmp_path):
    ca_key, ca = key_and_certificate(tmp_path, "site-ca")
    key, certificate = key_and_certificate(
        tmp_path,
        "by-authority",
        "-CA",
        ca,
        "-CAkey",
        ca_key,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    )
    (hub.data / "hub.toml").write_text(
        f'name = "localhost"\nlisten = "127.0.0.1"\ndevice_ca_files = ["{ca}"]\n'
    )
    hub.process.send_signal(signal.SIGHUP)
    wait_for(
        "the hub to reload its settings",
        lambda: "settings and certificates reloaded"
        in (hub.directory / "door-hub.log").read_text(),
    )
    hub.registry.create_device_with_certificate_authority("by-authority", "enabled")
    client = IoTHubDeviceClient.create_from_x509_certificate(
        X509(str(certificate), str(key)), hostname="localhost", device_id="by-authority"
    )
    answering(client)
    try:
        assert_reachable(hub, "by-authority")
    finally:
        client.shutdown()


def test_a_token_is_renewed_before_it_ends(hub):
    """The SDK renews 120 s before expiry: with 123 s at once, without subscribing again."""
    client = IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string("renewing"), sastoken_ttl=123
    )
    answering(client)
    try:
        since = hub.registry.get_device("renewing").connection_state_updated_time
        wait_for(
            "the second connection",
            lambda: hub.registry.get_device("renewing").connection_state_updated_time != since
            and hub.registry.get_twin("renewing").connection_state == "Connected",
        )
        assert_reachable(hub, "renewing")
    finally:
        client.shutdown()


def test_the_newer_of_two_connections_is_served(hub):
    connection_string = hub.device_connection_string("twice")
    older = IoTHubDeviceClient.create_from_connection_string(
        connection_string, auto_connect=False, connection_retry=False
    )
    older.connect()
    newer = answering(IoTHubDeviceClient.create_from_connection_string(connection_string))
    try:
        wait_for("the older connection to end", lambda: not older.connected)
        assert_reachable(hub, "twice")
    finally:
        newer.shutdown()
        older.shutdown()


def test_a_device_comes_back_after_the_hub_was_away(hub):
    """After a restart of the hub the SDK retries every ten seconds and does not resubscribe."""
    client = answering(
        IoTHubDeviceClient.create_from_connection_string(hub.device_connection_string("patient"))
    )
    try:
        assert_reachable(hub, "patient")
        hub.restart()
        assert_reachable(hub, "patient")
    finally:
        client.shutdown()
