"""Koans: small Rust programs with one beginner's error each, in families."""

from __future__ import annotations

from sleepy_coder.tasks.koans import borrow_checker as _borrow_checker
from sleepy_coder.tasks.koans import lifetimes as _lifetimes
from sleepy_coder.tasks.koans import names as _names
from sleepy_coder.tasks.koans import ownership as _ownership
from sleepy_coder.tasks.koans import patterns as _patterns
from sleepy_coder.tasks.koans import question_mark as _question_mark
from sleepy_coder.tasks.koans import references as _references
from sleepy_coder.tasks.koans import result_handling as _result_handling
from sleepy_coder.tasks.koans import trait_bounds as _trait_bounds
from sleepy_coder.tasks.koans import trait_impls as _trait_impls
from sleepy_coder.tasks.koans import type_mismatch as _type_mismatch
from sleepy_coder.tasks.koans.family import FAMILIES, Draft, Family, draw

__all__ = ["FAMILIES", "Draft", "Family", "draw"]
_ = (
    _borrow_checker,
    _lifetimes,
    _ownership,
    _names,
    _patterns,
    _references,
    _type_mismatch,
    _question_mark,
    _result_handling,
    _trait_bounds,
    _trait_impls,
)
