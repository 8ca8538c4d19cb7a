"""`openbook doctor`: what this machine offers and what is used of it; or what is wrong with a run."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbook.cli.options import Json, Root
from openbook.errors import UserError

if TYPE_CHECKING:
    from openbook.runs.case import Diagnosis
    from openbook.runs.run import Run

RunName = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        show_default=False,
        help="A run, or a folder of runs, to be examined: a folder, or enough of a run's id.",
    ),
]

Measure = Annotated[
    bool,
    typer.Option(
        "--measure",
        help="Measure this machine and keep what was found for `openbook plan --accelerator this`.",
    ),
]
ProfileOut = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where --measure writes. [default: your data folder]"),
]


def doctor(
    run: RunName = None,
    root: Root = Path("out"),
    measure: Measure = False,
    out: ProfileOut = None,
    as_json: Json = False,
) -> None:
    """Say what this machine offers, or what is wrong with a run."""
    if (out is not None and not measure) or (measure and run is not None):
        raise UserError("--out belongs to --measure, which measures this machine and no run", "leave one out")
    if measure:
        _measure(out, as_json)
        return
    if run is not None:
        _diagnose(run, root, as_json)
        return
    from openbook.cli.render import print_json, print_pairs
    from openbook.units import show_bytes

    found = examine(root)
    if as_json:
        print_json(found)
        return
    print_pairs(
        {
            key.removesuffix("_bytes").replace("_", " "): show_bytes(value)
            if key.endswith("_bytes")
            else value
            for key, value in found.items()
            if value is not None
        }
    )


def examine(root: Path) -> dict[str, Any]:
    """The findings by name: sizes in bytes, choices with their reason."""
    return {**_software(), **_host(root), **_torch(), **_sandbox(), **_rewards(), **_profile()}


def _software() -> dict[str, Any]:
    from importlib.metadata import version

    from openbook.runs.provenance import code_version

    return {
        "openbook": version("openbook"),
        "code": code_version(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def _host(root: Path) -> dict[str, Any]:
    from openbook.runs.machine import free_memory_bytes, memory_bytes

    existing = next(folder for folder in (root, *root.resolve().parents) if folder.exists())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": f"{cores} of {os.cpu_count()} may be used",
        "memory_bytes": memory_bytes(),
        "memory_available_bytes": free_memory_bytes(),
        "disk_free_bytes": shutil.disk_usage(existing).free,
        "disk_where": str(existing.resolve()),
    }


def _torch() -> dict[str, Any]:
    import torch

    from openbook.engine.choose import choose
    from openbook.kernels.experts import ExpertWeights, can_group
    from openbook.train.device import choose_device

    device = choose_device("auto")
    choice = choose(device)
    has_cuda = device.type == "cuda"
    why = f"torch sees {torch.cuda.device_count()} GPU(s)" if has_cuda else _why_no_gpu(torch.version.cuda)
    one = torch.zeros(1, 16, 16, device=device)
    grouped = can_group(ExpertWeights(gate_EID=one, up_EID=one, down_EDI=one))
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": f"{device.type}: {why}",
        "precision": "bf16 products over fp32 weights"
        if has_cuda
        else "fp32: processors gain nothing from less here",
        "gpu_memory_bytes": torch.cuda.get_device_properties(device).total_memory if has_cuda else None,
        "attention": "fused (scaled_dot_product_attention); absorbed for one query a row",
        "sampling": f"{choice.name}: {choice.reason}",
        "experts": "grouped (grouped_mm)"
        if grouped
        else "one after the other: this torch has no grouped_mm for it",
    }


def _rewards() -> dict[str, Any]:
    """What holds a person's own reward functions."""
    from openbook.tasks.wall import footing

    try:
        return {"own_rewards": f"each call limited, {footing()}"}
    except UserError as error:
        return {"own_rewards": f"refused: {error.what}"}


def _sandbox() -> dict[str, Any]:
    """Whether code from models may run here, and what keeps it apart by name."""
    from openbook.tasks.sandbox import probe

    isolation = probe()
    says = "runs isolated" if isolation.may_run else f"refused: {isolation.refused}"
    return {
        "untrusted_code": says,
        **{f"isolation_{name}": held or "none" for name, held in isolation.held.items()},
    }


