"""The servers."""

from __future__ import annotations

from builds import Recipe

_FLAGS = "-O2 -g"

DNSMASQ = Recipe("dnsmasq", (("make", "-j2", f"CFLAGS={_FLAGS}", "LDFLAGS="),), "src/dnsmasq")
TINYPROXY = Recipe(
    "tinyproxy",
    (("./configure", "--disable-manpage_support", "--quiet"), ("make", "-j2", "-s")),
    "src/tinyproxy",
    (("CFLAGS", _FLAGS),),
)
MOSQUITTO = Recipe(
    "mosquitto",
    (
        (
            "make", "-j2", "-C", "src", "mosquitto", f"CFLAGS={_FLAGS}", "WITH_TLS=no", "WITH_CJSON=no",
            "WITH_DOCS=no", "WITH_SYSTEMD=no", "WITH_STRIP=no",
        ),
    ),
    "src/mosquitto",
)  # fmt: skip
