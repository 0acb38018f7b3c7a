"""One training on Ray Train: workers fit together, each on rows of its own, and the first one finishes. A home of ray.

The driver is a confined child process, as of any training. It learns the encoder from all rows, hands it to the workers
as JSON, passes on what they report, and writes the bundle. Each worker reads its own rows from the dataset's files.
A worker that dies takes the others along; all go on from the last checkpoint. So does the same command after its own
death, or that of Ray: checkpoints lie in the run's folder, which has the key of the training.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.util
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.collective import broadcast_from_rank_zero

from trunkline.datasets.manifest import read_manifest
from trunkline.errors import EngineError, TransientError, TrunklineError, from_json
from trunkline.project.ml import Declared, load_model
from trunkline.training.boundary import build_with
from trunkline.training.features import Learned
from trunkline.training.inputs import learn_inputs, load_inputs
from trunkline.training.on_ray.board import Board
from trunkline.training.on_ray.files import Shipment, ship
from trunkline.training.placement import Placement
from trunkline.training.protocol import FitContext, Peers, Reporter
from trunkline.training.records import Trained
from trunkline.training.run import Outcome, TrainSpec, finish, fit, refuse_peers, save
from trunkline.training.subject import dataset_folder

__all__ = ["RayCheckpoints", "train"]

_LOOK = 0.2  # seconds between two looks at what was reported
_MEET = 600.0  # seconds for the workers to find each other


def train(request: Mapping[str, Any], placement: Placement, report: Reporter) -> Trained:
    """Train on the Ray that this process is connected to; the bundle is written to the folder `request["out"]`.

    Errors are those of `training.run.train`, and EngineError where Ray gives up.
    """
    root, declared = Path(request["root"]), Declared(**request["declared"])
    manifest = read_manifest(dataset_folder(root, declared, request["dataset_id"]))
    estimator, _ = build_with(load_model(root, declared).build, request["params"])
    refuse_peers(estimator, placement.workers)
    learned = learn_inputs(root, declared, request["dataset_id"])
    board = Board()
    shipment = ship(root, declared, request["dataset_id"], placement, request["key"])
    task = _Task(
        request={name: request[name] for name in ("declared", "dataset_id", "seed", "metadata", "params")},
        placement=placement,
        shipment=shipment,
        learned=learned.to_json(),
        rows=manifest.parts["train"].rows,
        board=board.name,
        estimator=estimator.name,
    )
    try:
        outcome = _followed(_trainer(task, request["key"]), board, report)
    finally:
        shipment.forget()
    board.clear()
    return save(declared.name, outcome, learned, Path(request["out"]))


@dataclass(frozen=True)
class _Task:
    """What a worker is told: plain data."""

    request: Mapping[str, Any]
    placement: Placement
    shipment: Shipment
    learned: Mapping[str, Any]
    rows: int
    board: str
    estimator: str

    @property
    def on_torch(self) -> bool:
        """Whether the workers meet in torch's process group, which Ray makes."""
        return self.estimator in ("mlp", "tabm", "torch")


