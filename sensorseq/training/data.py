"""TrainingData: one part of the windows as tensors, ready for the network."""

import hashlib
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sensorseq.training.batches import BatchSampler, Rows

# Below this a part lives on the GPU as a whole; above, each batch is copied there.
RESIDENT_BYTES = 2 * 1024**3
EVALUATION_BATCH = 256  # windows; bounds the memory of a forward pass


@dataclass(frozen=True)
class TrainingData:
    """Scaled windows of one part, training or validation.

    Parameters
    ----------
    X : Tensor of shape (N, T, C)
        Float, finite everywhere; padding holds zeros.
    lengths : Tensor of shape (N,), int64, or None
        Valid steps of each window, 1 to T; None when every window has T.
    target : Tensor of shape (N,), int64, or (N, K), float
        Class, 0 to K - 1, or the K values of a regression.
    weight : Tensor of shape (N,), or None
        Factor of each window in the loss; None means 1.
    """

    X: Tensor
    lengths: Tensor | None
    target: Tensor
    weight: Tensor | None = None

    def __len__(self) -> int:
        return len(self.X)

    @property
    def resident_bytes(self) -> int:
        """Bytes of windows that are on the device at a time."""
        return self.X.nbytes

    def nothing(self) -> "TrainingData":
        """Return the data of no window: shapes and types, before the first pass is there."""
        return self.take(torch.arange(0), self.X.device)

    def refresh(self, windows: NDArray[Any]) -> None:
        """Write other windows over these.

        Parameters
        ----------
        windows : ndarray of shape (N, T, C)
            Scaled windows, of the same shape.
        """
        self.X.copy_(torch.from_numpy(windows))

    def make_sampler(self, *arguments: Any, **options: Any) -> BatchSampler:
        """Return what draws the batches; arguments are those of `BatchSampler`.

        Parameters
        ----------
        *arguments, **options : object
            Arguments of `BatchSampler`.
        """
        return BatchSampler(*arguments, **options)

    def passes(
        self, batches: BatchSampler
    ) -> Generator[tuple["TrainingData", list[Rows]], None, None]:
        """Yield windows that are held together and the rows of their batches, for one epoch.

        Parameters
        ----------
        batches : BatchSampler
            Draws the batches of the epoch.
        """
        yield self, list(batches)

    def blocks(self) -> Generator["TrainingData", None, None]:
        """Yield all windows in order, those together that are held together."""
        yield self

    @classmethod
    def from_arrays(
        cls,
        X: NDArray[Any],
        lengths: NDArray[np.int64],
        target: NDArray[Any],
        weight: NDArray[np.floating[Any]] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> "TrainingData":
        """Copy arrays into tensors of `dtype`; integer targets are classes.

        Parameters
        ----------
        X : ndarray of shape (N, T, C)
            Scaled windows.
        lengths : ndarray of shape (N,), int64
            Valid steps of each window.
        target : ndarray of shape (N,) or (N, K)
            Classes, or the values of a regression.
        weight : ndarray of shape (N,), optional
            Factor on the loss of each window.
        dtype : torch.dtype, default=torch.float32
            Precision of the tensors.
        """
        return cls(
            torch.tensor(X, dtype=dtype),
            None if (lengths == X.shape[1]).all() else torch.tensor(lengths, dtype=torch.int64),
            torch.tensor(target, dtype=torch.int64 if target.dtype.kind in "iu" else dtype),
            None if weight is None else torch.tensor(weight, dtype=dtype),
        )

    def to(self, device: torch.device) -> "TrainingData":
        """Move to `device`, unless the windows are too many to live there.

        Parameters
        ----------
        device : torch.device
            Where to.
        """
        if device.type != "cpu" and self.X.nbytes > RESIDENT_BYTES:
            return self
        return TrainingData(
            *(
                None if part is None else part.to(device)
                for part in (self.X, self.lengths, self.target, self.weight)
            )  # type: ignore[arg-type]  # X and target are never None
        )

    def take(self, rows: Tensor, device: torch.device) -> "TrainingData":
        """Return the windows at `rows`, on `device`.

        Parameters
        ----------
        rows : Tensor of int64
            Which windows.
        device : torch.device
            Where to.
        """
        rows = rows.to(self.X.device)
        return TrainingData(
            *(
                None if part is None else part[rows].to(device)
                for part in (self.X, self.lengths, self.target, self.weight)
            )  # type: ignore[arg-type]  # X and target are never None
        )

    def digests(self) -> dict[str, str]:
        """Return by what these windows are known again, part by part."""
        return {"windows": digest_tensors({"windows": self.X}), **self.digests_beside()}

    def digests_beside(self) -> dict[str, str]:
        """Return `digests` of everything except the windows."""
        parts = {"lengths": self.lengths, "targets": self.target, "weights": self.weight}
        return {
            name: digest_tensors({name: part}) for name, part in parts.items() if part is not None
        }


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        update_digest(digest, name, tensor.dtype, tuple(tensor.shape), [tensor])
    return digest.hexdigest()


def update_digest(
    digest: Any, name: str, dtype: torch.dtype, shape: tuple[int, ...], blocks: Iterable[Tensor]
) -> None:
    """Feed a named tensor to a digest, whole or as blocks of its rows: the sum is the same."""
    digest.update(f"{name} {dtype} {shape}".encode())
    for block in blocks:
        flat = block.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
