"""Fixed questions that prove which weights answer: a server may list an adapter and not apply it.

The first time a stack (server version, base model, tolerance) is asked, the base's and the adapter's answers are
measured and kept; they must differ. Later the adapter must answer as it did then, and not as the base. That later
check asks the adapter alone: beside requests for adapters, vLLM's CPU build answers for the base with the weights
of an adapter (vllm-project/vllm#48421), so the base is asked once, before and apart from the adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from sleepy_coder import log
from sleepy_coder.errors import AdapterError
from sleepy_coder.files import have_folder, write_atomic
from sleepy_coder.ports import Fingerprint, Replica
from sleepy_coder.types import Record

_log = log.get("server")

NOISE: Final = 1e-4  # logprobs of the same weights in float32 are closer than this, alone and in any batch
# Beginnings that leave a model many ways to go on: where it is certain, every adapter answers alike.
PROMPTS: Final = (
    "fn main() {\n    let",
    "def solve(values):\n    ",
    "The mistake in this program is",
    "error[E0382]: borrow of moved value: `",
)


class Proof(Record):
    """What base and adapter answered when they were first asked under `stack`."""

    stack: str
    base: Fingerprint
    adapter: Fingerprint


class Proofs(Record):
    """The file of one adapter: one proof per stack."""

    proofs: tuple[Proof, ...] = ()

    def under(self, stack: str) -> Proof | None:
        return next((proof for proof in self.proofs if proof.stack == stack), None)


@dataclass(frozen=True, slots=True)
class Prover:
    """Asks `replica`s; what they answered is kept in `folder`, one file per adapter.

    `base` is the name of the base model. `tolerance` is how far logprobs of the same weights may be apart.
    """

    folder: Path
    base: str
    tolerance: float

    def prove(self, replica: Replica, adapter: str, base_sha256: str) -> None:
        """Have `replica` show that it answers with `adapter`, which it has loaded.

        Raises AdapterError when the answers are the base's, or others than they were under the same stack.
        """
        stack = f"{replica.version()} / {base_sha256} / {self.tolerance:g}"
        path = self.folder / f"{adapter}.json"
        known = _read(path)
        proof = known.under(stack)
        base = proof.base if proof else replica.fingerprint(self.base, PROMPTS)
        now = replica.fingerprint(adapter, PROMPTS)
        if now.distance(base) <= NOISE:
            what = "answers just as the base does: it is not applied, or has learned nothing"
            raise self._refusal(replica, adapter, what, 0.0)
        if proof is None:
            have_folder(self.folder)
            kept = Proofs(proofs=(*known.proofs, Proof(stack=stack, base=base, adapter=now)))
            write_atomic(path, kept.model_dump_json(indent=2) + "\n")
        elif not now.matches(proof.adapter, self.tolerance):
            apart = now.distance(proof.adapter)
            raise self._refusal(
                replica, adapter, f"answers differently than before, by {apart:.3g} in a logprob", apart
            )

    def _refusal(self, replica: Replica, adapter: str, what: str, apart: float) -> AdapterError:
        _log.error("server.fingerprint_differs", adapter=adapter, server=replica.url, what=what, apart=apart)
        return AdapterError(
            f"{adapter} at {replica.url} {what}",
            "Restart that server, and the adapter is loaded anew. If it serves in another dtype or on another device "
            f"than before on purpose, remove {self.folder / adapter}.json",
        )


def _read(path: Path) -> Proofs:
    try:
        return Proofs.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Proofs()
    except (OSError, ValidationError) as error:
        raise AdapterError(f"{path} cannot be read ({error})", "Remove it; the adapter is measured anew") from error
