"""The servers."""

from __future__ import annotations

from tests.real.builds import Recipe

_FLAGS = "{flags}"
_ENVIRONMENT = (("CFLAGS", _FLAGS),)
_MAKE = ("make", "-j2", "-s")

DNSMASQ = Recipe("dnsmasq", (("make", "-j2", f"CFLAGS={_FLAGS}", "LDFLAGS="),), "src/dnsmasq")
TINYPROXY = Recipe(
    "tinyproxy",
    (("./configure", "--disable-manpage_support", "--quiet"), _MAKE),
    "src/tinyproxy",
    _ENVIRONMENT,
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

NGINX = Recipe(
    "nginx",
    (
        (
            "./configure", f"--with-cc-opt={_FLAGS}", "--without-http_rewrite_module", "--without-pcre",
            "--without-http_gzip_module", "--with-http_stub_status_module",
        ),
        _MAKE,
    ),
    "objs/nginx",
    edits=(
        # every variable of the new version lies elsewhere: pools point into tables
        (
            "src/core/nginx.c", "static ngx_uint_t   ngx_show_help;",
            "ngx_uint_t ngx_moved[9] = { 1 };\nstatic ngx_uint_t   ngx_show_help;",
        ),
    ),
)  # fmt: skip
LIGHTTPD = Recipe(
    "lighttpd",
    (("./configure", "--quiet", "--without-pcre2", "--without-zlib"), _MAKE),
    "src/lighttpd",
    _ENVIRONMENT,
    old_flags="-O1 -g",
)
CHRONY = Recipe(
    "chrony",
    (("./configure", "--without-seccomp", "--without-gnutls", "--without-nettle", "--without-nss"), _MAKE),
    "chronyd",
    _ENVIRONMENT,
    old_flags="-O1 -g",
)
BIRD = Recipe("bird2", (("./configure", "--quiet", "--disable-client"), _MAKE), "bird", _ENVIRONMENT)
PGBOUNCER = Recipe(
    "pgbouncer",
    (("./configure", "--quiet", "--without-openssl", "--without-cares"), (*_MAKE, "pgbouncer")),
    "pgbouncer",
    _ENVIRONMENT,
    needs=(("libevent-dev", "event2/event.h"), ("pkg-config", "../bin/pkg-config")),
    edits=(
        ("include/bouncer.h", "\tPgSocket *link;\t\t", "\tlong label;\n\tPgSocket *link;\t\t"),
        (
            "include/bouncer.h",
            "\tPgDatabase *db;\t\t\t/* corr",
            "\tlong label;\n\tPgDatabase *db;\t\t\t/* corr",
        ),
    ),
)
DBUS = Recipe(
    "dbus",
    (
        (
            "./configure", "--quiet", "--disable-tests", "--disable-xml-docs", "--disable-doxygen-docs",
            "--disable-systemd", "--without-x", "--disable-selinux", "--disable-apparmor",
            "--disable-libaudit", "--disable-shared", "--enable-static",
        ),
        _MAKE,
    ),
    "bus/dbus-daemon",
    _ENVIRONMENT,
    old_flags="-O1 -g",
    needs=(("libexpat1-dev", "expat.h"),),
)  # fmt: skip
UNBOUND = Recipe(
    "unbound",
    (
        (
            "./configure", "--quiet", "--without-pthreads", "--without-libevent", "--disable-flto",
            "--with-ssl", "--without-pyunbound", "--disable-rpath", "--disable-shared",
        ),
        (*_MAKE, "unbound"),
    ),
    "unbound",
    _ENVIRONMENT,
    needs=(("libexpat1-dev", "expat.h"), ("libssl-dev", "openssl/ssl.h")),
)  # fmt: skip
DROPBEAR = Recipe(
    "dropbear",
    (("./configure", "--quiet", "--disable-zlib"), (*_MAKE, "PROGRAMS=dropbear dropbearkey")),
    "dropbear",
    _ENVIRONMENT,
)
TMUX = Recipe(
    "tmux",
    (("./configure", "--quiet"), _MAKE),
    "tmux",
    _ENVIRONMENT,
    needs=(("libevent-dev", "event2/event.h"), ("libncurses-dev", "ncurses.h"), ("bison", "../bin/bison")),
)
MINI_HTTPD = Recipe("mini-httpd", ((*_MAKE, f"CFLAGS={_FLAGS}", "mini_httpd"),), "mini_httpd")
MEMCACHED = Recipe(
    "memcached",
    (("./configure", "--quiet", "--disable-docs"), (*_MAKE, "memcached")),
    "memcached",
    _ENVIRONMENT,
    needs=(("libevent-dev", "event2/event.h"),),
)
REDIS = Recipe(
    "redis",
    ((*_MAKE, "-C", "src", "redis-server", "MALLOC=libc", "OPTIMIZATION=-O2", "USE_SYSTEMD=no"),),
    "src/redis-server",
)
STUNNEL = Recipe(
    "stunnel4",
    (
        ("./configure", "--quiet", "--with-threads=fork", "--disable-systemd", "--disable-libwrap"),
        (*_MAKE, "-C", "src"),
    ),
    "src/stunnel",
    _ENVIRONMENT,
    needs=(("libssl-dev", "openssl/ssl.h"),),
)
FCGIWRAP = Recipe(
    "fcgiwrap",
    (("autoreconf", "-i"), ("./configure", "--quiet", "--without-systemd"), (*_MAKE, "fcgiwrap")),
    "fcgiwrap",
    _ENVIRONMENT,
    needs=(("libfcgi-dev", "fcgi_stdio.h"), ("autoconf", "../bin/autoreconf")),
)

# As the distribution builds its packages: dpkg-buildflags, without the warnings.
_HARDENED = "-O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2"
_HARDENED_ENVIRONMENT = (("CFLAGS", _FLAGS), ("LDFLAGS", "-Wl,-z,relro -Wl,-z,now"))

RINETD = Recipe(
    "rinetd",
    (("./configure", "--quiet"), _MAKE),
    "rinetd",
    _HARDENED_ENVIRONMENT,
    flags=_HARDENED,
    old_flags=_HARDENED,
    edits=(
        (
            "src/types.h",
            "\tSOCKET fd;\n\tint family, protocol;",
            "\tint family, protocol;\n\tlong reads;\n\tSOCKET fd;",
        ),
        ("src/types.h", "\tint coClosing;\n", "\tint priority;\n\tint coClosing;\n"),
    ),
)
PEN = Recipe(
    "pen",
    (("./configure", "--quiet", "--without-ssl"), _MAKE),
    "pen",
    _HARDENED_ENVIRONMENT,
    flags=_HARDENED,
    old_flags=_HARDENED,
    edits=(
        ("conn.h", "\tint client;\t\t/* client index */\n", "\tint label;\n\tint client;\n"),
        ("client.h", "\tlong connects;\n", "\tint label;\n\tlong connects;\n"),
        ("server.h", "\tuint8_t hwaddr[6];\n", "\tuint8_t hwaddr[8];\n\tlong label;\n"),
    ),
    upstream_only=True,
)
BITLBEE = Recipe(
    "bitlbee",
    (("./configure", "--strip=0", "--ssl=gnutls", "--events=glib", "--doc=0"), _MAKE),
    "bitlbee",
    _HARDENED_ENVIRONMENT,
    flags=f"{_HARDENED} -fno-strict-aliasing",
    old_flags=f"{_HARDENED} -fno-strict-aliasing",
    needs=(("libglib2.0-dev", "glib-2.0/glib.h"), ("libgnutls28-dev", "gnutls/gnutls.h")),
    edits=(
        (
            "irc.h",
            "\tint pinging;\n\tGString *sendbuffer;",
            "\tlong pinged;\n\tint pinging;\n\tGString *sendbuffer;",
        ),
        ("irc.h", "\tchar *topic;\n\tchar *topic_who;", "\tint topics;\n\tchar *topic_who;\n\tchar *topic;"),
        ("set.h", "\tchar *old_key;", "\tlong changes;\n\tchar *old_key;"),
    ),
)
XL2TPD = Recipe(
    "xl2tpd",
    (("make", "-s", "xl2tpd", "DFLAGS=-DTRUST_PPPD_TO_DIE {flags}"),),
    "xl2tpd",
    _HARDENED_ENVIRONMENT,
    flags=_HARDENED,
    old_flags=_HARDENED,
    edits=(("l2tp.h", "    struct tunnel *next;   ", "    long label;\n    struct tunnel *next;   "),),
)
