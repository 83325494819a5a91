"""Documented behaviour of Azure's service SDK, including its failures."""

import datetime
import threading

import pytest
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub import IoTHubConfigurationManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    ExportImportDevice,
    JobRequest,
    PropertyContainer,
    QuerySpecification,
    Twin,
    TwinProperties,
)

from conftest import wait_for


def status_of(error):
    """The HTTP status of an SDK exception (HttpOperationError or similar)."""
    return error.value.response.status_code


def test_identities_are_made_changed_listed_and_removed(hub):
    keys = [
        "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=",
    ]
    made = hub.registry.create_device_with_sas("own-keys", keys[0], keys[1], "enabled")
    assert [
        made.authentication.symmetric_key.primary_key,
        made.authentication.symmetric_key.secondary_key,
    ] == keys
    generated = hub.registry.create_device_with_sas("made-keys", "", "", "disabled")
    assert (
        generated.status == "disabled"
        and generated.authentication.symmetric_key.primary_key not in keys
    )

    with pytest.raises(Exception) as again:
        hub.registry.create_device_with_sas("own-keys", "", "", "enabled")
    assert status_of(again) == 409

    changed = hub.registry.update_device_with_sas(
        "own-keys", made.etag, keys[1], keys[0], "disabled"
    )
    assert changed.etag != made.etag and changed.authentication.symmetric_key.primary_key == keys[1]
    with pytest.raises(Exception) as stale:
        hub.registry.update_device_with_sas("own-keys", made.etag, keys[0], keys[1], "enabled")
    assert status_of(stale) == 412

    assert {"own-keys", "made-keys"} <= {
        device.device_id for device in hub.registry.get_devices(1000)
    }
    statistics = hub.registry.get_device_registry_statistics()
    assert statistics.disabled_device_count >= 2
    assert (
        statistics.total_device_count
        == statistics.enabled_device_count + statistics.disabled_device_count
    )

    with pytest.raises(Exception) as stale:
        hub.registry.delete_device("own-keys", made.etag)
    assert status_of(stale) == 412
    hub.registry.delete_device("own-keys", changed.etag)
    hub.registry.delete_device("made-keys")
    with pytest.raises(Exception) as gone:
        hub.registry.get_device("own-keys")
    assert status_of(gone) == 404


def test_many_devices_are_made_changed_and_removed_in_one_call(hub):
    def bulk(mode, names, **members):
        return hub.registry.bulk_create_or_update_devices(
            [ExportImportDevice(id=name, import_mode=mode, **members) for name in names]
        )

    names = [f"bulk-{number}" for number in range(100)]
    made = bulk(
        "create",
        names,
        status="enabled",
        tags={"site": "north"},
        properties=PropertyContainer(desired={"floor": 3}),
    )
    assert made.is_successful and made.errors == [] and made.warnings == []
    twin = hub.registry.get_twin("bulk-42")
    assert twin.tags == {"site": "north"} and twin.properties.desired["floor"] == 3

    again = bulk("create", ["bulk-0", "bulk-new"])
    assert not again.is_successful
    assert [(error.device_id, error.error_code) for error in again.errors] == [
        ("bulk-0", "DeviceAlreadyExists")
    ]
    assert hub.registry.get_device("bulk-new").status == "enabled"

    etag = hub.registry.get_device("bulk-1").etag
    assert bulk("updateIfMatchETag", ["bulk-1"], e_tag=etag, status="disabled").is_successful
    stale = bulk("updateIfMatchETag", ["bulk-1"], e_tag=etag, status="enabled")
    assert stale.errors[0].error_code == "PreconditionFailed"
    assert bulk(
        "updateTwinIfMatchETag", ["bulk-42"], twin_etag=twin.etag, tags={"site": "south"}
    ).is_successful
    assert hub.registry.get_twin("bulk-42").tags == {"site": "south"}

    too_many = bulk("delete", [*names, "bulk-new"])
    assert too_many.is_successful is False and "100" in too_many.errors[0].error_status
    assert bulk("delete", names).is_successful and bulk("delete", ["bulk-new"]).is_successful
    with pytest.raises(Exception) as gone:
        hub.registry.get_device("bulk-42")
    assert status_of(gone) == 404


