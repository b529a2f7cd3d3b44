"""What a secret looks like: tokens with a shape of their own. `redact_names` finds those that have none.

The kinds are those that gitleaks knows; the patterns are our own. A pattern starts with the literal that makes
the token recognisable rather than with a look behind it: in JSON the line before ends in `\\n`, and an `n` is
no word boundary. Group `v` is the secret where the match holds more than that.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[re.Match[str]], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """`pattern` is tried on texts that hold one of `hints` (lower case); `check` has the last word on a match.

    Every rule whose match may hold `"},`, where one JSON object of a list ends, has to be marked `far`.
    """

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    check: Check | None = None
    far: bool = False

    def hinted(self, lowered: str) -> bool:
        """Whether the pattern is worth trying on a text that is `lowered` in lower case."""
        return any(hint in lowered for hint in self.hints)


# What stands where a secret would: nobody is harmed by these, and code is full of them. `$(` amid a value begins no
# template unless it ends: managers of passwords put the two side by side.
_STAND_IN = re.compile(
    r"(?i)^<(?:.*>$|secret:[a-z0-9-]+:\d+>|[a-z_ -]+$)|^\$[a-z_]+$|^\$[{(]|\$\{\w[^{}]*\}|\$\([^()]*\)|^\{\w*\}|^\{\{"
    r"|^%[a-z(]\)?s?$|^%\(|^%\w+%$|^\.{3}|\.{3}$"
    r"|^(?:x+|y+|\*+|-+|_+|0+|password|passwd|pass|pwd|secret|token|string|example\S*|changeme"
    r"|change[-_]me|none|null|nil|true|false|undefined|required|optional|redacted|dummy\S*|test|testing|empty"
    r"|your[-_ ]\S*|my[-_]?(?:secret|token|password|key)|placeholder|hidden|bearer|basic|unset|missing|invalid)$"
)
_FORMAT = re.compile(r"\{\w*\}|\{\{")
_WORDS = re.compile(r"[A-Za-z]{0,18}\d{0,2}|\d+")
_PARTS = re.compile(r"[^A-Za-z0-9+]+")


def entropy(text: str) -> float:
    """Shannon's entropy in bits per character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())


def is_stand_in(value: str) -> bool:
    """Whether the value begins or ends as a stand-in: a variable, a template, the word password."""
    return bool(_STAND_IN.search(value)) or len(set(value)) < 3


def is_dummy(value: str) -> bool:
    """Whether the value is a stand-in, or has a place to be filled in, as strings in code have."""
    return is_stand_in(value) or bool(_FORMAT.search(value))


def is_wordy(value: str) -> bool:
    """Whether the value reads like a name: its parts are words, numbers, or words with a short number."""
    return all(_WORDS.fullmatch(part) for part in _PARTS.split(value))


def looks_random(value: str) -> bool:
    """Whether nobody would have typed this: long, many different characters, digits amid the letters."""
    changes = len(re.findall(r"[A-Za-z](?=\d)|\d(?=[A-Za-z])", value))
    return len(value) >= 24 and changes >= 3 and entropy(value) >= 3.7 and not is_wordy(value)


def is_mixed(value: str) -> bool:
    return bool(re.search(r"\d", value)) and bool(re.search(r"[A-Za-z]", value))


def _token(kind: str, hints: str, pattern: str, check: Check | None = None, *, far: bool = False) -> Rule:
    return Rule(kind, tuple(hints.lower().split()), re.compile(pattern), check, far)


def _has_digit(match: re.Match[str]) -> bool:
    value = match["v"] if "v" in match.re.groupindex else match[0]
    return is_mixed(value) and not is_dummy(value)


def _no_dummy(match: re.Match[str]) -> bool:
    return not is_dummy(match["v"])


def _has_long_value(match: re.Match[str]) -> bool:
    """Whether one of these cookies is long enough to be a session's; `theme=dark` is no secret, but what follows is."""
    values = (pair.partition("=")[2] for pair in match["v"].split(";"))
    return any(len(value) >= 12 and not is_dummy(value) for value in values)


