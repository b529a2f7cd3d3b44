"""Secrets that the tests make up: shaped like the real ones, random each time, and none written down anywhere."""

from __future__ import annotations

import base64
import json
import random
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
URLSAFE = ALNUM + "_-"
# What managers of passwords put into them, but for quotes and backslashes. None first, where it may begin a template.
SIGNS = "!#$%&()*+,-./:;<=>?@[]^_{|}~"


@dataclass(frozen=True)
class Planted:
    """`secret` must be gone; `shown` is what stands in the text (a URL, a header), `name` what it is assigned to."""

    kind: str
    name: str
    secret: str
    shown: str


def word(chooser: random.Random, alphabet: str, length: int) -> str:
    """Random, with a digit: what real generators leave out in one of a thousand is not what is tested."""
    drawn = [chooser.choice(alphabet) for _ in range(length)]
    drawn[length // 2] = chooser.choice("23456789" if "9" in alphabet else "2345")
    return "".join(drawn)


def manager_password(chooser: random.Random) -> str:
    return word(chooser, ALNUM, 2) + word(chooser, ALNUM + SIGNS, 14)


def _jwt(chooser: random.Random) -> str:
    parts = [json.dumps({"alg": "HS256"}), json.dumps({"sub": word(chooser, ALNUM, 12)})]
    coded = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, word(chooser, URLSAFE, 43)])


Make = Callable[[random.Random], str]
KINDS: dict[str, tuple[str, Make]] = {
    "github-pat": ("GITHUB_TOKEN", lambda r: "gh" + "p_" + word(r, ALNUM, 36)),
    "github-fine-pat": ("GH_TOKEN", lambda r: "github" + "_pat_" + word(r, ALNUM + "_", 82)),
    "gitlab-token": ("CI_TOKEN", lambda r: "gl" + "pat-" + word(r, URLSAFE, 20)),
    "aws-access-key-id": ("AWS_ACCESS_KEY_ID", lambda r: "AK" + "IA" + word(r, string.ascii_uppercase + "234567", 16)),
    "aws-secret": ("aws_secret_access_key", lambda r: word(r, ALNUM + "+/", 40)),
    "openai-key": ("OPENAI_API_KEY", lambda r: "sk-" + "proj-" + word(r, URLSAFE, 48)),
    "anthropic-key": ("ANTHROPIC_API_KEY", lambda r: "sk-" + "ant-api03-" + word(r, URLSAFE, 93)),
    "google-api-key": ("GOOGLE_API_KEY", lambda r: "AI" + "za" + word(r, URLSAFE, 35)),
    "slack-token": ("SLACK_TOKEN", lambda r: "xo" + f"xb-{r.randrange(10**11, 10**12)}-" + word(r, ALNUM, 24)),
    "stripe-key": ("STRIPE_KEY", lambda r: "sk_" + "live_" + word(r, ALNUM, 24)),
    "huggingface-token": ("HF_TOKEN", lambda r: "h" + "f_" + word(r, ALNUM, 34)),
    "npm-token": ("NPM_TOKEN", lambda r: "np" + "m_" + word(r, ALNUM, 36)),
    "pypi-token": ("PYPI_TOKEN", lambda r: "py" + "pi-AgEIcHlwaS5vcmc" + word(r, URLSAFE, 60)),
    "jwt": ("ID_TOKEN", _jwt),
    "sendgrid-key": ("SENDGRID_API_KEY", lambda r: "S" + f"G.{word(r, URLSAFE, 22)}.{word(r, URLSAFE, 43)}"),
    "telegram-token": ("BOT_TOKEN", lambda r: f"{r.randrange(10**8, 10**9)}:A" + word(r, URLSAFE, 34)),
    "url-password": ("DATABASE_URL", lambda r: word(r, ALNUM + "!.~", 14)),
    "bearer": ("Authorization", lambda r: word(r, URLSAFE + ".", 40)),
    "password": ("DB_PASSWORD", lambda r: word(r, ALNUM + "!#%*+-.?_", 12)),
    "generic-api-key": ("service_api_key", lambda r: word(r, HEX, 32)),
}
_SHOWN: dict[str, Callable[[str], str]] = {
    "url-password": lambda secret: f"postgres://app:{secret}@db.internal:5432/shop",
    "bearer": lambda secret: f"Bearer {secret}",
}


