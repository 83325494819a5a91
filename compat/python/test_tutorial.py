"""Azure's "schedule and broadcast jobs" tutorial, each half also with the project's counterpart.

Written from Microsoft's documentation of the tutorial, the REST reference and the SDKs' docstrings.
"""

import datetime
import json
import threading

from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    JobRequest,
    QuerySpecification,
    Twin,
    TwinProperties,
)

from conftest import wait_for

# The tutorial's service script sends the payload as a JSON string that contains JSON text.
TUTORIAL_PAYLOAD = json.dumps({"lockTime": "10m"})


class TutorialDevice:
    """The tutorial's simulated device: handles lockDoor and records desired properties."""

    def __init__(self, connection_string):
        self.client = IoTHubDeviceClient.create_from_connection_string(connection_string)
        self.locks = []
        self.patches = []
        self.got = threading.Event()
        self.client.on_method_request_received = self._method
        self.client.on_twin_desired_properties_patch_received = self._patch
        self.client.connect()

    def _method(self, request):
        status = 200 if request.name == "lockDoor" else 404
        if request.name == "lockDoor":
            self.locks.append(request.payload)
        body = {"Response": f"{request.name} called successfully"}
        self.client.send_method_response(
            MethodResponse.create_from_method_request(request, status, body)
        )
        self.got.set()

    def _patch(self, patch):
        self.patches.append(patch)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.shutdown()


def finished(hub, job_id, seconds=60):
    """The job's document after it has ended."""
    ended = ("completed", "failed", "cancelled")
    return wait_for(
        f"job {job_id} to end",
        lambda: next(
            (job for job in [hub.jobs.get_scheduled_job(job_id)] if job.status in ended), None
        ),
        seconds,
    )


def device_jobs(hub, job_id):
    """The per-device records of a job, by device id."""
    query = QuerySpecification(
        query=f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job_id}'"
    )
    return {row.device_id: row for row in hub.registry.query_iot_hub(query, None, 100).items}


def in_seconds(seconds):
    return (
        datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)
    ).isoformat()


def test_the_python_device_meets_the_python_service(hub):
    """Both halves are Azure's; only the hub is ours."""
    with TutorialDevice(hub.device_connection_string("tutorial-device")) as device:
        answer = hub.registry.invoke_device_method(
            "tutorial-device",
            CloudToDeviceMethod(method_name="lockDoor", payload=TUTORIAL_PAYLOAD),
        )
        assert answer.status == 200
        assert answer.payload == {"Response": "lockDoor called successfully"}
        assert device.locks == [TUTORIAL_PAYLOAD]

        twin = hub.registry.get_twin("tutorial-device")
        patch = Twin(properties=TwinProperties(desired={"building": 43, "floor": 3}))
        updated = hub.registry.update_twin("tutorial-device", patch, twin.etag)
        assert updated.properties.desired["building"] == 43
        wait_for("the desired patch", lambda: device.patches)
        assert device.patches[0]["building"] == 43
        assert device.patches[0]["floor"] == 3
        assert device.patches[0]["$version"] == updated.properties.desired["$version"]

        device.client.patch_twin_reported_properties({"building": 43, "floor": 3})
        view = device.client.get_twin()
        assert view["reported"]["building"] == 43
        assert view["desired"]["floor"] == 3

        query = QuerySpecification(
            query="SELECT * FROM devices WHERE properties.reported.building = 43"
        )
        assert [item.device_id for item in hub.registry.query_iot_hub(query, None, 1).items] == [
            "tutorial-device"
        ]


def test_both_kinds_of_scheduled_job_reach_the_python_device(hub):
    """The tutorial's two jobs, scheduled with the service SDK's job manager."""
    with TutorialDevice(hub.device_connection_string("scheduled-device")) as device:
        condition = "deviceId IN ['scheduled-device']"
        created = hub.jobs.create_scheduled_job(
            "tutorial-method-job",
            JobRequest(
                type="scheduleDeviceMethod",
                cloud_to_device_method=CloudToDeviceMethod(
                    method_name="lockDoor", payload=TUTORIAL_PAYLOAD
                ),
                query_condition=condition,
                start_time=in_seconds(3),
                max_execution_time_in_seconds=300,
            ),
        )
        assert (created.job_id, created.type, created.status) == (
            "tutorial-method-job",
            "scheduleDeviceMethod",
            "queued",
        )
        hub.jobs.create_scheduled_job(
            "tutorial-twin-job",
            JobRequest(
                type="scheduleUpdateTwin",
                update_twin=Twin(
                    etag="*", properties=TwinProperties(desired={"building": 43, "floor": 3})
                ),
                query_condition=condition,
                start_time=in_seconds(2),
                max_execution_time_in_seconds=300,
            ),
        )
        assert device.locks == [], "nothing may reach the device before its time"

        job = finished(hub, "tutorial-method-job")
        assert job.status == "completed"
        assert job.device_job_statistics.device_count == 1
        assert job.device_job_statistics.succeeded_count == 1
        row = device_jobs(hub, "tutorial-method-job")["scheduled-device"]
        assert row.status == "completed"
        assert device.locks == [TUTORIAL_PAYLOAD]

        assert finished(hub, "tutorial-twin-job").status == "completed"
        wait_for("the desired patch", lambda: device.patches)
        assert device.patches[0]["floor"] == 3