def _trainer(task: _Task, key: str) -> Any:
    """Ray's trainer, which runs `_work` on each worker. A run of the same name goes on where the last one was."""
    placement = task.placement
    settings: dict[str, Any] = {
        "train_loop_config": {"task": task},
        "scaling_config": ScalingConfig(
            num_workers=placement.workers,
            use_gpu=placement.gpus > 0,
            resources_per_worker={"CPU": placement.cpus, **({"GPU": placement.gpus} if placement.gpus else {})},
        ),
        "run_config": RunConfig(
            name=key,
            storage_path=placement.storage,
            failure_config=FailureConfig(max_failures=placement.restarts),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    }
    if task.on_torch and placement.workers > 1:
        from ray.train.torch import TorchConfig, TorchTrainer

        backend = TorchConfig(backend="nccl" if placement.gpus else "gloo")
        loop: Any = _work
        return TorchTrainer(loop, torch_config=backend, **settings)
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    return DataParallelTrainer(_work, **settings)


def _followed(trainer: Any, board: Board, report: Reporter) -> Outcome:
    """Run the trainer, and pass on what its first worker reports meanwhile."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append(trainer.fit().return_value)
        except BaseException as exc:  # noqa: BLE001  raised again below
            ended.append(exc)

    thread = threading.Thread(target=run, name="trunkline-ray-train", daemon=True)
    thread.start()
    told = 0  # the last step
    while thread.is_alive():
        thread.join(_LOOK)
        told = _pass_on(board, told, report)
    (result,) = ended
    if isinstance(result, Exception):
        raise EngineError(
            f"Ray gave up the training: {_reason(result)}",
            hint="the same command goes on from the last checkpoint; `training: {ray: {restarts: …}}` tries more",
        ) from result
    if isinstance(result, BaseException):
        raise result
    return result  # type: ignore[no-any-return]


def _pass_on(board: Board, told: int, report: Reporter) -> int:
    """The last step that has been told. Raises what a worker failed with, if trying again would not help."""
    failed = board.get("error")
    if failed is not None:
        raise from_json(failed)
    for step, value in board.get("history") or []:  # of this attempt: it begins after the last checkpoint
        if step > told:
            report(step, value)
            told = step
    return told


def _reason(exc: Exception) -> str:
    lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
    return lines[-1] if lines else type(exc).__name__


# -- in a worker


def _work(config: dict[str, Any]) -> Outcome | None:
    """Fit on this rank's rows; rank 0 gives the outcome."""
    task: _Task = config["task"]
    board = Board(task.board)
    with task.shipment.opened() as root, _told_to(board), _met(task, board) as peers:
        os.chdir(root)
        inputs = load_inputs(
            root,
            Declared(**task.request["declared"]),
            task.request["dataset_id"],
            shard=_place(),
            learned=Learned.from_json(task.learned),
        )
        context = _context(task, board, peers)
        made = fit(inputs.model.build, inputs.data, task.request["params"], context)
        if _place()[0]:
            return None
        spec = TrainSpec(inputs.declared.name, inputs.model.build, task.request["metadata"])
        return finish(spec, inputs.data, made, context)


def _context(task: _Task, board: Board, peers: Peers | None) -> FitContext:
    rank = _place()[0]
    history: list[tuple[int, float]] = []

    def report(step: int, value: float) -> None:
        history.append((step, value))
        board.put("history", history)

    return FitContext(
        seed=task.request["seed"],
        threads=task.placement.cpus,
        report=report if rank == 0 else lambda step, value: None,
        device="cuda" if task.placement.gpus else "cpu",
        checkpoints=RayCheckpoints(rank),
        peers=peers,
    )


def _host() -> str:
    util: Any = ray.util
    return str(util.get_node_ip_address())


def _place() -> tuple[int, int]:
    """Rank and world."""
    context = ray.train.get_context()
    return context.get_world_rank(), context.get_world_size()


@contextlib.contextmanager
def _told_to(board: Board) -> Iterator[None]:
    """What trying again would not help is told to the driver, which ends the run; the rest is for Ray to try again."""
    try:
        yield
    except TransientError:
        raise
    except TrunklineError as exc:
        board.put("error", exc.to_json())
        raise


@contextlib.contextmanager
def _met(task: _Task, board: Board) -> Iterator[Peers | None]:
    """The other workers, and what the estimator's framework needs to reach them; None where there are none."""
    rank, world = _place()
    if world == 1:
        yield None
    elif task.estimator == "lightgbm":
        yield Peers(rank, world, task.rows, _machines(board, rank, world))
    elif task.estimator == "xgboost":
        from trunkline.training.trees.xgboost_tracker import tracked

        with tracked(_host(), world) if rank == 0 else contextlib.nullcontext() as told:
            settings = {**broadcast_from_rank_zero(told), "dmlc_task_id": str(rank)}
            yield Peers(rank, world, task.rows, settings)
    else:
        yield Peers(rank, world, task.rows)


def _machines(board: Board, rank: int, world: int) -> dict[str, Any]:
    """LightGBM's: the addresses of all ranks in their order, and this one's port."""
    meeting = broadcast_from_rank_zero(Board().name)  # workers that died may have left theirs
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    board.put(f"{meeting}/{rank}", f"{_host()}:{port}")
    machines = [board.wait(f"{meeting}/{peer}", _MEET) for peer in range(world)]
    return {"machines": ",".join(machines), "local_listen_port": port, "num_machines": world}


@dataclass(frozen=True)
class RayCheckpoints:
    """The last checkpoint of a run, where Ray keeps it. All ranks save at the same steps; rank 0 brings the files."""

    rank: int
    pause: float = 2.0

    def load(self) -> Mapping[str, bytes] | None:
        """The files of the last checkpoint that was whole on all ranks."""
        found = ray.train.get_checkpoint()
        if found is None:
            return None
        with found.as_directory() as folder:
            return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir()) if file.is_file()}

    def save(self, step: int, files: Mapping[str, bytes] | None) -> None:
        """Hand it to Ray; when this returns, it is kept."""
        if self.rank or files is None:
            ray.train.report({"step": step})
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
            ray.train.report({"step": step}, checkpoint=Checkpoint.from_directory(folder))
