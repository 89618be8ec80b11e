"""What each library gives where a gradient is easily wrong: `python -m benchmarks.corners` prints the table.

Each function is written once, with what the four namespaces share. A library that is not installed is left out.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from benchmarks.libraries import is_installed

Gradient = Callable[[Callable[[Any], Any], Any], Any]
# the namespace, grad(f, x), and the pullback of ones after x was overwritten with 100
Library = tuple[Any, Gradient, Gradient]


def _overwritten(vjp: Callable[[Any, Any], Any]) -> Gradient:
    def gradient(f: Callable[[Any], Any], x: Any) -> Any:
        x = x.copy()
        pullback = vjp(f, x)
        x[:] = 100.0
        return pullback(np.ones(x.shape))

    return gradient


def _funcgrad() -> Library:
    return fnp, lambda f, x: fg.grad(f)(x), _overwritten(lambda f, x: fg.vjp(f, x)[1])


def _jax() -> Library:
    import jax

    jax.config.update("jax_enable_x64", True)
    return jax.numpy, lambda f, x: jax.grad(f)(x), _overwritten(lambda f, x: jax.vjp(f, x)[1])


def _autograd() -> Library:
    import autograd

    return autograd.numpy, lambda f, x: autograd.grad(f)(x), _overwritten(lambda f, x: autograd.make_vjp(f)(x)[0])


def _torch() -> Library:
    import torch

    def gradient(f: Callable[[Any], Any], x: Any) -> Any:
        t = torch.tensor(x, requires_grad=True)
        return torch.autograd.grad(f(t), t)[0].numpy()

    def overwritten(f: Callable[[Any], Any], x: Any) -> Any:
        t = torch.tensor(x, requires_grad=True)
        y = f(t)
        with torch.no_grad():
            t.fill_(100.0)
        return torch.autograd.grad(y, t, torch.ones_like(y))[0].numpy()

    return torch, gradient, overwritten


LIBRARIES = {"funcgrad": _funcgrad, "jax": _jax, "autograd": _autograd, "torch": _torch}


def _logsumexp(xp: Any, x: Any) -> Any:
    if xp is fnp:
        return fg.nn.logsumexp(x)
    if xp.__name__ == "torch":
        return xp.logsumexp(x, 0)
    module = {"jax.numpy": "jax.scipy.special", "autograd.numpy": "autograd.scipy.special"}[xp.__name__]
    return importlib.import_module(module).logsumexp(x)


def _std(xp: Any, x: Any) -> Any:
    return xp.std(x, correction=0) if xp.__name__ == "torch" else xp.std(x)


_SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])
CORNERS: dict[str, tuple[Callable[[Any, Any], Any], Any, Any]] = {
    "where(x > 0, log(x), 0) at 0": (lambda xp, x: xp.where(x > 0, xp.log(x), 0.0 * x), np.array(0.0), 0.0),
    "norm of a zero vector": (lambda xp, x: xp.linalg.norm(x), np.zeros(2), 0.0),
    "std of equal numbers": (_std, np.ones(3), 0.0),
    "logsumexp of (-inf, -inf)": (_logsumexp, np.array([-np.inf, -np.inf]), 0.0),
    "det of a singular matrix": (lambda xp, x: xp.linalg.det(x), _SINGULAR, np.array([[4.0, -2.0], [-2.0, 1.0]])),
}


def _says(compute: Callable[[], Any], right: Any) -> str:
    try:
        y = np.asarray(compute())
    except Exception as error:  # the table says what was raised, whatever it is
        return f"raises {type(error).__name__}"
    if np.isnan(y).any():
        return "NaN"
    shown = " ".join(f"{v:.3g}" for v in np.ravel(y))
    return "right" if np.allclose(y, right) else f"wrong ({shown})"


def _title(name: str) -> str:
    return name if name == "funcgrad" else f"{name} {importlib.metadata.version(name)}"


def main() -> None:
    """Print the table."""
    installed = {name: make() for name, make in LIBRARIES.items() if is_installed(name)}
    print("| |", " | ".join(map(_title, installed)), "|")
    print("|---" * (len(installed) + 1) + "|")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for corner, (f, x, right) in CORNERS.items():
            cells = [_says(partial(gradient, partial(f, xp), x), right) for xp, gradient, _ in installed.values()]
            print(f"| {corner} |", " | ".join(cells), "|")
        cells = [
            _says(partial(overwritten, lambda x: x * x, np.arange(3.0)), [0.0, 2.0, 4.0])
            for _, _, overwritten in installed.values()
        ]
        print("| x * x, where x is changed before the pullback is called |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
