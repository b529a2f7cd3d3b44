"""The tokens with a shape of their own, and private keys. `redact_names` finds the secrets that have none.

The kinds are those that gitleaks knows; the patterns are our own. A pattern starts with the literal that makes
the token recognisable rather than with a look behind it: in JSON the line before ends in `\\n`, and an `n` is
no word boundary. Group `v` is the secret where the match holds more than that.
"""

from __future__ import annotations

import base64
import binascii
import re

from sleepy_coder.collect.redact_rules import Check, Rule, is_dummy, is_mixed, is_wordy, looks_random


def _token(kind: str, hints: str, pattern: str, check: Check | None = None, *, far: bool = False) -> Rule:
    return Rule(kind, tuple(hints.lower().split()), re.compile(pattern), check, far)


def _run(kind: str, hints: str, pattern: str, check: Check | None = None) -> Rule:
    return Rule(kind, tuple(hints.lower().split()), re.compile(pattern), check, run=True)


def _has_digit(match: re.Match[str]) -> bool:
    value = match["v"] if "v" in match.re.groupindex else match[0]
    return is_mixed(value) and not is_dummy(value)


def _no_dummy(match: re.Match[str]) -> bool:
    return not is_dummy(match["v"])


def _has_long_value(match: re.Match[str]) -> bool:
    """Whether one of these cookies is long enough to be a session's; `theme=dark` is no secret, but what follows is."""
    values = (pair.partition("=")[2] for pair in match["v"].split(";"))
    return any(len(value) >= 12 and not is_dummy(value) for value in values)


def _is_dense(match: re.Match[str]) -> bool:
    return is_mixed(match["v"]) and not is_wordy(match["v"])


def _of_both_cases(match: re.Match[str]) -> bool:
    return match["v"] not in (match["v"].lower(), match["v"].upper()) and _is_dense(match)


def _is_random(match: re.Match[str]) -> bool:
    return looks_random(match["v"])


def _no_port(match: re.Match[str]) -> bool:
    """`mysql -p3306:3306` in a line for Docker speaks of ports."""
    return _no_dummy(match) and not re.fullmatch(r"[\d:]+", match["v"])


def _decoded(text: str) -> bytes:
    """What is coded in base64, without its padding; nothing if it is none."""
    text = text.rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return b""


def _codes_user_and_password(match: re.Match[str]) -> bool:
    return bool(re.fullmatch(rb"[\x21-\x7e]+:[\x20-\x7e]+", _decoded(match["v"])))


def _follows_coded_number(match: re.Match[str]) -> bool:
    """The first part of a bot's token for Discord is the bot's number in base64."""
    number = re.search(r"[MNO][A-Za-z0-9]{22,26}$", match.string[max(0, match.start() - 27) : match.start()])
    return number is not None and _decoded(number[0]).isdigit()


def _stands_in_jwk(match: re.Match[str]) -> bool:
    """Whether the braces around the member hold a `kty`: a cut between messages is never amid them."""
    text, start, end = match.string, match.start(), match.end()
    before = text[max(0, start - _JWK) : start].rpartition("{")[2]
    return '"kty' in (before + text[end : end + _JWK].partition("}")[0]).replace("\\", "").replace("'", '"')


def _codes_private_key(match: re.Match[str]) -> bool:
    return b"PRIVATE KEY" in _decoded(match[0][:60])


def _ends_dense_text(match: re.Match[str]) -> bool:
    return bool(_KEY_LINE.search(match.string, max(0, match.start() - 200), match.start()))


# Longer than the members of the largest key, 4096 bits of RSA.
_JWK = 6000
# Where a word begins: after the two characters `\n`, too.
_EDGE = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrt]))"
_HASH = "[./A-Za-z0-9]"

