"""A device that any machine has, for tests that nothing is copied between devices in silence.

Within `other_device`, torch's device ``meta``, where tensors have a shape and no numbers, has
numbers too. What is moved there by ``.to("meta")`` computes as on the CPU, to the last bit, and
comes back by ``.cpu()``. All that would copy without saying so is refused as it would be on a GPU,
or more strictly: an operation on tensors of both devices, a number taken out by ``float()``,
``bool()`` or ``.item()``, a mask whose count decides a shape, ``.numpy()`` and ``.tolist()``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

OTHER_DEVICE = torch.device("meta")

_COMPOSED = "CompositeImplicitAutograd"  # an operation that is made of others
_COPIES = torch.ops.aten._to_copy.default
# the host must wait for what these compute
_READ_BY_THE_HOST = frozenset(
    {
        torch.ops.aten._local_scalar_dense.default,
        torch.ops.aten.equal.default,
        torch.ops.aten.is_nonzero.default,
        torch.ops.aten.nonzero.default,
        torch.ops.aten.masked_select.default,
        torch.ops.aten.repeat_interleave.Tensor,
    }
)


_INDEXING = frozenset({torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default})


class SilentCopyError(AssertionError):
    """Something would have been copied between devices without the code saying so."""


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Give numbers to a device that is not the CPU, and refuse silent copies to and from it.

    Yields
    ------
    torch.device
        The device; tensors on it must not outlive the block.
    """
    with _Dispatch():  # type: ignore[no-untyped-call]  # torch's
        yield OTHER_DEVICE


class _FarTensor(Tensor):
    """A tensor that says it is on the other device; its numbers are in `held`."""

    held: Tensor

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's stub takes it for a plain method
        cls,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[Any, Any] | None = None,
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Sees every operation, those without a tensor on the other device included."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSED):
            # torch leaves such an operation whole where no gradient is recorded; look into it
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return _run(func, args, kwargs or {})


def _run(operation: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Run an operation where its tensors are, on numbers that are on the CPU in any case."""
    tensors = [one for one in tree_flatten((arguments, options))[0] if isinstance(one, Tensor)]
    far = [one for one in tensors if isinstance(one, _FarTensor)]
    target = options.get("device")
    if far and len(far) < len(tensors):
        raise SilentCopyError(f"{operation} mixes tensors of two devices")
    sized = options.get("output_size") is not None  # then the host need not wait for the sum
    if far and (operation in _READ_BY_THE_HOST or _is_masked(operation, tensors)) and not sized:
        raise SilentCopyError(f"{operation} is read by the host; .cpu() has to say so")
    stays_far = bool(far) and (target is None or torch.device(target) == OTHER_DEVICE)
    goes_far = target is not None and torch.device(target) == OTHER_DEVICE
    if not far and not goes_far:
        return operation(*arguments, **options)
    if far and not stays_far and operation is not _COPIES:
        raise SilentCopyError(f"{operation} makes a tensor on {target} from one elsewhere")
    if target is not None:
        options = {**options, "device": torch.device("cpu")}
    held = tree_map_only(_FarTensor, lambda one: one.held, (tuple(arguments), dict(options)))
    result = operation(*held[0], **held[1])
    if not stays_far and not goes_far:
        return result
    # what an operation changes in place must still be the same object
    same = {id(one.held): one for one in far}

    def moved(one: Tensor) -> Tensor:
        return same[id(one)] if id(one) in same else _far(one)

    return tree_map_only(Tensor, moved, result)


def _far(held: Tensor) -> _FarTensor:
    far = Tensor._make_wrapper_subclass(
        _FarTensor,
        held.size(),
        strides=held.stride(),
        storage_offset=held.storage_offset(),
        dtype=held.dtype,
        device=OTHER_DEVICE,
    )
    far.held = held
    return far


def _is_masked(operation: Any, tensors: Sequence[Tensor]) -> bool:
    """Say whether rows are chosen by a mask, whose number the host has to wait for."""
    return operation in _INDEXING and any(one.dtype == torch.bool for one in tensors[1:])