def test_what_is_not_built_fails_as_missing(hub):
    hub.device_connection_string("whole")
    call = CloudToDeviceMethod(method_name="lockDoor")
    assert hub.registry.get_modules("whole") == []
    configurations = IoTHubConfigurationManager.from_connection_string(hub.connection_string)
    assert configurations.get_configurations() == []
    for attempt in [
        lambda: hub.registry.create_module_with_sas("whole", "camera", "me", "", ""),
        lambda: hub.registry.get_module_twin("whole", "camera"),
        lambda: hub.registry.invoke_device_module_method("whole", "camera", call),
    ]:
        with pytest.raises(Exception) as missing:
            attempt()
        assert status_of(missing) == 404
        assert "modules are not built into this hub" in missing.value.response.text


def test_a_twin_is_changed_by_those_who_have_seen_it(hub):
    hub.device_connection_string("twin-etag")
    seen = hub.registry.get_twin("twin-etag")
    first = hub.registry.update_twin("twin-etag", Twin(tags={"site": "north"}), seen.etag)
    assert first.tags == {"site": "north"}
    with pytest.raises(Exception) as stale:
        hub.registry.update_twin("twin-etag", Twin(tags={"site": "south"}), seen.etag)
    assert status_of(stale) == 412
    forced = hub.registry.update_twin("twin-etag", Twin(tags={"floor": 3}), "*")
    assert forced.tags == {"site": "north", "floor": 3}
    replaced = hub.registry.replace_twin("twin-etag", Twin(tags={"site": "south"}), forced.etag)
    assert replaced.tags == {"site": "south"}
    desired = Twin(properties=TwinProperties(desired={"bad.key": 1}))
    with pytest.raises(Exception) as bad:
        hub.registry.update_twin("twin-etag", desired, "*")
    assert status_of(bad) == 400


def test_a_method_that_nobody_answers_fails_as_documented(hub):
    hub.device_connection_string("absent")
    with pytest.raises(Exception) as offline:
        hub.registry.invoke_device_method(
            "absent", CloudToDeviceMethod(method_name="lockDoor", payload=None)
        )
    assert status_of(offline) == 404
    assert "404103" in offline.value.response.text

    with pytest.raises(Exception) as unknown:
        hub.registry.invoke_device_method(
            "nobody", CloudToDeviceMethod(method_name="lockDoor", payload=None)
        )
    assert status_of(unknown) == 404

    client = IoTHubDeviceClient.create_from_connection_string(
        hub.device_connection_string("silent")
    )
    client.on_method_request_received = lambda request: None
    client.connect()
    try:
        wait_for(
            "the subscription",
            lambda: hub.registry.get_twin("silent").connection_state == "Connected",
        )
        call = CloudToDeviceMethod(
            method_name="lockDoor",
            payload=None,
            response_timeout_in_seconds=5,
            connect_timeout_in_seconds=5,
        )
        with pytest.raises(Exception) as unanswered:
            hub.registry.invoke_device_method("silent", call)
        assert status_of(unanswered) == 504
        assert "504101" in unanswered.value.response.text
    finally:
        client.shutdown()


@pytest.mark.parametrize(
    "payload", [None, "", "text", 0, 2.5, True, [], {}, {"a": {"b": [1, None]}}], ids=repr
)
def test_a_methods_payload_comes_back_as_it_went(hub, echo, payload):
    call = CloudToDeviceMethod(method_name="echo", payload=payload, connect_timeout_in_seconds=10)
    answer = hub.registry.invoke_device_method("echo", call)
    # Without a payload the SDK itself sends an empty string.
    assert (answer.status, answer.payload) == (207, "" if payload is None else payload)


@pytest.fixture(scope="module")
def echo(hub):
    """A device that answers every method with the payload of the request."""
    client = IoTHubDeviceClient.create_from_connection_string(hub.device_connection_string("echo"))
    client.on_method_request_received = lambda request: client.send_method_response(
        MethodResponse.create_from_method_request(request, 207, request.payload)
    )
    client.connect()
    yield client
    client.shutdown()