TOKENS: tuple[Rule, ...] = (
    # Before the rule for the id, which takes away what this one goes by.
    _token(
        "aws-secret-key",
        "akia asia",
        rf"A(?:KIA|SIA)[A-Z2-7]{{16}}[^{{}}]{{1,80}}?{_EDGE}(?P<v>[A-Za-z0-9+/]{{40}})(?![A-Za-z0-9+/=])",
        _of_both_cases,
    ),
    _token(
        "aws-secret-key",
        "access key [",
        r"ecret [Aa]ccess [Kk]ey \[[^\]\n{}]{0,24}\]:\s{0,2}(?P<v>[A-Za-z0-9+/]{40})(?![A-Za-z0-9+/=])",
    ),
    _run("github-pat", "gh", r"gh[pousr]_[A-Za-z0-9]{36,255}"),
    _run("github-fine-pat", "github_pat_", r"github_pat_[A-Za-z0-9_]{50,255}"),
    _run("gitlab-token", "gl", r"gl(?:pat|dt|rt|soat|cbt|ft|ptt|agent|imt)-[A-Za-z0-9_.-]{20,}"),
    _run("aws-access-key-id", "akia asia abia acca", r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9+/])"),
    _run("anthropic-key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20,}"),
    _run("openai-key", "sk-", r"sk-(?:proj-|svcacct-|admin-|or-v1-|None-)?[A-Za-z0-9_-]{20,}", _has_digit),
    _run("google-api-key", "aiza", r"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9+/])"),
    _run("google-oauth", "gocspx- ya29.", r"(?:GOCSPX-[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,})"),
    # `xoxd-` is a cookie, and so percent-encoded as a rule.
    _token(
        "slack-token",
        "xox xapp-",
        r"(?:xox[abceoprs](?:\.xox[bp])?|xapp)-[A-Za-z0-9-]{10,}|xoxd-[A-Za-z0-9%/+=-]{10,}",
        _has_digit,
    ),
    _token(
        "webhook",
        "hooks.slack.com webhooks/",
        r"(?:hooks\.slack\.com\\*/(?:services|workflows)\\*/|discord(?:app)?\.com\\*/api\\*/webhooks\\*/)"
        r"(?P<v>[A-Za-z0-9_/\\-]{20,})",
    ),
    _run("stripe-key", "k_live_ k_test_ whsec_", r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,}"),
    _run("huggingface-token", "hf_", r"hf_[A-Za-z0-9]{30,}"),
    _run("npm-token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _run("pypi-token", "pypi-ageichlwas5vcmc", r"pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{30,}"),
    _run("cargo-token", "cio", r"cio[A-Za-z0-9]{32}(?![A-Za-z0-9])", _has_digit),
    _run("jwt", "eyj", r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    _run("sendgrid-key", "sg.", r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{32,64}"),
    _run("digitalocean-token", "_v1_", r"do[opr]_v1_[a-f0-9]{64}"),
    _token("telegram-token", ":a", r":(?<=\d{8}:)(?P<v>A[A-Za-z0-9_-]{34})(?![A-Za-z0-9_-])"),
    _run("databricks-token", "dapi", r"dapi[a-f0-9]{32}(?:-\d)?"),
    _run("shopify-token", "shp", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    _run("vault-token", "hv", r"hv[sbr]\.[A-Za-z0-9_-]{24,}"),
    _run("age-key", "age-secret-key-1", r"(?i)AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    _run("groq-key", "gsk_", r"gsk_[A-Za-z0-9]{40,}"),
    _run("xai-key", "xai-", r"xai-[A-Za-z0-9]{60,}"),
    _run("replicate-token", "r8_", r"r8_[A-Za-z0-9]{37,}"),
    _run("linear-key", "lin_api_", r"lin_api_[A-Za-z0-9]{32,}"),
    _run("doppler-token", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9_.-]{40,}"),
    _run("grafana-token", "gl", r"gl(?:sa|c)_[A-Za-z0-9+/=_]{32,}"),
    _run("postman-key", "pmak-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
    _run("twilio-key", "sk", r"SK[a-f0-9]{32}(?![A-Za-z0-9])"),
    _run("mailgun-key", "key-", r"key-[a-f0-9]{32}(?![A-Za-z0-9])"),
    _run("planetscale-token", "pscale_", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.-]{32,}"),
    _run("docker-token", "dckr_", r"dckr_[po]at_[A-Za-z0-9_-]{20,}"),
    _run("atlassian-token", "tt3", r"AT[AC]TT3[A-Za-z0-9_=-]{60,}"),
    _run("bitbucket-password", "atbb", r"ATBB[A-Za-z0-9]{28,}", _has_digit),
    _run("tailscale-key", "tskey-", r"tskey-(?:auth|api|client|scim|webhook)-[A-Za-z0-9-]{16,}", _has_digit),
    _run("terraform-token", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{50,}"),
    _run("nvidia-key", "nvapi-", r"nvapi-[A-Za-z0-9_-]{40,}", _has_digit),
    _run("langsmith-key", "lsv2_", r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    _run("perplexity-key", "pplx-", r"pplx-[A-Za-z0-9]{40,}"),
    _run("newrelic-key", "nrak-", r"NRAK-[A-Z0-9]{27}"),
    _run("supabase-token", "sbp_", r"sbp_[a-f0-9]{40}"),
    _run("sonar-token", "sq", r"sq[upa]_[a-f0-9]{40}"),
    _run("notion-token", "ntn_", r"ntn_[A-Za-z0-9]{40,}"),
    _run("figma-token", "figd_", r"figd_[A-Za-z0-9_-]{36,}"),
    _run(
        "fly-token",
        "fm",
        r"fm(?:1[ar]|2)_[A-Za-z0-9+/=_-]{40,}(?:,f[mo][12][ar]?_[A-Za-z0-9+/=_-]{40,})*",
    ),
    # The dot is the only letter that is always there; the number before it is the bot's public name.
    _token(
        "discord-token",
        ".",
        r"\.(?<=[A-Za-z0-9]{23}\.)(?P<v>[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,45})",
        _follows_coded_number,
    ),
    _token(
        "password-hash",
        "$",
        rf"\$(?:2[abxy]\$\d\d\${_HASH}{{53}}|[56]\$(?:rounds=\d{{1,9}}\$)?{_HASH}{{1,16}}\${_HASH}{{43,86}}"
        rf"|(?:7|g?y)\${_HASH}{{1,12}}\${_HASH}{{1,64}}\${_HASH}{{43}}|(?:1|apr1)\${_HASH}{{1,8}}\${_HASH}{{22}}"
        r"|argon2(?:id|i|d)\$v=\d+\$m=\d+,t=\d+,p=\d+\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{20,})",
    ),
    _token(
        "jwk",
        "\"kty 'kty",
        r"[\"'](?:d|k|p|q|dp|dq|qi)\\*[\"']\s{0,3}:\s{0,3}\\*[\"'](?P<v>[A-Za-z0-9_-]{20,1400})(?=\\*[\"'])",
        _stands_in_jwk,
    ),
    _token("azure-signature", "sig=", r"(?<=[?&;6])sig=(?P<v>[A-Za-z0-9%+/_-]{40,100}=?)", _is_random),
    _token(
        "registry-password",
        "_auth",
        r"_auth(?:(?<![A-Za-z0-9_.-]_auth)|(?<=\\[nrt]_auth))\s{0,2}=\s{0,2}(?P<v>[A-Za-z0-9+/]{8,}={0,2})",
        _codes_user_and_password,
    ),
    _token(
        "registry-password",
        '"auth',
        r"\"auth\\*\"\s{0,2}:\s{0,2}\\*\"(?P<v>[A-Za-z0-9+/]{8,}={0,2})",
        _codes_user_and_password,
    ),
    _token("password", "sshpass", r"sshpass\s{1,2}-p\s{0,2}\\*[\"']?(?![$}\]])(?P<v>[^\s\"'`\\]{3,200})", _no_dummy),
    _token(
        "password",
        "mysql mariadb",
        r"(?:mysql|mariadb)(?:-?(?:dump|admin|import))?\s(?:[^\n\\|;}]{0,80}?\s)?-p\\*[\"']?(?![$}\]])(?P<v>[^\s\"'`\\]{3,200})",
        _no_port,
    ),
    _token(
        "url-token",
        "@",
        r":(?:\\*/){2}(?P<v>[A-Za-z0-9_-]{32,255})(?=(?::[\w-]{0,40})?@[A-Za-z0-9\[.-])",
        _is_dense,
    ),
    _token(
        "url-password",
        "@",
        r":(?:\\*/){2}[^\s/:@\"'\\<>]{0,80}:(?P<v>[^\s/@\"'\\<>]{3,200})@(?=[A-Za-z0-9\[.-])",
        _no_dummy,
    ),
    _token(
        "authorization",
        "authorization",
        r"[Aa](?i:uthorization)\\*[\"']?\s{0,2}[:=,]\s{0,2}\\*[\"']?(?:[Bb]earer|[Bb]asic|[Tt]oken|[Aa]pi[Kk]ey)\s{1,2}"
        r"(?P<v>[A-Za-z0-9._~+/=:-]{6,})",
        _no_dummy,
    ),
    _token(
        "authorization",
        "authorization",
        r"[Aa](?i:uthorization)\\*[\"']?\s{0,2}[:=]\s{0,2}\\*[\"']?(?P<v>[A-Za-z0-9._~+/=-]{16,})",
        _has_digit,
    ),
    _token("bearer", "bearer", r"[Bb](?i:earer)(?:\s|%20|\+){1,2}(?P<v>[A-Za-z0-9._~+/=-]{12,})", _has_digit),
    _token(
        "basic-auth", "-u --user", r"-(?<=\s-)(?:u|-user)[ =]\\*[\"']?[A-Za-z0-9._@-]+:(?P<v>[^\s\"'\\]{4,})", _no_dummy
    ),
    _token(
        "cookie",
        "cookie",
        r"[Cc](?i:ookie)\\*[\"']?:\s{0,2}\\*[\"']?(?P<v>[\w.-]+=[^\s;\"'\\]*(?:; ?[^\s;\"'\\]+)*)",
        _has_long_value,
    ),
    _token("password", "login", r"login\s+\S+\s+password\s+(?P<v>[^\s\"'\\]{4,})", _no_dummy, far=True),
    _token("password", "<pass", r"(?i:<(?:password|passwd|passphrase)>)(?P<v>[^<()]{4,200})<\\*/", _no_dummy, far=True),
    _token("password", "identified", r"(?i:identified\s+by)\s+\\*[\"'](?P<v>[^\"'\\]{4,200})", _no_dummy, far=True),
)

# A header alone is no key: code and documents speak of it. What follows it is one when it is as dense as one, and so
# is what stands before the last line of a key of which only the end was read.
_KEY_LINE = re.compile(r"[A-Za-z0-9+/]{40}")
_KEY_NAME = r"[A-Z0-9 ]{0,24}PRIVATE KEY(?: BLOCK)?-----"
PRIVATE_KEYS: tuple[Rule, ...] = (
    _token("private-key", "-----begin", rf"(?s)-----BEGIN {_KEY_NAME}(?:.{{0,400}}?){_KEY_LINE.pattern}", far=True),
    _token("private-key", "-----end", rf"-----END {_KEY_NAME}", _ends_dense_text, far=True),
    _token("private-key", "private-lines:", rf"(?s)Private-Lines: \d.{{0,40}}?{_KEY_LINE.pattern}", far=True),
    # "-----BEGIN " in base64, as Kubernetes has its keys. Lines of 64 characters are the shortest that are in use.
    _token("private-key", "ls0tls1crud", r"LS0tLS1CRUdJTi[A-Za-z0-9+/]{48}", _codes_private_key, far=True),
)