def _profile() -> dict[str, Any]:
    """Whether the machine has been measured, and whether that was this machine."""
    from openbook.runs.machine import this_machine
    from openbook.runs.machine_profile import MEASURE, load_profile, profile_path

    try:
        profile = load_profile()
    except UserError as error:
        return {"profile": f"{error.what}; {error.mend}"}
    where = f"{profile_path()}, measured on {profile.measured_on}"
    return {
        "profile": where if profile.is_of(this_machine()) else f"{where}, of another machine; run `{MEASURE}`"
    }


def _measure(out: Path | None, as_json: bool) -> None:
    """Measure the machine, keep the profile, and show it."""
    import sys
    from datetime import date

    from openbook.cli.render import print_json, print_pairs
    from openbook.config import dump
    from openbook.kernels.measure import measure_machine
    from openbook.runs.machine_profile import ShapeClass, save_profile

    profile = measure_machine(today=date.today(), tell=lambda line: print(line, file=sys.stderr))
    path = save_profile(profile, out)
    if as_json:
        print_json({"path": str(path), **dump(profile)})
        return
    rates = {
        f"{shape_class} products, {dtype}": f"{profile.product_rate(dtype, shape_class) / 1e9:,.1f} GFLOP/s"
        f" ({profile.product_rate(dtype, shape_class, 1) / 1e9:,.1f} on one thread)"
        for shape_class in ShapeClass
        for dtype in ("fp32", "bf16")
    }
    print_pairs(
        {
            "processor": f"{profile.processor}, {profile.num_cpus} processors",
            **rates,
            "memory": f"{profile.read_rate() / 1e9:,.1f} GB/s"
            f" ({profile.read_rate(1) / 1e9:,.1f} on one thread)",
            "operation": f"{profile.dispatch_microseconds:.2f} us to start, "
            f"{profile.gradient_microseconds:.2f} us with its backward pass",
            "load": profile.load,
            "written": str(path),
        }
    )


def _why_no_gpu(cuda_version: str | None) -> str:
    if cuda_version is None:
        return "this build of torch is for processors only"
    return f"torch is built for CUDA {cuda_version} but sees no GPU"


def _diagnose(name: str, root: Path, as_json: bool) -> None:
    """What is found in each run that `name` stands for, the gravest first."""
    from dataclasses import asdict

    from openbook.cli.render import print_json
    from openbook.runs.diagnosis import case_of, diagnose

    examined = [(run, diagnose(case_of(run))) for run in _runs_named(name, root)]
    if as_json:
        print_json([{**_heading(run), "diagnoses": list(map(asdict, found))} for run, found in examined])
        return
    for number, (run, found) in enumerate(examined):
        print("\n" * min(1, number) + "  ".join(str(part) for part in _heading(run).values()), "steps")
        print("\n".join(map(_paragraph, found)) or "  nothing to say")


def _runs_named(name: str, root: Path) -> list[Run]:
    """One run, or all below a folder that is no run. Raises UserError."""
    from openbook.runs.store import find_runs, resolve_run

    below = find_runs(Path(name), on_broken=lambda _: None) if Path(name).is_dir() else []
    return below or [resolve_run(name, root)]


def _heading(run: Run) -> dict[str, Any]:
    rows = run.metrics()
    steps = int(rows[-1]["step"]) if rows else 0
    return {"run": run.manifest.id, "stage": run.manifest.stage, "status": str(run.status), "steps": steps}


def _paragraph(found: Diagnosis) -> str:
    """A diagnosis on a few lines: its gravity and what it is, then the numbers, then what to change."""
    import textwrap

    width = max(60, min(100, shutil.get_terminal_size().columns))
    lines = (
        (f"{found.severity:<9}", f"{found.name}: {found.what}"),
        ("  seen in  ", found.evidence),
        ("  change   ", found.mend),
    )
    return "\n".join(
        textwrap.fill(text, width, initial_indent=f"  {label:<11}", subsequent_indent=" " * 13)
        for label, text in lines
    )