TOKENS: tuple[Rule, ...] = (
    _token("github-pat", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{36,255}"),
    _token("github-fine-pat", "github_pat_", r"github_pat_[A-Za-z0-9_]{50,255}"),
    _token("gitlab-token", "glpat- gldt- glrt- glsoat-", r"gl(?:pat|dt|rt|soat)-[A-Za-z0-9_.-]{20,}"),
    _token("aws-access-key-id", "akia asia abia acca", r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9+/])"),
    _token("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20,}"),
    _token("openai-key", "sk-", r"sk-(?:proj-|svcacct-|admin-|or-v1-|None-)?[A-Za-z0-9_-]{20,}", _has_digit),
    _token("google-api-key", "aiza", r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9+/])"),
    _token("google-oauth", "gocspx- ya29.", r"(?:GOCSPX-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,})"),
    _token("slack-token", "xox xapp-", r"(?:xox[abeoprs](?:\.xox[bp])?|xapp)-[A-Za-z0-9-]{10,}", _has_digit),
    _token(
        "webhook",
        "hooks.slack.com webhooks/",
        r"(?:hooks\.slack\.com\\*/(?:services|workflows)\\*/|discord(?:app)?\.com\\*/api\\*/webhooks\\*/)"
        r"(?P<v>[A-Za-z0-9_/\\-]{20,})",
    ),
    _token(
        "stripe-key", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}"
    ),
    _token("huggingface-token", "hf_", r"hf_[A-Za-z0-9]{30,}"),
    _token("npm-token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _token("pypi-token", "pypi-ageichlwas5vcmc", r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{30,}"),
    _token("cargo-token", "cio", r"cio[A-Za-z0-9]{32}(?![A-Za-z0-9])", _has_digit),
    _token("jwt", "eyj", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    _token("sendgrid-key", "sg.", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    _token("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"do[opr]_v1_[a-f0-9]{64}"),
    _token("telegram-token", ":a", r":(?<=\d{8}:)(?P<v>A[A-Za-z0-9_-]{34})(?![A-Za-z0-9_-])"),
    _token("databricks-token", "dapi", r"dapi[a-f0-9]{32}(?:-\d)?"),
    _token("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _token("vault-token", "hvs. hvb. hvr.", r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    _token("age-key", "age-secret-key-1", r"(?i)AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    _token("groq-key", "gsk_", r"gsk_[A-Za-z0-9]{40,}"),
    _token("xai-key", "xai-", r"xai-[A-Za-z0-9]{60,}"),
    _token("replicate-token", "r8_", r"r8_[A-Za-z0-9]{37,}"),
    _token("linear-key", "lin_api_", r"lin_api_[A-Za-z0-9]{32,}"),
    _token("doppler-token", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{40,}"),
    _token("grafana-token", "glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9+/=_]{32,}"),
    _token("postman-key", "pmak-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    _token("twilio-key", "sk", r"SK[a-f0-9]{32}(?![A-Za-z0-9])"),
    _token("mailgun-key", "key-", r"key-[a-f0-9]{32}(?![A-Za-z0-9])"),
    _token("planetscale-token", "pscale_", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{32,}"),
    _token(
        "url-password",
        "@",
        r":(?:\\*/){2}[^\s/:@\"'\\<>]{0,80}:(?P<v>[^\s/@\"'\\<>]{3,200})@(?=[A-Za-z0-9\[.-])",
        _no_dummy,
    ),
    _token(
        "authorization",
        "authorization",
        r"(?i:authorization)\\*[\"']?\s{0,2}[:=,]\s{0,2}\\*[\"']?(?:[Bb]earer|[Bb]asic|[Tt]oken|[Aa]pi[Kk]ey)\s{1,2}"
        r"(?P<v>[A-Za-z0-9._~+/=:-]{6,})",
        _no_dummy,
    ),
    _token(
        "authorization",
        "authorization",
        r"(?i:authorization)\\*[\"']?\s{0,2}[:=]\s{0,2}\\*[\"']?(?P<v>[A-Za-z0-9._~+/=-]{16,})",
        _has_digit,
    ),
    _token("bearer", "bearer", r"(?i:bearer)(?:\s|%20|\+){1,2}(?P<v>[A-Za-z0-9._~+/=-]{12,})", _has_digit),
    _token("basic-auth", "-u --user", r"\s(?:-u|--user)[ =]\\*[\"']?[A-Za-z0-9._@-]+:(?P<v>[^\s\"'\\]{4,})", _no_dummy),
    _token(
        "cookie",
        "cookie",
        r"(?i:cookie)\\*[\"']?:\s{0,2}\\*[\"']?(?P<v>[\w.-]+=[^\s;\"'\\]*(?:; ?[^\s;\"'\\]+)*)",
        _has_long_value,
    ),
    _token("password", "login", r"login\s+\S+\s+password\s+(?P<v>[^\s\"'\\]{4,})", _no_dummy, far=True),
    _token("password", "<pass", r"(?i:<(?:password|passwd|passphrase)>)(?P<v>[^<()]{4,200})<\\*/", _no_dummy, far=True),
    _token("password", "identified", r"(?i:identified\s+by)\s+\\*[\"'](?P<v>[^\"'\\]{4,200})", _no_dummy, far=True),
)

# A header alone is no key: code and documents speak of it. What follows it is one when it is as dense as one.
PRIVATE_KEY_HINT = "-----BEGIN "
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----(?:.{0,400}?)[A-Za-z0-9+/]{40}", re.DOTALL
)