def test_a_method_waits_for_a_device_that_is_on_its_way(hub):
    connection_string = hub.device_connection_string("late")
    answers = []

    def call():
        method = CloudToDeviceMethod(
            method_name="lockDoor", payload=None, connect_timeout_in_seconds=30
        )
        answers.append(hub.registry.invoke_device_method("late", method))

    calling = threading.Thread(target=call)
    calling.start()
    client = IoTHubDeviceClient.create_from_connection_string(connection_string)
    client.on_method_request_received = lambda request: client.send_method_response(
        MethodResponse.create_from_method_request(request, 200, None)
    )
    client.connect()
    try:
        calling.join(timeout=30)
        assert [answer.status for answer in answers] == [200]
    finally:
        client.shutdown()


def test_a_query_is_read_page_by_page(hub):
    names = [f"paged-{n}" for n in range(5)]
    for name in names:
        hub.device_connection_string(name)
        hub.registry.update_twin(name, Twin(tags={"paged": True}), "*")
    query = QuerySpecification(query="SELECT * FROM devices WHERE tags.paged = true")
    found, pages, token = [], 0, None
    while True:
        page = hub.registry.query_iot_hub(query, token, 2)
        found += [item.device_id for item in page.items]
        pages, token = pages + 1, page.continuation_token
        if not token:
            break
    assert (sorted(found), pages) == (names, 3)
    with pytest.raises(Exception) as wrong:
        hub.registry.query_iot_hub(
            QuerySpecification(query="SELECT * FROM devices WHERE tags.paged =")
        )
    assert status_of(wrong) == 400


def test_a_selection_and_groups_are_read(hub):
    """This SDK parses every row as a twin: only members with names of twin members are visible."""
    for n, floor in enumerate([1, 1, 2]):
        hub.device_connection_string(f"grouped-{n}")
        hub.registry.update_twin(f"grouped-{n}", Twin(tags={"grouped": True, "floor": floor}), "*")
    selected = hub.registry.query_iot_hub(
        QuerySpecification(query="SELECT deviceId, tags FROM devices WHERE tags.grouped = true")
    )
    assert selected.type == "Raw"
    assert [(item.device_id, item.tags["floor"], item.version) for item in selected.items] == [
        ("grouped-0", 1, None),
        ("grouped-1", 1, None),
        ("grouped-2", 2, None),
    ]
    query = (
        "SELECT tags.floor AS etag, COUNT() AS version FROM devices WHERE tags.grouped = true GROUP"
        " BY tags.floor"
    )
    found, token = [], None
    while True:
        page = hub.registry.query_iot_hub(QuerySpecification(query=query), token, 1)
        assert page.type == "Raw"
        found += [(item.etag, item.version) for item in page.items]
        token = page.continuation_token
        if not token:
            break
    assert found == [("1", 2), ("2", 1)]


def test_jobs_are_counted_and_cancelled(hub):
    for name in ["job-a", "job-b"]:
        hub.device_connection_string(name)
    start = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).isoformat()
    later = JobRequest(
        job_id="later",
        type="scheduleUpdateTwin",
        start_time=start,
        max_execution_time_in_seconds=60,
        update_twin=Twin(etag="*", tags={"x": 1}),
        query_condition="deviceId = 'job-a'",
    )
    assert hub.jobs.create_scheduled_job("later", later).status == "queued"
    wait_for(
        "the job to be scheduled", lambda: hub.jobs.get_scheduled_job("later").status == "scheduled"
    )
    assert hub.jobs.cancel_scheduled_job("later").status == "cancelled"
    with pytest.raises(Exception) as ended:
        hub.jobs.cancel_scheduled_job("later")
    assert status_of(ended) == 405
    with pytest.raises(Exception) as again:
        hub.jobs.create_scheduled_job("later", later)
    assert status_of(again) == 409

    call = CloudToDeviceMethod(method_name="lockDoor", payload={"lockTime": "10m"})
    start_now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    now = JobRequest(
        job_id="nobody-home",
        type="scheduleDeviceMethod",
        cloud_to_device_method=call,
        start_time=start_now,
        max_execution_time_in_seconds=60,
        query_condition="deviceId IN ['job-a', 'job-b']",
    )
    hub.jobs.create_scheduled_job("nobody-home", now)
    done = wait_for(
        "the job to end",
        lambda: next(
            (j for j in [hub.jobs.get_scheduled_job("nobody-home")] if j.status == "completed"),
            None,
        ),
    )
    counts = done.device_job_statistics
    assert (counts.device_count, counts.failed_count, counts.succeeded_count) == (2, 2, 0)
