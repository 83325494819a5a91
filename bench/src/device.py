"""A device of Azure's Python SDK that answers every method; prints its connection and each call."""

import asyncio
import json
import sys

from azure.iot.device import MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient


async def main():
    given = json.loads(sys.stdin.readline())
    client = IoTHubDeviceClient.create_from_connection_string(
        given["connection_string"], server_verification_cert=given["ca"]
    )

    async def called(request):
        if request.name == "lockDoor":
            print("called", flush=True)
        response = MethodResponse.create_from_method_request(request, 200, {"done": True})
        await client.send_method_response(response)

    client.on_method_request_received = called
    await client.connect()
    print("connected", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
