"""`openbook quantize`: a checkpoint in fewer bits, and how far each matrix is from what it was."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from openbook.cli.options import Budget, CheckpointFolder, Json

if TYPE_CHECKING:
    from torch import Tensor

    from openbook.model.checkpoint import Checkpoint
    from openbook.model.gguf import GgufCheckpoint
    from openbook.model.transformer import Transformer
    from openbook.quant.formats import WeightFormat
    from openbook.quant.measure import MatrixReport
    from openbook.r1.frame import Frame, Work

    Source = Checkpoint | GgufCheckpoint

RESULT_FILE = "quantization.json"

_ROLES = ("bos", "eos", "pad")


def quantize(
    checkpoint: CheckpointFolder,
    format_name: Annotated[
        str,
        typer.Option(
            "--format", metavar="FORMAT", help="bf16, int8, int4 (by groups of 32) or fp8 (blocks)."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The folder of this run. [default: out/NAME-FORMAT]"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what it will take on disk; compute nothing.")
    ] = False,
    budget: Budget = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint with its matrices in fewer bits.

    Attention, feed-forward networks, experts, MTP modules, embedding and head change; norms, biases and the
    gates of experts do not. Each matrix is held against the largest error that its format states.
    """
    from openbook.cli.render import print_json
    from openbook.cli.shelf import OUT, open_checkpoint
    from openbook.cli.spending import limit
    from openbook.quant.formats import find_format

    wanted = find_format(format_name)
    source = open_checkpoint(checkpoint)
    folder = out or OUT / f"{_name_of(checkpoint, source)}-{wanted}"
    if dry_run:
        print_json({"source": str(source.folder), "out": str(folder), **_planned(source, wanted)})
        return
    result = _run(source, wanted, folder, limit(budget, folder))
    if as_json:
        print_json(result)
        return
    _print_result(result)
    print(f"\n{folder / 'checkpoint'}")


def _name_of(asked: Path, source: Source) -> str:
    """What a result is called after: the folder of its source, or the run that holds it, or its file."""
    folder = source.folder.resolve()
    if folder.is_file():
        return asked.stem
    return folder.parent.name if folder.name == "checkpoint" else folder.name


def _planned(source: Source, wanted: WeightFormat) -> dict[str, Any]:
    """What the matrices will take, and the rest, which is kept in fp32."""
    import torch

    from openbook.model.transformer import Transformer
    from openbook.quant.formats import format_of, matrix_bytes
    from openbook.quant.modules import named_matrices

    with torch.device("meta"):
        model = Transformer(source.config)
    num_bytes: dict[str, int] = {}
    num_plain = sum(tensor.numel() for tensor in model.state_dict().values())
    for name, weight in named_matrices(model):
        num_rows, num_columns = weight.shape[-2:]
        stored = format_of(wanted, name, num_columns)
        num_matrices = weight.numel() // (num_rows * num_columns)
        size = num_matrices * matrix_bytes(stored, num_rows, num_columns)
        num_bytes[stored] = num_bytes.get(stored, 0) + size
        num_plain -= weight.numel()
    return {
        "format": wanted,
        "bytes_before": _weight_bytes(source),
        "bytes_after": sum(num_bytes.values()) + 4 * num_plain,
        "matrix_bytes": num_bytes,
    }


def _weight_bytes(checkpoint: Source) -> int:
    from openbook.model.weights import WeightFiles

    folder = checkpoint.folder
    files = [folder] if folder.is_file() else WeightFiles.find(folder).files
    return sum(file.stat().st_size for file in files)


def _run(
    source: Source, wanted: WeightFormat, folder: Path, limit: Callable[[], str] | None
) -> dict[str, Any]:
    """Quantise inside a run of its own; one that is done already is taken as it is."""
    from openbook.r1.config import MachineConfig
    from openbook.r1.frame import Frame, stage_checkpoint
    from openbook.runs.manifest import Ancestor
    from openbook.runs.progress import Silence
    from openbook.runs.stop import StopSignal

    made_by = str(source.provenance.get("run_id", ""))
    parent = Ancestor(role="source", name=source.folder.as_posix(), digest=source.digest, run_id=made_by)
    with StopSignal(limit) as stop:
        frame = Frame(
            folder=folder,
            verb="quantize",
            stage="quantize",
            seed=0,
            recipe={"format": wanted.value},
            parents=[parent],
            machine=MachineConfig(device="cpu"),
            progress=Silence(),
            stop=stop,
        )
        stage_checkpoint(frame, lambda work: _quantize(work, source, wanted))
    result: dict[str, Any] = json.loads((folder / RESULT_FILE).read_text(encoding="utf-8"))
    return result