def _sized(head: str, alphabet: str, length: int) -> Make:
    return lambda chooser: head + word(chooser, alphabet, length)


def _login(chooser: random.Random) -> str:
    return base64.b64encode(f"ci:{word(chooser, ALNUM, 15)}".encode()).decode()


def _fly(chooser: random.Random) -> str:
    return "Fly" + "V1 fm" + f"2_{word(chooser, ALNUM + '+/', 420)},fm" + f"2_{word(chooser, ALNUM + '+/', 200)}"


_SECRET_NAME = "AWS Secret Access " + "Key"
_ID = "AK" + "IA" + "QX7ZM2NPLRTWVS4K"
_BOT = base64.b64encode(b"1043829471650238471").decode().rstrip("=")
CRYPT = ALNUM + "./"
# What is found without a name that tells: how it is made, and how it stands in a text.
UNNAMED: dict[str, tuple[Make, str]] = {
    "slack-client": (_sized("xo" + "xc-", ALNUM + "-", 60), "found %s there"),
    "slack-cookie": (lambda r: "xo" + "xd-" + word(r, ALNUM, 20) + "%2B" + word(r, ALNUM, 30) + "%3D", "curl -b d=%s"),
    "aws-secret": (_sized("", ALNUM + "+/", 40), f"id {_ID}\n%s\nregion"),
    "aws-pair": (_sized("", ALNUM + "+/", 40), f"{_ID},%s,eu-central-1"),
    "aws-configure": (_sized("", ALNUM + "+/", 40), f"{_SECRET_NAME} [None]: %s\nDefault region"),
    "docker": (_sized("dckr" + "_pat_", URLSAFE, 27), "docker login, then %s"),
    "atlassian": (_sized("ATA" + "TT3", URLSAFE, 185), "found %s there"),
    "bitbucket": (_sized("AT" + "BB", ALNUM, 32), "found %s there"),
    "gitlab-job": (lambda r: "gl" + f"cbt-64_{word(r, URLSAFE, 20)}", "found %s there"),
    "gitlab-feed": (_sized("gl" + "ft-", URLSAFE, 20), "found %s there"),
    "tailscale": (lambda r: "tskey" + f"-auth-{word(r, ALNUM, 16)}-{word(r, ALNUM, 32)}", "tailscale up %s"),
    "terraform": (lambda r: word(r, ALNUM, 14) + ".atlas" + f"v1.{word(r, URLSAFE, 67)}", "found %s there"),
    "nvidia": (_sized("nv" + "api-", URLSAFE, 64), "found %s there"),
    "langsmith": (lambda r: "lsv2" + f"_pt_{word(r, HEX, 32)}_{word(r, HEX, 10)}", "found %s there"),
    "perplexity": (_sized("pp" + "lx-", ALNUM, 48), "found %s there"),
    "newrelic": (_sized("NR" + "AK-", string.ascii_uppercase + string.digits, 27), "found %s there"),
    "supabase": (_sized("sb" + "p_", HEX, 40), "found %s there"),
    "sonar": (_sized("sq" + "u_", HEX, 40), "found %s there"),
    "notion": (_sized("nt" + "n_", ALNUM, 46), "found %s there"),
    "figma": (_sized("fi" + "gd_", URLSAFE, 40), "found %s there"),
    "discord": (lambda r: f"{word(r, URLSAFE, 6)}.{word(r, URLSAFE, 38)}", f"client.run {_BOT}.%s"),
    "fly": (_fly, "found %s there"),
    "url-user": (_sized("", HEX, 40), "git clone https://%s@github.com/a/b"),
    "url-user-of-github": (_sized("", HEX, 40), "git clone https://%s:" + "x-oauth-basic@github.com/a/b"),
    "npmrc": (_login, "registry=https://r.host/\n_auth=%s\n"),
    "npmrc-scoped": (_login, "//r.host/:_auth=%s\n"),
    "npmrc-token": (_sized("", HEX, 32), "//r.host/:_authToken=%s\n"),
    "docker-config": (_login, '{"auths": {"r.host": {"auth": "%s"}}}'),
    "azure": (lambda r: word(r, ALNUM, 42) + "%3D", "https://a.blob.core.host/c?sv=2022-11-02&se=2027-01-01&sig=%s"),
    "jwk-ec": (_sized("", URLSAFE, 43), '{"kty": "EC", "crv": "P-256", "x": "a", "d": "%s", "y": "b"}'),
    "jwk-rsa": (_sized("", URLSAFE, 342), '{"d": "%s", "e": "AQAB", "kty": "RSA"}'),
    "crypt-sha512": (lambda r: "$6" + f"${word(r, CRYPT, 16)}${word(r, CRYPT, 86)}", "root:%s:19000:0:99999:7::"),
    "crypt-yescrypt": (
        lambda r: "$y" + f"$j9T${word(r, CRYPT, 22)}${word(r, CRYPT, 43)}",
        "root:%s:19000:0:99999:7::",
    ),
    "crypt-bcrypt": (lambda r: "$2b" + f"$12${word(r, CRYPT, 53)}", "admin:%s"),
    "crypt-apache": (lambda r: "$ap" + f"r1${word(r, CRYPT, 8)}${word(r, CRYPT, 22)}", "admin:%s"),
    "sshpass": (_sized("", ALNUM + "!+.", 12), "ssh" + "pass -p %s ssh me@host"),
    "sshpass-quoted": (_sized("", ALNUM + "!&(", 12), "ssh" + "pass -p '%s' ssh me@host"),
    "mysql": (_sized("", ALNUM + "!+.", 12), "my" + "sql -h db -u root -p%s shop"),
    "mysqldump": (_sized("", ALNUM + "!+.", 12), "my" + "sqldump -uroot -p%s shop > x"),
}


