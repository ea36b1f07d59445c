"""LSTM: torch.nn.LSTM on the native kernels."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from sensorseq.errors import ArgumentError
from sensorseq.ops import lstm
from sensorseq.ops.choice import HALVES, Choice, choose_here


class LSTM(nn.LSTM):
    """`torch.nn.LSTM` on the native kernels: the same arguments, weights, inputs and results.

    Parameters
    ----------
    *args, **kwargs
        As in `torch.nn.LSTM`: input_size, hidden_size, num_layers, bias, batch_first, dropout,
        bidirectional, device, dtype. There is no kernel for `proj_size`, so it must be 0.

    Notes
    -----
    With the same seed, dropout drops the same units as in `torch.nn.LSTM`.

    torch itself computes all calls that no kernel supports (see `sensorseq.ops.lstm`): other
    devices, dtypes and sizes, autocast on the CPU, `torch.func` transforms, forward-mode
    derivatives, tracing and export. Invalid arguments are also passed to torch, so that torch's own
    errors are raised.

    `torch.jit.script` turns the module back into a `torch.nn.LSTM`. If the module is part of a
    model, the module is replaced in the original model as well.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.proj_size:
            raise ArgumentError(
                f"proj_size={self.proj_size} is not supported; use torch.nn.LSTM, or proj_size=0."
            )

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Compute the hidden sequence and the last states, in the layouts of `input` and `hx`.

        Parameters
        ----------
        input : Tensor or PackedSequence
            A tensor of shape (T, N, C), or (N, T, C) with `batch_first`; a single sequence (T, C);
            or sequences of different lengths from `torch.nn.utils.rnn.pack_padded_sequence`.
        hx : pair of Tensor, optional
            (h_0, c_0), each of shape (num_layers * D, N, H), or (num_layers * D, H) for a single
            sequence; zeros by default.
        """
        packed = isinstance(input, PackedSequence)
        x = input.data if packed else input
        states = () if hx is None else tuple(hx) if isinstance(hx, (tuple, list)) else (hx,)
        weights = self.all_weights
        if not (
            self._has_kernel([x, *states, *(part for cell in weights for part in cell)])
            and self._fits(x, input.batch_sizes if packed else None, states)
        ):
            return super().forward(input, hx)
        if packed:
            if states:
                states = self.permute_hidden(states, input.sorted_indices)
            data, last = self._run(x, weights, states, _Packed(input.batch_sizes, x.device))
            last = self.permute_hidden(last, input.unsorted_indices)
            return PackedSequence(data, *input[1:]), last
        if x.dim() == 2:
            states = tuple(state[:, None] for state in states)
            output, (h_n, c_n) = self._run(x[:, None], weights, states, _Even())
            return output[:, 0], (h_n[:, 0], c_n[:, 0])
        steps = x.transpose(0, 1) if self.batch_first else x
        output, last = self._run(steps, weights, states, _Even())
        # contiguous, like torch's result, because users call view() on it
        return output.transpose(0, 1) if self.batch_first else output.contiguous(), last

    def _fits(self, x: Tensor, batch_sizes: Tensor | None, states: tuple[Tensor, ...]) -> bool:
        """Test whether the inputs are valid and not empty; torch handles all other inputs."""
        if (
            self.proj_size
            or x.dim() not in ((2, 3) if batch_sizes is None else (2,))
            or not x.numel()
        ):
            return False
        n_windows: tuple[int, ...] = ()
        if batch_sizes is not None:
            if not _describes(batch_sizes, x.shape[0]):
                return False
            n_windows = (int(batch_sizes[0]),)
        elif x.dim() == 3:
            n_windows = (x.shape[0 if self.batch_first else 1],)
        expected = (self.num_layers * self._n_directions, *n_windows, self.hidden_size)
        return (
            x.shape[-1] == self.input_size
            and len(states) in (0, 2)
            and all(tuple(state.shape) == expected for state in states)
        )

    @property
    def _n_directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _run(
        self,
        steps: Tensor,
        weights: list[list[nn.Parameter]],
        states: tuple[Tensor, ...],
        layout: "_Even | _Packed",
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run all layers on the steps of all sequences; return outputs in the layout of `steps`."""
        shape = (self.num_layers, 1, self._n_directions, -1, self.hidden_size)
        h_0, c_0 = (
            [state.reshape(shape).transpose(2, 3).unbind() for state in states]
            if states
            else [[None] * self.num_layers] * 2
        )
        sequence = layout.to_windows(steps)
        h_n, c_n = [], []
        for layer in range(self.num_layers):
            if layer and self.training and self.dropout:
                # drawn in torch's layout, so that the same seed drops the same units as in torch
                ones = steps.new_ones((*steps.shape[:-1], sequence.shape[-1]))
                mask = functional.dropout(ones, self.dropout)
                sequence = sequence * layout.to_windows(mask)
            cells = weights[layer * self._n_directions : (layer + 1) * self._n_directions]
            hidden, h, c = lstm(
                sequence[None],
                *_stacked(cells),
                lengths=layout.lengths,
                h_0=h_0[layer],
                c_0=c_0[layer],
            )
            sequence = hidden[0]
            h_n.append(h[0].transpose(0, 1))
            c_n.append(c[0].transpose(0, 1))
        results = [layout.from_windows(sequence), torch.cat(h_n), torch.cat(c_n)]
        # Convert the results to the precision in which torch would return them.
        if torch.is_autocast_enabled(steps.device.type):
            results = [part.to(torch.get_autocast_dtype(steps.device.type)) for part in results]
        output, h, c = results
        return output, (h, c)

    def choice(self) -> Choice:
        """Choose the implementation for the current device, dtype, size and autocast."""
        weight = self.all_weights[0][0]
        return choose_here(weight.device, weight.dtype, hidden_size=self.hidden_size)

    def _has_kernel(self, tensors: list[Any]) -> bool:
        """Test whether a kernel supports these tensors and torch's current modes."""
        if torch._C._get_tracing_state() or torch.compiler.is_exporting():
            return False  # a traced module must run without sensorseq
        if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
            return False
        first = tensors[0]
        if any(
            type(tensor) not in (Tensor, nn.Parameter) or tensor.device != first.device
            for tensor in tensors
        ):
            return False
        choice = self.choice()
        if choice.served_by != "native":
            return False
        if not torch.is_autocast_enabled(first.device.type):
            return all(tensor.dtype == first.dtype for tensor in tensors)
        # on a GPU, autocast unifies the dtypes; on a CPU, kernels would ignore autocast
        return choice.is_in_cuda and all(t.dtype in (torch.float32, *HALVES) for t in tensors)

    def __prepare_scriptable__(self) -> nn.LSTM:
        """Return torch's own class with the same weights, which `torch.jit.script` can compile."""
        plain = copy.copy(self)
        plain.__class__ = nn.LSTM  # type: ignore[assignment]
        return plain


