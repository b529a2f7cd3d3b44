"""The verdict record: a case and its finding as JSON, from which the finding can be computed again.

The store appends it to a chain, in which each record's hash covers the one before (store_gate.py).
"""

from __future__ import annotations

from pydantic import ValidationError

from sleepy_coder import __version__
from sleepy_coder.errors import StoreError
from sleepy_coder.judge.case import Case, Finding, policy_sha256
from sleepy_coder.judge.sequential import judge
from sleepy_coder.types import Record


class VerdictRecord(Record):
    """One verdict with everything it follows from. `version` is that of the code that decided."""

    version: str
    case: Case
    finding: Finding


def write(case: Case) -> str:
    """Judge `case`; the record as JSON."""
    return VerdictRecord(version=__version__, case=case, finding=judge(case)).model_dump_json()


def read(payload: str) -> VerdictRecord:
    """The record in `payload`. Raises StoreError when it is none of this version's."""
    try:
        return VerdictRecord.model_validate_json(payload)
    except ValidationError as error:
        remedy = "replay it with the version of sleepy-coder that wrote it"
        raise StoreError(f"this verdict record cannot be read ({error})", remedy) from error


def replay(payload: str) -> str:
    """The record that the case in `payload` gives today: equal, byte for byte, unless something was changed."""
    record = read(payload)
    case = record.case.model_copy(update={"policy_sha256": policy_sha256(record.case.policy)})
    return VerdictRecord(version=record.version, case=case, finding=judge(case)).model_dump_json()
