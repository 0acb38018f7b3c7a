"""A Ray cluster of three nodes on this machine: prints its address and lives until its stdin closes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

from trunkline.project.reaper import begin_session


def main() -> None:
    """One core a node, and no room for more than a worker on each."""
    begin_session()
    Path(sys.argv[1], "ray").mkdir()  # where Ray writes down its address, which it does not make
    os.environ.update(RAY_TMPDIR=sys.argv[1])
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": sys.argv[1]})
    for _ in range(2):
        cluster.add_node(**node)
    print(cluster.address, flush=True)  # noqa: T201
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