def unnamed(kind: str, chooser: random.Random) -> tuple[str, str]:
    """(the secret that must be gone, a text that it stands in)."""
    make, shown = UNNAMED[kind]
    secret = make(chooser)
    return secret, shown.replace("%s", secret)


def plant(kind: str, chooser: random.Random) -> Planted:
    name, make = KINDS[kind]
    secret = make(chooser)
    # Of a bot's token the number before the colon is its public name.
    hidden = secret.partition(":")[2] if kind == "telegram-token" else secret
    return Planted(kind, name, hidden, _SHOWN.get(kind, str)(secret))


def places(p: Planted) -> dict[str, str]:
    """The planted secret in each kind of text that passes the gateway."""
    variable = p.name.lower()
    return {
        "python": f'import os\n\n{variable} = "{p.shown}"\nclient = Client({variable})\n',
        "rust": f'const {p.name.upper()}: &str = "{p.shown}";\nfn main() {{}}\n',
        "json": json.dumps({"debug": True, variable: p.shown, "retries": 3}, indent=2),
        "env": f"# settings\nDEBUG=1\n{p.name}={p.shown}\nPORT=8080\n",
        "url": f"GET https://api.host/v1/items?{variable}={p.shown}&page=2 HTTP/1.1",
        "log": f"2026-11-24T10:00:00Z INFO start worker=3 {p.name}={p.shown} region=eu",
        "yaml": f"services:\n  web:\n    {variable}: {p.shown}\n    port: 80\n",
        "header": f"> {p.name}: {p.shown}\n> Accept: */*\n",
    }


def escaped(text: str, times: int) -> str:
    """`text` as it stands in a JSON string, in a JSON string, ..."""
    for _ in range(times):
        text = json.dumps({"role": "tool", "content": f"exit 0\n{text}"})
    return text


def two_hundred(seed: int) -> Iterator[tuple[Planted, str, str]]:
    """Ten secrets of each of the twenty kinds, each with (place, text), at different depths of escaping."""
    chooser = random.Random(seed)
    for kind in KINDS:
        for number in range(10):
            planted = plant(kind, chooser)
            found = places(planted)
            place = list(found)[number % len(found)]
            yield planted, place, escaped(found[place], number % 3)
