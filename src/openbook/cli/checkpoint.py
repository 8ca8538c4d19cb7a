"""`openbook checkpoint`: what a model at rest says of itself, and whether it is what was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from openbook.cli.groups import Group
from openbook.cli.options import CheckpointFolder, Json

app = typer.Typer(cls=Group, help="Checkpoints: models at rest, with their provenance.", no_args_is_help=True)


@app.command("show")
def show_checkpoint(checkpoint: CheckpointFolder, as_json: Json = False) -> None:
    """Its shape, size, digest and where it comes from."""
    from openbook.cli.render import print_json, print_pairs
    from openbook.cli.shelf import open_checkpoint
    from openbook.config import dump
    from openbook.model.checkpoint import Checkpoint
    from openbook.model.cost import count
    from openbook.units import show_bytes, show_count

    found = open_checkpoint(checkpoint)
    cost = count(found.config)
    files = found.folder.iterdir() if found.folder.is_dir() else [found.folder]
    num_bytes = sum(path.stat().st_size for path in files if path.is_file())
    facts = {"folder": str(found.folder), "digest": found.digest}
    quantization = dict(found.quantization) if isinstance(found, Checkpoint) else {}
    if as_json:
        counts = {
            "parameters_total": cost.parameters_total,
            "parameters_active": cost.parameters_active,
            "parameters_mtp": cost.mtp.total,
            "num_bytes": num_bytes,
        }
        told = {"quantization": quantization, "provenance": found.provenance, "config": dump(found.config)}
        print_json({**facts, **counts, **told})
        return
    config = found.config
    shape = f"{config.num_hidden_layers} layers of {config.hidden_size}, {config.attention.kind}"
    experts = f", {config.moe.n_routed_experts} experts" if config.moe else ", dense"
    sizes = f"{show_count(cost.parameters_total)}, {show_count(cost.parameters_active)} active per token"
    size = show_bytes(num_bytes) + (f", {_form(quantization)}" if quantization else "")
    print_pairs({**facts, "model": shape + experts, "parameters": sizes, "on disk": size})
    if found.provenance:
        print("\nprovenance")
        print_pairs({f"  {name}": value for name, value in found.provenance.items()})


def _form(quantization: Mapping[str, Any]) -> str:
    """How quantised weights are stored, in a word."""
    return str(quantization.get("format") or quantization.get("quant_method"))


@app.command("verify")
def verify_checkpoint(checkpoint: CheckpointFolder, as_json: Json = False) -> None:
    """Load every tensor and compare the digests of the files."""
    from openbook.cli.render import print_json
    from openbook.cli.shelf import open_checkpoint
    from openbook.quant.store import load_weights

    found = open_checkpoint(checkpoint)
    load_weights(found)
    if as_json:
        print_json({"folder": str(found.folder), "digest": found.digest, "sound": True})
        return
    print(f"{found.folder} is sound: {found.digest}")