def test_the_python_service_locks_a_door_of_ours(hub, agent):
    """The tutorial's service script, including the string payload, with door-agent."""
    answer = hub.registry.invoke_device_method(
        agent,
        CloudToDeviceMethod(
            method_name="lockDoor", payload=TUTORIAL_PAYLOAD, response_timeout_in_seconds=30
        ),
    )
    assert answer.status == 200, answer.payload
    assert answer.payload["Response"] == "lockDoor called successfully"
    assert answer.payload["secured"] == "secured"
    assert answer.payload["proof"] == "bond"
    assert answer.payload["lockedUntil"]

    wait_for(
        "the door to report itself secured",
        lambda: hub.registry.get_twin(agent).properties.reported["door"]["secured"] == "secured",
    )
    reported = hub.registry.get_twin(agent).properties.reported
    assert reported["building"]["value"] == 43
    assert reported["floor"]["value"] == 3


def test_the_python_service_schedules_a_lock_of_a_door_of_ours(hub, agent):
    """The same door in a scheduled job, selected by its reported properties."""
    hub.jobs.create_scheduled_job(
        "lock-a-door-of-ours",
        JobRequest(
            type="scheduleDeviceMethod",
            cloud_to_device_method=CloudToDeviceMethod(
                method_name="lockDoor", payload=TUTORIAL_PAYLOAD
            ),
            query_condition=f"properties.reported.floor.value = 3 AND deviceId = '{agent}'",
            start_time=in_seconds(2),
            max_execution_time_in_seconds=60,
        ),
    )
    assert finished(hub, "lock-a-door-of-ours").status == "completed"
    row = device_jobs(hub, "lock-a-door-of-ours")[agent]
    assert row.status == "completed"
    assert hub.registry.get_twin(agent).properties.reported["door"]["lockState"] == "locked"


def test_the_python_device_obeys_doorctl(hub):
    """doorctl schedules a job for Azure's device SDK."""
    with TutorialDevice(hub.device_connection_string("obeys-doorctl")) as device:
        scheduled = hub.doorctl(
            "jobs", "lock", "obeys-doorctl", "--at", "+2s", "--for", "10m", "-o", "json"
        )
        job_id = json.loads(scheduled.stdout)["jobId"]
        # Azure counts an answer as success; doorctl also requires a secured door, which this device
        # cannot prove.
        hub.doorctl("jobs", "watch", job_id, check=False)
        assert finished(hub, job_id).status == "completed"
        assert len(device.locks) == 1
        assert device.locks[0]["lockTime"] == "10m"
        assert device.locks[0]["commandId"] == job_id


def test_a_foreign_device_is_called_beside_a_staged_door(hub, agent):
    """One job of doorctl over Azure's device SDK, which is called at the start, and a door of ours,
    which gets the lock ahead."""
    with TutorialDevice(hub.device_connection_string("beside-a-door")) as device:
        created = json.loads(
            hub.doorctl(
                "jobs", "lock", "beside-a-door", agent,
                "--at", "+1m", "--for", "10m", "--id", "beside", "-o", "json",
            ).stdout
        )
        assert (created["staged"], created["called"], created["armed"]) == (1, 1, 1)
        assert device.locks == []
        watched = hub.doorctl("jobs", "watch", "beside", "-o", "json", check=False)
        doors = {row["door"]: row for row in json.loads(watched.stdout)["doors"]}
        assert set(doors) == {agent, "beside-a-door"}
        assert (doors[agent]["timed"], doors[agent]["secured"]) == ("holding", "secured")
        assert "timed" not in doors["beside-a-door"]
        assert [lock["commandId"] for lock in device.locks] == ["beside"]
        listed = json.loads(hub.doorctl("jobs", "list", "-o", "json").stdout)
        assert [job["jobId"] for job in listed if job["jobId"].startswith("beside")] == ["beside"]