class _Even:
    """The layout (T, N, C) of sequences of equal length."""

    lengths = None

    def to_windows(self, steps: Tensor) -> Tensor:
        return steps.transpose(0, 1)

    def from_windows(self, hidden: Tensor) -> Tensor:
        return hidden.transpose(0, 1)


class _Packed:
    """The layout (sum of lengths, C) of a PackedSequence: all first steps, all second steps, ..."""

    def __init__(self, batch_sizes: Tensor, device: torch.device) -> None:
        valid = torch.arange(int(batch_sizes[0])) < batch_sizes[:, None]
        step, window = valid.nonzero(as_tuple=True)
        self.lengths = valid.sum(0).to(device)
        self.n_timesteps, self.n_windows = valid.shape
        self.position = (window * self.n_timesteps + step).to(device)

    def to_windows(self, steps: Tensor) -> Tensor:
        padded = steps.new_zeros((self.n_windows * self.n_timesteps, steps.shape[-1]))
        padded = padded.index_copy(0, self.position, steps)
        return padded.view(self.n_windows, self.n_timesteps, -1)

    def from_windows(self, hidden: Tensor) -> Tensor:
        return hidden.flatten(0, 1).index_select(0, self.position)


def _describes(batch_sizes: Tensor, n_steps: int) -> bool:
    """Test whether `batch_sizes` are valid for a PackedSequence of `n_steps` steps in total."""
    falling = batch_sizes.diff() <= 0
    return int(batch_sizes.sum()) == n_steps and bool(falling.all()) and int(batch_sizes[-1]) > 0


def _stacked(cells: list[list[nn.Parameter]]) -> list[Tensor]:
    """Stack a layer's directions as (1, D, ...): weight_ih, weight_hh and the summed bias."""
    # Sum the biases before stacking them. Otherwise, both biases would get views of the same
    # gradient, and clipping their gradients in place would scale that gradient twice.
    parts = [
        (cell[0], cell[1], cell[2] + cell[3] if len(cell) == 4 else cell[0].new_zeros(len(cell[0])))
        for cell in cells
    ]
    if len(parts) == 1:
        return [part[None, None] for part in parts[0]]
    return [torch.stack(directions)[None] for directions in zip(*parts, strict=True)]