def _quantize(work: Work, source: Source, wanted: WeightFormat) -> Checkpoint:
    """The body of the run: read, quantise and measure matrix by matrix, write."""
    from openbook.quant.formats import ERROR_BOUNDS
    from openbook.quant.store import save_quantized
    from openbook.runs.durable import replace_text
    from openbook.train.device import Stopwatch

    watch = Stopwatch(work.frame.device)
    model, reports = _quantized(source, wanted, work.frame)
    companions, token_ids = _companions(source, work.run.folder)
    checkpoint = save_quantized(
        work.run.checkpoint_folder,
        model,
        provenance={
            "run_id": work.run.manifest.id,
            "stage": "quantize",
            "format": wanted.value,
            "parents": [source.digest],
        },
        extra_files=companions,
        token_ids=token_ids,
    )
    work.spend(watch.lap())
    result = {
        "run": work.run.manifest.id,
        "source": str(source.folder),
        "digest": checkpoint.digest,
        "format": wanted.value,
        "stated_error": ERROR_BOUNDS[wanted],
        "bytes_before": _weight_bytes(source),
        "bytes_after": _weight_bytes(checkpoint),
        "matrices": [asdict(report) for report in reports],
    }
    replace_text(work.run.folder / RESULT_FILE, json.dumps(result, indent=2) + "\n")
    work.run.write_card({"checkpoint": checkpoint.digest, "format": wanted.value})
    return checkpoint


def _quantized(source: Source, wanted: WeightFormat, frame: Frame) -> tuple[Transformer, list[MatrixReport]]:
    """The model in fewer bits, and each matrix held against the one it was made of.

    A matrix that the source has in the wanted form already is taken over, bit by bit.
    """
    from openbook.model.checkpoint import Checkpoint
    from openbook.quant.formats import format_of
    from openbook.quant.measure import measure
    from openbook.quant.modules import QuantizedMatrix, replace_matrices
    from openbook.quant.store import load_weights
    from openbook.quant.weight import QuantizedWeight
    from openbook.quant.weight import quantize as quantize_matrix

    plain = load_weights(source, dequantized=True)
    is_plain = isinstance(source, Checkpoint) and not source.quantization
    as_stored = {} if is_plain else dict(load_weights(source).named_modules())
    reports = []

    def choose(name: str, weight: Tensor) -> QuantizedWeight:
        frame.stop.check()
        stored = format_of(wanted, name, weight.shape[-1])
        before = as_stored.get(name.removesuffix(".weight"))
        if isinstance(before, QuantizedMatrix) and before.stored.format is stored:
            made = before.stored
        else:
            made = quantize_matrix(weight, stored, name=name)
        reports.append(measure(name, weight, made))
        return made

    return replace_matrices(plain, choose), reports


def _companions(source: Source, folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """What goes with the weights: files such as a tokenizer, and the special tokens that config.json names.

    Those of a GGUF file, which holds all in one, are first written into `folder`.
    """
    from openbook.model.checkpoint import CONFIG_NAME, RECORD_NAME, Checkpoint
    from openbook.model.weights import INDEX_NAME, read_json

    if not isinstance(source, Checkpoint):
        return _unpacked(source, folder)
    ours = {CONFIG_NAME, RECORD_NAME, INDEX_NAME}
    weights = {".safetensors", ".bin", ".pth", ".pt", ".gguf"}
    files = (path for path in sorted(source.folder.iterdir()) if path.is_file())
    public = read_json(source.folder / CONFIG_NAME)
    ids = {key: public[key] for role in _ROLES if public.get(key := f"{role}_token_id") is not None}
    return [path for path in files if path.name not in ours and path.suffix not in weights], ids


def _unpacked(source: GgufCheckpoint, folder: Path) -> tuple[list[Path], dict[str, Any]]:
    """Tokenizer and chat template of a GGUF file as public files in `folder`."""
    from openbook.engine.speaker import read_texts
    from openbook.tokens.chat import ChatTemplate

    tokenizer, template = read_texts(source)
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_id") for role in _ROLES}
    names = {f"{role}_token": tokenizer.token(ids[f"{role}_token_id"]) for role in _ROLES}
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")
    files = [tokenizer.save(folder), config]
    return files + ([template.save(folder)] if isinstance(template, ChatTemplate) else []), ids


def _print_result(result: Mapping[str, Any]) -> None:
    """Bytes, one line for each kind of matrix, and the worst error beside the stated one."""
    from openbook.cli.render import print_table
    from openbook.units import show_bytes

    before, after = result["bytes_before"], result["bytes_after"]
    print(f"{show_bytes(before)} -> {show_bytes(after)} ({after / before:.0%})\n")
    kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for matrix in result["matrices"]:
        kind = re.sub(r"\.\d+\.", ".*.", matrix["name"])
        kinds.setdefault((kind, matrix["stored"]), []).append(matrix)
    rows = [(kind, stored, *_row(matrices)) for (kind, stored), matrices in kinds.items()]
    columns = ["matrix", "stored as", "number", "bytes", "largest error", "of its bound", "relative RMS"]
    print_table(columns, rows, right=columns[2:])
    print(f"\nstated: |error| <= {result['stated_error']}, and what fp32 rounds")
    left = [kind for kind, stored in kinds if stored != result["format"]]
    if left:
        print(f"not in {result['format']}: {', '.join(left)}")


def _row(matrices: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Matrices of one kind: how many, their bytes together, and the worst of them."""
    from openbook.units import show_bytes

    worst = {
        key: max(matrix[key] for matrix in matrices)
        for key in ("largest_error", "share_of_bound", "relative_rms")
    }
    return (
        str(len(matrices)),
        show_bytes(sum(matrix["num_bytes"] for matrix in matrices)),
        f"{worst['largest_error']:.3g}",
        f"{worst['share_of_bound']:.1%}",
        f"{worst['relative_rms']:.2%}",
    )
