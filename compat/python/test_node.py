"""Azure's Node SDKs with the same hub.

The tests are in compat/node; Node needs the CA before it starts, so they are started from here.
"""

import os
import pathlib
import subprocess


def test_the_node_sdks(hub):
    # Beside the packages installed by compat/run, where Node looks for them.
    script = pathlib.Path(os.environ["DOORFLEET_NODE"]) / "hub.test.js"
    environment = dict(
        os.environ,
        NODE_EXTRA_CA_CERTS=str(hub.data / "ca.pem"),
        DOORFLEET_CONNECTION_STRING_FILE=str(hub.data / "service-connection-string"),
    )
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
