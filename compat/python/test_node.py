"""Azure's Node SDKs, against the same hub. The checks are in compat/node; Node must know whom to trust before it starts, so they run from here."""

import os
import pathlib
import subprocess


def test_the_node_sdks(hub):
    # Where compat/run put the packages; Node looks for them beside the script.
    script = pathlib.Path(os.environ["DOORFLEET_NODE"]) / "hub.test.js"
    environment = dict(
        os.environ,
        NODE_EXTRA_CA_CERTS=str(hub.data / "ca.pem"),
        DOORFLEET_CONNECTION_STRING_FILE=str(hub.data / "service-connection-string"),
    )
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", script], env=environment, capture_output=True, text=True, timeout=180
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
