"""What the binary does, seen from outside: balancing, deadlines, bad input, discovery, control plane, limits."""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from harness import suite  # noqa: E402

# Each module registers its tests.
import balancing  # noqa: E402, F401
import affinity  # noqa: E402, F401
import deadlines  # noqa: E402, F401
import limiting  # noqa: E402, F401
import resilience  # noqa: E402, F401
import under_load  # noqa: E402, F401
import health  # noqa: E402, F401
import loads  # noqa: E402, F401
import failover  # noqa: E402, F401
import routing  # noqa: E402, F401
import route_actions  # noqa: E402, F401
import discovery  # noqa: E402, F401
import answers  # noqa: E402, F401
import bad_input  # noqa: E402, F401
import abuse  # noqa: E402, F401
import metadata  # noqa: E402, F401
import large_messages  # noqa: E402, F401
import starting  # noqa: E402, F401
import reloading  # noqa: E402, F401
import observing  # noqa: E402, F401
import draining  # noqa: E402, F401
import canaries  # noqa: E402, F401
import explaining  # noqa: E402, F401
import tools  # noqa: E402, F401

if __name__ == "__main__":
    sys.exit(suite.main())
